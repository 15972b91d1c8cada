"""The lean forms of the suffix: the same logits and gradients as the form of the paper, part by part and as a whole."""

import pytest
import torch

from dtl_core import DTL, DTLConfig, load_backbone
from dtl_core.csn import CompactSideNetwork, swish
from dtl_core.lean import PARTS, added, state, swish_in_place

TIGHT = dict(rtol=1e-10, atol=1e-13)


def small(kernel=0, grid=(1, 5)):
    torch.manual_seed(0)
    csn = CompactSideNetwork(
        [6] * 4, [0] * 4, grid, rank=2, tap_from=1, inject_from=2, beta=100.0, dwconv_kernel=kernel
    )
    for low_rank in csn.maps.values():
        torch.nn.init.normal_(low_rank.up)
    return csn.double()


@pytest.mark.parametrize("kernel", [0, 3])
def test_codes_hold_all_of_the_state(kernel):
    csn = small(kernel)
    inputs = {i: torch.randn(2, 5, 6, dtype=torch.float64) for i in (1, 2, 3)}
    h, codes = 0.0, {}
    for i, x in inputs.items():
        h, codes[i] = csn.tap(i, x, h), csn.maps[str(i)].encode(x)
        torch.testing.assert_close(state(csn, codes), h, **TIGHT)
    torch.testing.assert_close(added(csn, 3, codes), csn.gate(3, h), **TIGHT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_gate_in_place_is_the_gate_also_where_beta_h_has_no_number(dtype):
    h = torch.tensor([-700.0, -1.0, -0.01, 0.0, 0.01, 1.0, 700.0], dtype=dtype)
    lean, plain = swish_in_place(h.clone(), 100.0), swish(h, 100.0)
    assert torch.isfinite(lean).all(), "100 x 700 is beyond fp16"
    torch.testing.assert_close(lean, plain, rtol=1e-2 if dtype != torch.float32 else 1e-6, atol=1e-4)
    assert torch.equal(swish_in_place(h.clone(), float("inf")), h.relu())


def outcome(name, plus, recompute, change=None, drop_path=0.0, **options):
    """Logits and gradients of a shaken DTL in training."""
    torch.manual_seed(0)
    backbone = load_backbone(name).double()
    config = DTLConfig.for_backbone(backbone, plus=plus)
    model = DTL(backbone, 5, config, recompute=recompute, drop_path=drop_path).double().train()
    for p in model.trainable_parameters():
        torch.nn.init.normal_(p, std=0.3)
    if change:
        change(model)
    images = torch.randn(2 * PARTS + 1, 3, *model.blocks.image_size, dtype=torch.float64)
    torch.manual_seed(1)
    logits = model(images)
    torch.nn.functional.cross_entropy(logits, torch.arange(len(images)) % 5).backward()
    return [logits.detach(), *(p.grad for p in model.trainable_parameters())]


@pytest.mark.parametrize("recompute", ["side", "blocks"])
def test_a_change_of_the_gate_reaches_every_form(recompute):
    """Norm, then swish: what stands in ``csn.gate`` is what all forms run, so a change of it is a change in one place."""

    def norm_first(model):
        gate = model.csn.gate
        model.csn.gate = lambda i, h, **how: gate(i, torch.nn.functional.layer_norm(h, h.shape[-1:]), **how)

    plain, lean, before = (
        outcome("toy/vit", True, r, change) for r, change in (("none", norm_first), (recompute, norm_first), ("none", None))
    )  # fmt: skip
    for a, b in zip(plain, lean, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-8, atol=1e-11)
    assert (plain[0] - before[0]).abs().max() > 1e-3


def test_without_gradients_every_form_is_the_paper_s():
    model = DTL("toy/vit", 3)
    images = torch.randn(2, 3, 32, 32)
    outputs = []
    for model.recompute in ("none", "side"):
        with torch.no_grad():
            outputs.append(model(images))
    assert torch.equal(*outputs)


def test_a_head_put_in_later_is_the_one_that_is_run():
    model = DTL("toy/vit", 3)
    model.head = torch.nn.Linear(48, 7)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 7)

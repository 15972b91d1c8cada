"""Rivals confined to the last blocks: the blocks before stay as they were, and their output may be stored as DTL's is."""

import math

import pytest
import torch
from toys import ToyImages

from dtl_core import load_backbone
from dtl_core.baselines import build
from dtl_core.memory import plan_training
from dtl_core.training import PrefixCache, Recipe, fit

LATE = ("full", "bitfit", "vpt-deep", "adaptformer", "lora", "ssf", "repadapter")
CASES = [(m, b) for b in ("toy/vit", "toy/swin") for m in LATE if (m, b) != ("vpt-deep", "toy/swin")]
FIRST = 3


def late(method, backbone="toy/vit", first_block=FIRST, **options):
    """A model whose trained parameters have left their start."""
    torch.manual_seed(0)
    model = build(method, load_backbone(backbone), 5, first_block=first_block, **options).double().train()
    with torch.no_grad():
        for p in model.trainable_parameters():
            p += 0.05 * torch.randn_like(p)
    return model


def images(model):
    return torch.randn(2, 3, *model.info.image_size, dtype=torch.float64)


@pytest.mark.parametrize("method, backbone", CASES)
def test_prefix_and_suffix_are_the_model_and_the_prefix_is_the_frozen_backbone(method, backbone):
    model, plain = late(method, backbone), load_backbone(backbone).double()
    x = images(model)
    features = model.prefix(x)
    assert torch.equal(model.suffix(features), model(x)) and not features.tokens.requires_grad
    blocks = build("linear", plain, 3).blocks
    tokens = blocks.embed(x)
    for i in range(FIRST):
        tokens = blocks(i, blocks.enter(i, tokens))
    assert torch.equal(features.tokens, tokens)


@pytest.mark.parametrize("method, backbone", CASES)
def test_no_trained_parameter_lies_in_the_prefix(method, backbone):
    model = late(method, backbone)
    x = images(model)
    before = model.prefix(x).tokens
    with torch.no_grad():
        for p in model.trainable_parameters():
            p.fill_(math.nan)
    assert torch.equal(model.prefix(x).tokens, before), "what is trained does not reach it"
    assert model(x).isnan().all()


@pytest.mark.parametrize("method, backbone", CASES)
def test_every_trained_parameter_gets_a_gradient_and_no_frozen_byte_moves(method, backbone):
    model = late(method, backbone)
    trained = {id(p) for p in model.trainable_parameters()}
    frozen = {n: p.clone() for n, p in model.named_parameters() if id(p) not in trained}
    step = torch.optim.SGD(model.trainable_parameters(), lr=0.1)
    model(images(model)).square().sum().backward()
    step.step()
    assert all(p.grad is not None for p in model.trainable_parameters())
    assert all(torch.equal(p, frozen[n]) for n, p in model.named_parameters() if n in frozen)


@pytest.mark.parametrize("method", [m for m in LATE if m not in ("full", "bitfit")])
def test_from_block_0_it_is_the_method_itself(method):
    one, other = late(method, first_block=0), late(method, first_block=0)
    assert not hasattr(one, "prefix") and one.state_dict().keys() == other.state_dict().keys()
    blocks = len(one.blocks.widths)

    def own(model):
        return sum(p.numel() for p in model.trainable_parameters()) - sum(p.numel() for p in model.head.parameters())

    if method in ("lora", "adaptformer", "repadapter", "vpt-deep"):
        assert own(late(method)) * blocks == own(one) * (blocks - FIRST)


@pytest.mark.parametrize("method", ["lora", "full", "vpt-deep"])
def test_training_from_the_stored_prefix_is_training_from_images(method, tmp_path):
    recipe = Recipe(lr=1e-3, batch_size=4, epochs=2, warmup_epochs=0, cooldown_epochs=0, precision="fp32", seed=1)
    ends = []
    for stored in (False, True):
        model = late(method).float()
        data = PrefixCache(model, ToyImages(), root=tmp_path, progress=False) if stored else ToyImages()
        fit(model, data, recipe, device="cpu", progress=False)
        ends.append(torch.cat([p.flatten() for p in model.trainable_parameters()]))
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-4, atol=1e-6)


def test_one_stored_prefix_serves_all_that_start_at_the_same_block(tmp_path):
    paths = {(m, f): PrefixCache(late(m, first_block=f).float(), ToyImages(), root=tmp_path, progress=False).path
             for m in ("lora", "bitfit", "full") for f in (2, 3)}  # fmt: skip
    assert len({p for (_, f), p in paths.items() if f == 2}) == 1 and len(set(paths.values())) == 2


def test_what_is_kept_for_backward_falls_with_the_first_block():
    saved = [plan_training("lora", "toy/vit", batch_size=4, image_size=32, first_block=i).saved_bytes for i in range(4)]
    assert saved == sorted(saved, reverse=True) and len(set(saved)) == 4
    plan = plan_training("lora", "toy/vit", batch_size=4, image_size=32, first_block=3, cached=True)
    assert plan.peak_bytes < plan_training("lora", "toy/vit", batch_size=4, image_size=32, first_block=3).peak_bytes


@pytest.mark.parametrize("first_block", [-1, 99])
def test_a_block_that_is_not_there_is_named(first_block):
    with pytest.raises(ValueError, match=f"first_block is {first_block}, and the backbone has blocks 0 to"):
        late("lora", first_block=first_block)


def test_a_probe_on_all_taps_reads_each_blocks_input():
    for name in ("toy/vit", "toy/swin"):
        model = build("linear", load_backbone(name), 3, taps=True)
        widths = model.blocks.widths
        tokens = model.prefix(torch.randn(2, 3, *model.info.image_size)).tokens
        assert tokens.shape == (2, sum(widths) + widths[-1]) and not tokens.requires_grad
        first = tokens[:, : widths[0]]
        torch.testing.assert_close(first.mean(1), torch.zeros(2), atol=1e-5, rtol=0)
        assert {n for n, p in model.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"}

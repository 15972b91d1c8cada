"""The authors' implementation, met in float64: logits and loss to 1e-9, every gradient to 1e-7 relative."""

import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer

from dtl_core import DTL, DTLConfig

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = [
    (f"{kind}-{i}", case)
    for kind in ("vit", "swin")
    for i, case in enumerate(json.loads((GOLDEN / f"{kind}.json").read_text()))
]


def value(name, shape):
    """A tensor from its canonical name, by the rule that the recorded outputs were made with."""
    v = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(int(np.prod(shape))).reshape(shape)
    if name.startswith("csn"):
        v = 0.2 * v
    elif "norm" in name and name.endswith("weight"):
        v = 1 + 0.1 * v
    elif name in ("cls_token", "pos_embed") or name.endswith("relative_position_bias_table"):
        v = 0.02 * v
    else:
        v = (0.05 if len(shape) > 1 else 0.02) * v
    return torch.from_numpy(v)


def canonical(name):
    """Our parameter name -> the name under which the value was drawn."""
    name = name.removeprefix("backbone.")
    name = re.sub(r"csn\.maps\.(\d+)\.", r"csn.\1.", name)
    name = re.sub(r"csn\.dwconvs\.(\d+)\.weight", r"csn.dwconv.\1", name)
    return re.sub(r"layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", name)


def build(case, recompute="none"):
    if case["backbone"] == "vit":
        backbone = VisionTransformer(
            img_size=case["img"],
            patch_size=case["patch"],
            embed_dim=case["embed_dim"],
            depth=case["depth"],
            num_heads=case["num_heads"],
            num_classes=0,
        )
    else:
        backbone = SwinTransformer(
            img_size=case["img"],
            patch_size=case["patch"],
            embed_dim=case["embed_dim"],
            depths=case["depths"],
            num_heads=case["num_heads"],
            window_size=case["window"],
            num_classes=0,
        )
    config = DTLConfig(
        case["rank"], case.get("csn_from_block", 0), case["inject_from_block"], case["beta"], case["dwconv_kernel"]
    )
    model = DTL(backbone, case["num_classes"], config, recompute=recompute).double()
    names = {
        n: canonical(n) if case["backbone"] == "swin" else canonical(n).replace("csn.dwconv.0", "csn.dwconv")
        for n, _ in model.named_parameters()
    }
    with torch.no_grad():
        for n, p in model.named_parameters():
            p.copy_(value(names[n], p.shape))
    return model, names


@pytest.mark.parametrize("recompute", ["none", "side", "blocks"])
@pytest.mark.parametrize("name, golden", CASES, ids=[n for n, _ in CASES])
def test_golden(name, golden, recompute):
    case = golden["case"]
    model, names = build(case, recompute)
    images = torch.from_numpy(np.random.RandomState(7).standard_normal((2, 3, case["img"], case["img"])))
    logits = model.eval()(images)
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([1, 3]))
    loss.backward()
    torch.testing.assert_close(logits, torch.tensor(golden["logits"], dtype=torch.float64), rtol=0, atol=1e-9)
    assert abs(loss.item() - golden["loss"]) < 1e-9
    ours = {names[n]: p.grad for n, p in model.named_parameters() if p.requires_grad}
    assert ours.keys() == golden["grads"].keys()
    for key, (norm, first, last) in golden["grads"].items():
        grad = ours[key].flatten()
        assert grad.norm().item() == pytest.approx(norm, rel=1e-7), key
        # single elements can be tiny beside the norm: relative to the larger of the two
        assert grad[0].item() == pytest.approx(first, rel=1e-7, abs=1e-9 * norm), key
        assert grad[-1].item() == pytest.approx(last, rel=1e-7, abs=1e-9 * norm), key


@pytest.mark.parametrize("name, golden", CASES, ids=[n for n, _ in CASES])
def test_side_parameters_are_those_that_take_part(name, golden):
    model, _ = build(golden["case"])
    ours = sum(p.numel() for p in model.csn.parameters())
    assert ours == golden["csn_params_with_grad"]
    # the authors also build the convolutions of Swin stages 0 and 1, which never take part: widths d and 2 d
    case = golden["case"]
    unused = (case["embed_dim"] * 3) * case["dwconv_kernel"] ** 2 if case["backbone"] == "swin" else 0
    assert golden["csn_params"] - ours == unused

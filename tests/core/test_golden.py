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

RECORDS = Path(__file__).parents[2] / "dtl_book" / "resources"  # which shows them to readers
CASES = [
    pytest.param(record, id=f"{kind}-{i}")
    for kind in ("vit", "swin")
    for i, record in enumerate(json.loads((RECORDS / f"golden_{kind}_case.json").read_text()))
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


def canonical(name, swin):
    """Our parameter name -> the name under which the value was drawn."""
    name = re.sub(r"csn\.maps\.(\d+)\.", r"csn.\1.", name.removeprefix("backbone."))
    name = re.sub(r"csn\.dwconvs\.(\d+)\.weight", r"csn.dwconv.\1" if swin else "csn.dwconv", name)
    return re.sub(r"layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", name)


def build(case, recompute):
    swin = case["backbone"] == "swin"
    sizes = dict(
        img_size=case["img"], patch_size=case["patch"], embed_dim=case["embed_dim"], num_heads=case["num_heads"]
    )
    more = dict(depths=case["depths"], window_size=case["window"]) if swin else dict(depth=case["depth"])
    backbone = (SwinTransformer if swin else VisionTransformer)(**sizes, **more, num_classes=0)
    places = case.get("csn_from_block", 0), case["inject_from_block"]
    config = DTLConfig(case["rank"], *places, case["beta"], case["dwconv_kernel"])
    model = DTL(backbone, case["num_classes"], config, recompute=recompute).double()
    parameters = {canonical(name, swin): p for name, p in model.named_parameters()}
    with torch.no_grad():
        for name, p in parameters.items():
            p.copy_(value(name, p.shape))
    return model, parameters


@pytest.mark.parametrize("recompute", ["none", "side", "blocks"])
@pytest.mark.parametrize("golden", CASES)
def test_golden(golden, recompute):
    case = golden["case"]
    model, parameters = build(case, recompute)
    images = torch.from_numpy(np.random.RandomState(7).standard_normal((2, 3, case["img"], case["img"])))
    logits = model.eval()(images)
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([1, 3]))
    loss.backward()
    torch.testing.assert_close(logits, torch.tensor(golden["logits"], dtype=torch.float64), rtol=0, atol=1e-9)
    assert abs(loss.item() - golden["loss"]) < 1e-9
    ours = {name: p.grad for name, p in parameters.items() if p.requires_grad}
    assert ours.keys() == golden["grads"].keys()
    for name, (norm, first, last) in golden["grads"].items():
        grad = ours[name].flatten()
        assert grad.norm().item() == pytest.approx(norm, rel=1e-7), name
        # single elements can be tiny beside the norm: relative to the larger of the two
        assert grad[0].item() == pytest.approx(first, rel=1e-7, abs=1e-9 * norm), name
        assert grad[-1].item() == pytest.approx(last, rel=1e-7, abs=1e-9 * norm), name
    side = sum(p.numel() for p in model.csn.parameters())
    assert side == golden["csn_params_with_grad"]
    # the authors also build the convolutions of Swin stages 0 and 1, which never take part: widths d and 2 d
    unused = (case["embed_dim"] * 3) * case["dwconv_kernel"] ** 2 if case["backbone"] == "swin" else 0
    assert golden["csn_params"] - side == unused

"""Recorded outputs of the authors' own implementation, and the weights and images that produced them.

``resources/golden_vit_case.json`` holds logits, loss and gradients that the authors' code (commit bf6c51e, timm 0.5.4)
computed in float64 for a narrow ViT of 12 blocks, with DTL and twice with DTL+; ``golden_swin_case.json`` the same for a
narrow Swin of 24 blocks. The weights are not stored: each is drawn from a generator seeded with the checksum of the
tensor's name, so anyone can draw them again.
"""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from dtl_core.dtl import DTL, DTLConfig

from ..paths import RESOURCES


@dataclass(frozen=True)
class GoldenCase:
    """Inputs and outputs of the authors' code, in float64 on the CPU."""

    model: DTL  # our DTL, filled with the weights of their model
    images: Tensor  # (2, 3, 224, 224), standard normal, used as they are
    labels: Tensor  # (2,)
    logits: Tensor  # (2, 10), theirs
    loss: float  # mean cross-entropy, theirs
    gradients: dict[str, float]  # name of a trained tensor of model -> norm of its gradient, theirs
    side_parameters: int  # numbers in their side network
    side_parameters_with_gradient: int  # how many of these got a gradient


def golden_case(kind: Literal["vit", "swin"], plus: bool = False) -> GoldenCase:
    """Return a recorded case of the authors' code, with its weights in our model.

    Args:
        kind: a ViT of 12 blocks of width 48 with rank 2 and M = 6, or a Swin of 2, 2, 18 and 2 blocks of widths 16 to 128
            with rank 4 and M = 14.
        plus: DTL+, with a 3 x 3 convolution on the ViT and 5 x 5 ones on the Swin; else DTL.
    """
    record = json.loads((RESOURCES / f"golden_{kind}_case.json").read_text())[int(plus)]
    case = record["case"]
    sizes = {"img_size": case["img"], "patch_size": case["patch"], "num_classes": 0}
    sizes |= {name: case[name] for name in ("embed_dim", "num_heads")}
    if kind == "vit":
        backbone = VisionTransformer(**sizes, depth=case["depth"])
    else:
        backbone = SwinTransformer(**sizes, depths=case["depths"], window_size=case["window"])
    places = case.get("csn_from_block", 0), case["inject_from_block"]
    config = DTLConfig(case["rank"], *places, case["beta"], case["dwconv_kernel"])
    model = DTL(backbone, case["num_classes"], config).double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(_drawn(_recorded_name(name, kind), tuple(parameter.shape)))
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    images = torch.from_numpy(np.random.RandomState(7).standard_normal((2, 3, case["img"], case["img"])))
    logits = torch.tensor(record["logits"], dtype=torch.float64)
    gradients = {name: record["grads"][_recorded_name(name, kind)][0] for name in trained}
    counts = (record["csn_params"], record["csn_params_with_grad"])
    return GoldenCase(model, images, torch.tensor([1, 3]), logits, record["loss"], gradients, *counts)


def _recorded_name(name: str, kind: str) -> str:
    """Return the record's name of one of our parameters."""
    name = re.sub(r"csn\.maps\.(\d+)\.", r"csn.\1.", name.removeprefix("backbone."))
    name = re.sub(r"csn\.dwconvs\.(\d+)\.weight", "csn.dwconv" if kind == "vit" else r"csn.dwconv.\1", name)
    # their timm had the patch merging at the end of a stage, ours has it at the start of the next
    return re.sub(r"layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", name)


def _drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    """Return the float64 tensor for a name, by the rule that the recorded outputs were made with."""
    draw = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(int(np.prod(shape))).reshape(shape)
    if "norm" in name and name.endswith("weight") and not name.startswith("csn"):
        return torch.from_numpy(1 + 0.1 * draw)
    small = name in ("cls_token", "pos_embed") or name.endswith("relative_position_bias_table") or len(shape) == 1
    return torch.from_numpy((0.2 if name.startswith("csn") else 0.02 if small else 0.05) * draw)

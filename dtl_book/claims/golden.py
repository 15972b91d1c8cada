"""Recorded outputs of the authors' own implementation, and the weights and images that they belong to.

``resources/golden_vit_case.json`` holds logits, loss and gradients that the authors' code (commit bf6c51e, timm 0.5.4)
computed in float64 for a narrow ViT of 12 blocks, once with DTL and once with DTL+; ``golden_swin_case.json`` the same for
a narrow Swin of 24 blocks. The weights are not stored: each is drawn from a generator whose seed is the checksum of the
tensor's name, so anyone can draw them again.
"""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from dtl_core.dtl import DTL, DTLConfig

from ..paths import RESOURCES


@dataclass(frozen=True)
class GoldenCase:
    """What went into the authors' code, and what came out. All of it in float64, on the CPU.

    Attributes:
        model: our ``DTL``, filled with the weights that their model had.
        images: (2, 3, 224, 224), standard normal, used as they are.
        labels: (2,).
        logits: (2, 10), theirs.
        loss: mean cross-entropy, theirs.
        gradients: name of a trained tensor of ``model`` -> norm of its gradient, theirs.
        side_parameters: numbers in their side network.
        side_parameters_with_gradient: how many of these got a gradient.
    """

    model: DTL
    images: Tensor
    labels: Tensor
    logits: Tensor
    loss: float
    gradients: dict[str, float]
    side_parameters: int
    side_parameters_with_gradient: int


def golden_value(name: str, shape: tuple[int, ...]) -> Tensor:
    """The float64 tensor that belongs to a name, by the rule that the recorded outputs were made with."""
    draw = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(int(np.prod(shape))).reshape(shape)
    if name.startswith("csn"):
        draw = 0.2 * draw
    elif "norm" in name and name.endswith("weight"):
        draw = 1 + 0.1 * draw
    elif name in ("cls_token", "pos_embed") or name.endswith("relative_position_bias_table"):
        draw = 0.02 * draw
    else:
        draw = (0.05 if len(shape) > 1 else 0.02) * draw
    return torch.from_numpy(draw)


def _recorded_name(name: str, swin: bool) -> str:
    """Our name of a parameter -> the name in the record."""
    name = re.sub(r"csn\.maps\.(\d+)\.", r"csn.\1.", name.removeprefix("backbone."))
    if not swin:
        return name.replace("csn.dwconvs.0.weight", "csn.dwconv")
    name = re.sub(r"csn\.dwconvs\.(\d+)\.weight", r"csn.dwconv.\1", name)
    # their timm had the patch merging at the end of a stage, ours has it at the start of the next
    return re.sub(r"layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", name)


def golden_vit_case(plus: bool = False) -> GoldenCase:
    """One recorded case of the authors' code on a ViT of 12 blocks of width 48, rank 2, M = 6.

    Args:
        plus: DTL+ with a 3 x 3 convolution; else DTL.
    """
    record = json.loads((RESOURCES / "golden_vit_case.json").read_text())[int(plus)]
    case = record["case"]
    backbone = VisionTransformer(
        img_size=case["img"],
        patch_size=case["patch"],
        embed_dim=case["embed_dim"],
        depth=case["depth"],
        num_heads=case["num_heads"],
        num_classes=0,
    )
    return _filled(backbone, record, 0)


def golden_swin_case(plus: bool = False) -> GoldenCase:
    """One recorded case of the authors' code on a Swin of 2, 2, 18 and 2 blocks of widths 16 to 128, rank 4, M = 14.

    Args:
        plus: DTL+ with 5 x 5 convolutions; else DTL.
    """
    record = json.loads((RESOURCES / "golden_swin_case.json").read_text())[int(plus)]
    case = record["case"]
    backbone = SwinTransformer(
        img_size=case["img"],
        patch_size=case["patch"],
        embed_dim=case["embed_dim"],
        depths=case["depths"],
        num_heads=case["num_heads"],
        window_size=case["window"],
        num_classes=0,
    )
    return _filled(backbone, record, case["csn_from_block"])


def _filled(backbone: VisionTransformer | SwinTransformer, record: dict, tap_from: int) -> GoldenCase:
    """The case with the recorded weights in our model."""
    case, swin = record["case"], isinstance(backbone, SwinTransformer)
    config = DTLConfig(
        rank=case["rank"],
        tap_from=tap_from,
        inject_from=case["inject_from_block"],
        beta=case["beta"],
        dwconv_kernel=case["dwconv_kernel"],
    )
    model = DTL(backbone, case["num_classes"], config).double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(golden_value(_recorded_name(name, swin), tuple(parameter.shape)))
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return GoldenCase(
        model=model,
        images=torch.from_numpy(np.random.RandomState(7).standard_normal((2, 3, case["img"], case["img"]))),
        labels=torch.tensor([1, 3]),
        logits=torch.tensor(record["logits"], dtype=torch.float64),
        loss=record["loss"],
        gradients={name: record["grads"][_recorded_name(name, swin)][0] for name in trained},
        side_parameters=record["csn_params"],
        side_parameters_with_gradient=record["csn_params_with_grad"],
    )

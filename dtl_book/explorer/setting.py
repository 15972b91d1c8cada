"""A setting of the memory explorer: its plan, the largest batch that fits, and the single changes worth considering."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from dtl_core import DTLConfig, load_backbone
from dtl_core.blocks import blocks_of
from dtl_core.memory import BatchFit, MemoryPlan, largest_fitting, plan_training

from ..lab.plots import METHOD_STYLES

BACKBONES = {
    "ViT-B/16": "vit_base_patch16_224", "ViT-L/16": "vit_large_patch16_224", "ViT-S/16": "vit_small_patch16_224",
    "Swin-B": "swin_base_patch4_window7_224", "ViT-S/14 (packaged)": "packaged/vit-s14",
}  # fmt: skip
RESERVE_GIB = 1.0  # left to CUDA itself, as in memory.largest_batch


@dataclass(frozen=True)
class Setting:
    """What a reader chooses. ``inject_from`` (M) and ``rank`` are the method's own where they are None."""

    method: str = "dtl"
    backbone: str = "vit_base_patch16_224"
    inject_from: int | None = None
    rank: int | None = None
    batch_size: int = 32
    image_size: int = 224
    precision: str = "fp32"
    recompute: str = "side"
    attention: str = "fused"
    checkpointing: bool = False

    @property
    def is_dtl(self) -> bool:
        return self.method in ("dtl", "dtl+")

    @property
    def label(self) -> str:
        return METHOD_STYLES[self.method][0]

    def plain(self) -> Setting:
        """Return the setting without choices that the method does not have, so that equal steps have equal keys."""
        if self.is_dtl:
            return self
        return replace(self, inject_from=None, recompute="none", rank=self.rank if self.method == "lora" else None)

    def arguments(self) -> dict:
        """Return keyword arguments of ``plan_training`` and ``largest_batch``, except the batch size."""
        own = {}
        if self.is_dtl:
            config = anatomy(self.backbone)[1 + (self.method == "dtl+")]
            chosen = {"inject_from": self.inject_from, "rank": self.rank}
            config = replace(config, **{k: v for k, v in chosen.items() if v is not None})
            own = {"config": config, "recompute": self.recompute}
        elif self.method == "lora" and self.rank is not None:
            own = {"rank": self.rank}
        return {
            "method": self.method, "backbone": self.backbone, "image_size": self.image_size, "precision": self.precision,
            "attention": self.attention, "checkpointing": self.checkpointing, **own,
        }  # fmt: skip


@lru_cache(maxsize=16)
def anatomy(backbone: str) -> tuple[int, DTLConfig, DTLConfig]:
    """Return the number of blocks of a backbone, and the configurations of DTL and DTL+ on it."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that M is ours is said beside the slider
        model = load_backbone(backbone, pretrained=False)
        return len(blocks_of(model).widths), DTLConfig.for_backbone(model), DTLConfig.for_backbone(model, plus=True)


@lru_cache(maxsize=512)
def _planned(setting: Setting) -> MemoryPlan:
    return plan_training(batch_size=setting.batch_size, **setting.arguments())


def plan(setting: Setting) -> MemoryPlan:
    """Return ``plan_training`` of a setting, cached."""
    return _planned(setting.plain())


def fit(setting: Setting, gpu_gib: float) -> BatchFit:
    """Return the largest batch that fits, as ``memory.largest_batch`` finds it, with fewer plans.

    The search starts from the setting's batch and its half, which the page plans anyway.
    """

    def peak(batch: int) -> int:
        return plan(replace(setting, batch_size=batch)).peak_bytes

    high = max(16, setting.batch_size)  # smaller ones are ruled by what is not per image
    return largest_fitting(peak, (high // 2, high), gpu_gib, RESERVE_GIB)


def changes(setting: Setting) -> dict[str, tuple[Setting, str]]:
    """Return the single changes worth considering: what it is -> (the changed setting, what it costs)."""
    last, found = anatomy(setting.backbone)[0] - 1, {}

    def offer(wanted: bool, label: str, price: str, **to: object) -> None:
        if wanted:
            found[label] = replace(setting, **to), price

    dtl, half, other = setting.is_dtl, setting.batch_size // 2, "another network: its accuracy is another question"
    own = {"method": "dtl", "inject_from": None, "rank": None, "recompute": "side"}
    offer(not dtl, "DTL in place of the method", other, **own)
    offer(dtl and setting.recompute == "none", "recompute the side state", "the gate runs twice", recompute="side")
    offer(
        dtl and setting.recompute != "blocks", "recompute the blocks", "the blocks after M run forward twice",
        recompute="blocks",
    )  # fmt: skip
    early = setting.inject_from is None or setting.inject_from < last
    offer(dtl and early, f"inject after the last block alone (M = {last})", other, inject_from=last)
    offer(setting.precision == "fp32", "fp16 autocast", "rounding to 16 bits, loss scaling", precision="amp")
    bf16 = "frozen weights and activations in bf16"
    offer(setting.precision != "bf16", bf16, "rounding to 16 bits", precision="bf16")
    offer(half > 0, f"a batch of {half}", "more steps for the same images", batch_size=half)
    twice = "blocks with a gradient run forward twice"
    offer(not setting.checkpointing, "gradient checkpointing", twice, checkpointing=True)
    offer(setting.attention == "math", "fused attention", "none, where the GPU has the kernel", attention="fused")
    return found

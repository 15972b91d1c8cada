"""What different estimators say of one training step, beside a real step of the same model."""

from __future__ import annotations

import warnings

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from dtl_core import load_backbone
from dtl_core.baselines import build
from dtl_core.memory import MIB, measure_training, plan_step
from dtl_core.memory.step import make_optimizer, set_attention

FORMULA = "four times the weights"  # weights, gradients and AdamW's two moments; no activations
TRACKER, OURS, MEASURED = "torch's MemTracker", "plan_step", "measured on this CPU"
NOTE = (
    f"MiB of a step in fp32 with AdamW. {FORMULA.capitalize()}: what accelerate estimate-memory and Hugging Face's Model Memory "
    "Calculator give for training. MemTracker: on the meta device, where attention is not fused; a dash where it fails, as on "
    "frozen parameters. Measured: the most bytes of tensors alive at once."
)


def estimators(
    backbone: str = "vit_base_patch16_224", methods: tuple[str, ...] = ("full", "lora"), *, batch_size: int = 32,
    image_size: int = 224, num_classes: int = 100,
) -> pd.DataFrame:  # fmt: skip
    """Return the peak in MiB that each estimator gives, a row each and a column a method; the last row is a real step's.

    The real step takes the memory that it says: full fine-tuning of the ViT-B/16 with 32 images 4.5 GiB.
    """

    def make(method: str) -> nn.Module:
        shape = load_backbone(backbone, image_size=image_size, pretrained=False)
        model = build(method, shape, num_classes, inplace=True)
        set_attention(model, "fused")
        return model

    batch = ((batch_size, 3, image_size, image_size), (batch_size,))
    columns = {}
    for method in methods:
        real = make(method)
        measured = measure_training(real, (torch.randn(batch[0]), torch.arange(batch_size) % num_classes))
        columns[method] = {
            FORMULA: 4 * sum(p.numel() * p.element_size() for p in real.parameters()) / MIB,
            TRACKER: _tracked(real, batch),
            OURS: plan_step(lambda method=method: make(method), batch).peak_bytes / MIB,
            MEASURED: measured.peak_bytes / MIB,
        }
        del real
    return pd.DataFrame(columns).rename_axis("estimator")


def _tracked(model: nn.Module, batch: tuple[tuple[int, ...], tuple[int]]) -> float | None:
    """Return the peak in MiB of a second step by torch's tracker, on the meta device; None where it fails."""
    try:
        from torch.distributed._tools.mem_tracker import MemTracker
    except ImportError:  # a private module of torch, there from 2.4 on where torch has its distributed part
        return None
    model = model.to("meta").train()
    images, labels = torch.empty(batch[0], device="meta"), torch.zeros(batch[1], dtype=torch.int64, device="meta")
    step = make_optimizer("adamw", [p for p in model.parameters() if p.requires_grad])
    tracker = MemTracker()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that its hooks failed, said beside the error
            tracker.track_external(model, step, images, labels)
            with tracker:
                for _ in range(2):
                    F.cross_entropy(model(images), labels).backward()
                    step.step()
                    step.zero_grad()
                    tracker.reset_mod_stats()
    except RuntimeError as error:  # it puts a hook on every parameter, and a frozen one takes none
        if "doesn't require gradient" not in str(error):
            raise
        return None
    peaks = tracker.get_tracker_snapshot("peak")
    return sum(kinds["Total"] for device, kinds in peaks.items() if device.type == "meta") / MIB

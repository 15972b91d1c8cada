"""Measurement of a real training step by the ledger, and on a GPU also by CUDA's own counter.

Neither the plan nor the ledger counts what a kernel allocates internally. On the CPU, PyTorch's allocator (read through
the profiler) agrees with the ledger within 0.3 % of the peak for full, LoRA, SSF, VPT and DTL on the toy backbones with
batch 32. DTL+ takes more, 1 % on the ViT and 15 % on the Swin, because the CPU's depthwise convolution copies its
input.

How the CPU compares with CUDA and the plan:

- Attention: the CPU's fused kernel keeps the output and one number per row and head, as CUDA's does. With a trained
  mask (full on a Swin) PyTorch computes unfused attention on the CPU; this case was not run on CUDA.
- A method's own dropout: the CPU keeps the factors in full, CUDA and the plan keep one byte per number.
- Layer norm over bf16 tokens: the CPU keeps its statistics in bf16, CUDA and the plan keep them in fp32. The difference
  is up to 0.14 % of the peak (BitFit on a Swin-B).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..dtl import Features, suffix_to
from .ledger import Ledger
from .plan import AUTOCAST, Precision
from .report import MemoryPlan, summarize
from .step import Optimizer, run_step


def measure_training(
    model: nn.Module,
    batch: tuple[Tensor | Features, Tensor],
    *,
    precision: Precision = "fp32",
    optimizer: Optimizer = "adamw",
    checkpointing: bool = False,
    keep_gradients: bool = False,
) -> MemoryPlan:
    """Count the bytes of a real training step.

    The learning rate is 0, so the weights do not change. Gradients are set to None afterwards.

    Args:
        model: a ``DTL`` or a model of ``baselines.build``, on the device to be measured.
        batch: images (B, 3, H, W) and labels (B,); moved to the model's device. If ``Features`` of the model's prefix
            replace the images, only the suffix is counted, and the prefix's weights are on the CPU during the step.
        precision: "fp32"; "amp" or "amp-bf16" for autocast in fp16 or bf16, on CUDA only; "bf16" for a model that was
            built with ``backbone_dtype=torch.bfloat16``.
        optimizer, checkpointing, keep_gradients: as in ``plan_training``.

    Returns:
        A ``MemoryPlan``. On CUDA its ``cuda_peak_bytes`` is the allocator's own peak. This includes what kernels
        allocate internally (cuBLAS's workspace, say) and everything else on the device.

    Raises:
        ValueError: the device or the model does not have this precision.
    """
    device = model.head.weight.device
    inputs, labels = (t.to(device) for t in batch)
    cached = isinstance(inputs, Features)
    height, width = model.info.image_size
    frozen = {p.dtype for p in model.parameters() if not p.requires_grad and p.is_floating_point()}
    if precision in AUTOCAST and device.type != "cuda":
        raise ValueError(
            f"precision={precision!r} is CUDA's autocast, and the model is on {device.type}: plan_training plans it on any machine"
        )
    if frozen and (precision == "bf16") != (torch.bfloat16 in frozen):
        has = ", ".join(sorted(str(d).removeprefix("torch.") for d in frozen)) or "none"
        raise ValueError(
            f"precision={precision!r}, but the frozen weights are of type {has}: "
            "build the model with backbone_dtype=torch.bfloat16 for 'bf16', and without it for the others"
        )
    fused = {m.fused_attn for m in model.modules() if hasattr(m, "fused_attn")}
    setting = {
        "method": type(model).__name__, "backbone": model.info.name, "batch_size": len(labels),
        "image_size": (height, width) if cached else tuple(inputs.shape[2:]), "num_classes": model.head.out_features, "precision": precision,
        "optimizer": optimizer, "attention": "fused" if fused == {True} else "math" if fused == {False} else "mixed",
        "checkpointing": checkpointing, "keep_gradients": keep_gradients, "cached": cached, "options": {},
    }  # fmt: skip
    if cached:
        suffix_to(model, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    training, ledger = model.training, Ledger()
    try:
        saved = run_step(
            ledger, model.train(), inputs, labels, optimizer=optimizer, checkpointing=checkpointing,
            real_autocast=torch.autocast("cuda", AUTOCAST[precision]) if precision in AUTOCAST else None,
            keep_gradients=keep_gradients,
        )  # fmt: skip
        peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    finally:
        model.to(device).train(training)
        for p in model.parameters():
            p.grad = None
    return summarize(ledger, model, saved, setting, source=f"measured on {device.type}", cuda_peak=peak)

"""The same account of a real step: by the ledger on a CPU, and beside CUDA's own counter on a GPU.

What a kernel allocates inside itself is in neither the plan nor the ledger. On the CPU PyTorch's allocator, watched by the
profiler, agrees with the ledger within 0.3 % of the peak for full, LoRA, SSF, VPT and DTL on the toys (batch 32); DTL+ takes
more, 1 % on the ViT and 15 % on the Swin, because the CPU's depthwise convolution copies its input. Its attention kernel
keeps the output and one number a row and head, as CUDA's does; where a mask is trained (full on a Swin) PyTorch writes
attention out on the CPU; what CUDA does there was not run. A method's own dropout keeps its factors in full on the CPU, and
a byte a number on CUDA and in the plan. Over bf16 tokens the CPU keeps the statistics of a layer norm in
bf16, CUDA and the plan in fp32: up to 0.14 % of the peak (BitFit on a Swin-B).
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
    """Counts the bytes of a real training step. The weights stay as they are: the step is taken with a rate of 0.

    Args:
        model: a ``DTL`` or a model of ``baselines.build``, on the device that is to be measured.
        batch: images (B, 3, H, W) and labels (B,); moved to the model's device. In the place of images what the model's
            prefix made of them: then its suffix alone is counted, and the weights of its prefix lie on the CPU meanwhile.
        precision: "fp32"; "amp" or "amp-bf16": autocast, on CUDA only; "bf16" for a model that was built with
            ``backbone_dtype=torch.bfloat16``.
        optimizer, checkpointing, keep_gradients: as in ``plan_training``.

    Returns:
        A ``MemoryPlan``. On CUDA ``cuda_peak_bytes`` is the allocator's own peak, which also has what kernels allocate
        inside themselves (cuBLAS's workspace, say) and whatever else lies on the device.

    Raises:
        ValueError: a precision that this device or model does not have.
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

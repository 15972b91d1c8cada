"""Dry run of a training step that counts every byte on fake tensors, with no weights, no download and no GPU.

Fake tensors are on PyTorch's meta device: they have a shape and a type but no data. The meta device follows CUDA's
rules for types: the statistics of a layer norm over bf16 tokens are fp32, where the CPU keeps them in bf16. The
difference is up to 0.14 % of the peak, on a Swin-B.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from types import SimpleNamespace
from typing import Literal
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from ..backbones import load_backbone
from ..baselines import build
from .amp import CudaAutocast
from .ledger import Ledger
from .report import MemoryPlan, summarize
from .step import Attention, Optimizer, run_step, set_attention

Precision = Literal["fp32", "amp", "amp-bf16", "bf16"]
AUTOCAST = {"amp": torch.float16, "amp-bf16": torch.bfloat16}


@lru_cache(maxsize=4)
def _shape(backbone: str, image_size: int | tuple[int, int]) -> nn.Module:
    """Return the backbone on the meta device, cached because timm takes a good part of a second to build it."""
    with torch.device("meta"):
        return load_backbone(backbone, image_size=image_size, pretrained=False)


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


class CudaKernels(TorchFunctionMode):
    """Function mode that makes operations on the meta device keep what CUDA's kernels keep.

    Fused attention keeps the output and one number per query and head, as every fused kernel does. With a trained bias
    on the scores (a fully tuned Swin) the CPU has no fused backward. Attention is then unfused, as in a measured step.
    Dropout keeps one byte per number, where the meta device and the CPU keep the factors in full.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return KERNELS.get(func, func)(*args, **(kwargs or {}))


def _attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None):
    aten = torch.ops.aten
    trained_bias = attn_mask is not None and attn_mask.requires_grad
    kernel = (
        aten._scaled_dot_product_attention_math if trained_bias else aten._scaled_dot_product_flash_attention_for_cpu
    )
    return kernel(query, key, value, dropout_p=dropout_p, is_causal=is_causal, attn_mask=attn_mask, scale=scale)[0]


def _dropout(input, p=0.5, training=True, inplace=False, train=None):
    training = training if train is None else train  # torch.dropout has another name for it
    return torch.native_dropout(input, p, True)[0] if training and p > 0 else input


KERNELS = {F.scaled_dot_product_attention: _attention, F.dropout: _dropout, torch.dropout: _dropout}


def plan_training(
    method: str,
    backbone: str = "vit_base_patch16_224",
    *,
    batch_size: int = 32,
    image_size: int | tuple[int, int] = 224,
    num_classes: int = 100,
    precision: Precision = "fp32",
    optimizer: Optimizer = "adamw",
    attention: Attention = "fused",
    checkpointing: bool = False,
    keep_gradients: bool = False,
    cached: bool = False,
    **options,
) -> MemoryPlan:
    """Plan the memory of a training's second step, in which the optimizer already has its state.

    Args:
        method: a key of ``baselines.METHODS``.
        backbone: a name for ``load_backbone``; only its shape is used.
        batch_size: images per step.
        image_size: side, or (H, W), in pixels.
        num_classes: classes of the head.
        precision: "fp32"; "amp" or "amp-bf16" for the rules of CUDA's autocast in fp16 or bf16 (``memory.amp``); "bf16"
            for frozen weights and activations in bf16, with trained parameters and optimizer in fp32.
        optimizer: "adamw" or "sgd".
        attention: "fused" (one kernel, which keeps no attention matrix) or "math" (unfused).
        checkpointing: gradient checkpointing of every block.
        keep_gradients: keep gradients allocated between steps, as PyTorch before 2.0 did.
        cached: train from stored features of the prefix, as ``fit`` does from a ``PrefixCache``. The features are the
            input, and the frozen weights up to block M are not on the device.
        **options: options of the method; see ``baselines.build``.

    Returns:
        A ``MemoryPlan``. Its bytes are integers, and the same on every machine with the same package versions.

    Raises:
        ValueError: an unknown name, sizes that do not fit, or ``cached`` for a method without a frozen prefix.
        UnsupportedBackbone: the method does not run on this backbone.
    """
    if precision not in ("fp32", "bf16", *AUTOCAST):
        raise ValueError(f"precision is {precision!r}: choose fp32, amp (fp16 autocast), amp-bf16 or bf16")
    for name, value in {"batch_size": batch_size, "num_classes": num_classes}.items():
        if value < 1:
            raise ValueError(f"{name} is {value}: it has to be at least 1")
    setting = {
        "method": method, "backbone": backbone, "batch_size": batch_size, "image_size": _pair(image_size),
        "num_classes": num_classes, "precision": precision, "optimizer": optimizer, "attention": attention,
        "checkpointing": checkpointing, "keep_gradients": keep_gradients, "cached": cached, "options": dict(options),
    }  # fmt: skip
    shape = copy.deepcopy(_shape(backbone, image_size if isinstance(image_size, int) else tuple(image_size)))
    if precision == "bf16":
        options["backbone_dtype"] = torch.bfloat16
    ledger = Ledger()
    with torch.device("meta"):
        model = build(method, shape, num_classes, inplace=True, **options)
        inputs, labels = torch.empty(batch_size, 3, *_pair(image_size)), torch.zeros(batch_size, dtype=torch.int64)
        if cached and not hasattr(model, "prefix"):
            raise ValueError(f"{method} has no frozen prefix, so there is nothing to store: leave out cached=True")
        inputs = model.prefix(inputs) if cached else inputs
    set_attention(model, attention)
    # outside the device's context, as a training on CUDA runs: AdamW's counter of steps then lies on the CPU, where
    # torch up to 2.12 has to read it
    with patch.object(torch, "meta", SimpleNamespace(), create=True):  # torch 2.4's checkpoint asks for such a module
        saved = run_step(
            ledger, model.train(), inputs, labels, optimizer=optimizer,
            autocast=CudaAutocast(AUTOCAST[precision]) if precision in AUTOCAST else None,
            kernels=CudaKernels(), checkpointing=checkpointing, keep_gradients=keep_gradients,
        )  # fmt: skip
    return summarize(ledger, model, saved, setting, source="planned")

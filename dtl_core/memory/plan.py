"""Dry run of a training step that counts every byte on fake tensors, with no weights, no download and no GPU.

Fake tensors are on PyTorch's meta device: they have a shape and a type but no data. The meta device follows CUDA's
rules for types; ``memory.step`` says how the CPU differs.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from unittest.mock import patch

import torch
import torch.nn.functional as F
from timm.layers import to_2tuple
from torch import nn
from torch.overrides import TorchFunctionMode

from ..backbones import load_backbone, meta_copy
from ..baselines import build
from .amp import COMPOSITE, CudaAutocast, inside
from .batches import Batch, Given, Loss, as_batch
from .report import GIB, MemoryPlan
from .step import AUTOCAST, Attention, Optimizer, Precision, StepPrecision, run_step, set_attention, step_setting

FORECASTS = 4  # plans at foretold batches, before the search halves what is left
RESERVE_GIB = 1.0  # of a GPU, for CUDA itself
PROBES = (8, 16)  # multiples of the parts that a lean DTL takes its batch in


@lru_cache(maxsize=4)
def _shape(backbone: str, image_size: tuple[int, int]) -> nn.Module:
    """Return the backbone on the meta device, cached because timm takes a good part of a second to build it."""
    with torch.device("meta"):
        return load_backbone(backbone, image_size=image_size, pretrained=False)


class CudaKernels(TorchFunctionMode):
    """Function mode that makes operations on the meta device keep what CUDA's kernels keep.

    Fused attention keeps the output and one number per query and head, as every fused kernel does. With a trained bias
    on the scores (a fully tuned Swin) the CPU has no fused backward. Attention is then unfused, as in a measured step.
    Dropout keeps one byte per number, where the meta device and the CPU keep the factors in full; in place it keeps
    these on CUDA too.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in COMPOSITE:
            return inside(self, func, args, kwargs)
        return KERNELS.get(func, func)(*args, **(kwargs or {}))


def _attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    aten = torch.ops.aten
    trained_bias = attn_mask is not None and attn_mask.requires_grad
    if trained_bias or query.ndim != 4:  # no fused kernel takes these
        own = {"enable_gqa": True} if enable_gqa else {}  # torch 2.4 has no such argument
        kernel, own = aten._scaled_dot_product_attention_math, own | {"dropout_p": dropout_p}
    else:  # dropped inside the kernel, which keeps the state of a generator alone
        kernel, own = aten._scaled_dot_product_flash_attention_for_cpu, {}
    return kernel(query, key, value, is_causal=is_causal, attn_mask=attn_mask, scale=scale, **own)[0]


def _dropout(input, p=0.5, training=True, inplace=False, train=None):
    training = training if train is None else train  # torch.dropout has another name for it
    if inplace:  # has no fused kernel on CUDA either
        return F.dropout(input, p, training, inplace=True)
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

    The bytes are integers, and the same on every machine with the same package versions.

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
        keep_gradients: keep gradients allocated between steps and fill them with zeros, as PyTorch before 2.0 did.
        cached: train from stored features of the prefix, as ``fit`` does from a ``PrefixCache``. The features are the
            input, and the frozen weights up to block M are not on the device.
        **options: options of the method; see ``baselines.build``.

    Raises:
        ValueError: an unknown name, sizes that do not fit, or ``cached`` for a method without a frozen prefix.
        UnsupportedBackbone: the method does not run on this backbone.
    """
    if precision not in ("fp32", "bf16", *AUTOCAST):
        raise ValueError(f"precision is {precision!r}: choose fp32, amp (fp16 autocast), amp-bf16 or bf16")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: it has to be at least 1")
    size = to_2tuple(image_size)
    setting = {
        "method": method, "backbone": backbone, "batch_size": batch_size, "image_size": size,
        "num_classes": num_classes, "precision": precision, "optimizer": optimizer, "attention": attention,
        "checkpointing": checkpointing, "keep_gradients": keep_gradients, "cached": cached, "options": dict(options),
    }  # fmt: skip
    shape = copy.deepcopy(_shape(backbone, size))
    if precision == "bf16":
        options["backbone_dtype"] = torch.bfloat16
    with torch.device("meta"):
        model = build(method, shape, num_classes, inplace=True, **options)
        inputs, labels = (
            torch.empty(batch_size, model.blocks.channels, *size),
            torch.zeros(batch_size, dtype=torch.int64),
        )
        if cached and not hasattr(model, "prefix"):
            raise ValueError(f"{method} has no frozen prefix, so there is nothing to store: leave out cached=True")
        inputs = model.prefix(inputs) if cached else inputs
    set_attention(model, attention)
    return _plan(model, (inputs, labels), setting)


def plan_step(
    make: Callable[[], nn.Module],
    batch: Given,
    *,
    loss: Loss | None = None,
    precision: StepPrecision = "fp32",
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None = None,
    checkpointing: bool = False,
) -> MemoryPlan:
    """Plan the memory of the second step of any module's training.

    ``plan_step(lambda: torchvision.models.resnet50(), ((32, 3, 224, 224), (32,)))`` needs no weights and no GPU. In the
    plan's ``by_block`` a region is the path of a repeated block (``layer1.0``), or of a child beside these.

    Args:
        make: builds the module, on the meta device where it can. A module that is there is copied without its numbers.
            Parameters without ``requires_grad`` are frozen. The plan is of training mode, as after ``model.train()``.
        batch: a tuple, whose first entry is the model's input and whose second are the labels, or a dict, of which the
            model gets what its ``forward`` has arguments for. Entries are tensors, of which type and shape are used, or
            shapes; a shape stands for fp32, that of one dimension, (B,), for int64 labels.
        loss: of output and batch, a scalar; ``default_loss`` if None: the output's own, else the cross-entropy where
            there are integer labels that fit, else the mean of the output.
        precision: "fp32" for the types that module and batch have; "amp" or "amp-bf16" for the rules of CUDA's
            autocast. For all in bf16 give such a module and such a batch.
        optimizer: makes it from the list of trained parameters; AdamW if None. Unless it says otherwise it has the form
            that PyTorch takes on CUDA (``foreach``).
        checkpointing: recompute every repeated block in backward. A module may also checkpoint by itself.

    Raises:
        ValueError: nothing is trained, the step depends on numbers, or there is no repeated block to checkpoint.
        TypeError: a batch of neither tensors nor shapes, an output whose loss is not known, or a module for ``make``.
    """
    if precision not in ("fp32", *AUTOCAST):
        raise ValueError(
            f"precision is {precision!r}: choose fp32, amp or amp-bf16; for bf16 throughout let make return model.bfloat16() "
            "and give a batch of that type"
        )
    if isinstance(make, nn.Module):
        raise TypeError("give a function that returns the module: plan_step(lambda: model, batch)")
    model, tensors = _on_meta(make), as_batch(batch, "meta")
    try:
        return _plan(model, tensors, step_setting(model, tensors, precision, checkpointing), loss, optimizer)
    except RuntimeError as error:
        if "meta" not in str(error):
            raise
        raise ValueError(
            f"the step of this {type(model).__name__} reads numbers, or has a tensor that is no buffer, and a plan has only "
            f"shapes: measure_step counts a real step of it ({str(error).splitlines()[0]})"
        ) from error


def _on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    """Return what ``make`` builds as a module of its own on meta; what it ties stays tied."""
    try:
        with torch.device("meta"):
            model = make()
    except RuntimeError:  # many a module reads numbers while it is built, such as its rates of drop path
        model = make()
    return meta_copy(model)


def _plan(model: nn.Module, batch: Batch, setting: dict, loss=None, optimizer=None) -> MemoryPlan:
    precision = setting["precision"]
    autocast = CudaAutocast(AUTOCAST[precision]) if precision in AUTOCAST else None
    # outside the device's context, as a training on CUDA runs: AdamW's counter of steps then lies on the CPU, where
    # torch up to 2.12 has to read it
    with patch.object(torch, "meta", SimpleNamespace(), create=True):  # torch 2.4's checkpoint asks for such a module
        return run_step(model.train(), batch, setting, "planned", autocast, CudaKernels(), loss, optimizer)


def room_bytes(gpu_gib: float, reserve_gib: float = RESERVE_GIB) -> float:
    """Return the bytes of a GPU that a plan's peak may fill.

    ``reserve_gib`` is left free for CUDA's context, the workspaces of its libraries and fragmentation; its default is
    our own choice.
    """
    if gpu_gib <= reserve_gib:
        raise ValueError(
            f"a GPU of {gpu_gib:g} GiB has nothing left beside {reserve_gib:g} GiB for CUDA itself: raise gpu_gib, or lower "
            "reserve_gib"
        )
    return (gpu_gib - reserve_gib) * GIB


@dataclass(frozen=True)
class BatchFit:
    """Largest batch for a GPU, whose peak is about ``fixed_bytes + image_bytes * batch``.

    If not even one image fits, ``largest`` is 0 and ``peak_bytes`` is that of one image.
    """

    largest: int
    peak_bytes: int
    fixed_bytes: float
    image_bytes: float
    gpu_gib: float
    reserve_gib: float

    def sentence(self) -> str:
        if not self.largest:
            return (
                f"Not even one image fits a GPU of {self.gpu_gib:g} GiB: it would take {self.peak_bytes / GIB:.2f} GiB."
            )
        return (
            f"The largest batch that fits a GPU of {self.gpu_gib:g} GiB is {self.largest:,} images: "
            f"{self.peak_bytes / GIB:.2f} GiB, and {self.reserve_gib:g} GiB are left for CUDA itself."
        )


def largest_batch(
    method: str, backbone: str = "vit_base_patch16_224", *, gpu_gib: float, reserve_gib: float = RESERVE_GIB, **setting
) -> BatchFit:
    """Find the largest batch whose planned peak fits a GPU.

    For ``reserve_gib`` see ``room_bytes``. The other arguments are those of ``plan_training``, without ``batch_size``.
    """

    def peak(batch: int) -> int:
        return plan_training(method, backbone, batch_size=batch, **setting).peak_bytes

    return largest_fitting(peak, PROBES, gpu_gib, reserve_gib)


def largest_fitting(
    peak: Callable[[int], int], probes: tuple[int, int], gpu_gib: float, reserve_gib: float
) -> BatchFit:
    """Find the largest batch that fits a GPU, for any function from a batch to bytes that never falls.

    The peak is affine in the batch, up to the rounding of storages and of the parts of a batch. Two plans, at the
    ``probes``, predict the answer, a third checks it, and a fourth checks that one more image does not fit. If a check
    fails, the prediction is moved until both hold. If small batches have their peak in the optimizer's step and large
    ones do not, bisection finds the answer in about ten more plans.
    """
    room = room_bytes(gpu_gib, reserve_gib)
    low, high = (peak(b) for b in probes)
    slope = max(1.0, (high - low) / (probes[1] - probes[0]))
    fixed = low - slope * probes[0]
    fits, over, seen = 0, None, {}  # the largest batch known to fit, the smallest known not to, their bytes
    n = max(1, int((room - fixed) // slope))
    while over != fits + 1:
        seen[n] = peak(n)
        if seen[n] <= room:
            fits = n
        else:
            over = n
        known = fits or over
        n = max(fits + 1, known + int((room - seen[known]) // slope))
        if over is not None:  # foretold in vain, as where small batches have their peak in the optimizer's step: halve
            n = min(n, over - 1) if len(seen) < FORECASTS else (fits + over) // 2
    if fits > 1 and abs(fixed + slope * fits - seen[fits]) > 0.01 * seen[fits]:
        slope = (seen[fits] - peak(fits // 2)) / (fits - fits // 2)  # of the batches near the answer
        fixed = seen[fits] - slope * fits
    return BatchFit(fits, seen[fits or 1], fixed, slope, gpu_gib, reserve_gib)

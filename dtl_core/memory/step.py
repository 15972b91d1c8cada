"""One training step, the same for a plan on fake tensors and for a measurement on real ones.

Neither counts what a kernel allocates internally. On the CPU, PyTorch's allocator (read through the profiler) agrees
with the ledger within 0.3 % of the peak for full, LoRA, SSF, VPT and DTL on the toy backbones with batch 32. DTL+ takes
more, 1 % on the ViT and 15 % on the Swin, because the CPU's depthwise convolution copies its input.

How a measurement on the CPU compares with CUDA and the plan:

- Attention: the CPU's fused kernel keeps the output and one number per row and head, as CUDA's does. With a trained
  mask (full on a Swin) PyTorch computes unfused attention on the CPU; this case was not run on CUDA.
- A method's own dropout: the CPU keeps the factors in full, CUDA and the plan keep one byte per number.
- Layer norm over bf16 tokens: the CPU keeps its statistics in bf16, CUDA and the plan keep them in fp32. The difference
  is up to 0.14 % of the peak (BitFit on a Swin-B).
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Literal
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from ..dtl import Features, suffix_tensors, suffix_to
from .amp import CudaAutocast
from .batches import Batch, Given, Loss, as_batch, call, default_loss, tensors_in
from .ledger import Ledger
from .regions import parts_of, regions, watched
from .report import MemoryPlan, summarize

Attention = Literal["fused", "math"]
Optimizer = Literal["adamw", "sgd"]
Precision = Literal["fp32", "amp", "amp-bf16", "bf16"]
StepPrecision = Literal["fp32", "amp", "amp-bf16"]
AUTOCAST = {"amp": torch.float16, "amp-bf16": torch.bfloat16}


def make_optimizer(name: Optimizer, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return AdamW, with two numbers of state per parameter, or SGD without momentum, which has no state.

    Both are in the form that PyTorch uses on CUDA (``foreach=True``).
    """
    if name not in ("adamw", "sgd"):
        raise ValueError(f"optimizer is {name!r}: choose 'adamw' or 'sgd'")
    make = torch.optim.AdamW if name == "adamw" else torch.optim.SGD
    return make(parameters, lr=1e-4, foreach=True)


def set_attention(model: nn.Module, attention: Attention) -> None:
    """Set every timm attention to the fused kernel, or to unfused softmax(q k^T) v."""
    if attention not in ("fused", "math"):
        raise ValueError(f"attention is {attention!r}: choose 'fused' or 'math'")
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = attention == "fused"


@contextmanager
def checkpointed(model: nn.Module) -> Iterator[None]:
    """Checkpoint every repeated block for the length of the context: keep only its input and recompute it in backward."""

    def again(run: Callable) -> Callable:
        def running(*args, **kwargs):
            if not torch.is_grad_enabled():  # the prefix of a DTL keeps nothing anyway
                return run(*args, **kwargs)
            return checkpoint(run, *args, use_reentrant=False, **kwargs)

        return running

    if hasattr(model, "watch_points"):
        block = model.blocks.block
        wrapped = [(model.blocks, "block", lambda i, *args, **kwargs: again(partial(block, i))(*args, **kwargs))]
    else:
        wrapped = [(p.module, "forward", again(p.module.forward)) for p in parts_of(model) if p.repeated]
        if not wrapped:
            raise ValueError(
                f"checkpointing: this {type(model).__name__} has no list of blocks of one class; leave it out, or let the "
                "module call torch.utils.checkpoint itself"
            )
    with ExitStack() as stack:
        for owner, name, function in wrapped:
            stack.enter_context(patch.object(owner, name, function))
        yield


def run_step(
    model: nn.Module,
    batch: Batch,
    setting: dict,
    source: str,
    autocast: CudaAutocast | torch.autocast | None = None,
    kernels: TorchFunctionMode | None = None,
    loss: Loss | None = None,
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None = None,
    idle: frozenset[int] = frozenset(),
) -> MemoryPlan:
    """Count one step, run as the second of a training with the optimizer's state allocated.

    Args:
        model: in training mode, on the batch's device.
        batch: see ``as_batch``. With ``Features`` in the place of images only the suffix runs, and only its weights are
            counted.
        setting, source: see ``MemoryPlan``; the setting's optimizer, checkpointing and keep_gradients are obeyed.
        autocast: emulation of CUDA's autocast for a plan, the real one for a measurement.
        kernels: replacements for kernels that the device of a plan does not have.
        loss: ``default_loss`` if None.
        optimizer: makes the optimizer; that of the setting's name if None.
        idle: ids of parameters that a first count found to get no gradient, and which so have no state.
    """
    ledger, keep_gradients = Ledger(), setting["keep_gradients"]
    run = suffix_tensors(model) if isinstance(next(iter(batch)), Features) else None
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise ValueError(f"no parameter of this {type(model).__name__} is trained: set requires_grad of some")
    steps = optimizer(trained) if optimizer else make_optimizer(setting["optimizer"], trained)
    setting = {**setting, "optimizer": type(steps).__name__} if optimizer else setting
    for p in trained:  # a first step with gradients of zero makes the state and leaves the weights where they are
        p.grad = None if id(p) in idle else torch.zeros_like(p)
    for group in steps.param_groups:
        group["lr"], group["weight_decay"] = 0.0, 0.0
        if group.get("foreach", False) is None and not group.get("fused"):
            group["foreach"] = True  # the form that PyTorch takes on CUDA
    steps.step()
    if not keep_gradients:
        steps.zero_grad(set_to_none=True)
    hooks = [p.register_post_accumulate_grad_hook(lambda p: ledger.adopt([p.grad], "gradients")) for p in trained]
    try:
        with ExitStack() as stack:
            stack.enter_context(ledger)
            region_of = regions(model)
            for tensor in (*model.parameters(), *model.buffers()):
                if run is None or id(tensor) in run:
                    kind = "trainable parameters" if tensor.requires_grad else "frozen parameters"
                    ledger.adopt([tensor], kind, region_of[id(tensor)])
            ledger.adopt(tensors_in(batch), "input", "input")
            state = [v for s in steps.state.values() for v in tree_leaves(s) if isinstance(v, Tensor)]
            ledger.adopt(state, "optimizer state", "optimizer")
            ledger.adopt([p.grad for p in trained if p.grad is not None], "gradients", "optimizer")
            modes = [mode for mode in (kernels, autocast) if isinstance(mode, TorchFunctionMode)]
            stack.enter_context(watched(ledger, model, modes))
            if setting["checkpointing"]:
                stack.enter_context(checkpointed(model))
            ledger.start()
            if keep_gradients:
                steps.zero_grad(set_to_none=False)
            ledger.enter("between blocks", "forward")
            with kernels or nullcontext(), autocast or nullcontext():
                output = call(model, batch)
                ledger.enter("loss")
                value = (loss or default_loss)(output, batch)
            if isinstance(autocast, CudaAutocast):
                autocast.clear()
                autocast.cache = False
            del output
            ledger.adopt([value], "temporary")
            saved = ledger.mark_activations()
            ledger.enter("loss", "backward")
            value.backward()
            unused = frozenset(id(p) for p in trained if p.grad is None)
            if known := bool(idle) or not unused:
                ledger.enter("optimizer", "optimizer")
                steps.step()
                ledger.enter("end", "end")
    finally:
        for hook in hooks:
            hook.remove()
        ledger.close()
    if not known:  # what gets no gradient has no state either
        again = CudaAutocast(autocast.dtype) if isinstance(autocast, CudaAutocast) else autocast
        return run_step(model, batch, setting, source, again, kernels, loss, optimizer, unused)
    return summarize(ledger, model, saved, setting, source)


def measure_training(
    model: nn.Module,
    batch: tuple[Tensor | Features, Tensor],
    *,
    precision: Precision = "fp32",
    optimizer: Optimizer = "adamw",
    checkpointing: bool = False,
    keep_gradients: bool = False,
) -> MemoryPlan:
    """Count the bytes of a real training step by the ledger, and on a GPU also by CUDA's own counter.

    The learning rate is 0, so the weights do not change. Gradients are set to None afterwards. On CUDA the plan's
    ``cuda_peak_bytes`` is the allocator's own peak. This includes what kernels allocate internally (cuBLAS's workspace,
    say) and everything else on the device.

    Args:
        model: a ``DTL`` or a model of ``baselines.build``, on the device to be measured.
        batch: images (B, 3, H, W) and labels (B,); moved to the model's device. If ``Features`` of the model's prefix
            replace the images, only the suffix is counted, and the prefix's weights are on the CPU during the step.
        precision: "fp32"; "amp" or "amp-bf16" for autocast in fp16 or bf16, on CUDA only; "bf16" for a model that was
            built with ``backbone_dtype=torch.bfloat16``.
        optimizer, checkpointing, keep_gradients: as in ``plan_training``.
    """
    device = model.head.weight.device
    inputs, labels = moved = tuple(t.to(device) for t in batch)
    cached = isinstance(inputs, Features)
    height, width = model.info.image_size
    frozen = {p.dtype for p in model.parameters() if not p.requires_grad and p.is_floating_point()}
    _check_device(precision, device)
    if frozen and (precision == "bf16") != (torch.bfloat16 in frozen):
        has = ", ".join(sorted(str(d).removeprefix("torch.") for d in frozen))
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
    return _measure(model, moved, setting, device)


def measure_step(
    model: nn.Module,
    batch: Given,
    *,
    loss: Loss | None = None,
    precision: StepPrecision = "fp32",
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None = None,
    checkpointing: bool = False,
) -> MemoryPlan:
    """Count the bytes of a real step of any module: the twin of ``plan_step``, as ``measure_training`` is of ``plan_training``.

    The model is put into training mode for the step; its mode and its buffers, such as BatchNorm's averages, are restored.

    Args:
        model: any module, on the device to be measured.
        batch, loss, precision, optimizer, checkpointing: as in ``plan_step``; autocast on CUDA only.
    """
    device = next(model.parameters()).device
    _check_device(precision, device)
    batch = as_batch(batch, device)
    return _measure(model, batch, step_setting(model, batch, precision, checkpointing), device, loss, optimizer)


def step_setting(model: nn.Module, batch: Batch, precision: StepPrecision, checkpointing: bool) -> dict:
    """Return the setting of a step of any module, with the keys of a method's and the batch's shapes."""
    shapes = {str(name): list(x.shape) for name, x in (batch.items() if isinstance(batch, dict) else enumerate(batch))}
    return {
        "method": type(model).__name__, "backbone": None, "batch_size": next(iter(shapes.values()))[0], "image_size": None,
        "num_classes": None, "precision": precision, "optimizer": "adamw", "attention": "as built",
        "checkpointing": checkpointing, "keep_gradients": False, "cached": False, "options": {}, "batch": shapes,
    }  # fmt: skip


def _check_device(precision: str, device: torch.device) -> None:
    if precision in AUTOCAST and device.type != "cuda":
        raise ValueError(
            f"precision={precision!r} is CUDA's autocast, and the model is on {device.type}: plan_training plans it on any machine, "
            "and plan_step the step of any module"
        )


def _measure(
    model: nn.Module, batch: Batch, setting: dict, device: torch.device, loss=None, optimizer=None
) -> MemoryPlan:
    cuda, precision = device.type == "cuda", setting["precision"]
    modes = {module: module.training for module in model.modules()}
    buffers = [(buffer, buffer.detach().cpu().clone()) for buffer in model.buffers()]
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    autocast = torch.autocast("cuda", AUTOCAST[precision]) if precision in AUTOCAST else None
    try:
        source = f"measured on {device.type}"
        plan = run_step(model.train(), batch, setting, source, autocast, loss=loss, optimizer=optimizer)
        return replace(plan, cuda_peak_bytes=torch.cuda.max_memory_allocated(device) if cuda else None)
    finally:
        model.to(device)
        for module, training in modes.items():
            module.training = training
        for buffer, before in buffers:
            buffer.data.copy_(before)
        for p in model.parameters():
            p.grad = None

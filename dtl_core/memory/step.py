"""One training step, the same for a plan on fake tensors and for a measurement on real ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from ..dtl import Features
from .amp import CudaAutocast
from .ledger import Ledger
from .regions import block_prefixes, region_of_parameter, replaced, watched

Optimizer = Literal["adamw", "sgd"]
Attention = Literal["fused", "math"]


def make_optimizer(name: Optimizer, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Return AdamW, with two numbers of state per parameter, or SGD without momentum, which has no state.

    Both are in the form that PyTorch uses on CUDA (``foreach=True``).

    Raises:
        ValueError: an unknown name.
    """
    if name not in ("adamw", "sgd"):
        raise ValueError(f"optimizer is {name!r}: choose 'adamw' or 'sgd'")
    make = torch.optim.AdamW if name == "adamw" else torch.optim.SGD
    return make(parameters, lr=1e-4, foreach=True)


def set_attention(model: nn.Module, attention: Attention) -> None:
    """Set every timm attention to the fused kernel, or to unfused softmax(q k^T) v.

    Raises:
        ValueError: an unknown name.
    """
    if attention not in ("fused", "math"):
        raise ValueError(f"attention is {attention!r}: choose 'fused' or 'math'")
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = attention == "fused"


@contextmanager
def checkpointed(model: nn.Module) -> Iterator[None]:
    """Checkpoint every block for the length of the context: keep only its input and recompute it in backward."""

    def make(block):
        def again(i, x, *args, **kwargs):
            if not torch.is_grad_enabled():  # the prefix of a DTL keeps nothing anyway
                return block(i, x, *args, **kwargs)
            return checkpoint(partial(block, i), x, *args, use_reentrant=False, **kwargs)

        return again

    with replaced(model.blocks, "block", make):
        yield


@contextmanager
def again_under(modes: Sequence[TorchFunctionMode], ledger: Ledger, model: nn.Module) -> Iterator[None]:
    """Run what a checkpoint recomputes in backward under these modes, which autograd does not restore there."""

    def make(function):
        def ruled(*args, **kwargs):
            with ExitStack() as stack:
                for mode in modes if ledger.phase == "backward" else ():
                    stack.enter_context(mode)
                return function(*args, **kwargs)

        return ruled

    with ExitStack() as stack:
        for point in model.watch_points():
            if point.recomputed:
                stack.enter_context(replaced(point.owner, point.method, make))
        yield


def account_for_model(ledger: Ledger, model: nn.Module, suffix_only: bool = False) -> None:
    """Register every parameter and buffer of a model in the ledger, with its kind and region.

    Args:
        ledger: the ledger to register them in.
        model: the model that owns them.
        suffix_only: leave out those that a step from stored features does not use.
    """
    prefixes = block_prefixes(model)
    run = {id(t) for part in model.suffix_parts() for t in (*part.parameters(), *part.buffers())} if suffix_only else ()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if suffix_only and id(tensor) not in run:
            continue
        kind = "trainable parameters" if tensor.requires_grad else "frozen parameters"
        ledger.adopt([tensor], kind, region_of_parameter(name, prefixes))


def run_step(
    ledger: Ledger,
    model: nn.Module,
    inputs: Tensor | Features,
    labels: Tensor,
    *,
    optimizer: Optimizer = "adamw",
    autocast: CudaAutocast | None = None,
    real_autocast=None,
    kernels: TorchFunctionMode | None = None,
    checkpointing: bool = False,
    keep_gradients: bool = False,
) -> int:
    """Run one step as the second of a training, with the optimizer's state allocated and counted.

    Args:
        ledger: not yet entered.
        model: in training mode, on the images' device.
        inputs: images, or ``Features`` of the model's prefix. With features only the suffix runs, and only its weights
            are counted.
        labels: class indices (B,) of the batch.
        optimizer: see ``make_optimizer``.
        autocast: emulation of CUDA's autocast.
        real_autocast: a ``torch.autocast`` context for the forward of a measurement.
        kernels: replacements for kernels that the device of a plan does not have.
        checkpointing: recompute every block in backward.
        keep_gradients: keep gradients allocated through the forward and fill them with zeros, as PyTorch before 2.0 did
            by default.

    Returns:
        Bytes held for backward at the end of forward.
    """
    cached = isinstance(inputs, Features)
    batch = [inputs.tokens, *inputs.taps.values()] if cached else [inputs]
    trained = model.trainable_parameters()
    steps = make_optimizer(optimizer, trained)
    for p in trained:  # a first step with gradients of zero makes the state and leaves the weights where they are
        p.grad = torch.zeros_like(p)
    for group in steps.param_groups:
        group["lr"], group["weight_decay"] = 0.0, 0.0
    steps.step()
    if not keep_gradients:
        steps.zero_grad(set_to_none=True)
    marks = [p.register_post_accumulate_grad_hook(lambda p: ledger.adopt([p.grad], "gradients")) for p in trained]
    try:
        with ExitStack() as stack:
            stack.enter_context(ledger)
            account_for_model(ledger, model, suffix_only=cached)
            ledger.adopt([*batch, labels], "input", "input")
            state = [v for s in steps.state.values() for v in s.values() if isinstance(v, Tensor)]
            ledger.adopt(state, "optimizer state", "optimizer")
            ledger.adopt([p.grad for p in trained if p.grad is not None], "gradients", "optimizer")
            stack.enter_context(again_under([mode for mode in (kernels, autocast) if mode], ledger, model))
            stack.enter_context(watched(ledger, model))
            if checkpointing:
                stack.enter_context(checkpointed(model))
            ledger.start()
            if keep_gradients:
                steps.zero_grad(set_to_none=False)
            ledger.enter("between blocks", "forward")
            with kernels or nullcontext(), autocast or real_autocast or nullcontext():
                logits = model.suffix(inputs) if cached else model(inputs)
                ledger.enter("loss")
                loss = F.cross_entropy(logits, labels)
            if autocast is not None:
                autocast.clear()
                autocast.cache = False
            del logits
            ledger.adopt([loss], "temporary")
            saved = ledger.mark_activations()
            ledger.enter("loss", "backward")
            loss.backward()
            ledger.enter("optimizer", "optimizer")
            steps.step()
            ledger.enter("end", "end")
    finally:
        for mark in marks:
            mark.remove()
        ledger.close()
    return saved

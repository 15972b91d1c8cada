"""Batch of a training step of any module: shapes made into tensors, what the module takes of it, the loss by default."""

import inspect
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ..dtl import Features

Batch = tuple | dict[str, Tensor]
Given = Tensor | Sequence | Mapping  # tensors or shapes, as a user writes them
Loss = Callable[[object, Batch], Tensor]
LABELS = ("labels", "label", "targets", "target")


def as_batch(given: Given, device: torch.device | str) -> Batch:
    """Return a batch as tensors on a device: a dict if it is one, else a tuple.

    A shape stands for numbers in fp32; a shape of one dimension, (B,), for labels in int64.

    Raises:
        TypeError: an entry is neither a tensor nor a shape.
    """
    moved: dict[int, Tensor | Features] = {}  # what is given twice is there once

    def one(x) -> Tensor | Features:
        if isinstance(x, Tensor | Features):
            moved[id(x)] = moved[id(x)] if id(x) in moved else x.to(device)
            return moved[id(x)]
        if not _is_shape(x):
            raise TypeError(f"the batch holds a {type(x).__name__}: give tensors, or shapes such as (32, 3, 224, 224)")
        return torch.zeros(tuple(x), dtype=torch.int64 if len(x) == 1 else torch.float32, device=device)

    if isinstance(given, Mapping):
        return {name: one(x) for name, x in given.items()}
    alone = isinstance(given, Tensor | str) or not isinstance(given, Sequence) or _is_shape(given)
    return tuple(one(x) for x in ((given,) if alone else given))


def _is_shape(x: object) -> bool:
    return isinstance(x, Sequence) and len(x) > 0 and all(isinstance(n, int) and n > 0 for n in x)


def tensors_in(batch: Batch) -> list[Tensor]:
    """Return the tensors of a batch, those of ``Features`` among them."""
    leaves = [[x.tokens, *x.taps.values()] if isinstance(x, Features) else [x] for x in tree_leaves(batch)]
    return [x for some in leaves for x in some if isinstance(x, Tensor)]


def call(model: nn.Module, batch: Batch) -> object:
    """Return the output of a model for a batch.

    Of a tuple the model gets the first entry; of a dict every entry that its ``forward`` has an argument for. A method's
    model gets ``Features`` by its ``suffix``.
    """
    if isinstance(batch, dict):
        arguments = inspect.signature(model.forward).parameters
        if all(a.kind != a.VAR_KEYWORD for a in arguments.values()):
            batch = {name: x for name, x in batch.items() if name in arguments}
        return model(**batch)
    return model.suffix(batch[0]) if isinstance(batch[0], Features) else model(batch[0])


def default_loss(output: object, batch: Batch) -> Tensor:
    """Return the loss that a step has if none is given, the first of these that fits.

    - ``output.loss``, as the models of Hugging Face give it, or the output itself if it is a scalar;
    - the cross-entropy of the output and the batch's integer labels: (B, C) and (B,), (B, T, C) and (B, T), or
      (B, C, H, W) and (B, H, W). Labels are the second entry of a tuple, or the entry "labels", "label", "targets" or
      "target" of a dict;
    - the mean of the output.

    Raises:
        TypeError: the output is no tensor and has no loss.
    """
    own = getattr(output, "loss", None)
    scores = own if isinstance(own, Tensor) else getattr(output, "logits", output)
    if not isinstance(scores, Tensor):
        raise TypeError(
            f"the model returns a {type(output).__name__}: say what its loss is, loss=lambda output, batch: …"
        )
    if scores.ndim == 0:
        return scores
    labels = _labels(batch)
    if labels is not None and not labels.is_floating_point():
        if labels.shape == scores.shape[:-1]:
            return F.cross_entropy(scores.flatten(0, -2), labels.flatten())
        if labels.shape == scores.shape[:1] + scores.shape[2:]:
            return F.cross_entropy(scores, labels)
    return scores.mean()


def _labels(batch: Batch) -> Tensor | None:
    if isinstance(batch, dict):
        return next((batch[name] for name in LABELS if name in batch), None)
    return batch[1] if len(batch) > 1 else None

"""Accuracy of a model on a data set."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from .loop import autocast, loading, logits_of, pick_device, pick_precision, place


@dataclass(frozen=True)
class Evaluation:
    """Result of ``evaluate``.

    Attributes:
        accuracy: fraction of images classified correctly.
        balanced_accuracy: mean over the classes of the fraction classified correctly; fairer for uneven classes.
        loss: mean cross-entropy.
        labels, predictions: (n,) integers, in the order of the data.
        accuracy_within: accuracy of the predictions restricted to the classes ``within``; None without ``within``.
    """

    accuracy: float
    balanced_accuracy: float
    loss: float
    labels: np.ndarray
    predictions: np.ndarray
    accuracy_within: float | None = None


@torch.no_grad()
def evaluate(
    model: nn.Module,
    data: Dataset,
    *,
    batch_size: int = 64,
    device: str | torch.device | None = None,
    precision: str = "fp32",
    progress: bool = True,
    within: Sequence[int] | None = None,
    workers: int = 0,
) -> Evaluation:
    """Run the model over the data, or over a ``PrefixCache``, once in eval mode.

    ``within`` gives classes for a second, restricted prediction. Work on ImageNet-A and -R usually masks the logits of
    all but their 200 classes; the authors take the largest of 1,000. For device and precision see ``pick_device`` and
    ``pick_precision``; for workers, ``fit``.
    """
    if len(data) == 0:
        raise ValueError("there are no images to evaluate on")
    device = pick_device(device)
    precision = pick_precision(precision, device)
    was_training = model.training
    place(model, data, device)
    model.eval()
    loader = DataLoader(data, batch_size=batch_size, **loading(data, workers))
    labels, predictions, loss, inside = [], [], 0.0, 0
    among = None if within is None else torch.as_tensor(within, device=device)
    for inputs, target in tqdm(loader, desc="evaluating", disable=not progress, leave=False):
        with autocast(precision, device):
            logits = logits_of(model, inputs, device).float()
        loss += nn.functional.cross_entropy(logits, target.to(device), reduction="sum").item()
        labels.append(target)
        predictions.append(logits.argmax(1).cpu())
        if among is not None:
            inside += (among[logits[:, among].argmax(1)].cpu() == target).sum().item()
    model.train(was_training)
    y, p = torch.cat(labels).numpy(), torch.cat(predictions).numpy()
    right = y == p
    balanced = np.mean([right[y == c].mean() for c in np.unique(y)])  # over the classes that occur
    accuracy_within = None if among is None else inside / len(y)
    return Evaluation(float(right.mean()), float(balanced), loss / len(y), y, p, accuracy_within)

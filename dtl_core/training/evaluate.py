"""Accuracy of a model on a data set, class by class, and how far its probabilities can be believed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
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
        labels, predictions: (n,) integers, the model's classes in the order of the data.
        accuracy_within: accuracy of the predictions restricted to the classes ``within``; None without ``within``.
        logits: (n, classes), where they were asked for.
    """

    accuracy: float
    balanced_accuracy: float
    loss: float
    labels: np.ndarray
    predictions: np.ndarray
    accuracy_within: float | None = None
    logits: np.ndarray | None = None

    @property
    def probabilities(self) -> np.ndarray:
        """Return the softmax of the logits, (n, classes)."""
        if self.logits is None:
            raise ValueError("the logits were not kept: evaluate(..., logits=True)")
        powers = np.exp(self.logits - self.logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def confusion(self) -> np.ndarray:
        """Count the images, (classes, classes): row the truth, column the answer."""
        classes = self.probabilities.shape[1]
        return np.bincount(self.labels * classes + self.predictions, minlength=classes**2).reshape(classes, classes)

    def per_class(self, names: Sequence[str] | None = None) -> pd.DataFrame:
        """Return a row per class: class, images, recall (its accuracy), precision, f1; NaN where there is no image or answer."""
        counts = self.confusion()
        right, truth, said = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
        with np.errstate(invalid="ignore"):
            shares = {"recall": right / truth, "precision": right / said, "f1": 2 * right / (truth + said)}
        return pd.DataFrame({"class": list(names or map(str, range(len(counts)))), "images": truth, **shares})

    def calibration(self, bins: int = 15) -> pd.DataFrame:
        """Return a row per bin of the confidence, the answer's probability: above, to, images, confidence, accuracy.

        The bins are equally wide; a bin without an image has NaN for its means.
        """
        confidence, right = self.probabilities.max(axis=1), self.predictions == self.labels
        edges = np.linspace(0, 1, bins + 1)
        into = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
        images = np.bincount(into, minlength=bins)
        with np.errstate(invalid="ignore"):
            means = [np.bincount(into, weights=v, minlength=bins) / images for v in (confidence, right)]
        return pd.DataFrame(
            {"above": edges[:-1], "to": edges[1:], "images": images, "confidence": means[0], "accuracy": means[1]}
        )

    def calibration_error(self, bins: int = 15) -> float:
        """Return the expected calibration error: how far accuracy and confidence of an image's bin differ, in the mean.

        Source: Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), with their 15 bins.
        """
        rows = self.calibration(bins).dropna()
        return float(((rows.accuracy - rows.confidence).abs() * rows.images).sum() / len(self.labels))


def class_order(model: nn.Module, data: Dataset) -> Tensor | None:
    """Return the model's class for each label of the data, by the names of the classes; None where the numbers do.

    The numbers do where one side has no names, or only "0", "1", … in order.

    Raises:
        ValueError: the classes differ; the message names those that one side has alone.
    """
    images = getattr(data, "data", data)  # of a prefix cache
    ours, theirs = (tuple(getattr(x, "class_names", None) or ()) for x in (model, images))
    if ours == theirs:
        return None
    if set(ours) == set(theirs) and len(set(ours)) == len(ours) == len(theirs):
        return torch.tensor([ours.index(name) for name in theirs])
    if any(names == tuple(map(str, range(len(names)))) for names in (ours, theirs)):
        return None
    only = {"the images": sorted({*theirs} - {*ours}), "the model": sorted({*ours} - {*theirs})}
    said = [
        f"only {who}: {', '.join(map(repr, names[:5]))}" + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        for who, names in only.items()
        if names
    ]
    raise ValueError(
        f"the images have {len(theirs)} classes and the model {len(ours)}, and they are not the same "
        f"({'; '.join(said) or 'two share a name'}): give images of the classes that it was trained on"
    )


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
    logits: bool = False,
) -> Evaluation:
    """Run the model over the data, or over a ``PrefixCache``, once in eval mode.

    ``within`` gives classes for a second, restricted prediction. Work on ImageNet-A and -R usually masks the logits of
    all but their 200 classes; the authors take the largest of 1,000. ``logits`` keeps the logits, which the parts of
    ``Evaluation`` by class and of calibration read. For device and precision see ``pick_device`` and ``pick_precision``;
    for workers, ``fit``.

    Where model and data both have ``class_names``, labels are matched by name.

    Raises:
        ValueError: there are no images, their classes are not the model's, or an answer is not a finite number.
    """
    if len(data) == 0:
        raise ValueError("there are no images to evaluate on")
    device = pick_device(device)
    precision = pick_precision(precision, device)
    was_training = model.training
    place(model, data, device)
    model.eval()
    loader = DataLoader(data, batch_size=batch_size, **loading(data, workers))
    labels, predictions, kept, loss, inside, order = [], [], [], 0.0, 0, class_order(model, data)
    classes = getattr(getattr(data, "data", data), "classes", None)
    among = None if within is None else torch.as_tensor(within, device=device)
    for inputs, target in tqdm(loader, desc="evaluating", disable=not progress, leave=False):
        with autocast(precision, device):
            answers = logits_of(model, inputs, device).float()
        heads, target = answers.shape[1], target if order is None else order[target]
        if (classes or heads) != heads or target.max() >= heads:
            raise ValueError(f"the images have {classes or int(target.max()) + 1} classes, and the model has {heads}")
        batch = nn.functional.cross_entropy(answers, target.to(device), reduction="sum").item()
        if not math.isfinite(batch):  # known here without another wait for the device
            first = len(labels) * batch_size + int(torch.isfinite(answers).all(dim=1).int().argmin())
            raise ValueError(
                f"the answer for image {first} is NaN or infinite: look for such pixels, or such weights; in fp16 and "
                "bf16 numbers also overflow, and fp32 helps"
            )
        loss += batch
        labels.append(target)
        predictions.append(answers.argmax(1).cpu())
        if logits:
            kept.append(answers.cpu())
        if among is not None:
            inside += (among[answers[:, among].argmax(1)].cpu() == target).sum().item()
    model.train(was_training)
    y, p = torch.cat(labels).numpy(), torch.cat(predictions).numpy()
    right = y == p
    balanced = np.mean([right[y == c].mean() for c in np.unique(y)])  # over the classes that occur
    accuracy_within = None if among is None else inside / len(y)
    scores = torch.cat(kept).numpy() if logits else None
    return Evaluation(float(right.mean()), float(balanced), loss / len(y), y, p, accuracy_within, scores)

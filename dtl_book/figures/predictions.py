"""Pictures of two models' predictions on the same images: which changed, and how sure each model was.

``images`` are data sets without a transform, which yield (PIL image, label); ``before`` and ``after`` are the predictions.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.data import Dataset

GOOD, BAD = "#0072B2", "#B33C00"
COLUMNS = 6  # images a row


def plot_images(images: Dataset, indices: Sequence[int], class_names: Sequence[str]) -> Figure:
    """Draw images with the true class above each."""
    rows = -(-len(indices) // COLUMNS)
    fig, axes = plt.subplots(rows, COLUMNS, figsize=(6.4, 1.45 * rows), squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, index in zip(axes.flat, indices, strict=False):
        image, label = images[index]
        ax.imshow(image)
        ax.set_title(class_names[label])
    return fig


def plot_flips(
    images: Dataset, groups: dict[str, np.ndarray], before: np.ndarray, after: np.ndarray, class_names: Sequence[str]
) -> Figure:
    """Draw images that the second model puts right (above) and wrong (below), with both predictions over each.

    ``groups`` holds the indices of the images under "put right" and "put wrong"; of each, the first 12 are shown.
    """
    fig, rows = plt.figure(figsize=(6.4, 6.95)), 2
    kinds = {"put right": ("wrong before, right after", GOOD), "put wrong": ("right before, wrong after", BAD)}
    for part, (kind, (words, colour)) in zip(fig.subfigures(2, 1, hspace=0.03), kinds.items(), strict=True):
        chosen = groups[kind][: COLUMNS * rows]
        part.suptitle(f"{words} ({len(chosen)} of {len(groups[kind])})", color=colour, fontsize=14, weight="bold")
        axes = part.subplots(rows, COLUMNS)
        for ax in axes.flat:
            ax.axis("off")
        for ax, index in zip(axes.flat, chosen, strict=False):
            ax.imshow(images[index][0])
            ax.set_title(f"{class_names[before[index]]} → {class_names[after[index]]}", color=colour, fontsize=13)
    return fig


def plot_prediction(
    image, label: int, before: Tensor, after: Tensor, class_names: Sequence[str], names: tuple[str, str], top: int = 5
) -> Figure:
    """Draw one image, and the most probable classes of two models as bars.

    ``before`` and ``after`` are (classes,) probabilities, ``names`` those of the models.
    """
    fig, axes = plt.subplots(1, 3, figsize=(6.4, 3.0), width_ratios=(1.1, 1, 1))
    axes[0].imshow(image)
    axes[0].axis("off")
    axes[0].set_title(f"true: {class_names[label]}")
    for ax, probabilities, name in zip(axes[1:], (before, after), names, strict=True):
        best = probabilities.topk(min(top, len(probabilities)))
        rows, classes = range(len(best.values)), best.indices.tolist()
        colours = [GOOD if c == label else "#B5B5B5" for c in classes]
        ax.barh(rows, 100 * best.values.numpy(), color=colours, edgecolor="#444444")
        ax.set_yticks(rows, [f"{class_names[c]} ✓" if c == label else class_names[c] for c in classes])
        ax.invert_yaxis()
        ax.set(xlim=(0, 100), xticks=(0, 50, 100), xlabel="%")
        ax.set_title(f"{name}: {'right' if classes[0] == label else 'wrong'}", fontsize=13)
        ax.grid(axis="y", visible=False)
    return fig

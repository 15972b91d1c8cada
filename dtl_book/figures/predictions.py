"""Pictures of two models' predictions on the same images: which changed, and how sure each model was.

``images`` are data sets without a transform, which yield (PIL image, label); ``before`` and ``after`` are the predictions.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix
from torch import Tensor
from torch.utils.data import Dataset

GOOD, BAD = "#0072B2", "#B33C00"
COLUMNS = 6  # images a row


def flips(labels: np.ndarray, before: np.ndarray, after: np.ndarray) -> dict[str, np.ndarray]:
    """Group the images by who is right: "put right", "put wrong", "both right", "both wrong" -> increasing indices."""
    was, now = before == labels, after == labels
    groups = {"put right": ~was & now, "put wrong": was & ~now, "both right": was & now, "both wrong": ~was & ~now}
    return {name: np.flatnonzero(mask) for name, mask in groups.items()}


def flips_table(groups: dict[str, np.ndarray], before: str, after: str) -> pd.DataFrame:
    """Return the four groups as a two-by-two table of image counts: rows ``before``, columns ``after``."""
    count = {name: len(indices) for name, indices in groups.items()}
    return pd.DataFrame(
        {
            "images": [f"{before} right", f"{before} wrong"],
            f"{after} right": [count["both right"], count["put right"]],
            f"{after} wrong": [count["put wrong"], count["both wrong"]],
        }
    )


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

    ``groups`` are those of ``flips``; of each, the first 12 images are shown.
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


def _mistakes(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """Count wrong answers, (classes, classes): row the truth, column the answer; the diagonal is 0."""
    counts = confusion_matrix(labels, predictions, labels=range(classes))
    np.fill_diagonal(counts, 0)
    return counts


def plot_mistakes(labels: np.ndarray, predictions: dict[str, np.ndarray], class_names: Sequence[str]) -> Figure:
    """Draw which classes are mistaken for which, a grid for each model on one scale of colours. Right answers are left out.

    With 12 or fewer classes the counts are written into the cells, else the colours are explained.
    """
    grids = {name: _mistakes(labels, answers, len(class_names)) for name, answers in predictions.items()}
    most = max(1, *(grid.max() for grid in grids.values()))
    fig, axes = plt.subplots(len(grids), 1, figsize=(6.4, 0.5 + 4.2 * len(grids)), squeeze=False)
    written = len(class_names) <= 12
    style = {"cmap": "Blues", "vmin": 0, "vmax": most, "linewidths": 0.5, "linecolor": "#DDDDDD", "fmt": ""}
    style |= {"xticklabels": class_names, "yticklabels": class_names, "cbar": not written}
    for ax, (name, grid) in zip(axes.flat, grids.items(), strict=True):
        sns.heatmap(grid, annot=np.where(grid > 0, grid.astype(str), "") if written else False, ax=ax, **style)
        ax.tick_params(axis="y", rotation=0)
        ax.set(title=f"{name}: {grid.sum()} wrong", xlabel="answer", ylabel="truth")
    return fig


def mistakes_table(
    labels: np.ndarray, predictions: dict[str, np.ndarray], class_names: Sequence[str], top: int = 3
) -> pd.DataFrame:
    """Return the most frequent mistakes of each model: a row a place, a column a model ("4 taken for 9: 12 images")."""
    columns = {}
    for name, answers in predictions.items():
        grid = _mistakes(labels, answers, len(class_names))
        places = np.argsort(-grid, axis=None, kind="stable")[:top]
        pairs = [(*np.unravel_index(place, grid.shape), grid.flat[place]) for place in places]
        columns[name] = [
            f"{class_names[truth]} taken for {class_names[answer]}: {count} image{'s' if count > 1 else ''}"
            if count
            else "–"
            for truth, answer, count in pairs
        ]
    return pd.DataFrame({"place": range(1, top + 1), **columns})


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

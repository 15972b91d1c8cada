"""Pictures of a training: learning curves, and what the frozen and the adapted features look like."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

from dtl_core.training import FitRecord, PrefixCache

from ..lab.plots import method_style

# ten colours that colour-blind readers tell apart; a class also has its number as marker
CLASS_COLOURS = "#0173B2 #C77C00 #027357 #C44E00 #A6487D #8A5A2B #6B6B6B #7A7000 #3A93C6 #000000".split()


def curves_table(records: Mapping[str, FitRecord]) -> pd.DataFrame:
    """Return loss and accuracy of the training batches in the first and the last epoch, and the time: a row per method."""
    rows = []
    for method, record in records.items():
        row = {"method": method_style(method)["label"]}
        for column in ("loss", "accuracy"):
            row |= {
                f"first {column}": record.history[column].iloc[0],
                f"last {column}": record.history[column].iloc[-1],
            }
        rows.append(row | {"seconds": record.seconds})
    return pd.DataFrame(rows)


def plot_curves(records: Mapping[str, FitRecord]) -> Figure:
    """Draw loss (left) and accuracy (right) of the training batches over the epochs, from method -> ``FitRecord``."""
    fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.4))
    for method, record in records.items():
        for ax, column, factor in zip(axes, ("loss", "accuracy"), (1, 100), strict=True):
            ax.plot(record.history["epoch"], factor * record.history[column], **method_style(method))
    for ax, name in zip(axes, ("training loss", "training accuracy (%)"), strict=True):
        ax.set(xlabel="epoch", title=name)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_ylim(bottom=0)
    axes[1].legend(loc="lower right")
    return fig


@torch.no_grad()
def readout_features(model: nn.Module, data: PrefixCache, images: int | None = None) -> Tensor:
    """Return what the head reads, for the first images of a prefix cache, or all: (n, d), on the CPU."""
    n, parts, device = min(images or len(data), len(data)), [], model.head.weight.device
    model.eval()
    hook = model.head.register_forward_pre_hook(lambda _, inputs: parts.append(inputs[0].float().cpu()))
    try:
        for start in range(0, n, 64):
            features, _ = data.__getitems__(list(range(start, min(start + 64, n))))
            model.suffix(features.to(device))
    finally:
        hook.remove()
    return torch.cat(parts)


def neighbour_agreement(features: Tensor, labels: Tensor | np.ndarray) -> float:
    """Return the fraction of images whose nearest other image, in all d dimensions, is of the same class."""
    nearest = NearestNeighbors(n_neighbors=1).fit(features.numpy()).kneighbors(return_distance=False)[:, 0]
    labels = np.asarray(labels)
    return float((labels[nearest] == labels).mean())


def plot_features(panels: Mapping[str, Tensor], labels: Tensor | np.ndarray) -> Figure:
    """Draw a t-SNE map for each set of features (title -> (n, d)), each image as the number of its class.

    Distances between far groups, and the axes, have no meaning; neighbours do.
    """
    labels = np.asarray(labels)
    fig, axes = plt.subplots(len(panels), 1, figsize=(6.4, 4.4 * len(panels)), squeeze=False)
    for ax, (title, features) in zip(axes[:, 0], panels.items(), strict=True):
        perplexity = min(30.0, (len(features) - 1) / 3)
        place = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(features.numpy())
        for label in np.unique(labels):
            here = place[labels == label]
            ax.scatter(
                here[:, 0], here[:, 1], marker=f"${label}$", s=60, linewidth=0.4, color=CLASS_COLOURS[label % 10]
            )
        ax.set(xticks=[], yticks=[], title=title)
        ax.spines[["top", "right"]].set_visible(True)
    return fig

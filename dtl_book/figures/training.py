"""A picture of features: t-SNE maps, frozen and adapted."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from sklearn.manifold import TSNE
from torch import Tensor

# ten colours that colour-blind readers tell apart; a class also has its number as marker
CLASS_COLOURS = "#0173B2 #C77C00 #027357 #C44E00 #A6487D #8A5A2B #6B6B6B #7A7000 #3A93C6 #000000".split()


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

"""Pictures of one evaluation: which class is taken for which, and how far the probabilities can be believed."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from ..printing import printable

WRITTEN, NAMED = 12, 40  # up to so many classes the counts are written into the cells, and the names beside them
LIGHT, DARK = "#56B4E9", "#0072B2"


def plot_confusion(counts: np.ndarray, names: Sequence[str], title: str = "") -> Figure:
    """Draw counts (classes, classes), row the truth and column the answer, as shares of each class's images.

    One hue that grows darker, which needs no eye for colours. Up to 12 classes the counts stand in the cells.
    """
    classes, truth = len(counts), counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, truth, out=np.zeros(counts.shape), where=truth > 0)
    side = float(np.clip(2.6 + 0.32 * classes, 4.6, 14))
    fig, ax = plt.subplots(figsize=(side + 0.8, side))
    # a dollar sign would begin a formula
    labels = [printable(name).replace("$", r"\$") for name in names] if classes <= NAMED else False
    sns.heatmap(
        share, vmin=0, vmax=1, cmap="Blues", square=True, ax=ax, xticklabels=labels, yticklabels=labels,
        annot=np.where(counts > 0, counts.astype(str), "") if classes <= WRITTEN else False, fmt="", linewidths=0.5,
        linecolor="#DDDDDD",
        cbar_kws={"label": "share of the class's images", "shrink": 0.8},
    )  # fmt: skip
    ax.tick_params(axis="y", rotation=0)
    ax.tick_params(axis="x", rotation=90)
    ax.set(title=title, xlabel="answer", ylabel="truth")
    return fig


def plot_calibration(bins: pd.DataFrame, error: float, title: str = "") -> Figure:
    """Draw accuracy against confidence, a bar a bin of ``Evaluation.calibration``, and the images of each bin below."""
    fig, (above, below) = plt.subplots(2, 1, figsize=(5.4, 5.2), sharex=True, height_ratios=(3, 1))
    middle, width = (bins["above"] + bins["to"]) / 2, (bins["to"] - bins["above"]) * 0.92
    above.bar(middle, bins["accuracy"].fillna(0), width, color=LIGHT, edgecolor=DARK, label="accuracy of the bin")
    above.plot(bins["confidence"], bins["accuracy"], "o", color="#000000", label="at its mean confidence")
    above.plot([0, 1], [0, 1], "--", color="#6B6B6B", label="as sure as right")
    above.set(ylabel="accuracy", ylim=(0, 1), title=f"{title}, calibration error {error:.3f}".removeprefix(", "))
    above.legend(loc="upper left", fontsize=11)
    below.bar(middle, bins["images"], width, color=DARK)
    below.set(xlabel="confidence", ylabel="images", xlim=(0, 1))
    return fig

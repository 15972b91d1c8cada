"""Two methods side by side: their losses seed by seed, and their recorded run cards paired by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..lab.plots import METHOD_STYLES, method_style
from ..tables.benchmarks import final_cards, tasks_of
from ..tables.cells import paired, percent


def versus(first: str, second: str, profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Return the test accuracy of two methods on each task, over the seeds that both have.

    Returns:
        A row per task of the profile: task, seeds, and in percent ``<A>``, ``<A> ±``, ``<B>``, ``<B> ±`` for the methods'
        labels A and B, difference (B less A) and ``difference ±``; ± is the standard deviation over the seeds. A task that
        is not recorded for both has 0 seeds and no numbers.
    """
    cards, rows = percent(final_cards(profile, root)), []
    a, b = METHOD_STYLES[first][0], METHOD_STYLES[second][0]
    for task in tasks_of(profile):
        pairs = paired(cards[cards["task"] == task], first, second)
        row = {"task": task, "seeds": len(pairs)}
        columns = {a: pairs[first], b: pairs[second], "difference": pairs[second] - pairs[first]}
        for name, values in columns.items():
            row |= {name: values.mean(), f"{name} ±": values.std()}
        rows.append(row)
    return pd.DataFrame(rows)


def versus_sentence(frame: pd.DataFrame, first: str, second: str, setting: str) -> str:
    """Describe ``versus`` in one sentence with its setting."""
    a, b = METHOD_STYLES[first][0], METHOD_STYLES[second][0]
    done = frame[frame["seeds"] > 0]
    if done.empty:
        return f"No run of {a} and {b} is recorded here yet: `dtl record` makes the cards. Setting: {setting}."
    ahead = int((done["difference"] > 0).sum())
    return (
        f"{b} less {a} is {done['difference'].mean():+.1f} points in the mean over {len(done)} of {len(frame)} tasks; "
        f"{b} is ahead on {ahead} of {len(done)}. Test accuracy in percent, ± standard deviation over seeds. Setting: {setting}."
    )


def draw_versus(frame: pd.DataFrame, first: str, second: str) -> Figure:
    """Draw a pair of points for each recorded task, with the spread over the seeds."""
    done = frame[frame["seeds"] > 0].iloc[::-1]
    fig, ax = plt.subplots(figsize=(6.4, 1.5 + 0.55 * len(done)))
    for method, shift in ((first, 0.13), (second, -0.13)):
        style = method_style(method)
        y = [i + shift for i in range(len(done))]
        spread = done[f"{style['label']} ±"].fillna(0)
        ax.errorbar(done[style["label"]], y, xerr=spread, ls="", capsize=4, ms=10, **style)
    ax.set(yticks=range(len(done)), yticklabels=done["task"], xlabel="test accuracy (%)", ylim=(-0.6, len(done) - 0.4))
    fig.legend(loc="outside upper right", ncols=2)
    return fig


def draw_seeds(histories: Mapping[str, Sequence[pd.DataFrame]], scores: Mapping[str, Sequence[float]]) -> Figure:
    """Draw training loss (left; a thin line for each seed, the mean with markers) and each seed's accuracy (right).

    Args:
        histories: method (a key of ``METHOD_STYLES``) -> ``FitRecord.history`` of each seed.
        scores: method -> accuracy of each seed, in [0, 1].
    """
    fig, (ax, right) = plt.subplots(1, 2, figsize=(6.4, 3.6))
    for (method, seeds), dash in zip(histories.items(), ("-", "--", "-.", ":"), strict=False):
        style = method_style(method, 8)
        for history in seeds:
            ax.plot(history["epoch"], history["loss"], color=style["color"], lw=0.9, ls=dash, alpha=0.7)
        mean = pd.concat(seeds).groupby("epoch")["loss"].mean()
        ax.plot(mean.index, mean, ls=dash, **style)
        accuracy = 100 * np.asarray(scores[method])
        marks = {"ls": "", "ms": style["ms"] + 2, "color": style["color"], "marker": style["marker"]}
        right.plot(range(len(accuracy)), accuracy, **marks)
        right.axhline(accuracy.mean(), color=style["color"], lw=1.4, ls=dash)
    ax.set(xlabel="epoch", title="training loss")
    right.set(xlabel="seed", title="accuracy (%)", xlim=(-0.5, len(accuracy) - 0.5), ylim=(0, None))
    for axis in (ax.xaxis, right.xaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(loc="lower left", handlelength=2.4)
    return fig


def seeds_table(histories: Mapping[str, Sequence[pd.DataFrame]], scores: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """Return mean and standard deviation of loss and accuracy over the seeds, a row per method; see ``draw_seeds``."""
    rows = []
    for method, seeds in histories.items():
        loss = pd.Series([history["loss"].iloc[-1] for history in seeds])
        accuracy = 100 * pd.Series(scores[method])
        row = {"method": method_style(method)["label"], "loss, last epoch": loss.mean(), "loss ±": loss.std(ddof=1)}
        rows.append(row | {"accuracy": accuracy.mean(), "accuracy ±": accuracy.std(ddof=1)})
    return pd.DataFrame(rows)

"""The recorded results as pictures. Each works with no card, some cards, or all of them, and says what was not run."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..lab.plots import method_style
from ..tables import results_table
from ..tables.benchmarks import final_cards, tasks_of
from ..tables.cells import NOT_RUN
from .vtab_cards import LABELS, shown_methods


def draw_scores(
    ax: Axes, results: pd.DataFrame, column: str, names: list[str], shifts: dict[str, float], **text: object
) -> None:
    """Draw mean and spread of each method in the row of each name, the first name on top.

    What is missing in a row is named once, on the free line of the first method that lacks it.

    Args:
        ax: the axes.
        results: rows with method, mean and spread.
        column: of the results, which holds the names.
        names: one a row.
        shifts: method -> how far above the middle of its row it is drawn.
        **text: place and style of the words on what was not run.
    """
    y, missing = np.arange(len(names))[::-1], {}
    for method, shift in shifts.items():
        mine = results[results["method"] == method].set_index(column)[["mean", "spread"]].astype(float).reindex(names)
        style = {"ls": "", "capsize": 4, **method_style(method, 9)}
        ax.errorbar(mine["mean"], y + shift, xerr=mine["spread"].fillna(0), **style)
        for place in (y + shift)[mine["mean"].isna()]:
            missing.setdefault(round(place), []).append((place, style["label"]))
    for places in missing.values():
        named = "" if len(places) == len(shifts) else f": {', '.join(label for _, label in places)}"
        style = {"va": "center", "color": "#555555", "transform": ax.get_yaxis_transform(), **text}
        ax.text(y=places[0][0], s=f"{NOT_RUN}{named}", **style)
    ax.hlines(y[:-1] - 0.5, 0, 101, color="#BBBBBB", lw=1)
    ax.set(yticks=y, xlim=(0, 101), ylim=(-0.5, len(names) - 0.5))
    ax.grid(axis="y", visible=False)


def draw_recorded(profile: str = "laptop", root: Path | None = None) -> Figure:
    """Draw the accuracy of every method on every task: mean, spread over the seeds, and what guessing would give."""
    results, cards = results_table(profile, root), final_cards(profile, root)
    tasks, methods = tasks_of(profile), shown_methods(profile, root)
    y, reach = np.arange(len(tasks))[::-1], 0.5 - 0.5 / max(len(methods), 2)  # the methods share the height of a task
    fig, ax = plt.subplots(figsize=(6.4, 1.5 + (0.35 + 0.16 * len(methods)) * len(tasks)))
    shifts = dict(zip(methods, np.linspace(reach, -reach, len(methods)) * 0.8, strict=True))
    draw_scores(ax, results, "task", tasks, shifts, x=0.28, ha="left", fontsize=12)
    if len(cards):
        classes = cards.groupby("task")["classes"].first().reindex(tasks)
        ax.vlines(100 / classes, y - 0.42, y + 0.42, color="#555555", ls=":", lw=2.2, label="guessing")
    ax.set(yticklabels=[t.replace("_", "\n") for t in tasks], xlabel=f"test accuracy (%), {profile} tasks")
    fig.legend(loc="outside upper center", ncols=3)
    return fig


def draw_learning(task: str, profile: str = "laptop", root: Path | None = None) -> Figure:
    """Draw the training loss of every recorded method on a task, epoch by epoch, the mean over the seeds."""
    cards, methods = final_cards(profile, root), shown_methods(profile, root)
    mine = cards[cards["task"] == task]
    fig, ax = plt.subplots(figsize=(6.4, 3.4))
    for method in (m for m in methods if m in set(mine["method"])):
        seeds = [pd.DataFrame(epochs) for epochs in mine.loc[mine["method"] == method, "epochs"]]
        mean = pd.concat(seeds).groupby("epoch")["loss"].mean()
        ax.plot(mean.index, mean, **method_style(method, 8))
    missing = [LABELS[m] for m in methods if m not in set(mine["method"])]
    if missing:
        ax.text(0.5, 1.02, f"{NOT_RUN}: {', '.join(missing)}", ha="center", fontsize=12, transform=ax.transAxes)
    ax.set(xlabel="epoch", ylabel=f"training loss, {task}", ylim=(0, None))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(mine):
        ax.legend()
    return fig

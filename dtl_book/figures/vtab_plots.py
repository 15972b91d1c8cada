"""The recorded results as pictures. Every picture works with no card, some cards, or all of them, and says what was not run."""

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
from ..tables.benchmarks import final_cards
from .vtab_cards import LABELS, NOT_RUN, shown_methods, tasks_of


def _note_missing(missing: dict, absent: pd.Series, y: np.ndarray, label: str) -> None:
    """Adds a label to each task that lacks it: task -> [(place, label), ...]."""
    for (task, gone), place in zip(absent.items(), y, strict=True):
        if gone:
            missing.setdefault(task, []).append((place, label))


def _write_missing(ax: Axes, missing: dict, of: int, x: float, side: str) -> None:
    """Writes "not run" once a task, on the line of the first label that is missing; names the labels unless all ``of`` are."""
    for places in missing.values():
        text = NOT_RUN if len(places) == of else f"{NOT_RUN}: {', '.join(label for _, label in places)}"
        ax.text(
            x,
            places[0][0],
            text,
            ha=side,
            va="center",
            fontsize=12,
            color="#555555",
            transform=ax.get_yaxis_transform(),
        )


def draw_recorded(profile: str = "laptop", root: Path | None = None) -> Figure:
    """The accuracy of every method on every task: mean, spread over the seeds, and what guessing would give.

    A method that was not run on a task has the words "not run" on its line.
    """
    results, cards, missing = results_table(profile, root), final_cards(profile, root), {}
    tasks, methods = tasks_of(profile), shown_methods(profile, root)
    y, reach = np.arange(len(tasks))[::-1], 0.5 - 0.5 / max(len(methods), 2)  # the methods share the height of a task
    fig, ax = plt.subplots(figsize=(6.4, 1.5 + (0.35 + 0.16 * len(methods)) * len(tasks)))
    for method, shift in zip(methods, np.linspace(reach, -reach, len(methods)) * 0.8, strict=True):
        mine = results[results["method"] == method].set_index("task")[["mean", "spread"]].astype(float).reindex(tasks)
        style = {"ls": "", "capsize": 4, **method_style(method)}
        style["ms"] = 12 if style["marker"] == "*" else 9  # a star of the same size looks smaller
        ax.errorbar(mine["mean"], y + shift, xerr=mine["spread"].fillna(0), **style)
        _note_missing(missing, mine["mean"].isna(), y + shift, LABELS[method])
    if len(cards):
        classes = cards.groupby("task")["classes"].first().reindex(tasks)
        ax.vlines(100 / classes, y - 0.42, y + 0.42, color="#555555", ls=":", lw=2.2, label="guessing")
    _write_missing(ax, missing, len(methods), 0.28, "left")
    ax.hlines(y[:-1] - 0.5, 0, 101, color="#BBBBBB", lw=1)
    ax.set(yticks=y, yticklabels=[t.replace("_", "\n") for t in tasks], xlim=(0, 101), ylim=(-0.5, len(tasks) - 0.5))
    ax.set_xlabel("test accuracy (%), laptop tasks" if profile == "laptop" else f"test accuracy (%), {profile} tasks")
    ax.grid(axis="y", visible=False)
    fig.legend(loc="outside upper center", ncols=3)
    return fig


def draw_learning(task: str, profile: str = "laptop", root: Path | None = None) -> Figure:
    """The training loss of every recorded method on a task, epoch by epoch, the mean over the seeds."""
    cards, methods = final_cards(profile, root), shown_methods(profile, root)
    mine = cards[cards["task"] == task] if len(cards) else cards
    fig, ax = plt.subplots(figsize=(6.4, 3.4))
    for method in methods if len(mine) else ():
        seeds = [pd.DataFrame(epochs) for epochs in mine.loc[mine["method"] == method, "epochs"]]
        if not seeds:
            continue
        style = method_style(method)
        mean = pd.concat(seeds).groupby("epoch")["loss"].mean()
        ax.plot(mean.index, mean, ms=12 if style["marker"] == "*" else 8, **style)
    missing = [LABELS[m] for m in methods if mine.empty or m not in set(mine["method"])]
    if missing:
        ax.text(0.5, 1.02, f"{NOT_RUN}: {', '.join(missing)}", ha="center", fontsize=12, transform=ax.transAxes)
    ax.set(xlabel="epoch", ylabel=f"training loss, {task}", ylim=(0, None))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(mine):
        ax.legend()
    return fig

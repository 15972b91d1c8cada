"""Pictures of notebook 13: accuracy (recorded) and memory (planned) against M, rank, beta and kernel. Any subset of cards will do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from ipywidgets import Dropdown, VBox
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from dtl_core.data import VTAB1k
from dtl_core.memory import MIB

from .. import paths
from ..experiments import SEEDS
from ..experiments.grids import ABLATIONS as GROUP
from ..experiments.grids import BASE, LETTERS, OFFICIAL, TASK, VALUES
from ..experiments.profiles import PROFILES, Profile, get_profile
from ..lab.plots import show_figure
from ..lab.setup import DataMissing, require_data
from ..lab.tables import table
from ..lab.widgets import redraw_on
from ..tables import changed_runs
from ..tables.cells import NOT_RUN

NAMES = {
    "inject_from": "M, the first injection",
    "rank": "rank r",
    "beta": "beta of the gate",
    "dwconv_kernel": "kernel k",
}
ACCURACY, PLAIN, DEFAULT = "#0072B2", "#C77C00", "#1B6E5A"
LEAST_SPAN = 10  # points on the axis of accuracy: a smaller span would make a mountain of a seed's luck


@dataclass(frozen=True)
class Source:
    """A task of VTAB-1K on this disk: whose profile it is, the folder of the tasks, and its name."""

    profile: Profile
    root: Path
    task: str

    def open(self, split: str, transform: object = None) -> VTAB1k:
        """Open a split of the task, see ``VTAB1k``."""
        return VTAB1k(self.root, self.task, split, transform)


def find_task(profile: Profile) -> Source:
    """Return a profile's task for the ablations. Where the official ones are absent, say so and return the laptop's."""
    try:
        root = require_data(profile)
    except DataMissing:
        if profile.name != "paper":
            raise
        print(
            f"No VTAB-1K folder of the profile paper is here: these cells read {TASK} and train the laptop's network."
        )
        profile = get_profile("laptop")
        root = require_data(profile)
    there = sorted(p.parent.name for p in root.glob("*/train800val200.txt"))
    wanted = [name for name in (TASK, OFFICIAL) if name in there] or there
    if not wanted:
        raise DataMissing(f"no task lies under {paths.shown(root)}: `dtl data check vtab` says what is wrong there.")
    return Source(profile, root, wanted[0])


def recorded_settings(root: Path | None = None) -> list[tuple[str, str]]:
    """Return the (profile, task) pairs that have cards of ablations, and the laptop's in any case."""
    folder = root or paths.results_dir()
    found = [
        (p, t)
        for p in PROFILES
        if any((folder / p / GROUP).glob("*/*.json"))
        for t in changed_runs.ablated_tasks(p, root)
    ]
    return list(dict.fromkeys([*found, ("laptop", TASK)]))


def recorded_for(profile: str, root: Path | None = None) -> tuple[str, str]:
    """Return the profile's (profile, task) if it has cards of ablations, else say so and return the laptop's."""
    mine = [pair for pair in recorded_settings(root) if pair[0] == profile]
    if not mine:
        print(f"No ablation of the profile {profile} is recorded: what follows is the laptop's, under its own setting.")
    return mine[0] if mine else ("laptop", TASK)


def draw_ablation(
    quantities: Sequence[str] = tuple(VALUES), task: str = TASK, profile: str = "laptop", root: Path | None = None
) -> tuple[Figure, str]:
    """Draw a row for each quantity of ``VALUES``: left the recorded accuracy of the profile's network, right the planned memory.

    Left the band is the spread of the paper's value; a hollow marker has fewer than three seeds and no bar. Return a sentence
    with both settings, too.
    """
    quantities = list(quantities)
    runs, plans = changed_runs.ablation_table(profile, task, root), changed_runs.planned_memory()
    shape, height = (len(quantities), 2), 1.5 + (2.15 if len(quantities) > 1 else 2.6) * len(quantities)
    fig, axes = plt.subplots(*shape, figsize=(6.4, height), squeeze=False)
    for (left, right), name in zip(axes, quantities, strict=True):
        _accuracies(left, runs[runs["varied"] == name], name)
        _peaks(right, plans[plans["varied"] == name], name, 1.12 * plans["plain"].max() / MIB)
    axes[0, 0].set_title(f"accuracy (%), {profile}\n{task}", fontsize=13, color=ACCURACY)
    axes[0, 1].set_title("planned MiB\nViT-B/16, batch 32", fontsize=13)
    fig.legend(handles=_legend(), loc="outside lower center", ncols=2, fontsize=11.5, columnspacing=1.2)
    what = ", ".join(LETTERS[name] for name in quantities)
    sentence = (
        f"One value varied at a time ({what}); a ring marks the paper's value. Left: test accuracy on {task}, mean over "
        f"{len(SEEDS)} seeds, bars and band one standard deviation, each axis with its own range; "
        f"{get_profile(profile).setting}. {changed_runs.ablation_status(profile, task, root)} Right: peak of a training step, {changed_runs.PLANNED}."
    )
    return fig, sentence


def _accuracies(ax: Axes, runs: pd.DataFrame, name: str) -> None:
    x, own = np.arange(len(runs)), (runs["value"] == float(getattr(BASE, name))).to_numpy()
    mean, spread = runs["mean"].to_numpy(float), runs["spread"].to_numpy(float)
    whole, some = (runs["seeds"] == len(SEEDS)).to_numpy(), (runs["seeds"] > 0).to_numpy()
    if (whole & own).any():
        ax.axhspan(*(mean[own][0] + sign * spread[own][0] for sign in (-1, 1)), color=ACCURACY, alpha=0.15, lw=0)
    ax.errorbar(x[whole], mean[whole], yerr=spread[whole], fmt="o", color=ACCURACY, capsize=4, zorder=3)
    ax.plot(x[some & ~whole], mean[some & ~whole], "o", color=ACCURACY, mfc="white", zorder=3)
    ax.plot(x[some & own], mean[some & own], "o", ms=15, mfc="none", mec="#333333", mew=1.4, zorder=4)
    if some.any():
        reach = np.where(whole, spread, 0)[some]
        low, high = (mean[some] - reach).min(), (mean[some] + reach).max()
        margin = max(LEAST_SPAN - (high - low), 0.24 * (high - low)) / 2
        ax.set_ylim(max(low - margin, 0), min(high + margin, 101))
    for place in x[~some]:
        style = dict(ha="center", va="bottom", rotation=90, fontsize=11.5, color="#555555")
        ax.text(place, 0.05, NOT_RUN, transform=ax.get_xaxis_transform(), **style)
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    _ticks(ax, runs, name)


def _peaks(ax: Axes, plans: pd.DataFrame, name: str, top: float) -> None:
    x, own = np.arange(len(plans)), (plans["value"] == float(getattr(BASE, name))).to_numpy()
    for column, colour, mark in (("plain", PLAIN, "s--"), ("default", DEFAULT, "^-")):
        size = plans[column].to_numpy(float) / MIB
        ax.plot(x, size, mark, color=colour, ms=7, lw=1.6)
        ax.plot(x[own], size[own], "o", ms=15, mfc="none", mec="#333333", mew=1.4)
    ax.set_ylim(0, top)
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    _ticks(ax, plans, name)


def _ticks(ax: Axes, rows: pd.DataFrame, name: str) -> None:
    labels = ["ReLU" if math.isinf(value) else f"{value:g}" for value in rows["value"]]
    ax.set_xticks(range(len(rows)), labels)
    ax.set(xlim=(-0.5, len(rows) - 0.5), xlabel=NAMES[name])
    ax.grid(axis="x", visible=False)


def _legend() -> list:
    return [
        Line2D([], [], color=ACCURACY, marker="o", ls="", label="mean of three seeds"),
        Line2D([], [], color=ACCURACY, marker="o", ls="", mfc="white", label="fewer seeds"),
        Patch(color=ACCURACY, alpha=0.15, label="spread, paper's value"),
        Line2D([], [], color="#333333", marker="o", ls="", mfc="none", ms=12, label="the paper's value"),
        Line2D([], [], color=PLAIN, marker="s", ls="--", label="plain form"),
        Line2D([], [], color=DEFAULT, marker="^", label="default form"),
    ]


def difference_table(profile: str = "laptop", task: str = TASK, root: Path | None = None) -> pd.DataFrame:
    """Return ``paired_with_paper`` as texts: columns varied, less the paper's value (points), seeds, seeds below the paper's value."""
    rows = []
    for row in changed_runs.paired_with_paper(profile, task, root).itertuples(index=False):
        varied, value, seeds, lower, mean, spread = row
        text = f"{mean:+.1f}" + (f" ± {spread:.1f}" if seeds > 1 else "") if seeds else NOT_RUN
        below = f"{lower} of {seeds}" if seeds else "–"
        rows.append((changed_runs.label_of(varied, value), text, f"{seeds} of {len(SEEDS)}", below))
    return pd.DataFrame(rows, columns=["varied", "less the paper's value", "seeds", "seeds below"])


def explore_ablations(root: Path | None = None) -> VBox:
    """Return ``draw_ablation`` and its table below two lists: what is varied, and the settings that have cards."""

    def show(name: str, where: tuple[str, str]) -> None:
        profile, task = where
        show_figure(*draw_ablation([name], task, profile, root))
        cells = changed_runs.ablation_cells(profile, task, root)
        table(cells[[v == name for v in changed_runs.ablation_table(profile, task, root)["varied"]]].reset_index(drop=True),
              changed_runs.ablation_note(profile, task, root))  # fmt: skip

    settings = [(f"{profile}: {task}", (profile, task)) for profile, task in recorded_settings(root)]
    quantity = Dropdown(options=[(label, name) for name, label in NAMES.items()], description="varied")
    return redraw_on([quantity, Dropdown(options=settings, description="cards of")], show)

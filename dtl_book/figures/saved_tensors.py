"""Pictures of what autograd keeps: by method, by the place of what is trained, by batch, within a block, block by block."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dtl_core.memory import MIB, MemoryPlan

from ..lab.plots import METHOD_STYLES, PALETTE, method_style

COLOURS = (*PALETTE, "#8A7F00")
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo", "--")
BESIDE = "side network"
REST = "after the blocks"


def held_by_block(plans: Mapping[str, MemoryPlan]) -> pd.DataFrame:
    """Return the bytes that steps of methods on one backbone hold for backward, by where they were made.

    Rows are embed, block 0 … block L - 1, side network, after the blocks; a column per method, under its label, which sums
    to the plan's bytes by block.
    """
    depth = 1 + max(int(r.split()[1]) for p in plans.values() for r in p.by_block if r.startswith("block "))
    rows = ["embed", *(f"block {i}" for i in range(depth)), BESIDE, REST]
    columns = {}
    for method, plan in plans.items():
        column = dict.fromkeys(rows, 0)
        for region, size in plan.saved_by_block.items():
            place = REST if region in ("readout", "head", "loss") else region
            if region == "between blocks" and BESIDE in plan.saved_by_block:
                place = BESIDE  # the sum of a block's output and what the side network adds
            if place not in column:
                raise ValueError(f"{method} holds bytes made in {region!r}: held_by_block has no row for that")
            column[place] += size
        columns[METHOD_STYLES[method][0]] = column
    return pd.DataFrame(columns)


def draw_held_by_block(plans: Mapping[str, MemoryPlan]) -> Figure:
    """Draw ``held_by_block`` in MiB: a line per method over embedding and blocks, and a point for the side network."""
    frame = held_by_block(plans) / MIB
    places = [row for row in frame.index if row != REST]
    fig, ax = plt.subplots(figsize=(6.4, 4.3))
    for method in plans:
        style = method_style(method)
        values = frame.loc[places, style["label"]]
        ax.plot(range(len(places) - 1), values[:-1], clip_on=False, **style)
        if values.iloc[-1]:
            ax.plot([len(places) - 1], values[-1:], ls="", clip_on=False, color=style["color"], marker=style["marker"])
    names = [place.removeprefix("block ").replace(BESIDE, "side") for place in places]
    ax.set_xticks(range(len(places)), names, fontsize=11.5)
    ax.set(xlabel="made in: embedding, blocks by number, side network", ylabel="held for backward, MiB", ylim=(0, None))
    fig.legend(loc="outside upper center", ncols=len(plans), handlelength=2.2)
    return fig


def draw_parts(frame: pd.DataFrame, xlabel: str) -> Figure:
    """Draw a bar for each column of a frame, cut into its (at most eight) rows. Parts that fit and bars have their numbers."""
    if len(frame) > len(COLOURS):
        raise ValueError(f"draw_parts tells {len(COLOURS)} parts apart, and there are {len(frame)}: join some")
    longest = frame.sum().max()
    fig, ax = plt.subplots(figsize=(6.4, 2.0 + 0.62 * frame.shape[1]))
    left = pd.Series(0.0, index=frame.columns)
    with mpl.rc_context({"hatch.linewidth": 0.7}):
        for (part, row), color, hatch in zip(frame.iterrows(), COLOURS, HATCHES, strict=False):
            style = {"color": color, "hatch": hatch, "edgecolor": "white", "label": part}
            ax.barh(list(frame.columns), row, left=left, height=0.62, **style)
            for at, value in enumerate(row):
                if value > 0.05 * longest:
                    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.2, "alpha": 0.9}
                    place = {"ha": "center", "va": "center", "fontsize": 11, "bbox": box}
                    ax.text(left.iloc[at] + value / 2, at, f"{value:.0f}", **place)
            left += row
    for at, total in enumerate(left):
        ax.annotate(f"{total:.0f}", (total, at), xytext=(5, 0), textcoords="offset points", va="center", weight="bold")
    ax.invert_yaxis()
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(axis="y", visible=False)
    ax.set(xlabel=xlabel, xlim=(0, 1.1 * longest))
    fig.legend(loc="outside lower left", ncols=2, fontsize=11.5, handlelength=1.7, columnspacing=1.2)
    return fig


def draw_place(plans: Mapping[str, MemoryPlan]) -> Figure:
    """Draw bytes held for backward against trained parameters, on a logarithmic axis; each point bears its label.

    A method's label takes its colour and marker; of the others "last …" are squares and the rest diamonds.
    """
    known = {label: (color, marker) for label, color, marker in METHOD_STYLES.values()}
    fig, ax = plt.subplots(figsize=(6.4, 4.6))
    for label, plan in plans.items():
        color, marker = known.get(label, (PALETTE[4], "s") if label.startswith("last") else (PALETTE[1], "d"))
        x, y = plan.parameters, plan.saved_bytes / MIB
        ax.plot([x], [y], ls="", color=color, marker=marker, ms=10, clip_on=False)
        left = x > 1e6 or label == "BitFit"  # towards the middle, and away from LoRA
        ax.annotate(
            label, (x, y), xytext=(-10 if left else 10, 2), textcoords="offset points", color=color,
            ha="right" if left else "left", va="bottom", fontsize=12,
        )  # fmt: skip
    ax.set_xscale("log")
    ax.set_xticks([1e3, 1e4, 1e5, 1e6, 1e7, 1e8], ["1,000", "10,000", "100,000", "1 M", "10 M", "100 M"])
    ax.set(
        xlim=(300, 2e8), ylim=(0, None), xlabel="trained parameters, without the head", ylabel="held for backward, MiB"
    )
    ax.tick_params(axis="x", labelsize=12)
    return fig

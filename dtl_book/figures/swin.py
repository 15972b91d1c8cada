"""Pictures and counts of a Swin: its stages, which maps reach an injection, and the bytes of each block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from dtl_core.csn import CompactSideNetwork
from dtl_core.memory import MIB

from .diagram import GATE, INK, count_side_network

STAGES = [0] * 2 + [1] * 2 + [2] * 18 + [3] * 2  # stage of each block of a Swin-B
WIDTHS = [128 * 2**stage for stage in STAGES]
# a hatch for each stage beside its colour, for readers who do not see the colours apart and for print
COLOURS, HATCHES = ("#C9A227", "#C77C00", "#0072B2", "#A6487D"), ("..", "xx", "", "//")


def side_network(inject_from: int, kernel: int = 0, tap_from: int = 0) -> CompactSideNetwork:
    """Return the side network of a Swin-B without memory behind it, to be counted.

    M (``inject_from``) counts from 0 through all stages. Blocks are tapped from ``tap_from`` where their stage injects at all.
    """
    if not tap_from <= inject_from < len(WIDTHS):
        raise ValueError(f"M = {inject_from}: choose a block from {tap_from} to {len(WIDTHS) - 1}")
    options = {"rank": 4, "tap_from": tap_from, "inject_from": inject_from, "beta": 100.0, "dwconv_kernel": kernel}
    with torch.device("meta"):
        return CompactSideNetwork(WIDTHS, STAGES, **options)


def side_counts(inject_from: int, kernel: int = 0) -> pd.DataFrame:
    """Return what a choice of M costs on a Swin-B, rank 4, counted on a real side network: columns what, count."""
    maps, parameters = "low-rank maps that reach an injection", "side parameters of a Swin-B"
    return count_side_network(side_network(inject_from, kernel=kernel), inject_from, len(STAGES), maps, parameters)


def draw_side_states(inject_from: int = 14) -> Figure:
    """Draw the blocks of a Swin-B from left to right: the highest rank that ``h`` can have after each tap, and the injections."""
    csn, rank = side_network(inject_from), 4
    fig, ax = plt.subplots(figsize=(6.4, 4.2))
    held, top = 0, rank * STAGES.count(2)
    for i, stage in enumerate(STAGES):
        held = 0 if STAGES[i - 1] != stage else held
        if str(i) in csn.maps:
            held += rank
            _bar(ax, i, held)
        else:
            ax.plot(i, 0, marker="_", ms=9, mew=2.4, color="#7A818A", clip_on=False)
        if i >= inject_from:
            ax.plot(i, 1.1 * top, marker="o", ms=8, mfc=GATE, mec=INK)
    _mark_stages(ax)
    ax.axvline(inject_from + 0.5, color="#0B5C9E", ls="--", lw=1.6)
    ax.set(xlabel="block", ylabel="rank of h, at most", xlim=(-0.7, len(STAGES) - 0.3), ylim=(0, 1.2 * top))
    ax.set_yticks(range(0, top + 1, 4 * rank))
    handles = [
        Line2D([], [], ls="", marker="o", mfc=GATE, mec=INK, ms=9, label="swish(h) is added after the block"),
        Line2D([], [], color="#0B5C9E", ls="--", lw=1.6, label="right of it the gradient crosses the blocks"),
        Line2D([], [], ls="", marker="_", ms=9, mew=2.4, color="#7A818A", label="no map: it would reach no injection"),
    ]
    fig.legend(handles=handles, loc="outside lower left", fontsize=12.5)
    return fig


def _bar(ax: Axes, block: int, height: float) -> None:
    stage = STAGES[block]
    ax.bar(block, height, width=0.78, facecolor=COLOURS[stage], hatch=HATCHES[stage], edgecolor=INK, lw=0.6)


def _mark_stages(ax: Axes) -> None:
    """Draw dotted lines between the stages, their numbers above the axes, and a tick for each block."""
    for stage in sorted(set(STAGES)):
        first, count = STAGES.index(stage), STAGES.count(stage)
        if first:
            ax.axvline(first - 0.5, color="#8A9099", ls=":", lw=1.2)
        name = f"stage {stage}" if count > 4 else f"{stage}"
        ax.text(first + (count - 1) / 2, 1.02, name, transform=ax.get_xaxis_transform(), ha="center", va="bottom")
    ax.set_xticks(range(0, len(STAGES), 2))
    ax.set_xticks(range(len(STAGES)), minor=True)
    ax.tick_params(axis="x", labelsize=12)
    ax.grid(axis="x", visible=False)


def draw_stages(grids: Sequence[int], widths: Sequence[int], window: int) -> Figure:
    """Draw the same image in each stage: its tokens (thin lines), its windows (thick), and the size of a token.

    ``grids`` and ``window`` are tokens along a side, ``widths`` the numbers in a token.
    """
    fig, axes = plt.subplots(1, len(grids), figsize=(6.4, 2.3))
    for stage, (ax, side, width) in enumerate(zip(axes, grids, widths, strict=True)):
        for k in range(side + 1):
            edge = k % min(window, side) == 0
            for line in (ax.axhline, ax.axvline):
                line(k / side, color=INK if edge else COLOURS[stage], lw=1.3 if edge else 0.35, zorder=2 + edge)
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xticks=[], yticks=[], title=f"stage {stage}")
        ax.set_xlabel(f"{side} × {side}\nwidth {width:,}", fontsize=12.5)
        ax.spines[:].set_visible(False)
    return fig


def by_stage(blocks: Mapping[str, int]) -> pd.Series:
    """Add up a ``MemoryPlan``'s bytes by block ("block 0", …) by stage; other regions are left out."""
    each = [blocks.get(f"block {i}", 0) for i in range(len(STAGES))]
    return pd.Series(each).groupby(STAGES).sum().rename_axis("stage")


def draw_bytes(panels: Mapping[str, Mapping[str, int]]) -> Figure:
    """Draw what each block of a Swin-B keeps for backward, in MiB: a row of bars for each plan, on one scale.

    ``panels`` are title -> ``MemoryPlan.saved_by_block``.
    """
    fig, axes = plt.subplots(len(panels), 1, figsize=(6.4, 0.5 + 2.3 * len(panels)), sharex=True, squeeze=False)
    heights = [[blocks.get(f"block {i}", 0) / MIB for i in range(len(STAGES))] for blocks in panels.values()]
    top = max(map(max, heights))
    for ax, title, row in zip(axes[:, 0], panels, heights, strict=True):
        for i, value in enumerate(row):
            _bar(ax, i, value)
        _mark_stages(ax)
        ax.set(ylim=(0, 1.06 * top), ylabel=f"{title}, MiB", xlim=(-0.7, len(STAGES) - 0.3))
        ax.yaxis.set_major_locator(MaxNLocator(4))
    axes[-1, 0].set_xlabel("block")
    return fig


def draw_peaks(peaks: Mapping[int, int], chosen: int, lines: Mapping[str, int]) -> Figure:
    """Draw the peak of a training step of a Swin-B against M: ``peaks`` are M -> bytes, ``lines`` label -> bytes to compare with."""
    fig, ax = plt.subplots(figsize=(6.4, 4.0))
    most = max([*peaks.values(), *lines.values()]) / MIB
    for (label, size), dash in zip(lines.items(), ("--", "-.", ":"), strict=False):
        ax.axhline(size / MIB, color="#4A5058", ls=dash, lw=1.6)
        ax.annotate(label, (-0.2, size / MIB), xytext=(0, 4), textcoords="offset points", color="#2b3138")
    ax.plot(list(peaks), [size / MIB for size in peaks.values()], "o-", color="#0072B2", ms=7)
    ax.plot(chosen, peaks[chosen] / MIB, marker="*", ms=19, color=GATE, mec=INK)
    text, place = f"M = {chosen}: {peaks[chosen] / MIB:,.0f} MiB", {"xytext": (6, 13), "textcoords": "offset points"}
    ax.annotate(text, (chosen, peaks[chosen] / MIB), **place)
    _mark_stages(ax)
    ax.set(xlabel="M", ylabel="MiB at the peak", xlim=(-0.6, len(STAGES) - 0.4), ylim=(0, 1.12 * most))
    return fig


def draw_moved(moved: Mapping[int, float], inject_from: int) -> Figure:
    """Draw how far each block's ``up`` has come from 0."""
    fig, ax = plt.subplots(figsize=(6.4, 3.5))
    top = max(moved.values())
    for i, value in moved.items():
        _bar(ax, i, value)
    _mark_stages(ax)
    ax.axvline(inject_from - 0.5, color=GATE, ls="--", lw=1.6)
    ax.set(xlabel="block", ylabel="length of up", xlim=(-0.7, len(STAGES) - 0.3), ylim=(0, 1.06 * top))
    styles = {f"stage {s}": {"facecolor": COLOURS[s], "hatch": HATCHES[s]} for s in sorted({STAGES[i] for i in moved})}
    handles = [Patch(edgecolor=INK, label=label, **style) for label, style in styles.items()]
    handles.append(Line2D([], [], color=GATE, ls="--", lw=1.6, label="first injection"))
    fig.legend(handles=handles, loc="outside lower left", ncols=3, fontsize=12.5)
    return fig

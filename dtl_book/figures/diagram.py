"""The side network beside its backbone, drawn for any M, what a choice of M costs, and the rank of the side state."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Patch
from torch import Tensor

from dtl_core.csn import CompactSideNetwork

from ..lab.plots import PALETTE
from .gate import DASHES

DEPTH, RANK = 12, 2  # blocks of a ViT-B/16; r of the low-rank maps
BACKBONE, SIDE = 2.0, 5.0  # x of the two columns; the row of a block is 1 high
BOX = 0.23  # half the height of a block
INJECT, TAP = 0.39, 0.61  # below a block's middle: its injection, then the tap of the next block
FROZEN, CROSSED, STATE, GATE = "#D7DADF", "#CFE3F3", "#009E73", "#D55E00"
INK = "#1b1f24"


def side_network_counts(inject_from: int, dim: int = 768, kernel: int = 0) -> pd.DataFrame:
    """Return what a choice of M costs on a ViT of 12 blocks, counted on a real side network, built without memory.

    M is the first block after which the side state is added, from 0; ``kernel`` that of DTL+, 0 for DTL.
    """
    options = {"rank": RANK, "tap_from": 0, "inject_from": inject_from, "beta": 100.0, "dwconv_kernel": kernel}
    with torch.device("meta"):
        csn = CompactSideNetwork([dim] * DEPTH, [0] * DEPTH, **options)
    return count_side_network(csn, inject_from, DEPTH, "low-rank maps", f"side parameters at width {dim}")


def count_side_network(
    csn: CompactSideNetwork, inject_from: int, depth: int, maps: str, parameters: str
) -> pd.DataFrame:
    """Return columns what and count; ``maps`` and ``parameters`` are how the last two rows are called."""
    rows = {
        "blocks that compute exactly what they computed before": inject_from + 1,
        "blocks that the gradient crosses": depth - 1 - inject_from,
        "injections": depth - inject_from,
        maps: len(csn.maps),
        parameters: sum(p.numel() for p in csn.parameters()),
    }
    return pd.DataFrame({"what": rows.keys(), "count": rows.values()})


def draw_side_network(inject_from: int = 6) -> Figure:
    """Draw a ViT of 12 blocks from top to bottom, the side state beside it: taps, low-rank maps, gate, injections."""
    if not 0 <= inject_from < DEPTH:
        raise ValueError(f"M = {inject_from}: choose a block from 0 to {DEPTH - 1}")
    fig, ax = plt.subplots(figsize=(6.4, 1.75 + 0.56 * DEPTH))
    ax.set(xlim=(-0.85, 7.5), ylim=(-DEPTH - 0.3, 0.95))
    ax.axis("off")
    bottom = -DEPTH + 0.2
    _arrow(ax, (BACKBONE, 0.6), (BACKBONE, bottom - 0.15), INK)
    ax.text(BACKBONE, 0.66, "patches of the image", ha="center", va="bottom")
    ax.text(BACKBONE, bottom - 0.22, "mean, norm, head", ha="center", va="top")
    ax.text(SIDE, 0.66, "h = 0", ha="center", va="bottom", color="#00614A")
    for i in range(DEPTH):
        _block(ax, i, crossed=i > inject_from)
        _tap(ax, i)
        if i >= inject_from:
            _injection(ax, i)
    _bracket(ax, 0, inject_from, "{}\nunchanged", "#4A5058")
    if inject_from < DEPTH - 1:
        _bracket(ax, inject_from + 1, DEPTH - 1, "gradient\ncrosses\n{}", "#0B5C9E")
    _legend(fig)
    return fig


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    style = {"arrowstyle": "-|>", "color": color, "lw": 1.6, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=style)


def _block(ax: Axes, i: int, crossed: bool) -> None:
    style = {"facecolor": FROZEN, "edgecolor": "#7A818A", "linewidth": 1.0, "zorder": 3}
    if crossed:
        style |= {"facecolor": CROSSED, "edgecolor": "#0B5C9E", "linewidth": 1.8}
        style |= {"hatch": "///", "hatch_linewidth": 0.4}
    corner, shape = (BACKBONE - 0.95, -i - BOX), "round,pad=0,rounding_size=0.08"
    ax.add_patch(FancyBboxPatch(corner, 1.9, 2 * BOX, boxstyle=shape, **style))
    label = ax.text(BACKBONE, -i, f"block {i}", ha="center", va="center", zorder=4)
    if crossed:  # letters on hatching are hard to read
        label.set_bbox({"facecolor": CROSSED, "edgecolor": "none", "pad": 1.5})


def _tap(ax: Axes, i: int) -> None:
    """Draw the block's input through its low-rank map into h, which gains ``RANK`` dimensions and gets thicker."""
    y, half = -i + 1 - TAP, 0.012 + 0.006 * (i + 1)
    ax.fill_between([SIDE - half, SIDE + half], y - 1, y, color=STATE, lw=0, zorder=2)
    if not i:
        ax.fill_between([SIDE - 0.012, SIDE + 0.012], y, 0.6, color=STATE, lw=0, zorder=2)
    _arrow(ax, (BACKBONE, y), (SIDE - 0.05, y), "#00614A")
    ax.plot(3.75, y, marker="s", ms=11, mfc=STATE, mec=INK, mew=1.0, zorder=5)
    style = {"va": "center", "ha": "left", "fontsize": 12.5, "color": "#00614A"}
    ax.text(SIDE + 0.35, y - 0.38, f"rank of h ≤ {RANK * (i + 1)}", **style)


def _injection(ax: Axes, i: int) -> None:
    """Draw the way from h through the gate to the sum after the block."""
    y = -i - INJECT
    _arrow(ax, (SIDE, y), (BACKBONE + 0.1, y), GATE)
    ax.plot(3.25, y, marker="o", ms=11, mfc=GATE, mec=INK, mew=1.0, zorder=5)
    ax.plot(BACKBONE, y, marker="o", ms=9.5, mfc="white", mec=INK, mew=1.4, zorder=5)
    ax.plot(BACKBONE, y, marker="+", ms=7, mec=INK, mew=1.6, zorder=6)


def _bracket(ax: Axes, first: int, last: int, text: str, color: str) -> None:
    top, bottom, x, n = -first + BOX, -last - BOX, 0.72, last - first + 1
    ax.plot([x + 0.15, x, x, x + 0.15], [top, top, bottom, bottom], color=color, lw=1.8, solid_joinstyle="miter")
    label = text.format(f"{n} block{'s' if n > 1 else ''}")
    ax.text(x - 0.13, (top + bottom) / 2, label, ha="right", va="center", fontsize=12.5, color=color, linespacing=1.15)


def _legend(fig: Figure) -> None:
    marks, low_rank = {"ls": "", "mec": INK, "ms": 11}, f"low-rank map of the block's input (rank {RANK}), added to h"
    handles = [
        Line2D([], [], marker="s", mfc=STATE, label=low_rank, **marks),
        Line2D([], [], marker="o", mfc=GATE, label="swish gate, added to the tokens", **marks),
        Patch(facecolor=FROZEN, edgecolor="#7A818A", label="frozen block, its input untouched"),
        Patch(facecolor=CROSSED, edgecolor="#0B5C9E", hatch="///", label="frozen block, its input changed by h"),
    ]
    fig.legend(handles=handles, loc="outside lower left", fontsize=12.5, handlelength=1.6)


def draw_spectrum(tensors: dict[str, Tensor], rank: int) -> Figure:
    """Draw the singular values of tokens (label -> (..., d), a row per token), largest first, and mark a bound of the rank."""
    fig, ax = plt.subplots(figsize=(6.4, 3.8))
    for (label, x), color, dash in zip(tensors.items(), PALETTE, DASHES, strict=False):
        values = torch.linalg.svdvals(x.detach().flatten(0, -2).double()).numpy()
        values = np.maximum(values / values[0], 1e-18)
        ax.semilogy(np.arange(1, len(values) + 1), values, color=color, ls=dash, marker="o", ms=4, label=label)
    ax.axvline(rank, color="#6B6B6B", lw=1.4, ls=":")
    ax.annotate(f"rank ≤ {rank}", (rank, 1e-4), xytext=(8, 0), textcoords="offset points", color="#4A5058")
    ax.set(xlabel="singular value, largest first", ylabel="size, largest = 1", xlim=(0, None))
    ax.legend(loc="center right")
    return fig

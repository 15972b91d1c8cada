"""The side network beside its backbone, drawn for any M, and what M counts for."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Patch

from dtl_core.csn import CompactSideNetwork

BACKBONE, SIDE = 2.0, 5.0  # where the two columns stand, in units of which a block's row is 1 high
BOX = 0.23  # half the height of a block
INJECT, TAP = 0.39, 0.61  # below a block's middle: its injection, then the tap of the next block
FROZEN, CROSSED, STATE, GATE = "#D7DADF", "#CFE3F3", "#009E73", "#D55E00"
INK = "#1b1f24"


def side_network_counts(
    inject_from: int, depth: int = 12, dim: int = 768, rank: int = 2, kernel: int = 0, tap_from: int = 0
) -> pd.DataFrame:
    """Return what a choice of M costs on a ViT, counted on a real side network, built without memory: columns what, count.

    Args:
        inject_from: M, the first block after which the side state is added, from 0.
        depth: blocks of the ViT.
        dim: width d of its tokens.
        rank: r of the low-rank maps.
        kernel: of DTL+'s depthwise convolution; 0 for DTL.
        tap_from: first block that is tapped.
    """
    with torch.device("meta"):
        csn = CompactSideNetwork(
            [dim] * depth,
            [0] * depth,
            rank=rank,
            tap_from=tap_from,
            inject_from=inject_from,
            beta=100.0,
            dwconv_kernel=kernel,
        )
    rows = {
        "blocks that compute exactly what they computed before": inject_from + 1,
        "blocks that the gradient crosses": depth - 1 - inject_from,
        "injections": depth - inject_from,
        "low-rank maps": len(csn.maps),
        f"side parameters at width {dim}": sum(p.numel() for p in csn.parameters()),
    }
    return pd.DataFrame({"what": rows.keys(), "count": rows.values()})


def draw_side_network(
    inject_from: int = 6, depth: int = 12, rank: int = 2, kernel: int = 0, tap_from: int = 0
) -> Figure:
    """Draw the backbone from top to bottom, the side state beside it: taps, low-rank maps, gate, injections.

    Args:
        inject_from, depth, rank, kernel, tap_from: as in ``side_network_counts``.
    """
    if not tap_from <= inject_from < depth:
        raise ValueError(f"M = {inject_from}: choose a block from {tap_from} to {depth - 1}")
    fig, ax = plt.subplots(figsize=(6.4, 1.75 + 0.56 * depth))
    ax.set(xlim=(-0.85, 7.5), ylim=(-depth - 0.3, 0.95))
    ax.axis("off")
    bottom = -depth + 0.2
    _arrow(ax, (BACKBONE, 0.6), (BACKBONE, bottom - 0.15), INK)
    ax.text(BACKBONE, 0.66, "patches of the image", ha="center", va="bottom")
    ax.text(BACKBONE, bottom - 0.22, "mean, norm, head", ha="center", va="top")
    ax.text(SIDE, 0.66, "h = 0", ha="center", va="bottom", color="#00614A")
    for i in range(depth):
        _block(ax, i, inject_from)
        if i >= tap_from:
            _tap(ax, i, tap_from, rank)
        if i >= inject_from:
            _injection(ax, i)
    _bracket(ax, 0, inject_from, "{}\nunchanged", "#4A5058")
    if inject_from < depth - 1:
        _bracket(ax, inject_from + 1, depth - 1, "gradient\ncrosses\n{}", "#0B5C9E")
    _legend(fig, kernel, rank)
    return fig


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str, width: float = 1.6) -> None:
    ax.annotate(
        "", end, start, arrowprops={"arrowstyle": "-|>", "color": color, "lw": width, "shrinkA": 0, "shrinkB": 0}
    )


def _block(ax: Axes, i: int, inject_from: int) -> None:
    crossed = i > inject_from
    box = FancyBboxPatch(
        (BACKBONE - 0.95, -i - BOX),
        1.9,
        2 * BOX,
        boxstyle="round,pad=0,rounding_size=0.08",
        facecolor=CROSSED if crossed else FROZEN,
        edgecolor="#0B5C9E" if crossed else "#7A818A",
        linewidth=1.8 if crossed else 1.0,
        hatch="///" if crossed else None,
        hatch_linewidth=0.4,
        zorder=3,
    )
    ax.add_patch(box)
    label = ax.text(BACKBONE, -i, f"block {i}", ha="center", va="center", zorder=4)
    if crossed:  # letters on hatching are hard to read
        label.set_bbox({"facecolor": CROSSED, "edgecolor": "none", "pad": 1.5})


def _tap(ax: Axes, i: int, tap_from: int, rank: int) -> None:
    """Draw the block's input through its low-rank map into h, which gains ``rank`` dimensions and gets thicker."""
    y, count = -i + 1 - TAP, i - tap_from + 1
    half = 0.012 + 0.006 * count
    ax.fill_between([SIDE - half, SIDE + half], y - 1, y, color=STATE, lw=0, zorder=2)
    if i == tap_from:
        ax.fill_between([SIDE - 0.012, SIDE + 0.012], y, 0.6, color=STATE, lw=0, zorder=2)
    _arrow(ax, (BACKBONE, y), (SIDE - 0.05, y), "#00614A")
    ax.plot(3.75, y, marker="s", ms=11, mfc=STATE, mec=INK, mew=1.0, zorder=5)
    ax.text(
        SIDE + 0.35, y - 0.38, f"rank of h ≤ {rank * count}", va="center", ha="left", fontsize=12.5, color="#00614A"
    )


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


def _legend(fig: Figure, kernel: int, rank: int) -> None:
    gate = "swish gate" + (f" and {kernel} × {kernel} convolution" if kernel else "")
    marks = {"ls": "", "mec": INK, "ms": 11}
    handles = [
        Line2D(
            [], [], marker="s", mfc=STATE, label=f"low-rank map of the block's input (rank {rank}), added to h", **marks
        ),
        Line2D([], [], marker="o", mfc=GATE, label=f"{gate}, added to the tokens", **marks),
        Patch(facecolor=FROZEN, edgecolor="#7A818A", label="frozen block, its input untouched"),
        Patch(facecolor=CROSSED, edgecolor="#0B5C9E", hatch="///", label="frozen block, its input changed by h"),
    ]
    fig.legend(handles=handles, loc="outside lower left", fontsize=12.5, handlelength=1.6)

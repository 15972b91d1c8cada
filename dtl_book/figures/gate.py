"""Pictures of the swish gate: its corner, its effect on training, and its cost in bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure

from dtl_core.csn import swish
from dtl_core.memory import MIB, MemoryPlan

from ..lab.plots import PALETTE

MARKS = ("o", "s", "^", "D", "v")
DASHES = ("-", "--", "-.", ":")  # a colour never stands alone
REACH = 0.15  # h runs from -REACH to REACH
# what a step of DTL holds for backward, told apart by the operation that made it
PARTS = {
    "tokens (sums)": ("#999999", "", ("aten.add",)),
    "other tensors": ("#56B4E9", "..", ()),
    "h, or its codes": ("#D55E00", "//", ("aten.mm",)),
    "sigmoid(βh)": ("#F0E442", "xx", ("aten.sigmoid",)),
}


def lambert_w(x: float) -> float:
    """Return the w > 0 with ``w exp(w) = x``, for x > 0, by Newton's method."""
    w = math.log1p(x)  # above the solution, from where Newton's steps fall towards it
    for _ in range(50):
        w -= (w * math.exp(w) - x) / ((1 + w) * math.exp(w))
    return w


W = lambert_w(1 / math.e)  # 0.2785: largest distance of swish from ReLU, times beta
CORNER = 1 + W  # 1.278: where beta |h| has that distance, and where the slope leaves the range from 0 to 1
STEEPEST = 2.399357  # where beta h has the largest slope


def slope(h: torch.Tensor, beta: float) -> torch.Tensor:
    """Return the slope of ``swish``, elementwise: ``s + beta h s (1 - s)`` with ``s = sigmoid(beta h)``."""
    s = torch.sigmoid(beta * h)
    return s + beta * h * s * (1 - s)


def corner_facts(beta: float) -> pd.DataFrame:
    """Return the corner of the gate in numbers: a row per fact, with the h where it holds."""
    at = torch.tensor([-CORNER, 0.0, STEEPEST], dtype=torch.float64) / beta
    low, steep = swish(at[0], beta).item(), slope(at[2], beta).item()
    rows = [
        ("deepest point of the dip", at[0].item(), low),
        ("slope there", at[0].item(), abs(slope(at[0], beta).item())),  # 0, and never -0
        ("slope at 0", 0.0, slope(at[1], beta).item()),
        ("second derivative at 0", 0.0, beta / 2),
        ("largest slope", at[2].item(), steep),
        ("smallest slope", -at[2].item(), 1 - steep),
        ("ReLU − swish, at most", CORNER / beta, W / beta),
    ]
    return pd.DataFrame(rows, columns=["what", "at h", "value"])


def draw_gate(betas: tuple[float, ...] = (10.0, 30.0, 100.0)) -> Figure:
    """Draw the swish gate for up to four beta beside ReLU, and its distance from ReLU."""
    h = torch.linspace(-REACH, REACH, 2001, dtype=torch.float64)
    fig, (above, below) = plt.subplots(2, 1, figsize=(6.4, 6.6))
    above.plot(h, h.relu(), color="#000000", lw=1.4, label="ReLU")
    for beta, color, dash in zip(betas, PALETTE, DASHES, strict=False):
        above.plot(h, swish(h, beta), color=color, ls=dash, label=rf"$\beta$ = {beta:g}")
        below.plot(h, h.relu() - swish(h, beta), color=color, ls=dash)
        top = (h.relu() - swish(h, beta)).max().item()
        below.annotate(f"{top:.4f}", (1.278 / beta, top), xytext=(6, 4), textcoords="offset points", color=color)
    above.set(title="swish(h)")
    above.legend(loc="upper left", handlelength=2.2)
    below.set(xlabel="h", title="ReLU(h) − swish(h)")
    below.set_ylim(top=1.15 * below.get_ylim()[1])
    return fig


def draw_corner(beta: float) -> Figure:
    """Draw the gate and its slope beside ReLU's, over the same h for every beta; the corner is shaded."""
    h = torch.linspace(-REACH, REACH, 3001, dtype=torch.float64)
    fig, (above, below) = plt.subplots(2, 1, figsize=(6.4, 6.6), sharex=True)
    step = torch.where(h > 0, 1.0, 0.0).double()
    for ax, relu, gate in ((above, h.relu(), swish(h, beta)), (below, step, slope(h, beta))):
        ax.axvspan(-CORNER / beta, CORNER / beta, color="#E8E8E8", zorder=0)
        ax.plot(h, relu, color="#000000", lw=1.6, ls="--", label="ReLU")
        ax.plot(h, gate, color=PALETTE[0], label=rf"swish, $\beta$ = {beta:.4g}")
    above.plot([-CORNER / beta], [-W / beta], color=PALETTE[1], marker="v", ls="none", label="the dip")
    below.plot([0], [0.5], color=PALETTE[1], marker="o", ls="none", label="½ at 0")
    above.set(title="the gate", xlim=(-REACH, REACH), ylim=(-0.04, REACH))
    below.set(title="its slope: the share of the gradient that passes", xlabel="h", ylim=(-0.2, 1.2))
    for ax in (above, below):
        ax.legend(loc="upper left", handlelength=2.2)
    return fig


def draw_steps(lines: Mapping[str, Sequence[float]], ylabel: str) -> Figure:
    """Draw one line per label over the steps of a training, from step 0."""
    fig, ax = plt.subplots(figsize=(6.4, 4.0))
    for i, (label, values) in enumerate(lines.items()):
        every = max(1, len(values) // 6)
        style = {"color": PALETTE[i], "marker": MARKS[i], "markevery": (i, every), "clip_on": False}
        ax.plot(range(len(values)), values, label=label, **style)
    top = max(max(values) for values in lines.values())
    ax.set(xlabel="step", ylabel=ylabel, ylim=(-0.04 * top, 1.04 * top))  # a line at 0 is not hidden by the axis
    fig.legend(loc="outside upper center", ncols=3, handlelength=2.2)
    return fig


def held_by_part(plans: Mapping[str, MemoryPlan]) -> pd.DataFrame:
    """Return the bytes that steps of DTL hold for backward: a row per part, a column per plan, and their sum as the last row.

    ``plans`` are label -> a plan of ``dtl`` with ``recompute`` "none" or "side".
    """
    named = {operation for _, _, operations in PARTS.values() for operation in operations}
    columns = {}
    for label, plan in plans.items():
        column = {
            part: sum(plan.by_operation.get(o, 0) for o in operations) for part, (_, _, operations) in PARTS.items()
        }
        column["other tensors"] = sum(n for operation, n in plan.by_operation.items() if operation not in named)
        if column["sigmoid(βh)"]:  # the form of the paper sums h where the side network runs, and keeps it
            h = plan.saved_by_block["side network"] - column["sigmoid(βh)"] - column["h, or its codes"]
            column["h, or its codes"] += h
            column["tokens (sums)"] -= h
        columns[label] = {**column, "all": sum(column.values())}
    return pd.DataFrame(columns).rename_axis("held for backward")


def draw_held(frame: pd.DataFrame) -> Figure:
    """Draw a bar for each column of ``held_by_part``, cut into its parts."""
    fig, ax = plt.subplots(figsize=(6.4, 3.6))
    left = pd.Series(0.0, index=frame.columns)
    for part, (color, hatch, _) in PARTS.items():
        widths = frame.loc[part] / MIB
        ax.barh(
            list(frame.columns), widths, left=left, color=color, hatch=hatch, edgecolor="white", label=part, height=0.6
        )
        left += widths
    for at, total in enumerate(left):
        ax.annotate(f"{total:,.0f}", (total, at), xytext=(5, 0), textcoords="offset points", va="center")
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set(xlabel="held for backward, MiB", ylabel="recompute", xlim=(0, 1.15 * left.max()))
    fig.legend(loc="outside upper center", ncols=2, handlelength=2.0)
    return fig

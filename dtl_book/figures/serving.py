"""Pictures of many tasks on one prefix: rows through each block, and the recorded latency against the number of tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from torch import nn

from dtl_core.blocks import SwinBlocks, blocks_of
from dtl_core.memory import MIB

from ..lab.plots import PALETTE
from ..tables.serving import FULL, KNOWN, LORA, SEPARATE, SERVER, serving_card, serving_note, serving_table

STYLES = {  # label, colour, marker
    SERVER: ("MultiTask", "#0072B2", "o"),
    KNOWN: ("MultiTask, known images", "#009E73", "s"),
    LORA: ("LoRA, switched", "#C77C00", "^"),
    FULL: ("full copies", "#000000", "D"),
}


@torch.no_grad()  # with gradients the last block of a lean DTL is not called as a block
def rows_through_blocks(backbone: nn.Module, work: Callable[[], object]) -> list[int]:
    """Count the rows (images times tasks) that go through each block while ``work`` runs, without gradient."""
    steps = blocks_of(backbone)
    blocks = steps.blocks if isinstance(steps, SwinBlocks) else list(backbone.blocks)
    rows = [0] * len(blocks)

    def note(i: int, tokens) -> None:
        rows[i] += len(tokens)

    handles = [b.register_forward_pre_hook(lambda m, args, i=i: note(i, args[0])) for i, b in enumerate(blocks)]
    try:
        work()
    finally:
        for handle in handles:
            handle.remove()
    return rows


def draw_rows(rows: Mapping[str, Sequence[int]]) -> Figure:
    """Draw bars for each block, a colour and a hatch for each way of answering; see ``rows_through_blocks``."""
    fig, ax = plt.subplots(figsize=(6.4, 4.0))
    width = 0.8 / len(rows)
    for k, (title, counts) in enumerate(rows.items()):
        at = np.arange(len(counts)) + (k - (len(rows) - 1) / 2) * width
        ax.bar(at, counts, width, label=title, color=PALETTE[k], hatch=("", "//", "..")[k % 3], edgecolor="white")
    blocks = max(len(counts) for counts in rows.values())
    ax.set(xlabel="block", ylabel="rows through it", xticks=range(blocks))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(axis="x", visible=False)
    fig.legend(loc="outside upper center", ncols=1)
    return fig


def draw_latency(root: Path | None = None) -> tuple[Figure, str]:
    """Draw the recorded time of many tasks, relative to separate DTL models, against their number. Return its sentence, too.

    Above are the seconds on the wall, below those that the process' threads worked: other programs lengthen only the first.
    """
    try:
        card = serving_card(root)
    except FileNotFoundError:
        fig, ax = plt.subplots(figsize=(6.4, 3.0))
        ax.text(0.5, 0.5, "not run", ha="center", va="center", color="#555555", transform=ax.transAxes)
        return fig, "Nothing is recorded: `python benchmarks/serving.py` makes the card of this picture."
    fig, axes = plt.subplots(2, 1, figsize=(6.4, 7.6), sharex=True)
    table, s = serving_table(card), card["setting"]
    mine = table[table["kind"] == SERVER]
    for ax, prefix, title in zip(axes, ("", "cpu_"), ("time", "CPU time"), strict=True):
        for kind, (label, color, marker) in STYLES.items():
            rows = table[table["kind"] == kind]
            middle, low, high = (rows[f"{prefix}{name}"] for name in ("ratio", "low", "high"))
            style = {"label": label, "color": color, "marker": marker, "capsize": 3, "lw": 1.8}
            ax.errorbar(rows["tasks"], middle, yerr=[middle - low, high - middle], **style)
        ax.plot(mine["tasks"], mine["arithmetic"], color="#555555", ls=":", label="MultiTask, by arithmetic")
        ax.axhline(1, color="#999999", lw=1)
        ax.set_xscale("log", base=2)
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set(xticks=s["tasks"], xticklabels=s["tasks"], ylabel=f"{title}, of separate", ylim=(0, None))
    axes[1].set_xlabel("tasks")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    last = mine.iloc[-1]
    sentence = (
        f"Time (above) and CPU time (below) against the number of tasks, of separate DTL models. With {last['tasks']} tasks MultiTask takes "
        f"{last['ratio']:.2f} of the time and {last['cpu_ratio']:.2f} of the CPU time; {last['arithmetic']:.3f} by arithmetic. Median and quartiles of "
        f"{s['rounds']} rounds; setting: {s['backbone']} at {s['image_size']} px on a CPU."
    )
    return fig, sentence


def latency_note(root: Path | None = None) -> str:
    """Return the setting of the card and where the time goes; or that there is no card."""
    try:
        return serving_note(serving_card(root))
    except FileNotFoundError:
        return "Nothing is recorded."


def latency_table(root: Path | None = None) -> pd.DataFrame:
    """Return the same as numbers, with the bytes: a row for each kind at the largest number of tasks. Empty without a card."""
    columns = ["kind", "time", "quartiles", "CPU time", "MACs (G)", "weights (MiB)", "peak (MiB)"]
    try:
        table = serving_table(serving_card(root))
    except FileNotFoundError:
        return pd.DataFrame(columns=columns)
    table = table[table["tasks"] == table["tasks"].max()].set_index("kind")
    rows = []
    for kind in (SERVER, KNOWN, SEPARATE, LORA, FULL):
        r = table.loc[kind]
        counted = r["multiply_adds"] / 1e9
        rows.append(
            (kind, r["ratio"], f"{r['low']:.2f} to {r['high']:.2f}", r["cpu_ratio"], counted,
             round(r["weight_bytes"] / MIB), round(r["peak_bytes"] / MIB))
        )  # fmt: skip
    return pd.DataFrame(rows, columns=columns)

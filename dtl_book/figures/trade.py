"""Time of a step against its peak memory, as one picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..lab.plots import METHOD_STYLES, use_style, write_png
from ..paths import project_dir

PANELS = {"fp32": "fp32", "bf16": "frozen backbone in bf16"}


def draw_trade(frame: pd.DataFrame) -> Figure:
    """Draw a panel for each precision, a point for each form, an arrow from each form to the next leaner one.

    ``frame`` is that of ``tables.memory_forms.time_against_memory``.
    """
    fig, axes = plt.subplots(1, len(PANELS), figsize=(9.6, 4.8), sharey=True)
    for ax, (precision, title) in zip(axes, PANELS.items(), strict=True):
        for key, rows in frame[frame.precision == precision].groupby("key", sort=False):
            _draw_method(ax, key, rows)
        ax.set(
            title=title,
            xlabel="time of a step (plain DTL in fp32 = 1)",
            yscale="log",
            xlim=(0, 1.4 * frame[frame.precision == precision].time.max()),
        )
        ax.set_ylim(165, 5500)
        ax.set_yticks([250, 500, 1000, 2000, 4000], ["250", "500", "1,000", "2,000", "4,000"])
        ax.minorticks_off()
        ax.grid(True, alpha=0.3)
    axes[0].set_ylabel("planned peak (MiB)")
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=len(labels), columnspacing=1.2, handletextpad=0.3)
    return fig


def _draw_method(ax: Axes, key: str, rows: pd.DataFrame) -> None:
    label, colour, marker = METHOD_STYLES[key]
    ax.scatter(rows.time, rows.MiB, color=colour, marker=marker, s=80, label=label, zorder=3)
    images, cached = rows[~rows.form.str.contains("cached")], rows[rows.form.str.contains("cached")]
    ways = list(zip(images.index, images.index[1:], strict=False))
    ways += [
        (i, j)
        for i, form in images.form.items()
        for j, c in cached.form.items()
        if c == f"{form.split(' (')[0]}, cached prefix"
    ]
    for i, j in ways:
        ax.annotate(
            "", xytext=(rows.time[i], rows.MiB[i]), xy=(rows.time[j], rows.MiB[j]),
            arrowprops=dict(arrowstyle="->", color=colour, lw=1.6, alpha=0.8, shrinkA=5, shrinkB=5,
                            linestyle=":" if "cached" in rows.form[j] else "-"),
        )  # fmt: skip
    words = {"checkpointing": "checkpointing", "plain (the authors')": "plain", "side recomputed (default)": "side",
             "blocks recomputed": "blocks", "blocks recomputed, cached prefix": "blocks, cached",
             "side recomputed, cached prefix": "side, cached"}  # fmt: skip
    for row in rows.itertuples():
        if key == "dtl" or (key in ("lora", "full") and row.form == "checkpointing"):
            place, side = (8, 4), "left"
            if "cached" in row.form:
                place, side = (0, -17), "center"
            elif row.form.startswith("side"):
                place, side = (9, -9), "left"
            ax.annotate(
                words[row.form], (row.time, row.MiB), xytext=place, textcoords="offset points", ha=side,
                fontsize=10.5, color=colour,
            )  # fmt: skip


def save_trade(frame: pd.DataFrame, path: Path | None = None) -> Path:
    """Write the picture for RESULTS.md and the site's first page, see ``draw_trade``."""
    use_style()
    return write_png(draw_trade(frame), path or project_dir() / "notebooks" / "images" / "time-memory.png")

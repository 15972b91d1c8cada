"""The memory axis of Figure 1, read and planned, as one picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from ..lab.plots import use_style, write_png
from ..paths import project_dir
from ..tables.figure1 import figure1_frame

EDGE = {"facecolor": "none", "edgecolor": "#000000", "linewidth": 1.8}
STYLES = {  # column of ``figure1_frame`` -> its markers
    "read (GB)": {"marker": "o", "s": 95, **EDGE, "label": "read off the figure"},
    "planned (GiB)": {
        "marker": "x", "s": 60, "color": "#D55E00", "linewidth": 2.4, "label": "planned, paper's setting", "zorder": 4,
    },
    "planned, today (GiB)": {
        "marker": "s", "s": 45, "color": "#0072B2", "label": "planned, fused attention", "zorder": 3,
    },
}  # fmt: skip


def draw_figure1_memory(card: dict) -> Figure:
    """Draw a row per method, most memory first: what was read, what is planned in the paper's setting, and today."""
    frame = figure1_frame(card).sort_values("read (GB)")
    fig, ax = plt.subplots(figsize=(6.4, 4.8))
    rows = range(len(frame))
    longest = frame[["read (GB)", "planned (GiB)"]].max(axis=1)
    ax.hlines(rows, frame["planned, today (GiB)"], longest, color="#BBBBBB", linewidth=1.5)
    for column, style in STYLES.items():
        ax.scatter(frame[column], rows, **style)
    ax.set(yticks=list(rows), yticklabels=frame.index, xlim=(0, 5.3))
    ax.set_xlabel("memory of a training step (GB read, GiB planned)")
    ax.legend(loc="lower right")
    return fig


def save_picture(card: dict, path: Path | None = None) -> Path:
    """Write the picture for RESULTS.md."""
    use_style()
    path = path or project_dir() / "notebooks" / "images" / "figure1-memory.png"
    return write_png(draw_figure1_memory(card), path)

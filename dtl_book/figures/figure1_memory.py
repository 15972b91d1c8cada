"""The memory axis of Figure 1, read and planned, as one picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from dtl_core.files import written_whole

from ..lab.plots import png_of, use_style
from ..paths import project_dir
from ..tables.figure1 import figure1_frame


def draw_figure1_memory(card: dict) -> Figure:
    """A row per method, most memory first: what was read, what is planned in the paper's setting, and today."""
    frame = figure1_frame(card).sort_values("read (GB)")
    fig, ax = plt.subplots(figsize=(6.4, 4.8))
    rows = range(len(frame))
    ax.hlines(
        rows,
        frame["planned, today (GiB)"],
        frame[["read (GB)", "planned (GiB)"]].max(axis=1),
        color="#BBBBBB",
        linewidth=1.5,
    )
    ax.scatter(
        frame["read (GB)"],
        rows,
        marker="o",
        s=95,
        facecolor="none",
        edgecolor="#000000",
        linewidth=1.8,
        label="read off the figure",
    )
    ax.scatter(
        frame["planned (GiB)"],
        rows,
        marker="x",
        s=60,
        color="#D55E00",
        linewidth=2.4,
        label="planned, paper's setting",
        zorder=4,
    )
    ax.scatter(
        frame["planned, today (GiB)"],
        rows,
        marker="s",
        s=45,
        color="#0072B2",
        label="planned, fused attention",
        zorder=3,
    )
    ax.set(
        yticks=list(rows),
        yticklabels=frame.index,
        xlim=(0, 5.3),
        xlabel="memory of a training step (GB read, GiB planned)",
    )
    ax.legend(loc="lower right")
    return fig


def save_picture(card: dict, path: Path | None = None) -> Path:
    """Writes the picture for RESULTS.md."""
    path = path or project_dir() / "notebooks" / "images" / "figure1-memory.png"
    use_style()
    figure = draw_figure1_memory(card)
    with written_whole(path) as temporary:
        temporary.write_bytes(png_of(figure))
    plt.close(figure)
    return path

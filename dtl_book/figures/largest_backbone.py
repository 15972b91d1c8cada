"""The largest backbone that fits a GPU, by method and form, as one picture."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from dtl_core.files import check_writable, written_whole
from dtl_core.memory.plan import RESERVE_GIB

from ..lab.plots import PALETTE, use_style, write_png
from ..paths import build_dir, shown
from ..tables.memory_backbones import backbones_sentence, backbones_setting, backbones_table, largest_backbones

MARKERS = "os^DvP"  # a shape for each family beside its colour


def draw_largest_backbones(frame: pd.DataFrame) -> Figure:
    """Draw a row for each form and a point for each family: the parameters of the largest backbone that fits.

    ``frame`` is that of ``tables.memory_backbones.largest_backbones``. Where not even the smallest fits there is no point.
    """
    forms, families = (list(dict.fromkeys(frame[name])) for name in ("form", "family"))
    fig, ax = plt.subplots(figsize=(8.6, 1.6 + 0.42 * len(forms)))
    for at, (family, colour, marker) in enumerate(zip(families, PALETTE, MARKERS, strict=False)):
        rows = frame[(frame["family"] == family) & frame["GiB"].notna()]
        heights = [forms.index(form) + 0.24 * (at - (len(families) - 1) / 2) for form in rows["form"]]
        ax.scatter(rows["parameters"] / 1e6, heights, color=colour, marker=marker, s=46, label=family, zorder=3)
        for size, count, height in zip(rows["size"], rows["parameters"], heights, strict=True):
            ax.annotate(
                size, (count / 1e6, height), xytext=(7, -4), textcoords="offset points", fontsize=10, color=colour
            )
    ax.set(xscale="log", xlabel="parameters of the backbone (millions)", ylim=(len(forms) - 0.5, -0.5))
    largest = frame["parameters"].max() / 1e6
    ticks = [n for n in (10, 30, 100, 300, 1000, 3000, 10000) if n < 2.2 * largest]
    ax.set_xticks(ticks, [f"{n:,}" for n in ticks])
    ax.set_xlim(None, 1.6 * largest)  # room for the last name
    ax.minorticks_off()
    ax.set_yticks(range(len(forms)), forms, fontsize=11)
    fig.legend(loc="outside upper center", ncols=len(families))
    return fig


def backbones_text(gpu_gib: float, out: Path | None = None, *, as_json: bool = False, **setting) -> str:
    """Write the picture and its rows, and return what ``dtl memory --largest-backbone`` prints."""
    path = check_writable(out or build_dir() / "largest-backbone.png")
    if path.suffix != ".png":
        raise ValueError(f"--out is {path}: give a file that ends in .png")
    frame, absent = largest_backbones(gpu_gib, **setting)
    use_style()
    write_png(draw_largest_backbones(frame), path)
    with written_whole(path.with_suffix(".csv")) as temporary:
        frame.to_csv(temporary, index=False)
    if as_json:
        return json.dumps({"rows": json.loads(frame.to_json(orient="records")), "absent": absent}, indent=1)
    return "\n".join([
        f"{backbones_setting(gpu_gib, setting)}, with {RESERVE_GIB:g} GiB left for CUDA itself:",
        backbones_table(frame).to_string(), *(f"{name}: left out ({reason.split(':')[0]})" for name, reason in absent.items()),
        f"written: {shown(path)} and {shown(path.with_suffix('.csv'))}", f"The picture in words: {backbones_sentence(frame, gpu_gib, setting)}",
    ])  # fmt: skip

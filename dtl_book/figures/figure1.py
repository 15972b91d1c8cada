"""The paper's Figure 1, drawn again from what was read off its pixels: accuracy against GPU memory."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from ..lab.plots import METHOD_STYLES
from ..paths import RESOURCES

SOURCE = "pixel reading of Figure 1 (ViT-B/16, VTAB-1K, batch 32)"
MEMORY_ERROR = 0.03  # GB, of the reading
ACCURACY_ERROR = 0.06  # points
WIDE_ERRORS = {"BitFit": 0.2, "VPT-Deep": 0.2}  # points: other markers of the figure cover theirs
COLUMNS = {"params_M_read": "parameters (M)", "acc_read": "accuracy (%)", "gpu_GB_read": "memory (GB)"}
AREA_PER_MILLION = 700.0  # square points
LARGEST = 2.5  # millions; a larger marker is drawn at this size, dashed
LABELS = {  # label -> shift in points; markers are close together
    "Full": (0, 25), "BitFit": (12, -4), "VPT-Deep": (16, -4), "LST": (-28, 0), "AdaptFormer": (-9, 27),
    "LoRA": (13, -9), "NOAH": (14, -1), "FacT": (0, 12), "SSF": (-6, 13), "DTL": (12, -6), "DTL+": (12, -5),
}  # fmt: skip


def figure1_table() -> pd.DataFrame:
    """Return the readings (``resources/figure1_readings.csv``), best accuracy first.

    Columns are method, parameters (M), accuracy (%), ± points, memory (GB).
    """
    read = pd.read_csv(RESOURCES / "figure1_readings.csv")
    read["± points"] = [WIDE_ERRORS.get(method, ACCURACY_ERROR) for method in read["method"]]
    frame = read.rename(columns=COLUMNS)[["method", "parameters (M)", "accuracy (%)", "± points", "memory (GB)"]]
    return frame.sort_values("accuracy (%)", ascending=False, ignore_index=True)


def draw_figure1() -> Figure:
    """Draw accuracy against GPU memory; the area of a marker is the number of parameters, DTL and DTL+ are in colour.

    The bars are the uncertainty of the reading, not a spread over runs. Full fine-tuning has 2,000 times DTL's
    parameters: its circle would cover the picture, so it is dashed and smaller than it should be.
    """
    colour = {label: color for label, color, _ in METHOD_STYLES.values()}
    fig, ax = plt.subplots(figsize=(6.4, 4.8))
    for row in figure1_table().itertuples(index=False):
        method, parameters, accuracy, error, memory = row
        ours = method in ("DTL", "DTL+")
        shade = colour[method] if ours else "#4D4D4D"
        style = {"edgecolor": shade, "linewidth": 1.5, "alpha": 1.0 if ours else 0.45, "facecolor": shade}
        if parameters > LARGEST:
            style |= {"facecolor": "none", "linestyle": "--", "alpha": 1.0}
        ax.scatter(memory, accuracy, s=AREA_PER_MILLION * min(parameters, LARGEST), zorder=3, **style)
        ax.errorbar(memory, accuracy, xerr=MEMORY_ERROR, yerr=error, color=shade, elinewidth=1.2, zorder=4)
        side = "right" if LABELS[method][0] < -10 else "left" if LABELS[method][0] > 10 else "center"
        font = {"weight": "bold", "fontsize": 15} if ours else {"fontsize": 12.5}
        place = {"xytext": LABELS[method], "textcoords": "offset points", "ha": side}
        ax.annotate(method, (memory, accuracy), color=shade, **place, **font)
    ax.set(xlabel="GPU memory while training (GB)", ylabel="mean VTAB-1K accuracy (%)")
    ax.set(xlim=(1.2, 5.3), ylim=(64.5, 79.2))
    ax.text(1.3, 69.2, "better:\nfurther up,\nfurther left", color="#555555", fontsize=12.5)
    return fig

"""Common pitfalls as pictures: what JPEG takes from an image, and what each pitfall did to the accuracy."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from ..experiments.grids import PITFALL_METHODS as METHODS
from ..experiments.grids import PITFALL_VARIANTS, pitfall_applies, pitfall_tasks
from ..experiments.pitfalls import ThroughJpeg
from ..experiments.profiles import get_profile
from ..lab.plots import method_style
from ..tables.changed_runs import pitfalls_status, pitfalls_table

SHORT = {
    "half": "normalised\nwith 0.5",
    "jpeg75": "JPEG,\nquality 75",
    "jpeg30": "JPEG,\nquality 30",
    "cls": "class\ntoken",
}


def draw_pitfalls(profile: str = "laptop", root: Path | None = None) -> tuple[Figure, str]:
    """Draw the change of the test accuracy by each pitfall: a panel per task, the spread over the seeds as bars.

    A run that is not there has the words "not run" on its line. Return a sentence with the setting, too.
    """
    rows = pitfalls_table(profile, root).set_index(["task", "method", "pitfall"])
    y = dict(zip(PITFALL_VARIANTS, np.arange(len(PITFALL_VARIANTS))[::-1], strict=True))
    tasks = pitfall_tasks(profile)
    fig, axes = plt.subplots(1, len(tasks), figsize=(6.4, 3.9), sharex=True, sharey=True)
    for ax, task in zip(axes, tasks, strict=True):
        ax.axvline(0, color="#333333", lw=1.4)
        for method, shift in zip(METHODS, np.linspace(0.15, -0.15, len(METHODS)), strict=True):
            names = [pitfall for pitfall in PITFALL_VARIANTS if pitfall_applies(method, pitfall)]
            mine = rows.loc[[(task, method, pitfall) for pitfall in names]]
            style = {"ls": "", "capsize": 4, "ms": 9, **method_style(method)}
            places = [y[name] + shift for name in names]
            ax.errorbar(mine["difference"], places, xerr=mine["spread"].fillna(0), **style)
        for pitfall in PITFALL_VARIANTS:
            there = [
                rows.loc[(task, method, pitfall), "seeds"] for method in METHODS if pitfall_applies(method, pitfall)
            ]
            if not any(there):
                where = dict(ha="right", va="center", color="#555555", transform=ax.get_yaxis_transform())
                ax.text(0.99, y[pitfall], "not run", fontsize=12, **where)
        ax.set(yticks=list(y.values()), yticklabels=[SHORT[p] for p in y], ylim=(-0.5, len(y) - 0.5), title=task)
    if rows["difference"].isna().all():
        axes[0].set_xlim(-5, 5)  # nothing to fit the axis to
    fig.supxlabel("change of the test accuracy (points)", fontsize=13.5)
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=len(METHODS))
    sentence = (
        "Test accuracy with a pitfall less that of the same run without it, paired by seed; bars: standard deviation over "
        f"the seeds. Left of the line the pitfall costs. {pitfalls_status(profile, root)} "
        f"Setting: {get_profile(profile).setting}."
    )
    return fig, sentence


def draw_jpeg(image: Image.Image, qualities: Sequence[int] = (75, 30)) -> tuple[Figure, pd.DataFrame]:
    """Draw an image, what is left of it after JPEG, and what was lost, 8 times as strong. Return a table, too."""
    stored = [ThroughJpeg(lambda opened: opened, quality)(image) for quality in qualities]
    fig, axes = plt.subplots(1, 1 + 2 * len(stored), figsize=(4.8, 1.4))
    original, rows = np.asarray(image, float), []
    axes[0].imshow(image)
    axes[0].set_title("as it is", fontsize=9)
    for i, (quality, picture) in enumerate(zip(qualities, stored, strict=True)):
        error = np.abs(np.asarray(picture, float) - original)
        axes[1 + 2 * i].imshow(picture)
        axes[1 + 2 * i].set_title(f"JPEG {quality}", fontsize=9)
        axes[2 + 2 * i].imshow(np.clip(8 * error, 0, 255).astype(np.uint8))
        axes[2 + 2 * i].set_title("lost, 8 x", fontsize=9)
        size = io.BytesIO()
        image.save(size, "JPEG", quality=quality)
        rows.append((quality, size.tell(), error.mean()))
    for ax in axes:
        ax.axis("off")
    return fig, pd.DataFrame(rows, columns=["quality", "bytes", "mean error (of 255)"])

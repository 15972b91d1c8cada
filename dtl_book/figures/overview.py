"""Pictures and tables of notebook 00: the installed packages, the map of the claims, images of every task."""

from __future__ import annotations

import platform
import sys
import textwrap
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from packaging.requirements import Requirement

from dtl_core.data import VTAB1k

from ..claims import load_claims
from ..standins import TASKS


def installation() -> pd.DataFrame:
    """Return each package that the workbook needs: columns package, wanted, here, fits (bool). The first row is Python.

    The extras for tests are left out, and whatever is missing or older of the extra ``workbook``: it makes pages and opens
    JupyterLab, and a notebook runs without it (on Colab, with the widgets that are there).
    """
    rows = [("python", ">=3.11", platform.python_version(), sys.version_info >= (3, 11))]
    for line in requires("dtl-workbook") or []:
        need = Requirement(line)
        if need.marker and not any(need.marker.evaluate({"extra": extra}) for extra in ("", "workbook")):
            continue
        try:
            here = version(need.name)
        except PackageNotFoundError:
            here = "missing"
        fits = here != "missing" and need.specifier.contains(here, prereleases=True)
        if need.marker and not fits:
            continue
        rows.append((need.name, str(need.specifier), here, fits))
    return pd.DataFrame(rows, columns=["package", "wanted", "here", "fits"])


def claims_table() -> pd.DataFrame:
    """Return the claims of the paper and where the workbook discusses them: columns id, claim, source, taken up in."""
    rows = [(c.id, c.text, c.source, ", ".join((*c.notebooks, "14"))) for c in load_claims()]
    return pd.DataFrame(rows, columns=["id", "claim", "source", "taken up in"])


def tasks_in(root: Path, most: int = 6) -> list[str]:
    """Return the tasks of the laptop suite that are in a VTAB-1K folder; where there are none, its first folders."""
    there = sorted(path.parent.name for path in root.glob("*/train800.txt"))
    return [task for task in TASKS if task in there] or there[:most]


def contact_sheet(root: Path, each: int = 4) -> Figure:
    """Draw a row of labelled images for every task of ``tasks_in``, of different classes where there are enough."""
    tasks = [VTAB1k(root, task, "train800") for task in tasks_in(root)]
    fig, axes = plt.subplots(len(tasks), each, figsize=(6.4, 2.1 * len(tasks)), squeeze=False)
    for row, data in zip(axes, tasks, strict=True):
        step = max(1, data.classes // each)
        wanted = [label * step for label in range(min(each, data.classes))]
        shown = [data.targets.index(label) for label in wanted if label in data.targets]
        for ax in row:
            ax.axis("off")
        for ax, index in zip(row, shown, strict=False):
            image, label = data[index]
            ax.imshow(image)
            ax.set_title("\n".join(textwrap.wrap(data.class_names[label], 15)), fontsize=12)
        style = {"rotation": 90, "ha": "right", "va": "center", "fontsize": 13, "weight": "bold"}
        row[0].text(-0.12, 0.5, data.task.replace("_", "\n"), transform=row[0].transAxes, **style)
    return fig

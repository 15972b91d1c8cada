"""Pictures and tables of notebook 12: the domains, and what was recorded on them. What is missing or not run is named."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from filelock import FileLock
from matplotlib.figure import Figure
from torch.utils.data import Dataset
from torchvision.transforms import v2

from dtl_core.backbones import BackboneInfo
from dtl_core.data import DomainShift, eval_transform
from dtl_core.data.augment import CropTransform
from dtl_core.data.domain import official_domain
from dtl_core.training import authors_table

from .. import paths
from ..experiments import COMPARED
from ..experiments.cards import load_cards
from ..experiments.profiles import Profile
from ..lab.plots import METHOD_STYLES
from ..tables.benchmarks import domain_cells, domain_table, domains_of
from ..tables.cells import NOT_RUN
from .vtab_plots import draw_scores


def open_domains(profile: Profile) -> dict[str, DomainShift]:
    """Return the domains on the disk, the source first: domain -> test images without a transform. Name those that are missing.

    Without the source nothing can be trained, so the result is empty then. The tiny domains of ``smoke`` are built here
    when they are missing.
    """
    from ..standins.suites import build_suite  # not at the top: reading notebooks needs no data code

    root, names = paths.domain_dir(profile.name), domains_of(profile.name)
    if profile.name == "smoke" and not all((root / name / "built.json").is_file() for name in names):
        root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(root.parent / ".build.lock"), redirect_stdout(io.StringIO()):
            build_suite("smoke", tasks=("digits",))
    found = {}
    for name in names:
        try:
            found[name] = DomainShift(root, name, "test")
        except FileNotFoundError:  # its message names a folder of this machine
            continue
    missing = [name for name in names if name not in found]
    if missing:
        build = "run `!dtl data fetch && dtl data build` in a cell"
        what = "see data/README.md for the official archive" if profile.name == "paper" else build
        print(f"Not on the disk: {', '.join(missing)} ({what}). What needs them is not run.")
    return found if names[0] in found else {}


class Sample(Dataset):
    """Every k-th image of a data set, about ``most`` in all, so that a live run takes seconds. Can be stored by ``PrefixCache``.

    The images are in the order of their classes. ``transform`` replaces the data set's own.
    """

    def __init__(self, data: DomainShift, most: int, transform=None):
        self.data, self.transform, self.step = data, transform, max(1, len(data) // most)
        self.indices = range(0, len(data), self.step)
        self.digest, self.task, self.classes = f"{data.digest} every {self.step}", data.task, data.classes

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int):
        image, label = self.data[self.indices[index]]
        return (image if self.transform is None else self.transform(image)), label


def sample_domains(domains: dict[str, DomainShift], info: BackboneInfo, invert: bool = False) -> dict[str, Sample]:
    """Return about 100 images of every domain, with the transform of the benchmark's tests.

    With ``invert`` dark becomes light and light becomes dark first.
    """
    samples = {}
    for name, data in domains.items():
        kind = CropTransform if official_domain(name) else eval_transform
        look = kind(info.image_size, info.mean, info.std)
        samples[name] = Sample(data, 100, v2.Compose([v2.functional.invert, look]) if invert else look)
    return samples


def domain_sheet(domains: dict[str, DomainShift]) -> Figure:
    """Draw a row of images for each domain, with the same class in each column."""
    classes = sorted(set.intersection(*(set(d.targets) for d in domains.values())))
    chosen = [classes[i] for i in np.unique(np.linspace(0, len(classes) - 1, 8).round().astype(int))]
    shape = (len(domains), len(chosen))
    fig, axes = plt.subplots(*shape, figsize=(6.4, 0.95 * len(domains)), squeeze=False)
    for row, (name, data) in zip(axes, domains.items(), strict=True):
        for ax, label in zip(row, chosen, strict=True):
            ax.imshow(data[data.targets.index(label)][0])
            ax.axis("off")
        row[0].set_title(name, loc="left", fontsize=13, weight="bold")
    return fig


def draw_domains(profile: str = "laptop", root: Path | None = None) -> Figure:
    """Draw the accuracy of every method on the source and on the targets: mean, and spread over the seeds as bars."""
    names = domains_of(profile)
    fig, ax = plt.subplots(figsize=(6.4, 1.7 + 1.1 * len(names)))
    shifts = dict(zip(COMPARED, np.linspace(0.35, -0.35, len(COMPARED)), strict=True))
    draw_scores(ax, domain_table(profile, root), "domain", names, shifts, x=0.99, ha="right", fontsize=11)
    ax.set_yticklabels([f"{names[0]}\n(source)", *(n.replace("-", "-\n") for n in names[1:])])
    ax.set_xlabel(f"test accuracy (%), {profile} profile")
    fig.legend(loc="outside upper center", ncols=3)
    return fig


def recorded_domains(profile: str = "laptop", root: Path | None = None, column: str = "mean") -> pd.DataFrame:
    """Return ``domain_cells`` with the methods' labels as first column."""
    cells = domain_cells(profile, root, column)
    return cells.rename(index=lambda m: METHOD_STYLES[m][0]).reset_index()


def source_rates(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Return the accuracy (percent) on the source's validation images: a row per method, a column per learning rate.

    What was not run says "not run"; where nothing was, there is one column of that.
    """
    cards = load_cards(profile, "domain", purpose="select", root=root)
    rates = sorted(set(cards["lr"]))
    rows = []
    for method in COMPARED:
        row = {"method": METHOD_STYLES[method][0]} | ({} if rates else {"accuracy": NOT_RUN})
        for lr in rates:
            mine = cards[(cards["method"] == method) & (cards["lr"] == lr) & (cards["task"] == domains_of(profile)[0])]
            row[f"lr {lr:g}"] = f"{100 * mine['accuracy'].iloc[0]:.1f}" if len(mine) else NOT_RUN
        rows.append(row)
    return pd.DataFrame(rows)


def authors_rates() -> pd.DataFrame:
    """Return the learning rate of the authors' scripts (``recipes.csv``) for each domain: columns domain, DTL, DTL+."""
    rows = authors_table()
    rows = rows[rows["benchmark"] == "domain_generalization"]
    grid = rows.pivot(index="dataset", columns="method", values="lr")
    grid = grid.reindex(domains_of("paper")).map("{:g}".format)
    return grid.rename_axis("domain").rename_axis(columns=None).reset_index()

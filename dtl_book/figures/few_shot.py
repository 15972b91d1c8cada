"""Pictures and tables of notebook 11: a few-shot set, augmented views, and the recorded curves. Any subset of cards will do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from PIL import Image

from dtl_core.data import FewShot
from dtl_core.data.augment import TrainTransform
from dtl_core.data.fewshot import SEEDS, SHOTS, official_set

from ..experiments import COMPARED, load_cards
from ..experiments.profiles import Profile, get_profile
from ..lab.plots import method_style
from ..lab.setup import DataMissing, how_to_get_data, require_data
from ..paths import few_shot_dir
from ..tables.benchmarks import few_shot_table
from ..tables.cells import NAMES, paired, percent

SPLIT_TITLES = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Source:
    """A few-shot set on this disk: whose profile's, the folder of the sets, and its name."""

    profile: str
    root: Path
    task: str

    @property
    def official(self) -> bool:
        """Whether it is one of the five photographic sets."""
        return official_set(self.task) is not None

    def open(self, split: str, shots: int = 16, seed: int = 0, transform: object = None) -> FewShot:
        """Open a split of the set, see ``FewShot``."""
        return FewShot(self.root, self.task, split, transform, shots=shots, seed=seed)


def find_set(profile: Profile) -> Source:
    """Return the first few-shot set of a profile. Where the official ones are absent, say so and return the laptop's."""
    if profile.name != "paper":
        require_data(profile)
    for name in dict.fromkeys((profile.name, "laptop")):
        root = few_shot_dir(name)
        found = sorted(
            {p.parent.name for p in (*root.glob("*/annotations"), *root.glob("few-shot_split/*/annotations"))}
        )
        if found:
            if name != profile.name:
                print(f"No few-shot set of the profile {profile.name} is here: these cells read {found[0]} ({name}).")
            return Source(name, root, found[0])
    raise DataMissing(f"no few-shot set is here: {how_to_get_data()}")


def lists_table(source: Source) -> pd.DataFrame:
    """Return a row per number of shots: shots, classes, lines, different images, and images that every split seed drew."""
    rows = []
    for shots in SHOTS:
        drawn = [source.open("train", shots, seed) for seed in SEEDS]
        names = [{path for path, _ in data.samples} for data in drawn]
        rows.append((shots, drawn[0].classes, len(drawn[0]), len(names[0]), len(set.intersection(*names))))
    return pd.DataFrame(rows, columns=["shots", "classes", "lines", "different images", "in all three drawings"])


def contact_sheet(source: Source, classes: int = 4, each: int = 2) -> tuple[Figure, str]:
    """Draw images of a few classes: a row per class; left training, in the middle validation, right test. Return its sentence, too.

    ``classes`` are spread over all; ``each`` is the number of images from each split.
    """
    splits = {split: source.open(split) for split in SPLIT_TITLES}
    names = splits["train"].class_names
    labels = np.unique(np.linspace(0, len(names) - 1, classes).round().astype(int))
    fig = plt.figure(figsize=(6.4, 1.45 * len(labels)))
    for part, label in zip(fig.subfigures(len(labels), 1, squeeze=False)[:, 0], labels, strict=True):
        part.suptitle(names[label], fontsize=13)
        axes = iter(part.subplots(1, each * len(splits)))
        for split, data in splits.items():
            mine = [i for i, target in enumerate(data.targets) if target == label]
            for i in np.linspace(0, len(mine) - 1, each).round().astype(int) if mine else ():
                ax = next(axes)
                ax.imshow(data[mine[i]][0], cmap="gray")
                ax.set_title(SPLIT_TITLES[split], fontsize=10, pad=2)
        for ax in part.axes:
            ax.axis("off")
    sentence = (
        f"{len(labels)} of the {len(names)} classes of {source.task}, a row each: {each} training images (left), "
        f"{each} validation images (middle) and {each} test images (right)."
    )
    return fig, sentence


def draw_views(image: Image.Image, views: Mapping[str, TrainTransform], each: int = 5) -> Figure:
    """Draw an image, and below it ``each`` random views in a row for each transform.

    ``views`` are title -> a transform that gives normalised tensors.
    """
    fig = plt.figure(figsize=(6.4, 1.75 * (1 + len(views))))
    top, *parts = fig.subfigures(1 + len(views), 1)
    top.suptitle("the image", fontsize=13)
    for ax, picture in zip(top.subplots(1, each), [None] * (each // 2) + [image] + [None] * each, strict=False):
        ax.axis("off")
        if picture is not None:
            ax.imshow(picture)
    for part, (title, view) in zip(parts, views.items(), strict=True):
        part.suptitle(title, fontsize=13)
        mean, std = (torch.tensor(values)[:, None, None] for values in (view.mean, view.std))
        for ax in part.subplots(1, each):
            ax.axis("off")
            ax.imshow((view(image) * std + mean).clamp(0, 1).permute(1, 2, 0).numpy())
    return fig


def draw_curves(name: str = "typefaces", profile: str = "laptop", root: Path | None = None) -> tuple[Figure, str]:
    """Draw accuracy against shots for each method: the mean over the split seeds, the spread as a bar. Return its sentence, too.

    A hollow marker has fewer than three seeds and no bar. The sentence has the setting and names what is missing.
    """
    table, cards = few_shot_table(profile, root), load_cards(profile, "few-shot", root=root)
    table = table[table["set"] == name]
    fig, ax = plt.subplots(figsize=(6.4, 5.0))
    for method, shift in zip(COMPARED, np.linspace(-0.075, 0.075, len(COMPARED)), strict=True):
        mine = table[table["method"] == method].set_index("shots").reindex(SHOTS)
        if mine["mean"].isna().all():
            continue
        # side by side on the logarithmic axis, or the bars would hide each other
        x, y = np.array(SHOTS) * 2.0**shift, mine["mean"].to_numpy(float)
        whole = (mine["seeds"] == len(SEEDS)).to_numpy()
        style = method_style(method, 8)
        ax.errorbar(x, y, yerr=np.where(whole, mine["spread"].astype(float), np.nan), capsize=3, lw=1.8, **style)
        hollow = {k: style[k] for k in ("color", "marker", "ms")}
        ax.plot(x[~whole], y[~whole], ls="", mfc="white", zorder=5, **hollow)
    highest = 100.0
    if len(table):  # in whole tens: low curves would merge into one band
        highest = min(100, 10 * np.ceil(((table["mean"] + table["spread"].fillna(0)).max() + 1) / 10))
        ax.axhline(100 / cards.loc[cards["task"] == name, "classes"].iloc[0], color="#555555", ls=":", label="guessing")
        fig.legend(loc="outside upper center", ncols=3)
    else:
        ax.text(0.5, 0.5, "not run", ha="center", va="center", color="#555555", transform=ax.transAxes)
    ax.set_xscale("log", base=2)
    ax.set(xticks=SHOTS, xticklabels=SHOTS, xlim=(0.85, 19), ylim=(0, highest))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set(xlabel="training images a class (shots)", ylabel=f"test accuracy (%), {name}")
    sentence = (
        f"Accuracy on {name} against the number of shots: mean over {len(SEEDS)} split seeds, bars one standard deviation; "
        f"hollow: fewer seeds. {recorded_status(name, profile, root)} Setting: {get_profile(profile).network}."
    )
    return fig, sentence


def recorded_status(name: str = "typefaces", profile: str = "laptop", root: Path | None = None) -> str:
    """Return one sentence: how many final runs of a set are recorded, and which methods lack some."""
    table = few_shot_table(profile, root)
    seeds = table[table["set"] == name].groupby("method")["seeds"].sum()
    each = len(SHOTS) * len(SEEDS)
    counts = {NAMES[m]: int(seeds.get(m, 0)) for m in COMPARED}
    whole = each * len(counts)
    if sum(counts.values()) == whole:
        return f"All {whole} final runs are recorded."
    absent = [m for m, n in counts.items() if n == 0]
    partly = [f"{m} ({n} of {each} runs)" for m, n in counts.items() if 0 < n < each]
    text = f"{sum(counts.values())} of {whole} final runs are recorded."
    text += f" Recorded in part: {', '.join(partly)}." if partly else ""
    return text + (f" Not run: {', '.join(absent)}." if absent else "")


def paired_table(
    other: str, method: str = "dtl", name: str = "typefaces", profile: str = "laptop", root: Path | None = None
) -> pd.DataFrame:
    """Return a method less another, paired by split seed, for every number of shots, in points of test accuracy.

    Columns are shots, seeds (that both have), difference (mean), difference ± (standard deviation).
    """
    cards, rows = percent(load_cards(profile, "few-shot", root=root)), []
    for shots in SHOTS:
        pairs = paired(cards[(cards["task"] == name) & (cards["shots"] == shots)], other, method)
        ahead = pairs[method] - pairs[other]
        rows.append((shots, len(ahead), ahead.mean(), ahead.std()))
    return pd.DataFrame(rows, columns=["shots", "seeds", "difference", "difference ±"])

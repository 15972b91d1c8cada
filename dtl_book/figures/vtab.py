"""Pictures and tables of notebook 10 on the benchmark itself: its tasks, its folders, and the rows of the literature."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dtl_core.data import VTAB1k
from dtl_core.data.lists import read_list
from dtl_core.data.vtab import SPLITS
from dtl_core.data.vtab import TASKS_FILE as VTAB_TASKS
from dtl_core.training import authors_table

from ..experiments.profiles import Profile, get_profile
from ..lab.plots import method_style
from ..lab.setup import require_data
from ..paths import RESOURCES, vtab_dir
from ..tables.benchmarks import GROUPS, both_means
from .overview import tasks_in

PAPER_SETTING = "paper: ViT-B/16, the official 19 tasks of VTAB-1K"
GROUP_NAMES = ("natural", "specialized", "structured")
MODELS = {  # the official task that each task of the laptop suite was made after
    "mnist": "svhn (digits)",
    "elpv": "–",
    "shape_location": "dsprites_loc",
    "shape_orientation": "dsprites_ori",
    "object_count": "clevr_count",
    "object_distance": "clevr_dist",
}


@dataclass(frozen=True)
class Suite:
    """A VTAB-1K folder on this disk: whose profile's, and its path."""

    profile: Profile
    root: Path


def find_suite(profile: Profile) -> Suite:
    """Return the VTAB-1K folder of a profile. Where the official one is absent, say so and return the laptop's."""
    if profile.name == "paper" and not any(vtab_dir(profile.name).glob("*/train800.txt")):
        profile = get_profile("laptop")
        print("The official VTAB-1K is not here (data/README.md says where it comes from): what needs it is not run.")
        print(f"In its place, under its own setting: {profile.setting}.")
    return Suite(profile, require_data(profile))


TEST_SIZE_SOURCES = {  # sources of a test size, for readers who do not know the abbreviations of the file
    "FGFS list has same 3669": "few-shot list: the same",
    "RepAdapter#15 + vtab1k-pytorch#2": "two public threads",
}


def benchmark_table() -> pd.DataFrame:
    """Return the 19 official tasks (``resources/vtab_tasks.csv``).

    A test size from "recall" was remembered from a catalogue and not counted, so it has to be checked against the data.
    """
    tasks = pd.read_csv(VTAB_TASKS)
    recalled = tasks["test_n_source"].str.contains("recall")
    sources = tasks["test_n_source"].where(~recalled, "recall").str.partition(" (")[0].replace(TEST_SIZE_SOURCES)
    frame = tasks[["group", "script_name", "folder", "classes", "test_n"]].assign(source=sources)
    return frame.set_axis(["group", "task", "folder", "classes", "test images", "test size from"], axis=1)


def authors_settings() -> pd.DataFrame:
    """Return what the authors' scripts (``resources/recipes.csv``) set for each of the 19 tasks on ViT-B/16.

    Columns are task, "DTL: lr, drop path" and "DTL+: lr, drop path" (texts), kernel (of DTL+).
    """
    rows, tasks = authors_table(), pd.read_csv(VTAB_TASKS)
    rows = rows[(rows["benchmark"] == "vtab-1k") & rows["backbone"].str.startswith("vit")]
    frame = tasks[["script_name"]].rename(columns={"script_name": "task"})
    for method in ("DTL", "DTL+"):
        mine = rows[rows["method"] == method].set_index("dataset").loc[frame["task"]]
        pairs = zip(mine["lr"], mine["drop_path"], strict=True)
        frame[f"{method}: lr, drop path"] = [f"{lr:g}, {drop:g}" for lr, drop in pairs]
    return frame.assign(kernel=mine["fusion_size"].to_numpy())


def folder_table(root: Path, task: str) -> pd.DataFrame:
    """Return the list files of a task's folder, and the first line of each."""
    rows = []
    for name in SPLITS.values():
        text, entries = read_list(root / task / name)
        labels = {label for _, _, label in entries}
        rows.append((name, len(entries), len(labels), text.splitlines()[0]))
    return pd.DataFrame(rows, columns=["list", "lines", "different labels", "first line"])


def suite_table(root: Path) -> pd.DataFrame:
    """Return the tasks of a built suite, with two baselines in percent of the test images.

    "guess" is one over the classes, "one class" always the most frequent one of the training list.
    """
    official = pd.read_csv(VTAB_TASKS).set_index("folder")["group"]
    groups = {task: group for group, tasks in GROUPS.items() for task in tasks}
    rows = []
    for task in tasks_in(root, most=19):
        train, test = (VTAB1k(root, task, split) for split in ("train800val200", "test"))
        most = np.bincount(train.targets).argmax()
        always = 100 * np.mean(np.array(test.targets) == most)
        names = (groups.get(task) or official.get(task, "–"), task, MODELS.get(task, task))
        rows.append((*names, train.classes, len(test), 100 / train.classes, always))
    columns = ["group", "task", "in the manner of", "classes", "test", "guess (%)", "one class (%)"]
    return pd.DataFrame(rows, columns=columns)


def contact_sheet(root: Path, each: int = 2) -> Figure:
    """Draw ``each`` images of every task, from its first class (left) to its last (right)."""
    tasks = [VTAB1k(root, task, "test") for task in tasks_in(root)]
    rows = -(-len(tasks) // 3)
    fig = plt.figure(figsize=(4.1, 1.3 * rows))
    for part, data in zip(fig.subfigures(rows, 3, squeeze=False).flat, tasks, strict=False):
        title = data.task.replace("_", "\n")
        part.suptitle(title if "\n" in title else f"\n{title}", fontsize=10, weight="bold")  # images on one line
        axes = part.subplots(1, each, squeeze=False)[0]
        for ax, label in zip(axes, np.linspace(0, data.classes - 1, each).round().astype(int), strict=True):
            ax.axis("off")
            if label in data.targets:  # a split may lack a class
                ax.imshow(data[data.targets.index(label)][0])
    return fig


def literature_rows() -> pd.DataFrame:
    """Return the per-task accuracy (%) of 13 methods on the official VTAB-1K, with the source of each row (``vtab_vit_rows.csv``)."""
    return pd.read_csv(RESOURCES / "vtab_vit_rows.csv")


def literature_means() -> pd.DataFrame:
    """Return two averages of each row of ``literature_rows`` over the 19 accuracies; best mean of groups first.

    Columns are method, natural, specialized, structured, mean of groups, its rank, mean of 19, its rank, source.
    """
    rows, tasks = literature_rows(), pd.read_csv(VTAB_TASKS)
    groups = {group: tuple(tasks.loc[tasks["group"] == group, "script_name"]) for group in GROUP_NAMES}
    means = both_means(rows, groups).rename(columns={"mean of 19 tasks": "mean of 19"})
    frame = rows[["method"]].join(means[list(GROUP_NAMES)])
    for name in ("mean of groups", "mean of 19"):
        frame[name] = means[name]
        frame[f"rank by {name.split()[-1]}"] = frame[name].rank(ascending=False).astype(int)
    frame["source"] = rows["source"]
    return frame.sort_values("mean of groups", ascending=False, ignore_index=True)


def draw_literature() -> Figure:
    """Draw the accuracy of three methods of ``literature_rows`` on each of the 19 tasks, in three groups."""
    rows, tasks = literature_rows().set_index("method"), pd.read_csv(VTAB_TASKS)
    methods = {"Linear": "linear", "LoRA": "lora", "DTL": "dtl"}  # in the file -> key of the style
    sizes = [(tasks["group"] == group).sum() for group in GROUP_NAMES]
    fig, axes = plt.subplots(3, 1, figsize=(6.4, 7.2), sharex=True, height_ratios=sizes)
    for ax, group in zip(axes, GROUP_NAMES, strict=True):
        names = tasks.loc[tasks["group"] == group, "script_name"].tolist()[::-1]
        for (method, key), shift in zip(methods.items(), np.linspace(0.2, -0.2, len(methods)), strict=True):
            style = {"ls": "", "ms": 9, **method_style(key), "label": method}
            ax.plot(rows.loc[method, names].astype(float), np.arange(len(names)) + shift, **style)
        ax.grid(axis="y", visible=False)
        ax.hlines(np.arange(len(names) - 1) + 0.5, 0, 102, color="#E3E3E3", lw=0.8)
        ax.set(yticks=range(len(names)), yticklabels=names, ylim=(-0.6, len(names) - 0.4), title=group, xlim=(0, 102))
    axes[-1].set_xlabel("test accuracy (%), official tasks, ViT-B/16")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=len(methods))
    return fig

"""A reader for VTAB-1K folders: the official archive, the suites built here, and other tasks in that layout."""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..paths import RESOURCES
from .lists import UNPACK, ImageList, class_names, read_list

TASKS_FILE = RESOURCES / "vtab_tasks.csv"  # the 19 tasks: names, group, classes
SPLITS = {
    "train800": "train800.txt",
    "val200": "val200.txt",
    "train800val200": "train800val200.txt",
    "test": "test.txt",
}


@lru_cache(maxsize=1)
def official_tasks() -> dict[str, dict[str, str]]:
    """Return the rows of ``vtab_tasks.csv`` for the 19 tasks of VTAB-1K, by folder name and by script name."""
    with open(TASKS_FILE, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {row["script_name"]: row for row in rows} | {row["folder"]: row for row in rows}


class VTAB1k(ImageList):
    """One split of one task in torchvision style: ``dataset[i]`` is (image, label).

    Args:
        root: the ``vtab-1k`` folder, which holds a folder for each task.
        task: name of a task's folder, or an official task's other name (``cifar_100`` for ``cifar``).
        split: ``train800``, ``val200``, ``train800val200`` or ``test``.
        transform: function applied to each RGB image. None returns the image unchanged.

    Attributes:
        task: name of the folder.
        split: the argument.
        samples: list of (path, label).
        targets: list of labels.
        classes: number of classes.
        class_names: name of each class, or its number if the dataset has no names.
        digest: SHA-256 (hexadecimal) of task, split and text of the list.

    Raises:
        FileNotFoundError: the root, the task's folder, the list or an image is missing.
        BadDataset: a line of the list is malformed, or a label is out of range.
        ValueError: the split is unknown.
    """

    def __init__(self, root: str | Path, task: str, split: str, transform: Callable[[Any], Any] | None = None):
        if split not in SPLITS:
            raise ValueError(f"no split is called {split!r}: choose one of {', '.join(SPLITS)}")
        self.root, self.split = Path(root), split
        official = official_tasks().get(task)
        folder = self._folder(task, official)
        path = folder / SPLITS[split]
        text, entries = read_list(path, f"The VTAB-1K layout wants {', '.join(SPLITS.values())}. {UNPACK}")
        others = [folder / name for name in SPLITS.values() if name != path.name and (folder / name).is_file()]
        names = class_names(folder, int(official["classes"]) if official else None, entries, others)
        super().__init__(folder.name, path, text, entries, names, [folder], transform, split)

    def _folder(self, task: str, official: dict[str, str] | None) -> Path:
        """Return the task's folder, under any of its names.

        Raises:
            FileNotFoundError: the root or the task's folder is missing.
        """
        hint = "run `dtl data build` for a built suite, or unpack the VTAB-1K archive there"
        if not self.root.is_dir():
            raise FileNotFoundError(f"{self.root} is no folder: {hint}")
        names = [task] + ([official["folder"], official["script_name"]] if official else [])
        for name in names:
            if name and (self.root / name).is_dir():
                return self.root / name
        there = sorted(p.name for p in self.root.iterdir() if p.is_dir() and not p.name.startswith("."))
        raise FileNotFoundError(
            f"{self.root} has no folder for the task {task!r}; it has {', '.join(there) or 'none at all'}: {hint}"
        )

    def __repr__(self) -> str:
        return f"VTAB1k({self.task}, {self.split}: {len(self)} images, {self.classes} classes, {self.root})"

"""A reader for VTAB-1K folders: the official archive, the suites built here, and other tasks in that layout."""

import csv
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..paths import RESOURCES
from .lists import UNPACK, ImageList, check_split, find_folder

TASKS_FILE = RESOURCES / "vtab_tasks.csv"  # the 19 tasks: names, group, classes
SPLITS = {split: f"{split}.txt" for split in ("train800", "val200", "train800val200", "test")}


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
        samples, targets: lists of (path, label) and of labels.
        classes, class_names: number of classes; name of each, or its number if the dataset has no names.
        digest: SHA-256 (hexadecimal) of task, split and text of the list.

    Raises:
        FileNotFoundError: the root, the task's folder, the list or an image is missing.
        BadDataset: a line of the list is malformed, or a label is out of range.
    """

    def __init__(self, root: str | Path, task: str, split: str, transform: Callable[[Any], Any] | None = None):
        check_split(split, SPLITS)
        root, official = Path(root), official_tasks().get(task)
        names = [task, *((official["folder"], official["script_name"]) if official else ())]
        folder = find_folder(root, f"task {task!r}", names, "VTAB-1K archive")
        lists = {name: folder / file for name, file in SPLITS.items()}
        super().__init__(
            folder.name, root, folder, lists[split], lists.values(), [folder], transform, split=split, key=split,
            known=int(official["classes"]) if official else None,
            hint=f"The VTAB-1K layout wants {', '.join(SPLITS.values())}. {UNPACK}",
        )  # fmt: skip

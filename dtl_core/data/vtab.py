"""Reads VTAB-1K folders: the official archive, the suites built here, and any other task folder of that layout."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from .. import paths
from .transforms import UnreadableImage, open_rgb

SPLITS = {
    "train800": "train800.txt",
    "val200": "val200.txt",
    "train800val200": "train800val200.txt",
    "test": "test.txt",
}


class BadDataset(ValueError):
    """A dataset folder that does not hold what it should. The message names the file and line, and what to do."""


@lru_cache(maxsize=1)
def official_tasks() -> dict[str, dict[str, str]]:
    """The 19 tasks of VTAB-1K by name; folder names and script names both lead to a row of ``vtab_tasks.csv``."""
    with open(paths.RESOURCES / "vtab_tasks.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {row["script_name"]: row for row in rows} | {row["folder"]: row for row in rows}


class VTAB1k:
    """One split of one task, torchvision-style: ``dataset[i]`` is (image, label).

    Args:
        root: the ``vtab-1k`` folder, which holds a folder for each task.
        task: a task's folder, or an official task's other name (``cifar_100`` for ``cifar``).
        split: ``train800``, ``val200``, ``train800val200`` or ``test``.
        transform: from an RGB image to what ``dataset[i]`` gives; None gives the image itself.

    Attributes:
        task: name of the folder.
        split: as given.
        samples: list of (path, label).
        targets: list of labels.
        classes: number of classes.
        class_names: one name for each class; its number where the data set names none.
        digest: hex sha256 over task, split and the text of the list.

    Raises:
        FileNotFoundError: the root, the task's folder, the list or an image is missing.
        BadDataset: a line of the list is malformed, or a label out of range.
        ValueError: an unknown split.
    """

    def __init__(self, root: str | Path, task: str, split: str, transform: Callable[[Any], Any] | None = None):
        if split not in SPLITS:
            raise ValueError(f"no split is called {split!r}: choose one of {', '.join(SPLITS)}")
        self.root, self.split, self.transform = Path(root), split, transform
        official = official_tasks().get(task)
        folder = self._folder(task, official)
        self.task = folder.name
        text, entries = read_list(folder / SPLITS[split])
        names = self._class_names(folder, official, entries)
        self.class_names, self.classes = names, len(names)
        for number, _, label in entries:
            if not 0 <= label < self.classes:
                raise BadDataset(
                    f"{folder / SPLITS[split]}, line {number}: label {label} is out of range, {self.task} has "
                    f"{self.classes} classes (0 to {self.classes - 1}). Is this the list of another task?"
                )
        missing = [(number, name) for number, name, _ in entries if not os.path.exists(folder / name)]
        if missing:
            number, name = missing[0]
            raise FileNotFoundError(
                f"{folder / SPLITS[split]}, line {number}: {folder / name} is missing ({len(missing)} of "
                f"{len(entries)} images are). Unpack the archive again, or run `dtl data build` for a built suite"
            )
        self.samples = [(folder / name, label) for _, name, label in entries]
        self.targets = [label for _, _, label in entries]
        self.digest = hashlib.sha256(f"{self.task}\n{split}\n{text}".encode()).hexdigest()

    def _folder(self, task: str, official: dict[str, str] | None) -> Path:
        """The task's folder, under any of its names."""
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

    def _class_names(self, folder: Path, official: dict[str, str] | None, entries: list) -> tuple[str, ...]:
        """From ``classes.txt``; else numbers, as many as the official task has or as the labels of all lists need."""
        if (folder / "classes.txt").is_file():
            return tuple((folder / "classes.txt").read_text(encoding="utf-8").splitlines())
        if official:
            return tuple(str(i) for i in range(int(official["classes"])))
        top = max(label for _, _, label in entries)
        for name in set(SPLITS.values()) - {SPLITS[self.split]}:
            if (folder / name).is_file():
                top = max(top, *(label for _, _, label in read_list(folder / name)[1]))
        return tuple(str(i) for i in range(top + 1))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        path, label = self.samples[index]
        image = open_rgb(path)
        return (image if self.transform is None else self.transform(image)), label

    def verify(self) -> None:
        """Opens every image, with progress.

        Raises:
            BadDataset: some cannot be read; the message names them.
        """
        bad = []
        for path, _ in tqdm(self.samples, desc=f"verify {self.task}/{self.split}", unit="image", leave=False):
            try:
                open_rgb(path)
            except (UnreadableImage, FileNotFoundError) as error:
                bad.append(str(error))
        if bad:
            raise BadDataset(f"{len(bad)} of {len(self)} images cannot be read:\n  " + "\n  ".join(bad[:10]))

    def __repr__(self) -> str:
        return f"VTAB1k({self.task}, {self.split}: {len(self)} images, {self.classes} classes, {self.root})"


def read_list(path: Path) -> tuple[str, list[tuple[int, str, int]]]:
    """A list file's text and its entries (line number, relative path, label). Paths may hold spaces.

    Raises:
        FileNotFoundError: there is no such list.
        BadDataset: a line is not "<relative path> <label>", or the list is empty.
    """
    if not path.is_file():
        there = sorted(p.name for p in path.parent.glob("*.txt"))
        raise FileNotFoundError(
            f"{path} is missing; the folder has {', '.join(there) or 'no list at all'}. The VTAB-1K layout wants "
            f"{', '.join(SPLITS.values())}: unpack the archive again, or run `dtl data build` for a built suite"
        )
    text, entries = path.read_text(encoding="utf-8"), []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        if not name.strip() or not label.lstrip("-").isdigit():
            raise BadDataset(f"{path}, line {number}: expected '<relative path> <label>', found {line!r}")
        entries.append((number, name.strip(), int(label)))
    if not entries:
        raise BadDataset(f"{path} is empty: unpack the archive again, or run `dtl data build` for a built suite")
    return text, entries

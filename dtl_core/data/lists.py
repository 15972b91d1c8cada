"""List files with "<relative path> <label>" per line, and the base class of the benchmark readers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from .opening import open_named
from .transforms import UnreadableImage

UNPACK = "Unpack the archive again, or run `dtl data build` for a built suite"


class BadDataset(ValueError):
    """An error in the contents of a dataset folder, whose message names the place and says what to do."""


def read_list(path: Path, hint: str = UNPACK) -> tuple[str, list[tuple[int, str, int]]]:
    """Return a list file's text and its entries (line number, relative path, label).

    Paths may contain spaces.

    Args:
        path: the list file.
        hint: advice that ends the message if the list is missing.

    Raises:
        FileNotFoundError: the list is missing.
        BadDataset: a line is not "<relative path> <label>", or the list is empty.
    """
    if not path.is_file():
        there = sorted(p.name for p in path.parent.glob("*") if p.suffix == ".txt" or "list" in p.name)
        raise FileNotFoundError(f"{path} is missing; the folder has {', '.join(there) or 'no list at all'}. {hint}")
    text, entries = path.read_text(encoding="utf-8"), []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        if not name.strip() or not label.lstrip("-").isdigit():
            raise BadDataset(f"{path}, line {number}: expected '<relative path> <label>', found {line!r}")
        entries.append((number, name.strip(), int(label)))
    if not entries:
        raise BadDataset(f"{path} is empty. {UNPACK}")
    return text, entries


def class_names(folder: Path, known: int | None, entries: list, other_lists: Iterable[Path]) -> tuple[str, ...]:
    """Return the class names from ``classes.txt``, or else the class numbers as strings.

    Without ``known``, the number of classes follows from the highest label in all lists of the folder.
    """
    if (folder / "classes.txt").is_file():
        return tuple((folder / "classes.txt").read_text(encoding="utf-8").splitlines())
    top = max(label for _, _, label in entries)
    if known is None:
        for path in other_lists:
            top = max(top, *(label for _, _, label in read_list(path)[1]))
    return tuple(str(i) for i in range(known or top + 1))


class ImageList:
    """The images that one list names, in torchvision style: ``dataset[i]`` is (image, label).

    Args:
        task: name for messages and for the digest.
        path: the list file.
        text, entries: result of ``read_list`` for this file.
        names: one name per class.
        bases: folders that the list's paths may be relative to. The folder with the fewest missing images is used.
        transform: function applied to each RGB image. None returns the image unchanged.
        key: what identifies the list within the benchmark, such as its split, for the digest.

    Raises:
        FileNotFoundError: an image is missing.
        BadDataset: a label is out of range.
    """

    def __init__(
        self,
        task: str,
        path: Path,
        text: str,
        entries: list[tuple[int, str, int]],
        names: Sequence[str],
        bases: Sequence[Path],
        transform: Callable[[Any], Any] | None,
        key: str,
    ):
        self.task, self.list_path, self.transform = task, path, transform
        self.class_names, self.classes = tuple(names), len(names)
        for number, _, label in entries:
            if not 0 <= label < self.classes:
                raise BadDataset(
                    f"{path}, line {number}: label {label} is out of range, {task} has {self.classes} classes "
                    f"(0 to {self.classes - 1}). Is this the list of another task?"
                )
        base, missing = _base(entries, bases, task)
        if missing:
            number, name = missing[0]
            raise FileNotFoundError(
                f"{path}, line {number}: {base / name} is missing ({len(missing)} of {len(entries)} images are). {UNPACK}"
            )
        self.samples = [(base / name, label) for _, name, label in entries]
        self.targets = [label for _, _, label in entries]
        self.digest = hashlib.sha256(f"{task}\n{key}\n{text}".encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        path, label = self.samples[index]
        image = open_named(path)
        return (image if self.transform is None else self.transform(image)), label

    def verify(self) -> None:
        """Open every image, with a progress bar.

        Raises:
            BadDataset: some images cannot be read. The message names the first ten.
        """
        bad = []
        for path, _ in tqdm(self.samples, desc=f"verify {self.task} {self.list_path.name}", unit="image", leave=False):
            try:
                open_named(path)
            except (UnreadableImage, FileNotFoundError) as error:
                bad.append(str(error))
        if bad:
            raise BadDataset(f"{len(bad)} of {len(self)} images cannot be read:\n  " + "\n  ".join(bad[:10]))


def _base(entries: list, bases: Sequence[Path], task: str) -> tuple[Path, list[tuple[int, str]]]:
    """Return the base with the fewest missing images, and (line number, relative path) of those missing."""
    best: tuple[Path, list[tuple[int, str]]] | None = None
    first = entries[0][1]
    for base in sorted(bases, key=lambda base: not os.path.exists(base / first)):  # the likely one first
        seen = tqdm(entries, desc=f"look for {task}", unit="image", leave=False, delay=2)  # slow on a network disk
        missing = [(number, name) for number, name, _ in seen if not os.path.exists(base / name)]
        if best is None or len(missing) < len(best[1]):
            best = base, missing
        if not missing:
            break
    return best

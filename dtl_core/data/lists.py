"""List files with "<relative path> <label>" per line, and the base classes of the readers."""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from .transforms import open_rgb

UNPACK = "Unpack the archive again, or run `dtl data build` for a built suite"


class BadDataset(ValueError):
    """An error in the contents of a dataset folder, whose message names the place and says what to do."""


def check_split(split: str, known: Iterable[str]) -> None:
    if split not in known:
        raise ValueError(f"no split is called {split!r}: choose one of {', '.join(known)}")


def find_folder(
    root: Path, what: str, names: Iterable[str], archive: str, above: Iterable[str] = ("",), inside: str = ""
) -> Path:
    """Return the folder in ``root``, or in a folder ``above`` of it, under the first of its names that is there.

    The folder has to hold one called ``inside``, if given.
    """
    hint = f"run `dtl data build` for a built suite, or unpack the {archive} there"
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder: {hint}")
    places = [root / place for place in above]
    found = [place / name for place in places for name in names if name and (place / name / inside).is_dir()]
    if found:
        return found[0]
    there = sorted({p.name for place in places for p in place.glob("[!.]*") if p.is_dir() and (p / inside).is_dir()})
    raise FileNotFoundError(f"{root} has no folder for the {what}; it has {', '.join(there) or 'none at all'}: {hint}")


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8; the mark that Windows puts before it is no part of it.

    Raises:
        BadDataset: the file is in another encoding.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        before = path.read_bytes().decode("utf-8", "replace").partition("\ufffd")[0]
        raise BadDataset(
            f"{path}, line {before.count(chr(10)) + 1}: this is no UTF-8, which programs on Windows may write: "
            "save the file again as UTF-8"
        ) from None


def read_list(path: Path, hint: str = UNPACK) -> tuple[str, list[tuple[int, str, int]]]:
    """Return a list file's text and its entries (line number, relative path, label).

    Paths may contain spaces, and have the slashes of Windows.

    Raises:
        FileNotFoundError: the list is missing; ``hint`` ends the message.
        BadDataset: a line is not "<relative path> <label>", its path leads out of the folder, or the list is empty.
    """
    if not path.is_file():
        there = sorted(p.name for p in path.parent.glob("*") if p.suffix == ".txt" or "list" in p.name)
        raise FileNotFoundError(f"{path} is missing; the folder has {', '.join(there) or 'no list at all'}. {hint}")
    text, entries = read_text(path), []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        name = name.strip().replace("\\", "/")
        if not name or not re.fullmatch("-?[0-9]+", label):
            raise BadDataset(f"{path}, line {number}: expected '<relative path> <label>', found {line!r}")
        if leaves(name):
            raise BadDataset(f"{path}, line {number}: {name} leads out of the folder: lay the image into it")
        entries.append((number, name, int(label)))
    if not entries:
        raise BadDataset(f"{path} is empty. {UNPACK}")
    return text, entries


def leaves(name: str) -> bool:
    """Return whether a relative path leads out of its folder."""
    return os.path.normpath(name).split(os.sep)[0] == os.pardir


def unused_label(labels: Iterable[int]) -> int | None:
    """Return the first number that is missing among the labels 0 to the highest, or None."""
    used = set(labels)
    return next((label for label in range(max(used, default=-1)) if label not in used), None)


class Images:
    """Images in torchvision style: ``dataset[i]`` is (image, label), from ``samples`` and ``transform``."""

    samples: list[tuple[Path, int]]
    transform: Callable[[Any], Any] | None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        path, label = self.samples[index]
        image = open_rgb(path)
        return (image if self.transform is None else self.transform(image)), label


class ImageList(Images):
    """The images that one list names; the readers of the benchmarks find the list.

    Args:
        task: name for messages and for the digest.
        folder: folder of the task, which may hold ``classes.txt`` with the names of the classes.
        lists: all lists of the task. Without ``known`` the number of classes follows from their highest label.
        bases: folders that the list's paths may be relative to. The folder with the fewest missing images is used.
        key: what identifies the list within the benchmark, such as its split, for the digest.
    """

    shots: int | None = None
    seed: int | None = None

    def __init__(
        self,
        task: str,
        root: Path,
        folder: Path,
        path: Path,
        lists: Iterable[Path],
        bases: Sequence[Path],
        transform: Callable[[Any], Any] | None,
        *,
        split: str,
        key: str,
        known: int | None,
        hint: str,
    ):
        text, entries = read_list(path, hint)
        self.task, self.root, self.list_path, self.transform, self.split = task, root, path, transform, split
        self.class_names = _class_names(folder, known, entries, [p for p in lists if p != path and p.is_file()])
        self.classes = len(self.class_names)
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

    def __repr__(self) -> str:
        drawn = f", {self.shots} shots, seed {self.seed}" if self.shots and self.split == "train" else ""
        about = f"{self.split}{drawn}: {len(self)} images, {self.classes} classes, {self.root}"
        return f"{type(self).__name__}({self.task}, {about})"


def _class_names(folder: Path, known: int | None, entries: list, other_lists: Iterable[Path]) -> tuple[str, ...]:
    """Return the class names from ``classes.txt``, or else the class numbers as strings.

    Raises:
        BadDataset: neither this file nor ``known`` says how many classes there are, and a number below the highest
            label has no image. Labels from 1 would make an empty class, and a slip of the hand a huge head.
    """
    if (folder / "classes.txt").is_file():
        return tuple(read_text(folder / "classes.txt").rstrip().splitlines())
    if known is None:
        listed = [entries, *(read_list(path)[1] for path in other_lists)]
        labels = {label for some in listed for _, _, label in some}
        unused = unused_label(labels)
        if unused is not None:
            raise BadDataset(
                f"{folder}: the labels of its lists go up to {max(labels)}, and no image has {unused}: number the "
                "classes from 0 without a gap, or name them all in classes.txt, one a line"
            )
        known = 1 + max(labels)
    return tuple(str(i) for i in range(known))


def _base(entries: list, bases: Sequence[Path], task: str) -> tuple[Path, list[tuple[int, str]]]:
    """Return the base with the fewest missing images, and (line number, relative path) of those missing."""
    first, found = entries[0][1], []
    for base in sorted(bases, key=lambda base: not os.path.exists(base / first)):  # the likely one first
        seen = tqdm(entries, desc=f"look for {task}", unit="image", leave=False, delay=2)  # slow on a network disk
        missing = [(number, name) for number, name, _ in seen if not os.path.exists(base / name)]
        found.append((base, missing))
        if not missing:
            break
    return min(found, key=lambda tried: len(tried[1]))

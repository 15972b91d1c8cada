"""A reader for a user's own images: one folder per class, split from a seed."""

import hashlib
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from .lists import BadDataset, Images, check_split

SPLITS = {"train": ("train",), "val": ("val",), "trainval": ("train", "val"), "test": ("test",)}


class ImageFolderTask(Images):
    """One split of a folder with a sub-folder per class, in torchvision style: ``dataset[i]`` is (image, label).

    Every split has images of every class. Images may be at any depth inside a class's folder. Other files and names
    that begin with a dot are ignored. Unreadable images are left out, with a warning that names the first 20.

    Args:
        root: the folder. Its sub-folders, sorted by name, are the classes.
        split: ``train``, ``val``, ``trainval`` or ``test``.
        transform: function applied to each RGB image. None returns the image unchanged.
        seed: seed of the split. The same seed and files give the same split.
        val_fraction, test_fraction: fractions of each class, with at least one image each.

    Attributes:
        task: name of the folder. All other attributes are as in ``VTAB1k``, except that ``digest`` covers split, paths,
            sizes and labels.

    Raises:
        FileNotFoundError: the folder is missing.
        BadDataset: there are fewer than two classes, or a class has fewer than three readable images.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        transform: Callable[[Any], Any] | None = None,
        seed: int = 0,
        val_fraction: float = 0.2,
        test_fraction: float = 0.2,
    ):
        check_split(split, SPLITS)
        if not (val_fraction > 0 and test_fraction > 0 and val_fraction + test_fraction < 1):
            raise ValueError(
                f"val_fraction {val_fraction} and test_fraction {test_fraction} must be above 0 and sum to less than 1"
            )
        self.root, self.split, self.transform, self.seed = Path(root).expanduser(), split, transform, seed
        self.task = self.root.resolve().name
        found = _readable_images(self.root)
        self.class_names, self.classes, self.samples = tuple(found), len(found), []
        for label, files in enumerate(found.values()):
            parts = _split(files, np.random.default_rng([seed, label]), val_fraction, test_fraction)
            self.samples += [(path, label) for part in SPLITS[split] for path in parts[part]]
        self.targets = [label for _, label in self.samples]
        listed = "".join(f"{p.relative_to(self.root).as_posix()} {p.stat().st_size} {y}\n" for p, y in self.samples)
        self.digest = hashlib.sha256(f"{split}\n{listed}".encode()).hexdigest()

    def __repr__(self) -> str:
        return f"ImageFolderTask({self.root}, {self.split}: {len(self)} images, {self.classes} classes)"


def _split(
    files: list[Path], rng: np.random.Generator, val_fraction: float, test_fraction: float
) -> dict[str, list[Path]]:
    """Return the three parts of one class's files, which are at least three, with no part empty."""
    shuffled = [files[i] for i in rng.permutation(len(files))]
    n_val = max(1, round(len(files) * val_fraction))
    n_test = max(1, round(len(files) * test_fraction))
    while n_val + n_test >= len(files):  # small classes: one is left to train on
        n_val, n_test = (n_val - 1, n_test) if n_val >= n_test else (n_val, n_test - 1)
    return {"val": shuffled[:n_val], "test": shuffled[n_val : n_val + n_test], "train": shuffled[n_val + n_test :]}


def _readable_images(root: Path) -> dict[str, list[Path]]:
    """Return the readable images of each class, sorted, and warn about the others."""
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder: give one that holds a sub-folder for each class")
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(folders) < 2:
        raise BadDataset(f"{root} has {len(folders)} sub-folders: put the images of each class into one, two at least")
    found = {folder.name: _images_in(folder) for folder in folders}
    everything = [path for files in found.values() for path in files]
    problems: dict[Path, str] = {}
    for path in tqdm(everything, desc=f"check {root.name}", unit="image", leave=False, delay=1):
        facts = path.stat()
        problem = _problem(path, facts.st_mtime_ns, facts.st_size)
        if problem:
            problems[path] = problem
    if problems:
        named = "".join(f"\n  {path} ({problem})" for path, problem in list(problems.items())[:20])
        more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
        warnings.warn(
            f"{len(problems)} of {len(everything)} images under {root} cannot be read and are left out:{named}{more}",
            stacklevel=3,
        )
    good = {name: [path for path in files if path not in problems] for name, files in found.items()}
    small = [f"{name} ({len(files)})" for name, files in good.items() if len(files) < 3]
    if small:
        raise BadDataset(
            f"{root}: a class needs three readable images, one each to train, validate and test. Too few in: "
            f"{', '.join(small)}. Add images or move these folders away"
        )
    return good


def _images_in(folder: Path) -> list[Path]:
    known = Image.registered_extensions()
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in known
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


@lru_cache(maxsize=200_000)
def _problem(path: Path, mtime_ns: int, size: int) -> str | None:
    """Return the reason why an image cannot be decoded, or None.

    The result is cached because each split checks all files. JPEGs are decoded at down to 1/8 of their size.
    """
    try:
        with Image.open(path) as image:
            image.draft("RGB", (32, 32))
            image.load()
            ImageOps.exif_transpose(image)
    except Exception as error:  # a malformed EXIF tag raises struct.error, TypeError and others
        return str(error) or type(error).__name__
    return None

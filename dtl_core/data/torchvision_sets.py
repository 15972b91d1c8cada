"""A reader for the classification sets that torchvision can download, with their own splits."""

import os
import shutil
import socket
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset
from torchvision import datasets
from tqdm.auto import tqdm

from ..files import one_writer
from ..paths import data_dir, shown
from .lists import BadDataset
from .own import Found, OwnImages

# name -> its own splits, as arguments of torchvision's class; "train" holds all images where there is none
SETS: dict[str, dict[str, dict[str, Any]]] = {
    **{name: {"train": {"train": True}, "test": {"train": False}} for name in ("CIFAR10", "CIFAR100")},
    **{name: {p: {"split": p} for p in ("train", "val", "test")} for name in ("DTD", "FGVCAircraft", "Flowers102")},
    **{name: {p: {"split": p} for p in ("train", "test")} for name in ("Food101", "StanfordCars", "SVHN")},
    "OxfordIIITPet": {"train": {"split": "trainval"}, "test": {"split": "test"}},
    "Caltech101": {"train": {}},
    "EuroSAT": {"train": {}},
}
GONE = {"StanfordCars": "stanford_cars/ with devkit/, cars_train/, cars_test/ and cars_test_annos_withlabels.mat"}
PATIENCE = 20  # seconds without an answer until a download is given up


class TorchvisionTask(OwnImages):
    """One split of a set that torchvision downloads, into ``torchvision/`` of the data folder, if it is not there.

    Arguments, attributes and errors are as in ``OwnImages``; ``root`` is the name of torchvision's class, ``CIFAR10``
    say, in large or small letters. The splits are the set's own. A missing one is cut from the training images:
    validation images of most, and both of Caltech101 and EuroSAT.

    CIFAR's files are pickles. torchvision compares their MD5 with the published one before it opens them.
    """

    def _find(self, root: str) -> Found:
        self.root = data_dir() / "torchvision"
        self.task = set_name(root)
        self._parts, found = _parts_of(self.task, self.root), {}
        for part, data in self._parts.items():
            files, labels = _files_and_labels(data)
            seen = tqdm(files, desc=f"look for {self.task}", unit="image", leave=False, delay=2)
            if missing := [file for file in seen if not file.is_file()]:
                raise BadDataset(
                    f"torchvision:{self.task}: {missing[0]} is missing ({len(missing)} of {len(files)} images are): remove "
                    "the folder of the set, and it is downloaded again"
                )
            names = list(getattr(data, "classes", None) or getattr(data, "categories", None) or range(max(labels) + 1))
            found[part] = {str(name): [] for name in names}
            for i, label in enumerate(labels):
                found[part][str(names[label])].append(files[i] if files else (part, i))
        return found

    def _identity(self, image: Any) -> str:
        return image.relative_to(self.root).as_posix() if isinstance(image, Path) else f"{self.task} {image}"

    def _open(self, image: Any) -> Image.Image:
        if isinstance(image, Path):
            return super()._open(image)
        part, i = image
        pixels: Any = self._parts[part]
        pixels = pixels.data[i]  # (H, W, 3) of CIFAR, (3, H, W) of SVHN
        return Image.fromarray(pixels if pixels.shape[2] == 3 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def set_name(name: str) -> str:
    """Return the name of a set as torchvision writes it."""
    found = next((known for known in SETS if known.lower() == name.strip().lower()), None)
    if found is None:
        raise ValueError(f"torchvision:{name} is not known: choose one of {', '.join(sorted(SETS))}")
    return found


def _files_and_labels(data: Any) -> tuple[list[Path], list[int]]:
    """Return the files of a set of torchvision, none where it holds pixels, and the labels of its images."""
    if isinstance(data, datasets.Caltech101):
        folders = [Path(data.root, "101_ObjectCategories", data.categories[label]) for label in data.y]
        return [f / f"image_{i:04d}.jpg" for f, i in zip(folders, data.index, strict=True)], list(data.y)
    if pairs := getattr(data, "samples", None) or getattr(data, "_samples", None):
        return [Path(path) for path, _ in pairs], [int(label) for _, label in pairs]
    files = getattr(data, "_image_files", None) or getattr(data, "_images", None) or []
    labels = next(getattr(data, name) for name in ("_labels", "labels", "targets") if hasattr(data, name))
    return [Path(path) for path in files], [int(label) for label in labels]


def _open_set(name: str, root: Path, download: bool = False) -> dict[str, Dataset]:
    make = getattr(datasets, name)
    return {part: make(str(root), download=download, **which) for part, which in SETS[name].items()}


@lru_cache(maxsize=1)  # the splits of a run share the pixels in memory
def _parts_of(name: str, root: Path) -> dict[str, Dataset]:
    """Return the splits of a set, which is downloaded where it is not whole."""
    try:
        return _open_set(name, root)
    except (RuntimeError, OSError):  # what torchvision raises where a set is not there, or its MD5 is another
        if name in GONE:
            raise FileNotFoundError(
                f"torchvision can no longer download {name}: lay {GONE[name]} into {root}"
            ) from None
    try:
        with one_writer(root / f".{name}", f"{name}: another run is downloading it; waiting"):
            try:
                return _open_set(name, root)
            except (RuntimeError, OSError):
                _download(name, root)
        return _open_set(name, root)
    except Exception as error:  # of the network, of the disk, of a damaged archive
        raise FileNotFoundError(
            f"torchvision:{name} is not in {root} and could not be downloaded ({type(error).__name__}: {error}): run this "
            f"with a network, or lay there what torchvision.datasets.{name}(root, download=True) writes on another machine"
        ) from error


def _download(name: str, root: Path) -> None:
    """Download and unpack a set beside its place, and move it there whole.

    torchvision takes half an unpacked folder for a whole one.
    """
    fresh, before = root / f".{name}.part", socket.getdefaulttimeout()
    shutil.rmtree(fresh, ignore_errors=True)  # of a run that was killed
    fresh.mkdir()
    print(f"torchvision:{name} is not in {shown(root)}: downloading and unpacking it, once", flush=True)
    try:
        socket.setdefaulttimeout(PATIENCE)
        _open_set(name, fresh, download=True)
        for made in fresh.iterdir():
            if (root / made.name).is_dir():
                shutil.rmtree(root / made.name)  # what torchvision found not to be whole
            os.replace(made, root / made.name)
    finally:
        socket.setdefaulttimeout(before)
        shutil.rmtree(fresh, ignore_errors=True)

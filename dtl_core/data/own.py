"""Images of one's own: given splits are kept, missing ones cut from a seed, and all of it can be said in a sentence."""

import hashlib
import io
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from .lists import BadDataset, Images, check_split
from .transforms import open_rgb

SPLITS = {"train": ("train",), "val": ("val",), "trainval": ("train", "val"), "test": ("test",)}
# what people call them, in lower case
SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
PURPOSES = {"train": "train", "val": "validate", "test": "test"}
Found = dict[str, dict[str, list[Any]]]  # split -> name of a class -> its images


class OwnImages(Images):
    """One split of images of one's own, in torchvision style: ``dataset[i]`` is (image, label).

    Splits that the data bring are kept. A missing one is cut from the training images, class by class.

    Args:
        root: what the reader reads.
        split: ``train``, ``val``, ``trainval`` or ``test``.
        transform: function applied to each RGB image. None returns the image unchanged.
        seed: seed of the cut. The same seed and files give the same splits.
        val_fraction, test_fraction: fractions of each class that are cut, with at least one image each.
        per_class: images of each class to train on; all if None. ``val`` and ``test`` stay whole.
        draw: seed of the drawing of these images. Of one draw, fewer images are always some of the more.

    Attributes:
        task: name of the data.
        samples, targets: lists of (path, label), where the images are files, and of labels.
        classes, class_names: number of classes, and their names.
        digest: SHA-256 (hexadecimal) of split, names, contents and labels of the images.

    Raises:
        FileNotFoundError: the root or an image is missing.
        BadDataset: there are fewer than two classes, a class has too few images, or two splits have different classes.
    """

    task: str
    root: Path

    def __init__(
        self,
        root: str | Path,
        split: str,
        transform: Callable[[Any], Any] | None = None,
        seed: int = 0,
        val_fraction: float = 0.2,
        test_fraction: float = 0.2,
        *,
        per_class: int | None = None,
        draw: int = 0,
    ):
        check_split(split, SPLITS)
        if not (val_fraction > 0 and test_fraction > 0 and val_fraction + test_fraction < 1):
            raise ValueError(
                f"val_fraction {val_fraction} and test_fraction {test_fraction} must be above 0 and sum to less than 1"
            )
        self.split, self.transform, self.seed, self.per_class, self.draw = split, transform, seed, per_class, draw
        self._digests: dict[Path, str] = {}
        found = self._find(root)
        lead = "train" if "train" in found else split  # what is only tested on needs no training images
        self.cut = tuple(part for part in ("val", "test") if part not in found and lead == "train")
        _check_classes(root, found, lead, self.cut)
        self.class_names, self.classes = tuple(found[lead]), len(found[lead])
        fractions = {"val": val_fraction, "test": test_fraction}
        self._items, self.sizes, self.counts = [], Counter[str](), Counter[str]()
        for label, name in enumerate(self.class_names):
            parts = {part: images[name] for part, images in found.items()}
            parts |= _cut(parts.get("train", []), [seed, label], {part: fractions[part] for part in self.cut})
            self.sizes.update({part: len(images) for part, images in parts.items()})
            self.counts[name] = sum(map(len, parts.values()))
            chosen = [image for part in SPLITS[split] for image in parts[part]]
            if per_class is not None and "train" in SPLITS[split]:
                if not 1 <= per_class <= len(chosen):
                    raise ValueError(
                        f"per_class is {per_class}, and {name} has {len(chosen)} images to train on: choose 1 to {len(chosen)}"
                    )
                order = np.random.default_rng([draw, label, 1]).permutation(len(chosen))
                chosen = [chosen[i] for i in order[:per_class]]
            self._items += [(image, label) for image in chosen]
        self.targets = [label for _, label in self._items]
        if all(isinstance(image, Path) for image, _ in self._items):
            self.samples = self._items
        listed = "".join(f"{self._identity(image)} {label}\n" for image, label in self._items)
        named = f"{split}\n{listed}".encode("utf-8", "surrogatepass")  # a name on a disk may be no UTF-8
        self.digest = hashlib.sha256(named).hexdigest()

    def _find(self, root: Any) -> Found:
        """Return the images of each class of each split that the data bring, and set ``task`` and ``root``."""
        raise NotImplementedError

    def _identity(self, image: Any) -> str:
        inside = image.is_relative_to(self.root)
        return f"{(image.relative_to(self.root) if inside else image).as_posix()} {self._digests[image]}"

    def _open(self, image: Any) -> Image.Image:
        return open_rgb(image)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        item, label = self._items[index]
        image = self._open(item)
        return (image if self.transform is None else self.transform(image)), label

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.root}, {self.split}: {len(self)} images, {self.classes} classes)"

    def summary(self, shown: int = 10) -> str:
        """Return the classes found, with their images, and the splits, in a sentence."""
        named = [f"{n if n.isprintable() else ascii(n)} ({self.counts[n]:,})" for n in self.class_names[:shown]]
        named += [f"and {self.classes - shown} more"] if self.classes > shown else []
        sizes = ", ".join(f"{part} {self.sizes[part]:,}" for part in PURPOSES)
        cut = f" ({' and '.join(self.cut)} cut from the training images by seed {self.seed})" if self.cut else ""
        drawn = f"; {self.per_class} a class to train on, by seed {self.draw}" if self.per_class else ""
        return f"{self.classes} classes: {', '.join(named)}; {sizes}{cut}{drawn}"

    def _readable(self, paths: Iterable[Path], place: str | Path) -> set[Path]:
        """Return the images that can be decoded, and warn about the others. Keep a digest of the content of each."""
        problems, paths = {}, list(dict.fromkeys(paths))
        for path in tqdm(paths, desc=f"check {Path(place).name}", unit="image", leave=False, delay=1):
            facts = path.stat()
            self._digests[path], problem = _look_at(path, facts.st_mtime_ns, facts.st_size)
            if problem:
                problems[path] = problem
        if problems:
            named = "".join(f"\n  {path} ({problem})" for path, problem in list(problems.items())[:20])
            more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
            warnings.warn(
                f"{len(problems)} of {len(paths)} images under {place} cannot be read and are left out:{named}{more}",
                stacklevel=4,
            )
        return set(paths) - problems.keys()


def plain_name(path: str | Path) -> str:
    """Return the last part of a path as text that can be printed and stored, whatever its bytes are."""
    return os.fsencode(Path(path).expanduser().resolve().name).decode("utf-8", "backslashreplace")


def _check_classes(place: str | Path, found: Found, lead: str, cut: tuple[str, ...]) -> None:
    """Raise where the classes of ``lead`` are fewer than two, or a split has others, or one has too few images."""
    if lead not in found:
        raise BadDataset(f"{place} has {' and '.join(found)}, but no train: there is nothing to train on")
    classes = found[lead]
    if len(classes) < 2:
        raise BadDataset(
            f"{place} has {len(classes)} classes to {PURPOSES[lead]} on ({', '.join(classes)}): two at least"
        )
    for part, other in found.items():
        lacks, more = (", ".join(map(repr, sorted(s))) for s in (classes.keys() - other, other.keys() - classes))
        if lacks or more:
            differs = [f"{part} lacks {lacks}"] if lacks else []
            differs += [f"{part} has {more}, which {lead} lacks"] if more else []
            raise BadDataset(
                f"{place}: {' and '.join(differs)}. Every split needs the same classes: add or rename them"
            )
    needed = [lead, *cut]
    small = [f"{name} ({len(images)})" for name, images in classes.items() if len(images) < len(needed)]
    small += [
        f"{name} in {part} ({len(images)})" for part in found for name, images in found[part].items() if not images
    ]
    if small:
        *first, last = (PURPOSES[part] for part in needed)
        to = f"{', '.join(first)} and {last}" if first else last
        number, each = ("one", "two", "three")[len(needed) - 1], "s, one each" if first else ""
        raise BadDataset(
            f"{place}: a class needs {number} readable image{each} to {to}. Too few in: {', '.join(small)}. "
            "Add images or leave these classes out"
        )


def _cut(images: list, seed: list[int], fractions: dict[str, float]) -> dict[str, list]:
    """Return a class's training images in the parts that are to be cut and ``train``, with no part empty."""
    if not fractions:
        return {}
    order = iter(np.random.default_rng(seed).permutation(len(images)).tolist())
    sizes = {part: max(1, round(len(images) * fraction)) for part, fraction in fractions.items()}
    while sum(sizes.values()) >= len(images):  # small classes: one is left to train on
        sizes[max(sizes, key=lambda part: sizes[part])] -= 1
    parts = {part: [images[next(order)] for _ in range(size)] for part, size in sizes.items()}
    return {**parts, "train": [images[i] for i in order]}


@lru_cache(maxsize=200_000)
def _look_at(path: Path, mtime_ns: int, size: int) -> tuple[str, str | None]:
    """Return a digest of an image's bytes, and the reason why it cannot be decoded, or None.

    The result is cached because each split checks all files. JPEGs are decoded at down to 1/8 of their size.
    """
    digest = ""
    try:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        with Image.open(io.BytesIO(content)) as image:
            image.draft("RGB", (32, 32))
            image.load()
            ImageOps.exif_transpose(image)
    except Exception as error:  # a malformed EXIF tag raises struct.error, TypeError and others
        return digest, str(error) or type(error).__name__
    return digest, None

"""Reads domain-generalization folders (DG): one source domain to train on, and others to test on.

What is known, from the code of DTL and NOAH and from NOAH's published lists: each domain has ``annotations/`` with
``val_meta.list``, its test images in spite of the name; their paths start at the domain's folder, and those of
ImageNet-A hold spaces ("imagenet-a/n03982430/0.000479_drumstick _ drumstick_0.69.jpg 736"). ImageNet, the source, also has
``train_meta.list.num_shot_16.seed_{0,1,2}``; its paths start at ``images/train`` and ``images/val`` in the authors'
archive, at ``train`` and ``val`` in NOAH. For validation NOAH keeps ``unofficial_val_list_4_shot16seed0``, some 3,000
images out of ``train``, kept apart from the list of seed 0 by its name; of the other seeds it promises nothing. NOAH
publishes no ``val_meta.list`` of ImageNet itself. Labels are those of the 1,000 classes everywhere, though
ImageNet-A and -R hold images of 200 only: see ``DomainShift.present_classes``.

Layout tested on small stand-in folders; the official archive was not seen.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .lists import UNPACK, ImageList, class_names, read_list

# name in the authors' scripts: other names of the folder. The first is the source
OFFICIAL: dict[str, tuple[str, ...]] = {
    "imagenet": (),
    "imagenetv2": ("imagenet-v2", "imagenet_v2"),
    "imagenet-sketch": ("imagenet_sketch",),
    "imagenet-adversarial": ("imagenet-a", "imagenet_a"),
    "imagenet-rendition": ("imagenet-r", "imagenet_r"),
}
IMAGENET_CLASSES = 1000
VAL_LIST = "unofficial_val_list_4_shot16seed0"
# where images lie in a domain's folder, by split
IMAGES = {
    "train": ("images/train", "train", ""),
    "val": ("images/train", "train", ""),
    "test": ("", "images/val", "val", "images"),
}


def list_name(split: str, shots: int, seed: int) -> str:
    """Name of a list file; ``shots`` and ``seed`` count for ``train`` only."""
    return {"train": f"train_meta.list.num_shot_{shots}.seed_{seed}", "val": VAL_LIST, "test": "val_meta.list"}[split]


def official_domain(name: str) -> str | None:
    """The official domain that goes by this name; None for any other."""
    return next((key for key, others in OFFICIAL.items() if name == key or name in others), None)


class DomainShift(ImageList):
    """One split of one domain, torchvision-style: ``dataset[i]`` is (image, label).

    Args:
        root: the folder that holds the domains (DG, or ``domain`` of a built suite).
        domain: a domain's folder, or any name of an official domain (``imagenet-a``).
        split: ``train`` and ``val`` (the source only), or ``test``.
        transform: from an RGB image to what ``dataset[i]`` gives; None gives the image itself.
        shots: training images a class; the benchmark has lists for 16.
        seed: which draw of training images: 0, 1 or 2.

    Attributes:
        task: an official domain's name in the authors' scripts; else name of the folder.
        split, shots, seed: as given.
        samples: list of (path, label).
        targets: list of labels.
        classes: number of classes of the benchmark: 1,000 for ImageNet and all its targets.
        class_names: one name for each class; its number where the domain names none.
        digest: hex sha256 over task, name of the list and its text.

    Raises:
        FileNotFoundError: the root, the domain's folder, the list or an image is missing.
        BadDataset: a line of the list is malformed, or a label out of range.
        ValueError: an unknown split.
    """

    def __init__(
        self,
        root: str | Path,
        domain: str,
        split: str,
        transform: Callable[[Any], Any] | None = None,
        shots: int = 16,
        seed: int = 0,
    ):
        if split not in IMAGES:
            raise ValueError(f"no split is called {split!r}: choose one of {', '.join(IMAGES)}")
        self.root, self.split, self.shots, self.seed = Path(root), split, shots, seed
        official = official_domain(domain)
        folder = self._folder(domain, (domain, *((official, *OFFICIAL[official]) if official else ())))
        path = folder / "annotations" / list_name(split, shots, seed)
        text, entries = read_list(path, self._hint(official))
        others = [p for p in sorted(path.parent.glob("*_meta.list*")) if p != path]
        labels = class_names(folder, IMAGENET_CLASSES if official else None, entries, others)
        bases = [folder / images for images in IMAGES[split]]
        super().__init__(official or domain, path, text, entries, labels, bases, transform, path.name)

    @property
    def present_classes(self) -> tuple[int, ...]:
        """The labels that occur, in order: of ImageNet-A and -R 200 of 1,000. A scorer masks all others, or does not."""
        return tuple(sorted(set(self.targets)))

    def _hint(self, official: str | None) -> str:
        """What to do about a missing list."""
        if self.split != "test":
            return "Only the source of a benchmark has lists to train and validate on (ImageNet's: data/few-shot in NOAH's code)"
        if official == "imagenet":
            return (
                "NOAH publishes none for ImageNet: write one, a line '<path below images/val> <label>' for each image"
            )
        return f"The lists come with NOAH's code (data/domain-generalization). {UNPACK}"

    def _folder(self, domain: str, names: tuple[str, ...]) -> Path:
        """The domain's folder, under any of its names."""
        hint = "run `dtl data build` for a built suite, or unpack the domain-generalization archive (DG) there"
        if not self.root.is_dir():
            raise FileNotFoundError(f"{self.root} is no folder: {hint}")
        for name in names:
            if (self.root / name).is_dir():
                return self.root / name
        there = sorted(p.name for p in self.root.iterdir() if p.is_dir() and not p.name.startswith("."))
        raise FileNotFoundError(
            f"{self.root} has no folder for the domain {domain!r}; it has {', '.join(there) or 'none at all'}: {hint}"
        )

    def __repr__(self) -> str:
        split = f"train, {self.shots} shots, seed {self.seed}" if self.split == "train" else self.split
        return f"DomainShift({self.task}, {split}: {len(self)} images, {self.classes} classes, {self.root})"

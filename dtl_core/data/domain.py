"""A reader for domain-generalization folders (DG), with one source domain for training and others for testing.

These facts come from the code of DTL and NOAH and from NOAH's published lists: each domain has ``annotations/`` with
``val_meta.list``, which names its test images in spite of the file's name. Its paths are relative to the domain's
folder. Those of ImageNet-A contain spaces ("imagenet-a/n03982430/0.000479_drumstick _ drumstick_0.69.jpg 736").

ImageNet is the source and also has ``train_meta.list.num_shot_16.seed_{0,1,2}``. Its paths are relative to
``images/train`` and ``images/val`` in the authors' archive, and to ``train`` and ``val`` in NOAH. For validation NOAH
has ``unofficial_val_list_4_shot16seed0``, some 3,000 images from ``train``. Its name says that it does not overlap with
the training list of seed 0. It says nothing about the other seeds. NOAH publishes no ``val_meta.list`` of ImageNet
itself.

All labels are those of the 1,000 classes, although ImageNet-A and -R have images of only 200: see
``DomainShift.present_classes``.

This reader was tested on small stand-in folders, not on the official archive.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .lists import UNPACK, ImageList, check_split, find_folder

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
    """Return the name of a list file; ``shots`` and ``seed`` matter for ``train`` only."""
    return {"train": f"train_meta.list.num_shot_{shots}.seed_{seed}", "val": VAL_LIST, "test": "val_meta.list"}[split]


def official_domain(name: str) -> str | None:
    """Return the official domain with this name or alias, or None."""
    return next((key for key, others in OFFICIAL.items() if name == key or name in others), None)


class DomainShift(ImageList):
    """One split of one domain; attributes and errors are as in ``VTAB1k``.

    Args:
        root: the folder that holds the domains (DG, or ``domain`` of a built suite).
        domain: name of a domain's folder, or any name of an official domain (``imagenet-a``). The attribute ``task`` is
            an official domain's name in the authors' scripts.
        split: ``train`` or ``val`` (source domain only), or ``test``.
        transform: function applied to each RGB image. None returns the image unchanged.
        shots: training images per class. The benchmark has lists for 16.
        seed: which draw of training images: 0, 1 or 2.
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
        check_split(split, IMAGES)
        root, self.shots, self.seed, official = Path(root), shots, seed, official_domain(domain)
        names = (domain, *((official, *OFFICIAL[official]) if official else ()))
        folder = find_folder(root, f"domain {domain!r}", names, "domain-generalization archive (DG)")
        path = folder / "annotations" / list_name(split, shots, seed)
        if split != "test":
            hint = "Only the source of a benchmark has lists to train and validate on (ImageNet's: data/few-shot in NOAH's code)"
        elif official == "imagenet":
            hint = (
                "NOAH publishes none for ImageNet: write one, a line '<path below images/val> <label>' for each image"
            )
        else:
            hint = f"The lists come with NOAH's code (data/domain-generalization). {UNPACK}"
        bases = [folder / images for images in IMAGES[split]]
        super().__init__(
            official or domain, root, folder, path, sorted(path.parent.glob("*_meta.list*")), bases, transform,
            split=split, key=path.name, known=IMAGENET_CLASSES if official else None, hint=hint,
        )  # fmt: skip

    @property
    def present_classes(self) -> tuple[int, ...]:
        """Return the sorted labels that occur, which are 200 of 1,000 for ImageNet-A and -R.

        Whether to mask the logits of the other classes is up to the evaluation.
        """
        return tuple(sorted(set(self.targets)))

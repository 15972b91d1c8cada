"""A reader for few-shot folders: the five fine-grained sets (FGFS) and the typefaces built here.

These facts come from the code of DTL and NOAH and from NOAH's published lists: each set has ``annotations/`` with
``train_meta.list.num_shot_{1,2,4,8,16}.seed_{0,1,2}``, ``val_meta.list`` and ``test_meta.list``. The authors' archive
(FGFS) has these under ``few-shot_split/<set>/`` and the images under ``<set>/``. NOAH has ``annotations/`` in the set's
own folder and the images one folder deeper, except for the cars. Sets have the names of NOAH's lists or of its code.
The reader accepts all of these layouts and names. In the one-shot lists of Oxford Pets every image occurs twice. The
reader follows the list and gives 74 images.

This reader was tested on small stand-in folders, not on the official archive.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .lists import UNPACK, ImageList, check_root, check_split

# name in NOAH's lists and in the authors' scripts ("standford" is theirs): classes, other names of the folder
SETS: dict[str, tuple[int, tuple[str, ...]]] = {
    "fgvc-aircraft": (100, ("fgvc_aircraft",)),
    "food101": (101, ("food-101",)),
    "oxford-flowers102": (102, ("oxford_flowers", "oxford_flowers102")),
    "oxford-pets": (37, ("oxford_pets",)),
    "standford-cars": (196, ("stanford_cars", "stanford-cars")),
}
SHOTS = (1, 2, 4, 8, 16)
SEEDS = (0, 1, 2)
SPLITS = ("train", "val", "test")
# where images lie in a set's folder: the authors' archive, NOAH, and archives as their makers pack them
IMAGES = ("", "images", "jpg", "data/images")


def list_name(split: str, shots: int, seed: int) -> str:
    """Return the name of a list file; ``shots`` and ``seed`` matter for ``train`` only."""
    return f"train_meta.list.num_shot_{shots}.seed_{seed}" if split == "train" else f"{split}_meta.list"


def official_set(name: str) -> str | None:
    """Return the official set with this name or alias, with or without the scripts' suffix ``-FS``, or None."""
    plain = name.removesuffix("-FS")
    return next((key for key, (_, others) in SETS.items() if plain == key or plain in others), None)


class FewShot(ImageList):
    """One split of one few-shot set; attributes and errors are as in ``VTAB1k``.

    Args:
        root: the folder that holds the sets (FGFS, or ``few-shot`` of a built suite).
        task: name of a set's folder, or any name of an official set (``oxford_pets``, ``oxford-pets-FS``). The
            attribute ``task`` is an official set's name in NOAH's lists.
        split: ``train``, ``val`` or ``test``.
        transform: function applied to each RGB image. None returns the image unchanged.
        shots: training images per class: 1, 2, 4, 8 or 16.
        seed: which of the three draws of training images: 0, 1 or 2.
    """

    def __init__(
        self,
        root: str | Path,
        task: str,
        split: str,
        transform: Callable[[Any], Any] | None = None,
        shots: int = 16,
        seed: int = 0,
    ):
        check_split(split, SPLITS)
        root, self.shots, self.seed, official = Path(root), shots, seed, official_set(task)
        known, others = SETS[official] if official else (None, ())
        names = (task, *((official, *others) if official else ()))
        annotations = _annotations(root, task, names)
        path = annotations / list_name(split, shots, seed)
        folders = [root / name for name in names if (root / name).is_dir()] or [root / task]
        bases = [folder / images for folder in folders for images in IMAGES]
        super().__init__(
            official or task, root, annotations.parent, path, sorted(annotations.glob("*_meta.list*")), bases, transform,
            split=split, key=path.name, known=known,
            hint=f"The lists come with NOAH's code (data/few-shot). {UNPACK}",
        )  # fmt: skip


def _annotations(root: Path, task: str, names: tuple[str, ...]) -> Path:
    """Return the folder of the set's lists, under any of the set's names."""
    hint = check_root(root, "few-shot archive (FGFS)")
    for above in (root, root / "few-shot_split"):
        for name in names:
            if (above / name / "annotations").is_dir():
                return above / name / "annotations"
    found = [*root.glob("*/annotations"), *root.glob("few-shot_split/*/annotations")]
    there = sorted({p.parent.name for p in found})
    raise FileNotFoundError(
        f"{root} has no annotations/ for the set {task!r}, neither in the set's folder nor under "
        f"few-shot_split/; it has some for {', '.join(there) or 'none'}: {hint}"
    )

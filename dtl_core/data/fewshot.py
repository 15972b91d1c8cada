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

from .lists import UNPACK, ImageList, check_split, find_folder

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
        what, archive = f"set {task!r} with annotations/ in it, nor has few-shot_split/", "few-shot archive (FGFS)"
        folder = find_folder(root, what, names, archive, ("", "few-shot_split"), "annotations")
        path = folder / "annotations" / list_name(split, shots, seed)
        folders = [root / name for name in names if (root / name).is_dir()] or [root / task]
        bases = [home / images for home in folders for images in IMAGES]
        super().__init__(
            official or task, root, folder, path, sorted(path.parent.glob("*_meta.list*")), bases, transform,
            split=split, key=path.name, known=known,
            hint=f"The lists come with NOAH's code (data/few-shot). {UNPACK}",
        )  # fmt: skip

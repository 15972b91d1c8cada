"""Small folders of the shape of the official few-shot and domain-generalization archives.

The grammar of the lists is that of NOAH's published ones, faults and all: paths that hold spaces, sub-folders, every
image twice in the 1-shot lists of the pets. The pictures are ours: a few pixels, one colour a class. So what passes
here is *layout tested, official archive not seen*.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from dtl_core.data.domain import VAL_LIST
from dtl_core.data.fewshot import SEEDS, SETS, SHOTS

# a path as each set's lists write it; the odd one out in food101 has the spaces that the format allows
FEW_SHOT_PATHS = {
    "fgvc-aircraft": "{n:07d}.jpg",
    "food101": "club sandwich {y}/{n}.jpg",
    "oxford-flowers102": "image_{n:05d}.jpg",
    "oxford-pets": "Egyptian_Mau{y}_{n}.jpg",
    "standford-cars": "cars_{part}/{n:05d}.jpg",
}
TARGET_PATHS = {
    "imagenetv2": "imagenetv2-matched-frequency-format-val/{y}/1e0143507c{n:030d}.jpeg",
    "imagenet-sketch": "images/n{y:08d}/sketch_{n}.JPEG",
    "imagenet-adversarial": "imagenet-a/n{y:08d}/0.{n:06d}_drumstick _ bow tie_0.69.jpg",
    "imagenet-rendition": "imagenet-r/n{y:08d}/cartoon_{n}.jpg",
}
LABELS = (0, 736, 999)  # of the classes of ImageNet, in the source; each target has two of them


def picture(path: Path, label: int, number: int) -> None:
    """A picture of a few pixels whose colour follows the label, and which no other number gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 60, (20, 24, 3))
    Image.fromarray((pixels + [67 * label % 190, 131 * label % 190, 29 * label % 190]).astype(np.uint8)).save(path)


def _write(path: Path, entries: list[tuple[str, int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name} {label}\n" for name, label in entries))


def few_shot(root: Path, classes: int = 3, held_out: int = 2, noah: bool = False) -> Path:
    """The five sets under ``root``: 16 training images a class, ``held_out`` each to validate and test on.

    Args:
        root: the FGFS folder.
        classes: classes that have images, of each set's many.
        held_out: images of a class in the validation and in the test list.
        noah: NOAH's arrangement (names of its code, lists in the set's folder, images one folder deeper, but for the
            cars') in the place of the authors' (all lists under ``few-shot_split``).
    """
    for name, (_, others) in SETS.items():
        folder = root / (others[0] if noah else name)
        lists = (folder if noah else root / "few-shot_split" / name) / "annotations"
        images = folder / "images" if noah and name != "standford-cars" else folder
        parts: dict[str, list[list[tuple[str, int]]]] = {}
        number = 0
        for part, each in (("train", max(SHOTS)), ("val", held_out), ("test", held_out)):
            for label in range(classes):
                entries = []
                for _ in range(each):
                    number += 1
                    place = "test" if part == "test" else "train"
                    entries.append((FEW_SHOT_PATHS[name].format(n=number, y=label, part=place), label))
                    picture(images / entries[-1][0], label, number)
                parts.setdefault(part, []).append(entries)
        for shots in SHOTS:
            for seed in SEEDS:
                chosen = [e for entries in parts["train"] for e in np.roll(entries, seed, axis=0)[:shots].tolist()]
                if name == "oxford-pets" and shots == 1:
                    chosen = [e for e in chosen for _ in range(2)]
                _write(lists / f"train_meta.list.num_shot_{shots}.seed_{seed}", [(n, int(y)) for n, y in chosen])
        for part in ("val", "test"):
            _write(lists / f"{part}_meta.list", [e for entries in parts[part] for e in entries])
    return root


def domains(root: Path, held_out: int = 2, noah: bool = False) -> Path:
    """ImageNet and its four targets under ``root``, of three classes: 16 training images, ``held_out`` for each test.

    Args:
        root: the DG folder.
        held_out: images of a class in each test list and in the validation list.
        noah: ImageNet's images in ``train`` and ``val`` in the place of ``images/train`` and ``images/val``.
    """
    source = root / "imagenet"
    images = source if noah else source / "images"
    train = [(f"n{y:08d}/n{y:08d}_{n}.JPEG", y) for y in LABELS for n in range(max(SHOTS) + held_out)]
    test = [(f"ILSVRC2012_val_{y:04d}{n:04d}.JPEG", y) for y in LABELS for n in range(held_out)]
    for part, entries in (("train", train), ("val", test)):
        for i, (name, label) in enumerate(entries):
            picture(images / part / name, label, i + (1000 if part == "val" else 0))
    per_class = [[e for e in train if e[1] == y] for y in LABELS]
    for seed in SEEDS:
        chosen = [e for entries in per_class for e in entries[: max(SHOTS)]]
        order = np.random.default_rng(seed).permutation(len(chosen))
        _write(source / "annotations" / f"train_meta.list.num_shot_16.seed_{seed}", [chosen[i] for i in order])
    _write(source / "annotations" / VAL_LIST, [e for entries in per_class for e in entries[max(SHOTS) :]])
    _write(source / "annotations/val_meta.list", test)
    for i, (domain, form) in enumerate(TARGET_PATHS.items()):
        entries = [(form.format(y=y, n=n), y) for y in LABELS[1:] for n in range(held_out)]
        for k, (name, label) in enumerate(entries):
            picture(root / domain / name, label, 2000 + 100 * i + k)
        _write(root / domain / "annotations/val_meta.list", entries)
    return root

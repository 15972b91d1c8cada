"""Small folders of the shape of the official few-shot and domain-generalization archives.

The grammar of the lists is that of NOAH's published ones, faults and all: paths that hold spaces, sub-folders, every
image twice in the 1-shot lists of the pets. The pictures are ours: a few pixels, one colour a class. So what passes
here is *layout tested, official archive not seen*.
"""

from pathlib import Path

import numpy as np
from stand_ins import draw as picture
from stand_ins import write_list

from dtl_core.data.domain import VAL_LIST
from dtl_core.data.fewshot import SEEDS, SETS, SHOTS

# a path as each set's lists write it; the odd one out in food101 has the spaces that the format allows
FEW_SHOT_PATHS = {
    "fgvc-aircraft": "{n:07d}.jpg",
    "food101": "club sandwich {y}/{n}.jpg",
    "oxford-flowers102": "image_{n:05d}.jpg",
    "oxford-pets": "Egyptian_Mau{y}_{n}.jpg",
    "standford-cars": "cars_{place}/{n:05d}.jpg",
}
TARGET_PATHS = {
    "imagenetv2": "imagenetv2-matched-frequency-format-val/{y}/1e0143507c{n:030d}.jpeg",
    "imagenet-sketch": "images/n{y:08d}/sketch_{n}.JPEG",
    "imagenet-adversarial": "imagenet-a/n{y:08d}/0.{n:06d}_drumstick _ bow tie_0.69.jpg",
    "imagenet-rendition": "imagenet-r/n{y:08d}/cartoon_{n}.jpg",
}
LABELS = (0, 736, 999)  # of the classes of ImageNet, in the source; each target has two of them


def few_shot_set(images: Path, lists: Path, form: str = "{part} {y}_{i}.jpg", doubled: bool = False) -> None:
    """One set of three classes: 16 training images a class, 2 each to validate and test on.

    Args:
        images, lists: the folders of both.
        form: of the images' paths.
        doubled: the 1-shot lists hold every image twice.
    """
    parts, n = {}, 0
    for part, each in (("train", max(SHOTS)), ("val", 2), ("test", 2)):
        parts[part] = [[], [], []]
        for y in range(3):
            for i in range(each):
                n += 1
                name = form.format(n=n, y=y, i=i, part=part, place="test" if part == "test" else "train")
                picture(images / name, y, n)
                parts[part][y].append((name, y))
    for shots in SHOTS:
        for seed in SEEDS:
            chosen = [e for entries in parts["train"] for e in (entries[seed:] + entries[:seed])[:shots]]
            twice = 2 if doubled and shots == 1 else 1
            path = lists / f"train_meta.list.num_shot_{shots}.seed_{seed}"
            write_list(path, [e for e in chosen for _ in range(twice)])
    for part in ("val", "test"):
        write_list(lists / f"{part}_meta.list", [e for entries in parts[part] for e in entries])


def few_shot(root: Path, noah: bool = False) -> Path:
    """The five sets under ``root``.

    Args:
        root: the FGFS folder.
        noah: NOAH's arrangement (names of its code, lists in the set's folder, images one folder deeper, but for the
            cars') in the place of the authors' (all lists under ``few-shot_split``).
    """
    for name, (_, others) in SETS.items():
        folder = root / (others[0] if noah else name)
        lists = (folder if noah else root / "few-shot_split" / name) / "annotations"
        images = folder / "images" if noah and name != "standford-cars" else folder
        few_shot_set(images, lists, FEW_SHOT_PATHS[name], doubled=name == "oxford-pets")
    return root


def domains(root: Path, noah: bool = False, labels: tuple[int, ...] = LABELS) -> Path:
    """ImageNet and its four targets under ``root``: 16 training images a class, 2 for each test and to validate on.

    Args:
        root: the DG folder.
        noah: ImageNet's images in ``train`` and ``val`` in the place of ``images/train`` and ``images/val``.
        labels: of the source; the targets have all but the first.
    """
    source = root / "imagenet"
    images = source if noah else source / "images"
    train = [(f"n{y:08d}/n{y:08d}_{n}.JPEG", y) for y in labels for n in range(max(SHOTS) + 2)]
    test = [(f"ILSVRC2012_val_{y:04d}{n:04d}.JPEG", y) for y in labels for n in range(2)]
    places = [(images / "train", train), (images / "val", test)]
    per_class = [[e for e in train if e[1] == y] for y in labels]
    for seed in SEEDS:
        chosen = [e for entries in per_class for e in entries[: max(SHOTS)]]
        order = np.random.default_rng(seed).permutation(len(chosen))
        write_list(source / f"annotations/train_meta.list.num_shot_16.seed_{seed}", [chosen[i] for i in order])
    write_list(source / "annotations" / VAL_LIST, [e for entries in per_class for e in entries[max(SHOTS) :]])
    write_list(source / "annotations/val_meta.list", test)
    for domain, form in TARGET_PATHS.items():
        entries = [(form.format(y=y, n=n), y) for y in labels[1:] for n in range(2)]
        places.append((root / domain, entries))
        write_list(root / domain / "annotations/val_meta.list", entries)
    for number, (folder, name, label) in enumerate((f, n, y) for f, entries in places for n, y in entries):
        picture(folder / name, label, number)
    return root

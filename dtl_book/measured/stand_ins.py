"""A few small pictures in the official layouts of the paper profile, for a rehearsal without the official archives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

VTAB = {"clevr_count": 8, "caltech101": 102}  # folder -> classes
SHOTS = 16
IMAGENET = (0, 736, 999)  # of the 1,000 classes, those that have pictures
TARGETS = ("imagenet-sketch", "imagenet-rendition")


def write_stand_ins(root: Path) -> Path:
    """Write two tasks of VTAB-1K, one few-shot set, and ImageNet with two of its targets into the paper profile's folder."""
    for task, classes in VTAB.items():
        parts = {name: _pictures(root / "vtab-1k" / task, f"images/{name}", n, range(min(classes, 4)))
                 for name, n in (("train800", 48), ("val200", 16), ("test", 8))}  # fmt: skip
        for name, entries in {**parts, "train800val200": parts["train800"] + parts["val200"]}.items():
            _list(root / "vtab-1k" / task / f"{name}.txt", entries)
    pets, lists = root / "few-shot" / "oxford-pets", root / "few-shot/few-shot_split/oxford-pets/annotations"
    for part, n in (("train", 3 * SHOTS), ("val", 6), ("test", 6)):
        name = f"train_meta.list.num_shot_{SHOTS}.seed_0" if part == "train" else f"{part}_meta.list"
        _list(lists / name, _pictures(pets, part, n, range(3)))
    source = root / "domain" / "imagenet"
    train = _pictures(source / "images/train", "n", SHOTS * len(IMAGENET), IMAGENET)
    _list(source / f"annotations/train_meta.list.num_shot_{SHOTS}.seed_0", train)
    _list(source / "annotations/val_meta.list", _pictures(source / "images/val", "v", 6, IMAGENET))
    for target in TARGETS:
        folder = root / "domain" / target
        _list(folder / "annotations/val_meta.list", _pictures(folder, "images", 4, IMAGENET[1:]))
    return root


def _pictures(base: Path, below: str, number: int, labels) -> list[tuple[str, int]]:
    """Write pictures whose colour follows the label; return their paths below ``base``, with the labels."""
    (base / below).mkdir(parents=True, exist_ok=True)
    rng, entries = np.random.default_rng(number), []
    for i in range(number):
        label = labels[i % len(labels)]
        pixels = rng.integers(0, 60, (40, 48, 3)) + [67 * label % 190, 131 * label % 190, 29 * label % 190]
        name = f"{below}/{i:04d}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(base / name)
        entries.append((name, label))
    return entries


def _list(path: Path, entries: list[tuple[str, int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name} {label}\n" for name, label in entries), encoding="utf-8")

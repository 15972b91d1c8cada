"""Small folders in the layouts of the three benchmarks: right in everything, for tests to plant faults in."""

import io
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

KITTI_TEST = 711  # the smallest official test split; four classes, released as PNG
FEWSHOT = {"benchmark": "fewshot", "folder": "oxford-pets", "other_names": "oxford_pets", "labels": "3", "classes": "3",
           "test_n": "9", "test_n_source": "here"}  # fmt: skip
DOMAINS = [
    {"benchmark": "domain", "folder": folder, "other_names": other, "labels": "6", "classes": str(classes), "test_n": "12",
     "test_n_source": source}
    for folder, other, classes, source in (
        ("imagenet", "", 6, "here"), ("imagenetv2", "imagenet-v2", 6, "from mind (recall)"), ("imagenet-adversarial", "imagenet-a", 2, "here"),
    )
]  # fmt: skip


def draw(path, number):
    """A picture that no other number gives, as PNG whatever the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[0, 0] = number % 256, number // 256 % 256, number // 65536
    Image.fromarray(pixels).save(path, "PNG")


def jpeg(path):
    """The bytes of an image as JPEG."""
    file = io.BytesIO()
    Image.open(path).convert("RGB").save(file, "JPEG")
    return file.getvalue()


def zipped(files):
    """A zip archive of files given as {name: bytes}."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def put(path, content):
    """Replaces a file. Stand-ins are hard links: writing into one would change them all."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def link_tree(source, target):
    """A copy that costs no bytes."""
    shutil.copytree(source, target, copy_function=os.link)
    return Path(target)


def edit(path, change):
    """Replaces a list by what ``change`` makes of its lines."""
    put(path, "".join(f"{line}\n" for line in change(path.read_text().splitlines())))


def kitti(root):
    """A whole official task, with paths that hold spaces."""
    number, lines = 0, {}
    for split, count in (("train800", 800), ("val200", 200), ("test", KITTI_TEST)):
        lines[split] = []
        for i in range(count):
            name = f"images/{split}/{i:06d} a.jpg"  # named as in the common archive, but PNG
            draw(root / "kitti" / name, number)
            lines[split].append(f"{name} {i % 4}")
            number += 1
    lines["train800val200"] = lines["train800"] + lines["val200"]
    for split, part in lines.items():
        put(root / "kitti" / f"{split}.txt", "".join(f"{line}\n" for line in part))
    return root


def pets(root, folder="oxford-pets", lists="oxford-pets", below=""):
    """A few-shot set of three classes: 54 images to draw shots from, 6 to validate, 9 to test."""
    pools = {"train": 18, "val": 2, "test": 3}
    names = {part: [[f"{part} {y}_{i}.jpg" for i in range(n)] for y in range(3)] for part, n in pools.items()}
    for number, name in enumerate(n for part in names.values() for of_class in part for n in of_class):
        draw(root / folder / below / name, number)
    texts = {f"{part}_meta.list": [f"{n} {y}" for y in range(3) for n in names[part][y]] for part in ("val", "test")}
    for shots in (1, 2, 4, 8, 16):
        for seed in range(3):
            chosen = [f"{n} {y}" for y in range(3) for n in names["train"][y][seed : seed + shots]]
            texts[f"train_meta.list.num_shot_{shots}.seed_{seed}"] = chosen
    for name, part in texts.items():
        put(root / lists / "annotations" / name, "".join(f"{line}\n" for line in part))
    return root


def domains(root):
    """A source of six classes, 16 images each, and two targets, one of which has two of the classes."""
    number = 0
    for folder, labels, base in (
        ("imagenet", range(6), "images/val"),
        ("imagenetv2", range(6), ""),
        ("imagenet-adversarial", (1, 4), ""),
    ):
        names = [(f"n{y}/0.00{i}_soap dispenser _ {i}.JPEG", y) for i in range(12 // len(labels)) for y in labels]
        for name, _ in names:
            draw(root / folder / base / name, number)
            number += 1
        put(root / folder / "annotations" / "val_meta.list", "".join(f"{n} {y}\n" for n, y in names))
    train = [(f"n{y}/n{y}_{i}.JPEG", y) for y in range(6) for i in range(16)]
    for name, _ in train:
        draw(root / "imagenet/images/train" / name, number)
        number += 1
    put(root / "imagenet/annotations/train_meta.list.num_shot_16.seed_0", "".join(f"{n} {y}\n" for n, y in train))
    return root

"""Images, lists and a whole task of VTAB-1K: right in everything, for tests to plant faults in."""

import io
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

KITTI_TEST = 711  # the smallest official test split; four classes, released as PNG


def draw(path, label, number):
    """A picture whose colour follows the label, and which no other number gives; PNG whatever the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 60, (20, 24, 3))
    pixels = pixels + [67 * label % 190, 131 * label % 190, 29 * label % 190]
    Image.fromarray(pixels.astype(np.uint8)).save(path, "PNG", compress_level=0)


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


def write_list(path, entries):
    put(path, "".join(f"{name} {label}\n" for name, label in entries))


def link_tree(source, target):
    """A copy that costs no bytes."""
    shutil.copytree(source, target, copy_function=os.link)
    return Path(target)


def edit(path, change):
    """Replaces a list by what ``change`` makes of its lines."""
    put(path, "".join(f"{line}\n" for line in change(path.read_text().splitlines())))


def kitti(root):
    """A whole official task, with paths that hold spaces."""
    number, lists = 0, {}
    for split, count in (("train800", 800), ("val200", 200), ("test", KITTI_TEST)):
        # named as in the common archive, but PNG
        lists[split] = [(f"images/{split}/{i:06d} a.jpg", i % 4) for i in range(count)]
        for name, label in lists[split]:
            draw(root / "kitti" / name, label, number)
            number += 1
    lists["train800val200"] = lists["train800"] + lists["val200"]
    for split, entries in lists.items():
        write_list(root / "kitti" / f"{split}.txt", entries)
    return root

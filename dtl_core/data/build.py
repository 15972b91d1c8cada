"""Builds the laptop and the smoke suite in the layout of the VTAB-1K archive, from a seed.

``vtab-1k/<task>/`` holds ``train800.txt``, ``val200.txt``, ``train800val200.txt`` and ``test.txt`` with lines
"<relative path> <label>", ``classes.txt`` with one class name a line, the images, and ``built.json``, which says what
the folder was built from. All images are lossless PNG; no image stands in two splits.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from PIL import Image
from tqdm.auto import tqdm

from .. import paths
from ..files import written_whole
from . import originals, printed, rendered, scenes
from .originals import ELPV_CLASSES, MNIST_CLASSES, SPLITS, Images
from .sources import damage, source

VERSION = 1  # raise it when the pixels or the lists that a seed gives change
LISTS = dict(zip(SPLITS, ("train800.txt", "val200.txt", "test.txt"), strict=True))
BUILT = "built.json"
Draw = Callable[[int, np.random.Generator, int], np.ndarray]


@dataclass(frozen=True)
class Sizes:
    """How large a profile's suite is: images per split, and the side of a drawn image in pixels."""

    train: int
    val: int
    test: int
    pixels: int


SIZES = {"laptop": Sizes(800, 200, 1000, 112), "smoke": Sizes(32, 16, 48, 32)}
DRAWN: dict[str, tuple[Draw, tuple[str, ...]]] = {
    "shape_location": (rendered.shape_location, rendered.LOCATION_CLASSES),
    "shape_orientation": (rendered.shape_orientation, rendered.ORIENTATION_CLASSES),
    "object_count": (scenes.object_count, scenes.COUNT_CLASSES),
    "object_distance": (scenes.object_distance, scenes.DISTANCE_CLASSES),
}
STAND_INS: dict[str, tuple[Draw, tuple[str, ...]]] = {
    "mnist": (printed.digit, MNIST_CLASSES),
    "elpv": (printed.solar_cell, ELPV_CLASSES),
}
SLOW = (scenes.object_count, scenes.object_distance)  # worth a process for each core
PARALLEL_FROM = 500  # images
TASKS = ("mnist", "elpv", *DRAWN)


def _drawn(task: str, sizes: Sizes, seed: int) -> Images:
    """Images of a drawn task: classes as even as the counts allow, in a random order, each image from its own seed."""
    draw, classes = (DRAWN | STAND_INS)[task]
    number = TASKS.index(task)
    wanted = []  # (split, label, seed of the image)
    for s, split in enumerate(LISTS):
        count = getattr(sizes, split)
        labels = np.random.default_rng([seed, number, s]).permutation(np.arange(count) % len(classes))
        wanted += [(split, int(label), [seed, number, s, i]) for i, label in enumerate(labels)]
    # Each image has its own seed, so the number of processes changes nothing but the time.
    processes = min(os.cpu_count() or 1, 8) if len(wanted) >= PARALLEL_FROM and draw in SLOW else 1
    pictures = Parallel(n_jobs=processes, batch_size=8, return_as="generator")(
        delayed(draw)(label, np.random.default_rng(own), sizes.pixels) for _, label, own in wanted
    )
    for (split, label, _), pixels in zip(wanted, pictures, strict=True):
        yield split, label, pixels


def _write(task: str, folder: Path, images: Images, classes: Sequence[str], total: int) -> dict:
    """Writes a task's images and lists into ``folder``. Returns counts, bytes and the digest of all of it."""
    lines: dict[str, list[str]] = {split: [] for split in LISTS}
    seen: dict[str, str] = {}
    size = 0
    for split, label, pixels in tqdm(images, desc=f"build {task}", total=total, unit="image", leave=False):
        name = f"images/{split}/{len(lines[split]):05d}.png"
        content = hashlib.sha256(np.ascontiguousarray(pixels)).hexdigest()
        if content in seen:
            raise RuntimeError(f"{task}: {name} would hold the same pixels as {seen[content]}; choose another seed")
        seen[content] = name
        lines[split].append(f"{name} {label}")
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, optimize=False, compress_level=6)
        size += path.stat().st_size
    texts = {LISTS[split]: "".join(f"{line}\n" for line in part) for split, part in lines.items()}
    texts["train800val200.txt"] = texts["train800.txt"] + texts["val200.txt"]
    texts["classes.txt"] = "".join(f"{name}\n" for name in classes)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    digest = hashlib.sha256("".join([*texts.values(), *seen]).encode()).hexdigest()
    return {
        "counts": {split: len(part) for split, part in lines.items()},
        "lists": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()},
        "image_bytes": size,
        "digest": digest,
    }


def _whole(folder: Path, wanted: dict) -> bool:
    """Whether a built folder is what ``wanted`` says and nothing of it is missing, cut short or edited."""
    try:
        built = json.loads((folder / BUILT).read_text())
        if any(built[key] != value for key, value in wanted.items()):
            return False
        lists = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in built["lists"]}
        files = [p for p in (folder / "images").rglob("*.png")]
        return (
            lists == built["lists"]
            and len(files) == sum(built["counts"].values())
            and sum(p.stat().st_size for p in files) == built["image_bytes"]
        )
    except (OSError, ValueError, KeyError):
        return False


def build_task(task: str, target: Path, sizes: Sizes, seed: int, stand_in: bool) -> bool:
    """Builds one task's folder, whole or not at all. Returns False where it was there already.

    Raises:
        FileExistsError: the folder exists and was not built here.
    """
    wanted = {"task": task, "version": VERSION, "seed": seed, "sizes": list(vars(sizes).values())}
    if _whole(target, wanted):
        return False
    if target.exists() and not (target / BUILT).is_file():
        raise FileExistsError(f"{target} exists and was not built by `dtl data build`: move it away, or set DTL_DATA")
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.parent / f".{task}.part"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    total = sizes.train + sizes.val + sizes.test
    if task in DRAWN or stand_in:
        images, classes = _drawn(task, sizes, seed), (DRAWN | STAND_INS)[task][1]
    elif task == "mnist":
        images, classes = originals.mnist(sizes.train, sizes.val, sizes.test, seed), MNIST_CLASSES
    else:
        images, classes = originals.elpv(sizes.train, sizes.val, sizes.pixels, seed), ELPV_CLASSES
        total = originals.ELPV_IMAGES  # all that is left goes to its test split
    facts = _write(task, fresh, images, classes, total)
    with written_whole(fresh / BUILT) as part:
        part.write_text(json.dumps({**wanted, **facts}, indent=1))
    if target.exists():
        shutil.rmtree(target)
    fresh.rename(target)
    return True


def build_suite(profile: str, tasks: Sequence[str] | None = None, seed: int = 0) -> dict[str, Path]:
    """Builds the tasks of a profile under ``data/<profile>/vtab-1k``. A second call does nothing.

    The laptop's mnist and elpv need their fetched package. Where it is missing they are left out with a message,
    unless they were asked for by name. The smoke profile draws stand-ins for them and needs no fetched file.

    Args:
        profile: ``laptop`` or ``smoke``.
        tasks: names out of ``TASKS``; all by default.
        seed: same seed, same images and lists.

    Returns:
        The folder of each task that is there now.

    Raises:
        ValueError: an unknown profile or task.
        FileNotFoundError: a task that was asked for by name needs a package that is not fetched.
    """
    if profile not in SIZES:
        raise ValueError(
            f"nothing is built for the profile {profile!r}: choose laptop or smoke. The paper profile reads the "
            f"official VTAB-1K folders from {paths.vtab_dir('paper')}"
        )
    unknown = set(tasks or ()) - set(TASKS)
    if unknown:
        raise ValueError(f"no task is called {', '.join(sorted(unknown))}: choose from {', '.join(TASKS)}")
    out = {}
    for task in tasks or TASKS:
        stand_in = profile == "smoke"
        if task in STAND_INS and not stand_in and damage(source(task).folder, quick=True):
            missing = f"{task} needs the package {source(task).package}, which is not there: run `dtl data fetch`"
            if tasks:
                raise FileNotFoundError(missing)
            print(f"{missing}. Left out; everything else is built.")
            continue
        target = paths.vtab_dir(profile) / task
        fresh = build_task(task, target, SIZES[profile], seed, stand_in)
        print(f"{task}: " + (f"built in {target}" if fresh else "there already, whole"), flush=True)
        out[task] = target
    return out

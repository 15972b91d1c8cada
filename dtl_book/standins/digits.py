"""Digits: trained on a few of one kind, tested on four others. Domain generalization in the layout of DG.

The source is ``mnist``: 16 images a class to train on, three draws that share none, and images to validate and test on.
The targets stand in for ImageNet-V2, -A, -Sketch and -R: ``uci`` (real scans of another collection, 8 x 8 pixels),
``printed`` (font faces), ``sketch`` (outlines in chalk) and ``rendition`` (texture and colour). The last two are drawn over
mnist digits of their own, which stand nowhere else, so their shapes are people's hands. The smoke profile, which must
need no fetched file, has printed digits in the place of mnist's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from tqdm.auto import tqdm

from dtl_core.data.domain import VAL_LIST, list_name
from dtl_core.data.fewshot import SEEDS

from . import inked, typefaces
from .built import Album, build_folder
from .originals import MNIST_CLASSES, mnist_arrays
from .printed import digit as stand_in_digit

VERSION = 1  # raise it when the pixels or the lists that a seed gives change
SHOTS = 16  # the benchmark's
SOURCE = "mnist"
TARGETS = ("uci", "printed", "sketch", "rendition")
DOMAINS = (SOURCE, *TARGETS)
# shares of the mnist digits: no image stands in two of them
SHARES = ("train", "val", "test", "sketch", "rendition")
FACES = tuple(face for face in typefaces.FACES if face != "cmmi10")  # which borrows its digits from cmr10
# As high as a capital or nearly so. Light on dark like the source: dark on light takes a linear probe down to chance, and
# a target on which nothing is learned compares nothing. ``rendition`` has both.
FIGURE = typefaces.Look(capitals=(0.55, 0.75), shift=0.06, turn=10.0, ink=(165, 255), paper=(0, 75))
Images = Iterator[tuple[int, np.ndarray]]  # label, pixels


@dataclass(frozen=True)
class Sizes:
    """How large a profile's domains are: images to validate and to test on, and the side of a drawn image in pixels."""

    val: int
    test: int
    pixels: int


# multiples of ten keep the classes even; mnist's 5,000 give 480 + 200 + 3 x 1,000
SIZES = {"laptop": Sizes(200, 1000, 112), "smoke": Sizes(20, 20, 32)}


def _mnist(share: str, sizes: Sizes, seed: int, stand_in: bool) -> Images:
    """One share of the mnist digits, as many of each class, class after class: (28, 28) grey levels."""
    each = {"train": len(SEEDS) * SHOTS, "val": sizes.val // 10}.get(share, sizes.test // 10)
    if stand_in:
        for i in range(10 * each):
            yield i // each, stand_in_digit(i // each, np.random.default_rng([seed, SHARES.index(share), i]), 28)
        return
    first = {"train": 0, "val": len(SEEDS) * SHOTS}.get(share, len(SEEDS) * SHOTS + sizes.val // 10)
    first += max(SHARES.index(share) - 2, 0) * each  # test, sketch and rendition are equally large
    pictures, labels = mnist_arrays()
    for label in range(10):
        order = np.random.default_rng([seed, label]).permutation(np.flatnonzero(labels == label))
        chosen = order[first : first + each]
        if len(chosen) < each:
            raise ValueError(f"mnist has {len(order)} images of {label}, and {first + each} are wanted")
        for i in chosen:
            yield label, pictures[i]


def _target(domain: str, sizes: Sizes, seed: int, stand_in: bool) -> Images:
    """The test images of a target, class after class."""

    def rng(i: int) -> np.random.Generator:
        return np.random.default_rng([seed, DOMAINS.index(domain), i])

    each = sizes.test // 10
    if domain == "uci":
        scans = load_digits()
        for label in range(10):
            for i in rng(label).permutation(np.flatnonzero(scans.target == label))[:each]:
                yield label, np.round(scans.images[i] * 255 / 16).astype(np.uint8)
    elif domain == "printed":
        for i in range(10 * each):
            face = FACES[i % len(FACES)]
            yield i // each, typefaces.printed(face, str(i // each), rng(i), sizes.pixels, FIGURE)
    else:
        draw = inked.outline if domain == "sketch" else inked.painted
        for i, (label, picture) in enumerate(_mnist(domain, sizes, seed, stand_in)):
            yield label, draw(picture, rng(i), sizes.pixels)


def _fill(album: Album, domain: str, sizes: Sizes, seed: int, stand_in: bool) -> dict[str, str]:
    """Adds a domain's images and returns its lists. As in DG the source's paths start below its ``images`` folders."""
    texts = {"classes.txt": "".join(f"{name}\n" for name in MNIST_CLASSES)}
    if domain != SOURCE:
        bar = tqdm(_target(domain, sizes, seed, stand_in), f"build {domain}", sizes.test, leave=False, unit="image")
        texts[f"annotations/{list_name('test', 0, 0)}"] = "".join(f"{album.add('test', p)} {y}\n" for y, p in bar)
        return texts
    lines: dict[str, list[str]] = {}
    for share, part in (("train", "train"), ("val", "train"), ("test", "val")):  # validation images lie in train, too
        bar = tqdm(_mnist(share, sizes, seed, stand_in), f"build {domain}", leave=False, unit="image")
        lines[share] = [f"{album.add(part, p).removeprefix(f'images/{part}/')} {y}\n" for y, p in bar]
    for draw in SEEDS:
        chosen = [line for i, line in enumerate(lines["train"]) if i // SHOTS % len(SEEDS) == draw]
        texts[f"annotations/{list_name('train', SHOTS, draw)}"] = "".join(chosen)
    texts[f"annotations/{VAL_LIST}"] = "".join(lines["val"])
    texts[f"annotations/{list_name('test', 0, 0)}"] = "".join(lines["test"])
    return texts


def build_domain(domain: str, target: Path, sizes: Sizes, seed: int, stand_in: bool) -> bool:
    """Builds one domain's folder, whole or not at all. Returns False where it was there already.

    Args:
        domain: one of ``DOMAINS``.
        target: the folder, ``domain/<domain>`` of a profile.
        sizes: a value of ``SIZES``.
        seed: same seed, same images and lists.
        stand_in: printed digits in the place of mnist's.

    Raises:
        FileExistsError: the folder exists and was not built here.
    """
    wanted = {"task": domain, "version": VERSION, "seed": seed, "sizes": list(vars(sizes).values())}
    return build_folder(target, wanted, lambda album: _fill(album, domain, sizes, seed, stand_in))

"""Digits: trained on a few of one kind, tested on four others. Domain generalization in the layout of DG.

The source is ``mnist``: 16 images a class to train on, three draws that share none, and images to validate and test on.
The targets stand in for ImageNet-V2, -A, -Sketch and -R: ``uci`` (real scans of another collection, 8 x 8 pixels),
``printed`` (font faces), ``sketch`` (outlines in chalk) and ``rendition`` (texture and colour). The last two are drawn
over mnist digits of their own, which occur nowhere else, so their shapes are real handwriting. The smoke profile must
need no fetched file, so it has printed digits instead of mnist's.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter
from sklearn.datasets import load_digits
from tqdm.auto import tqdm

from dtl_core.data.domain import VAL_LIST, list_name
from dtl_core.data.fewshot import SEEDS

from . import typefaces
from .packaged_images import MNIST_CLASSES, mnist_arrays, printed_digit
from .seeded_folder import Album, build_folder

VERSION = 1  # raise it when the pixels or the lists that a seed gives change
SHOTS = 16  # the benchmark's
SOURCE = "mnist"
TARGETS = ("uci", "printed", "sketch", "rendition")
DOMAINS = (SOURCE, *TARGETS)
# shares of the mnist digits: no image is in two of them
SHARES = ("train", "val", "test", "sketch", "rendition")
FACES = tuple(face for face in typefaces.FACES if face != "cmmi10")  # which borrows its digits from cmr10
# As high as a capital or nearly so. Light on dark like the source: dark on light takes a linear probe down to chance, and
# a target on which nothing is learned compares nothing. ``rendition`` has both.
FIGURE = typefaces.Look(capitals=(0.55, 0.75), shift=0.06, turn=10.0, ink=(165, 255), paper=(0, 75))
TURN = 10.0  # degrees either way: more, and a 6 comes near a 9
Images = Iterator[tuple[int, np.ndarray]]  # label, pixels


class Sizes(NamedTuple):
    """The size of a profile's domains: images to validate and to test on, and the side of a drawn image in pixels."""

    val: int
    test: int
    pixels: int


# multiples of ten keep the classes even; mnist's 5,000 give 480 + 200 + 3 x 1,000
SIZES = {"laptop": Sizes(200, 1000, 112), "smoke": Sizes(20, 20, 32)}


def _mnist(share: str, sizes: Sizes, seed: int, stand_in: bool) -> Images:
    """Yield one share of the mnist digits, equally many of each class, class after class: (28, 28) grey levels."""
    each = {"train": len(SEEDS) * SHOTS, "val": sizes.val // 10}.get(share, sizes.test // 10)
    if stand_in:
        for i in range(10 * each):
            yield i // each, printed_digit(i // each, np.random.default_rng([seed, SHARES.index(share), i]), 28)
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
    """Yield the test images of a target, class after class."""

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
        draw = outline if domain == "sketch" else painted
        for i, (label, picture) in enumerate(_mnist(domain, sizes, seed, stand_in)):
            yield label, draw(picture, rng(i), sizes.pixels)


def _fill(album: Album, domain: str, sizes: Sizes, seed: int, stand_in: bool) -> dict[str, str]:
    """Add a domain's images and return its lists. As in DG the source's paths start below its ``images`` folders."""
    texts = {"classes.txt": "".join(f"{name}\n" for name in MNIST_CLASSES)}
    if domain != SOURCE:
        bar = tqdm(_target(domain, sizes, seed, stand_in), f"build {domain}", sizes.test, leave=False, unit="image")
        texts[f"annotations/{list_name('test', 0, 0)}"] = "".join(f"{album.add('test', p)} {y}\n" for y, p in bar)
        return texts
    lines: dict[str, list[str]] = {}
    for share, part in (("train", "train"), ("val", "train"), ("test", "val")):  # validation images are in train, too
        bar = tqdm(_mnist(share, sizes, seed, stand_in), f"build {domain}", leave=False, unit="image")
        lines[share] = [f"{album.add(part, p).removeprefix(f'images/{part}/')} {y}\n" for y, p in bar]
    for draw in SEEDS:
        chosen = [line for i, line in enumerate(lines["train"]) if i // SHOTS % len(SEEDS) == draw]
        texts[f"annotations/{list_name('train', SHOTS, draw)}"] = "".join(chosen)
    texts[f"annotations/{VAL_LIST}"] = "".join(lines["val"])
    texts[f"annotations/{list_name('test', 0, 0)}"] = "".join(lines["test"])
    return texts


def build_domain(domain: str, target: Path, sizes: Sizes, seed: int, stand_in: bool) -> bool:
    """Build the folder of one of ``DOMAINS``, see ``build_folder``. ``stand_in`` prints the digits instead of mnist's."""
    return build_folder(target, domain, VERSION, seed, sizes, lambda album: _fill(album, domain, sizes, seed, stand_in))


# ---------------------------------------------------------------- other looks of the same ten digits
# Both start from the 28 x 28 grey levels of a digit, so that the shapes are people's own and only the look changes.


def _cloud(rng: np.random.Generator, cells: int, side: int) -> np.ndarray:
    """Return smooth noise in [0, 1] with ``cells`` lumps a side, (side, side)."""
    coarse = Image.fromarray(np.round(255 * rng.random((cells + 1, cells + 1))).astype(np.uint8))
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32) / 255


def _shape(digit: np.ndarray, rng: np.random.Generator, side: int, blur: float) -> np.ndarray:
    """Return a digit enlarged, turned, a little wavy and with soft edges: (side, side) in [0, 1], 0.5 along the edge."""
    picture = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    picture = picture.rotate(rng.uniform(-TURN, TURN), Image.Resampling.BICUBIC)
    grown = np.asarray(picture.filter(ImageFilter.GaussianBlur(side / 80)), dtype=np.float32) / 255
    wavy = grown + 0.12 * (_cloud(rng, 14, side) - 0.5)
    solid = Image.fromarray(np.where(wavy > 0.42, 255, 0).astype(np.uint8))
    return np.asarray(solid.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float32) / 255


def outline(digit: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
    """Return the outline of a digit, (28, 28) light on dark, in chalk on a board: (size, size) uint8.

    Turn, wobble, width and pressure of the chalk and the greys are drawn from ``rng``.
    """
    side = 4 * size
    soft = _shape(digit, rng, side, blur=rng.uniform(0.010, 0.016) * side)
    line = np.clip(2.2 * (1 - np.abs(2 * soft - 1)) - 0.8, 0, 1)  # 1 along the edge, 0 a line's width away
    line *= 0.5 + 0.5 * _cloud(rng, 24, side)  # pressure
    chalk, board = rng.uniform(190, 255), rng.uniform(10, 60)
    picture = Image.fromarray(np.round(board + (chalk - board) * line).astype(np.uint8))
    return np.asarray(picture.resize((size, size), Image.Resampling.BOX))


def _texture(rng: np.random.Generator, side: int) -> np.ndarray:
    """Return stripes, checks, dots, clouds or a wash, (side, side) in [-1, 1]."""
    angle, period = rng.uniform(0, np.pi), rng.uniform(0.06, 0.16) * side
    y, x = np.mgrid[:side, :side].astype(np.float32)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    waves = np.sin(2 * np.pi * along / period), np.sin(2 * np.pi * across / period)
    kind = rng.integers(5)
    if kind == 0:
        return np.clip(3 * waves[0], -1, 1)
    if kind == 1:
        return np.clip(6 * waves[0] * waves[1], -1, 1)
    if kind == 2:
        return np.clip(4 * (waves[0] + waves[1] - 0.8), -1, 1)
    if kind == 3:
        return np.clip(2 * (_cloud(rng, 9, side) + _cloud(rng, 27, side)) - 2, -1, 1)
    return 2 * (along - along.min()) / np.ptp(along) - 1


def _paint(rng: np.random.Generator, hue: float, lightness: float, side: int) -> np.ndarray:
    """Return a textured colour, (side, side, 3) in [0, 1]: two tones of one hue, ``lightness`` on average."""
    swing, saturation = rng.uniform(0.06, 0.14), rng.uniform(0.35, 0.9)
    tones = [colorsys.hls_to_rgb((hue + s / 40) % 1, lightness + s * swing, saturation) for s in (-1, 1)]
    weight = (_texture(rng, side)[..., None] + 1) / 2
    return np.float32(tones[0]) * (1 - weight) + np.float32(tones[1]) * weight


def painted(digit: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a digit, (28, 28) light on dark, in one textured colour on another: (size, size, 3) uint8.

    Hues are 80 to 180 degrees apart and lightness 0.34 or more, beyond what either texture sways; light on dark and
    dark on light alike. Turn, wobble, colours and textures are drawn from ``rng``.
    """
    side = 2 * size
    cover = _shape(digit, rng, side, blur=0.006 * side)[..., None]
    hue = rng.random()
    other = hue + rng.choice([-1, 1]) * rng.uniform(80, 180) / 360
    dark = rng.uniform(0.18, 0.34)
    light = rng.uniform(dark + 0.34, 0.82)
    first, second = (dark, light) if rng.random() < 0.5 else (light, dark)
    picture = _paint(rng, hue, first, side) * (1 - cover) + _paint(rng, other % 1, second, side) * cover
    picture = Image.fromarray(np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8))
    return np.asarray(picture.resize((size, size), Image.Resampling.BOX))

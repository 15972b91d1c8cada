"""Findings about image files: there, whole, of the right kind, and in one split only."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

from dtl_core.data import open_rgb
from dtl_core.data.transforms import UnreadableImage

from .lists import ImageSet, ListFile
from .report import listed

# From here on the same images in two splits are an error: they can move the accuracy by this much. Fewer are part of
# some sources themselves (the test images of CIFAR-100 and PatchCamelyon have twins), so everyone has them.
NOTICEABLE = 0.001
REMEDIES = {
    "missing_image": "not there: unpack the archive again",
    "unreadable_image": "cannot be read as an image: unpack the archive again, or fetch it again",
    "truncated_image": "cut short: unpack the archive again, or fetch it again",
}
Key = bytes | str  # digest of an image; one without pixels is represented by its path


class ImageFact(NamedTuple):
    """What is known of a file: a digest of its pixels (None where it cannot be read), and what is wrong with it."""

    digest: bytes | None
    jpeg: bool = False
    problem: str = ""
    detail: str = ""


def inspect(path: str) -> ImageFact:
    """Decode a file as training does. Two files have one digest when they give the same RGB pixels."""
    try:
        with open(path, "rb") as file:
            start = file.read(3)
    except FileNotFoundError:
        return ImageFact(None, problem="missing_image")
    except OSError as error:
        return ImageFact(None, problem="unreadable_image", detail=error.strerror or str(error))
    jpeg = start == b"\xff\xd8\xff"  # by content: the name may say anything
    try:
        image = open_rgb(path)
    except UnreadableImage as error:
        cause = str(error.__cause__ or error)
        cut = not start or "truncated" in cause.lower()
        kind = "truncated_image" if cut else "unreadable_image"
        return ImageFact(None, jpeg, kind, ("0 bytes" if not start else cause).replace(repr(path), "it"))
    pixels = hashlib.sha256(f"{image.size}".encode())
    pixels.update(image.tobytes())
    return ImageFact(pixels.digest(), jpeg)


def _full_path(lst: ListFile, name: str) -> str:
    return os.path.join(lst.base, name)


def paths_of(s: ImageSet) -> list[str]:
    """Return all files of a set, each once, however many lists name it."""
    return list(dict.fromkeys(_full_path(lst, name) for lst in s.lists for _, name, _ in lst.entries))


def inspect_all(files: list[str], bar: tqdm) -> dict[str, ImageFact]:
    """Inspect many files in threads: decoding and hashing leave the interpreter free."""
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    facts = {}
    try:
        for path, fact in zip(files, pool.map(inspect, files), strict=True):
            facts[path] = fact
            bar.update()
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C nothing that waits is begun
    return facts


def check_images(s: ImageSet, facts: dict[str, ImageFact], source: dict[Key, str] | None = None) -> None:
    """Add to a set what its images show.

    ``source`` has the training images of another set, for a set that is only tested on.
    """
    _check_files(s, facts)
    _check_jpeg(s, facts)
    _check_twins(s, facts, source or {})


def _check_files(s: ImageSet, facts: dict[str, ImageFact]) -> None:
    """Find missing, unreadable and truncated images, one finding a list and kind."""
    for lst in s.lists:
        wrong: dict[str, list[str]] = {}
        for name in dict.fromkeys(name for _, name, _ in lst.entries):
            fact = facts[_full_path(lst, name)]
            if fact.problem:
                wrong.setdefault(fact.problem, []).append(name + (f" ({fact.detail})" if fact.detail else ""))
        for kind, names in wrong.items():
            s.add("error", kind, len(names), f"{REMEDIES[kind]}: {listed(names)}", lst)


def _check_jpeg(s: ImageSet, facts: dict[str, ImageFact]) -> None:
    """Find JPEG, by content, in a set whose source was released without loss. PNG made from JPEG goes unnoticed."""
    jpeg = [path for path, fact in facts.items() if fact.jpeg]
    if not s.lossless or not jpeg:
        return
    kinds = Counter(Path(path).suffix for path in jpeg)
    message = (
        f"{len(jpeg):,} of {len(facts):,} images are JPEG by content (named {', '.join(sorted(kinds))}), but the source "
        f"is lossless ({s.lossless}). Compare only with results from JPEG of the same archive, or make the images again "
        f"as PNG"
    )
    s.add("error", "lossy_jpeg", len(jpeg), message)


def _entries(lst: ListFile, facts: dict[str, ImageFact]) -> list[tuple[str, Key]]:
    paths = [(name, _full_path(lst, name)) for _, name, _ in lst.entries]
    return [(name, facts[path].digest or path) for name, path in paths]


def _first_places(s: ImageSet, facts: dict[str, ImageFact], *roles: str) -> dict[Key, str]:
    """Return where each image in the lists of these roles first appears."""
    found: dict[Key, str] = {}
    for lst in s.lists:
        for name, key in _entries(lst, facts) if lst.role in roles else ():
            found.setdefault(key, f"{lst.name}: {name}")
    return found


def training_images(s: ImageSet, facts: dict[str, ImageFact]) -> dict[Key, str]:
    """Return where each training image of a set first appears."""
    return _first_places(s, facts, "train", "trainval")


def _check_twins(s: ImageSet, facts: dict[str, ImageFact], source: dict[Key, str]) -> None:
    """Find the same image in two splits: an error between training and test, else a warning."""
    seen = source | training_images(s, facts)
    chosen = {key: at for key, at in _first_places(s, facts, "val").items() if key not in seen}
    held_against = {
        "test": {"training": seen, "validation": chosen},
        "val": {"training": _first_places(s, facts, "train")},
    }
    for lst in s.lists:
        for of, places in held_against.get(lst.role, {}).items():
            twins = [f"{name} is {places[key]}" for name, key in _entries(lst, facts) if key in places]
            if not twins:
                continue
            share, tested = len(twins) / len(lst.entries), lst.role == "test"
            error = tested and of == "training" and share >= NOTICEABLE
            message = f"{len(twins):,} of {len(lst.entries):,} images have the pixels of one of {of}"
            message += (
                f", which can move the accuracy by up to {float(f'{100 * share:.2g}'):g} points: " if tested else ": "
            )
            s.add("error" if error else "warning", "same_image", len(twins), message + listed(twins), lst)

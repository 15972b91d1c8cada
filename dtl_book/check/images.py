"""Findings about image files: there, whole, of the right kind, and in one split only."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
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


class ImageFact(NamedTuple):
    """What is known of one file: a digest of its pixels (None where it cannot be read), and what is wrong with it."""

    digest: bytes | None
    jpeg: bool = False
    problem: str = ""
    detail: str = ""


def inspect(path: str) -> ImageFact:
    """Decodes a file as training does. Two files have one digest when they give the same RGB pixels."""
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


def full_path(lst: ListFile, name: str) -> str:
    """Where a listed image lies."""
    return os.path.join(lst.base, name)


def paths_of(s: ImageSet) -> list[str]:
    """All files of a set, each once, however many lists name it."""
    return list(dict.fromkeys(full_path(lst, name) for lst in s.lists for _, name, _ in lst.entries))


def inspect_all(files: list[str], bar: tqdm) -> dict[str, ImageFact]:
    """Looks at many files in threads: decoding and hashing leave the interpreter free."""
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    facts = {}
    try:
        for path, fact in zip(files, pool.map(inspect, files), strict=True):
            facts[path] = fact
            bar.update()
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C nothing that waits is begun
    return facts


def check_files(s: ImageSet, facts: dict[str, ImageFact]) -> None:
    """Missing, unreadable and truncated images, one finding a list and kind."""
    do = {
        "missing_image": "not there: unpack the archive again",
        "unreadable_image": "cannot be read as an image: unpack the archive again, or fetch it again",
        "truncated_image": "cut short: unpack the archive again, or fetch it again",
    }
    for lst in s.lists:
        wrong: dict[str, list[str]] = {}
        for name in dict.fromkeys(name for _, name, _ in lst.entries):
            fact = facts[full_path(lst, name)]
            if fact.problem:
                wrong.setdefault(fact.problem, []).append(name + (f" ({fact.detail})" if fact.detail else ""))
        for kind, names in wrong.items():
            s.add("error", kind, len(names), f"{do[kind]}: {listed(names)}", lst)


def check_jpeg(s: ImageSet, facts: dict[str, ImageFact]) -> None:
    """JPEG, by content, in a set whose source was released without loss. PNG made from JPEG is not seen."""
    jpeg = [path for path, fact in facts.items() if fact.jpeg]
    if not s.lossless or not jpeg:
        return
    kinds = Counter(Path(path).suffix for path in jpeg)
    s.add(
        "error",
        "lossy_jpeg",
        len(jpeg),
        f"{len(jpeg):,} of {len(facts):,} images are JPEG by content (named {', '.join(sorted(kinds))}), but the source "
        f"is lossless ({s.lossless}). Compare only with results from JPEG of the same archive, or make the images again "
        f"as PNG",
    )


def keys(lists: Iterable[ListFile], facts: dict[str, ImageFact]) -> Iterator[tuple[str, bytes | str]]:
    """("list: path", digest) of each entry. An image without pixels stands for itself by its path."""
    for lst in lists:
        for _, name, _ in lst.entries:
            path = full_path(lst, name)
            yield f"{lst.name}: {name}", facts[path].digest or path


def digests(lists: Iterable[ListFile], facts: dict[str, ImageFact]) -> dict[bytes | str, str]:
    """Digest -> where the image stands first."""
    found: dict[bytes | str, str] = {}
    for where, key in keys(lists, facts):
        found.setdefault(key, where)
    return found


def training_digests(s: ImageSet, facts: dict[str, ImageFact]) -> dict[bytes | str, str]:
    """Of all images of a set that are trained on."""
    return digests((lst for lst in s.lists if lst.role in ("train", "trainval")), facts)


def check_twins(s: ImageSet, facts: dict[str, ImageFact], source: dict[bytes | str, str] | None = None) -> None:
    """The same image in two splits: an error between training and test, a warning where validation is one of the two.

    Args:
        s: the set that takes the findings.
        facts: of its images.
        source: training images of another set, for a set that is only tested on.
    """
    seen = (source or {}) | training_digests(s, facts)
    chosen = digests((lst for lst in s.lists if lst.role == "val"), facts)
    fitted = digests((lst for lst in s.lists if lst.role == "train"), facts)
    for lst in s.lists:
        entries = list(keys([lst], facts)) if lst.role in ("test", "val") else []
        if lst.role == "test":
            _tell_twins(s, lst, "training", [(at, seen[k]) for at, k in entries if k in seen])
            _tell_twins(s, lst, "validation", [(at, chosen[k]) for at, k in entries if k in chosen and k not in seen])
        elif lst.role == "val":
            _tell_twins(s, lst, "training", [(at, fitted[k]) for at, k in entries if k in fitted])


def _tell_twins(s: ImageSet, lst: ListFile, of: str, twins: list[tuple[str, str]]) -> None:
    if not twins:
        return
    share, tested = len(twins) / len(lst.entries), lst.role == "test"
    s.add(
        "error" if tested and of == "training" and share >= NOTICEABLE else "warning",
        "same_image",
        len(twins),
        f"{len(twins):,} of {len(lst.entries):,} images have the pixels of one of {of}"
        + (f", which can move the accuracy by up to {100 * share:.2g} points: " if tested else ": ")
        + listed([f"{here.removeprefix(f'{lst.name}: ')} is {there}" for here, there in twins]),
        lst,
    )

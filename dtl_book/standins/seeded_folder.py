"""A folder of images and lists that is built from a seed: written whole or not at all, checked, never built twice.

``built.json`` in the folder says what it was built from and what it holds. All images are lossless PNG, and no picture
is in it twice.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from dtl_core.files import one_writer

from ..json_files import write_json

BUILT = "built.json"


class Album:
    """The images of a folder that is being built; ``task`` is its name in messages."""

    def __init__(self, folder: Path, task: str):
        self.folder, self.task = folder, task
        self.counts: dict[str, int] = {}
        self.bytes = 0
        self._seen: dict[str, str] = {}

    def add(self, part: str, pixels: np.ndarray) -> str:
        """Write one image, (H, W) or (H, W, 3) uint8, and return its path ``images/<part>/<number>.png``.

        The same pixels a second time are an error.
        """
        name = f"images/{part}/{self.counts.get(part, 0):05d}.png"
        content = hashlib.sha256(np.ascontiguousarray(pixels)).hexdigest()
        if content in self._seen:
            raise RuntimeError(
                f"{self.task}: {name} would hold the same pixels as {self._seen[content]}; choose another seed"
            )
        self._seen[content] = name
        self.counts[part] = self.counts.get(part, 0) + 1
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, optimize=False, compress_level=6)
        self.bytes += path.stat().st_size
        return name

    def close(self, texts: dict[str, str]) -> dict:
        """Write the text files, by their paths in the folder. Return counts, bytes and a digest of everything."""
        for name, text in texts.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())  # the same bytes, and so the same digest, on every system
        digest = hashlib.sha256("".join([*texts.values(), *self._seen]).encode()).hexdigest()
        return {
            "counts": self.counts,
            "lists": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()},
            "image_bytes": self.bytes,
            "digest": digest,
        }


def is_whole(folder: Path, wanted: dict) -> bool:
    """Return whether a folder was built from ``wanted`` and nothing of it is missing, cut short or edited."""
    try:
        built = json.loads((folder / BUILT).read_text())
        if any(built[key] != value for key, value in wanted.items()):
            return False
        lists = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in built["lists"]}
        sizes = [p.stat().st_size for p in (folder / "images").rglob("*.png")]
        there = lists, len(sizes), sum(sizes)
        return there == (built["lists"], sum(built["counts"].values()), built["image_bytes"])
    except (OSError, ValueError, KeyError):
        return False


def build_folder(
    target: Path, task: str, version: int, seed: int, sizes: tuple, fill: Callable[[Album], dict[str, str]]
) -> bool:
    """Build a folder, whole or not at all. Return False where it was there already.

    Its pixels and lists depend on task, version, seed and sizes. ``fill`` adds the images and returns the text files by
    their paths in the folder.
    """
    wanted = {"task": task, "version": version, "seed": seed, "sizes": list(sizes)}
    if is_whole(target, wanted):
        return False
    if target.exists() and not (target / BUILT).is_file():
        raise FileExistsError(f"{target} exists and was not built by `dtl data build`: move it away, or set DTL_DATA")
    fresh, old = (target.parent / f".{target.name}.{kind}" for kind in ("part", "old"))
    with one_writer(target.parent / f".{target.name}.build", f"{target.name}: another run is building it; waiting"):
        if is_whole(target, wanted):
            return False
        for left in (fresh, old):  # of a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        fresh.mkdir()
        album = Album(fresh, task)
        facts = album.close(fill(album))
        write_json(fresh / BUILT, {**wanted, **facts})
        if target.exists():
            target.rename(old)  # half a folder never has its name
        fresh.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    return True

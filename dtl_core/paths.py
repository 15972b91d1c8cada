"""Where the project keeps things on disk. Knows no other module of the package."""

from __future__ import annotations

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
RESOURCES = Path(__file__).resolve().parent / "resources"


def in_checkout() -> bool:
    """True when the package runs from a checkout (an editable install), not from site-packages."""
    return (CHECKOUT / "pyproject.toml").is_file()


def project_dir() -> Path:
    """The checkout, or the current folder for an installed package."""
    return CHECKOUT if in_checkout() else Path.cwd()


def data_dir() -> Path:
    """Fetched and built data: ``DTL_DATA``, else ``data/`` of the project. May be read-only (a class shares one)."""
    return Path(os.environ.get("DTL_DATA") or project_dir() / "data").expanduser()


def cache_dir() -> Path:
    """Files that are cheap to make again (prefix caches): ``DTL_CACHE``, else ``cache/`` in the data folder,
    else, when that folder cannot be written, ``~/.cache/dtl``."""
    if os.environ.get("DTL_CACHE"):
        return Path(os.environ["DTL_CACHE"]).expanduser()
    data = data_dir()
    existing = next(p for p in (data, *data.parents) if p.exists())
    return data / "cache" if os.access(existing, os.W_OK) else Path.home() / ".cache" / "dtl"


def results_dir() -> Path:
    """Recorded run cards: ``DTL_RESULTS``, else ``results/`` of the project."""
    return Path(os.environ.get("DTL_RESULTS") or project_dir() / "results").expanduser()


def results_roots() -> list[Path]:
    """Folders that recorded results are read from; of a file that is in several, the last one counts.

    An installed package brings the project's record along (setup.py puts it into the wheel), for notebooks that run away
    from a checkout. Runs are always written to ``results_dir()``. Where ``DTL_RESULTS`` is set, nothing else is read.
    """
    if os.environ.get("DTL_RESULTS") or in_checkout():
        return [results_dir()]
    return [RESOURCES / "results", results_dir()]


def recorded_path(path: Path) -> Path:
    """Where a file of ``results_dir()`` is read from: ``path`` itself, or its copy in the package where only that is."""
    own, *brought = reversed(results_roots())
    if path.exists() or not path.is_relative_to(own):
        return path
    return next((p for root in brought if (p := root / path.relative_to(own)).exists()), path)


def packages_dir() -> Path:
    """Files unpacked from the pinned packages."""
    return data_dir() / "packages"


def packaged_vit_weights() -> Path:
    """The packaged ViT-S/14, converted to timm's names. Written by ``dtl data fetch``."""
    return data_dir() / "weights" / "packaged-vit-s14.safetensors"


def vtab_dir(profile: str) -> Path:
    """The VTAB-1K folder of a profile, in the official layout."""
    return data_dir() / profile / "vtab-1k"


def few_shot_dir(profile: str) -> Path:
    """The folder of a profile's few-shot sets: FGFS in ``paper``."""
    return data_dir() / profile / "few-shot"


def domain_dir(profile: str) -> Path:
    """The folder of a profile's domains: DG in ``paper``."""
    return data_dir() / profile / "domain"


def shown(path: Path) -> str:
    """A path as it is printed: from the project's folder where it lies below it, so that notebooks hold no one's home."""
    path, project = Path(path).resolve(), project_dir().resolve()
    return str(path.relative_to(project)) if path.is_relative_to(project) else str(path)

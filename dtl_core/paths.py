"""Where data and caches lie on disk. Knows no other module of the package."""

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
    """Files that are cheap to make again (prefix caches).

    ``DTL_CACHE``, else ``cache/`` in the data folder, else, when that folder cannot be written, ``~/.cache/dtl``.
    """
    if os.environ.get("DTL_CACHE"):
        return Path(os.environ["DTL_CACHE"]).expanduser()
    data = data_dir()
    existing = next(p for p in (data, *data.parents) if p.exists())
    return data / "cache" if os.access(existing, os.W_OK) else Path.home() / ".cache" / "dtl"


def packaged_vit_weights() -> Path:
    """The packaged ViT-S/14, converted to timm's names. Written by ``dtl data fetch``."""
    return data_dir() / "weights" / "packaged-vit-s14.safetensors"


def shown(path: Path) -> str:
    """A path as it is printed: from the project's folder where it lies below it, so that notebooks hold no one's home."""
    path, project = Path(path).resolve(), project_dir().resolve()
    return str(path.relative_to(project)) if path.is_relative_to(project) else str(path)

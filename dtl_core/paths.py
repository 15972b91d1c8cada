"""Locations of data and caches on disk. Imports no other module of the package."""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
RESOURCES = Path(__file__).resolve().parent / "resources"


def in_checkout() -> bool:
    """Return whether the package runs from a checkout (an editable install), not from site-packages."""
    return (CHECKOUT / "pyproject.toml").is_file()


def project_dir() -> Path:
    """Return the checkout, or the current folder for an installed package."""
    return CHECKOUT if in_checkout() else Path.cwd()


def data_dir() -> Path:
    """Return the folder of fetched and built data: ``DTL_DATA``, else ``data/`` of the project.

    The folder may be read-only, for example if a class of students shares it.
    """
    return Path(os.environ.get("DTL_DATA") or project_dir() / "data").expanduser()


def cache_dir() -> Path:
    """Return the folder of files that are cheap to make again (prefix caches).

    It is ``DTL_CACHE``, else ``cache/`` in the data folder, or ``~/.cache/dtl`` if the data folder is not writable.
    """
    if os.environ.get("DTL_CACHE"):
        return Path(os.environ["DTL_CACHE"]).expanduser()
    data = data_dir()
    existing = next(p for p in (data, *data.parents) if p.exists())
    return data / "cache" if os.access(existing, os.W_OK) else Path.home() / ".cache" / "dtl"


def packaged_vit_weights() -> Path:
    """Return the path of the packaged ViT-S/14 in timm's names, a file that ``dtl data fetch`` writes."""
    return data_dir() / "weights" / "packaged-vit-s14.safetensors"


def shown(path: Path) -> str:
    """Return a path as text for printing, relative to the project's folder if inside it.

    Notebook outputs thus do not contain a user's home folder.
    """
    path, project = Path(path).resolve(), project_dir().resolve()
    return str(path.relative_to(project)) if path.is_relative_to(project) else str(path)

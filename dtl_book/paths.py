"""Where the book keeps its files, in addition to ``dtl_core.paths``."""

from __future__ import annotations

import os
from pathlib import Path

from dtl_core.paths import CHECKOUT, cache_dir, data_dir, in_checkout, packaged_vit_weights, project_dir, shown

__all__ = [
    "CHECKOUT", "RESOURCES", "build_dir", "cache_dir", "data_dir", "domain_dir", "few_shot_dir", "in_checkout", "packaged_vit_weights",
    "packages_dir", "project_dir", "recorded_path", "results_dir", "results_roots", "shown", "vtab_dir",
]  # fmt: skip
RESOURCES = Path(__file__).resolve().parent / "resources"


def results_dir() -> Path:
    """Return the folder of recorded run cards: ``DTL_RESULTS``, else ``results/`` of the project."""
    return Path(os.environ.get("DTL_RESULTS") or project_dir() / "results").expanduser()


def build_dir() -> Path:
    """Return the folder of what commands make: ``build/`` of the project, or ``~/.local/share/dtl`` where that is read-only."""
    build = project_dir() / "build"
    existing = next(p for p in (build, *build.parents) if p.exists())
    return build if os.access(existing, os.W_OK) else Path.home() / ".local" / "share" / "dtl"


def results_roots() -> list[Path]:
    """Return the folders that recorded results are read from; of a file that is in several, the last one counts.

    An installed package contains the project's record (pyproject.toml puts it into the wheel), for notebooks that run away
    from a checkout. Runs are always written to ``results_dir()``. Where ``DTL_RESULTS`` is set, nothing else is read.
    """
    if os.environ.get("DTL_RESULTS") or in_checkout():
        return [results_dir()]
    return [RESOURCES / "results", results_dir()]


def recorded_path(path: Path) -> Path:
    """Return where to read a file of ``results_dir()``: ``path`` itself, or its copy in the package if only that exists."""
    own, *brought = reversed(results_roots())
    if path.exists() or not path.is_relative_to(own):
        return path
    return next((p for root in brought if (p := root / path.relative_to(own)).exists()), path)


def packages_dir() -> Path:
    """Return the folder of the files unpacked from the pinned packages."""
    return data_dir() / "packages"


def vtab_dir(profile: str) -> Path:
    """Return the VTAB-1K folder of a profile, in the official layout."""
    return data_dir() / profile / "vtab-1k"


def few_shot_dir(profile: str) -> Path:
    """Return the folder of a profile's few-shot sets: FGFS in ``paper``."""
    return data_dir() / profile / "few-shot"


def domain_dir(profile: str) -> Path:
    """Return the folder of a profile's domains: DG in ``paper``."""
    return data_dir() / profile / "domain"

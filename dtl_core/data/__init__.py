"""Data: fetched by pip, rendered from a seed, or the user's own; one reader for each layout on disk."""

from .build import TASKS, build_suite
from .check import check
from .domain import DomainShift
from .fetch import fetch
from .fewshot import FewShot
from .folder import ImageFolderTask
from .sources import clean_cache, status
from .transforms import eval_transform, open_rgb
from .vtab import VTAB1k

__all__ = [
    "TASKS",
    "DomainShift",
    "FewShot",
    "ImageFolderTask",
    "VTAB1k",
    "build_suite",
    "check",
    "clean_cache",
    "eval_transform",
    "fetch",
    "open_rgb",
    "status",
]

"""Fetching: packages pinned by their hash, and the official VTAB-1K archive."""

from .packages import fetch
from .sources import clean_cache, status

__all__ = ["clean_cache", "fetch", "status"]

"""JSON files under ``results/`` that hold no run: plans and benchmarks, from which tables are made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dtl_core.files import DamagedFile

from ..json_files import write_json
from ..paths import recorded_path, results_dir


def read_record(name: str, made_by: str, root: Path | None = None, shape: Callable = dict) -> Any:
    """Return a record below the results.

    Args:
        name: its path.
        made_by: what makes it, for the messages; "{}" in it is the path.
        root: folder of the results; ``results_dir()``, or the package's copy, if None.
        shape: makes the answer of the parsed JSON, and fails on another record.

    Raises:
        FileNotFoundError, DamagedFile: it is missing or damaged.
    """
    path = recorded_path((root or results_dir()) / name)
    remedy = made_by.format(path)
    try:
        return shape(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} is missing: {remedy}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedFile(f"{path} is damaged ({error}): {remedy}") from error


def write_record(name: str, value: object, root: Path | None = None) -> Path:
    """Write a record, whole or not at all, and return its path."""
    return write_json((root or results_dir()) / name, value, ensure_ascii=False)

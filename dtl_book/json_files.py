"""Write JSON files."""

from __future__ import annotations

import json
from pathlib import Path

from dtl_core.files import written_whole


def write_json(path: str | Path, value: object, **options: bool) -> Path:
    """Write a value as indented JSON, whole or not at all, with options of ``json.dumps``. Return the path."""
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, **options) + "\n", encoding="utf-8")
    return Path(path)

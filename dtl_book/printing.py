"""Text of others on a terminal: names of files and classes, which may hold any character."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from dtl_core.files import written_whole

from .json_files import write_json

if TYPE_CHECKING:
    import pandas as pd

UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control and format characters, half characters, ends of lines


def printable(text: object, keep: str = "") -> str:
    r"""Return a text with what a terminal would obey, or could not show, written out, as ``\x1b``.

    Args:
        text: anything; its ``str``.
        keep: characters to leave as they are, e.g. the ends of lines of a message of ours.
    """
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in UNSEEN and c not in keep else c
        for c in str(text)
    )


def to_text(frame: pd.DataFrame) -> str:
    """Return a table for a terminal, numbers with three decimals and a dash for what is missing."""
    safe = frame.map(lambda value: printable(value) if isinstance(value, str) else value)
    return safe.to_string(index=False, float_format="{:.3f}".format, na_rep="–")


def write_table(frame: pd.DataFrame, path: Path) -> Path:
    """Write a table as JSON or, by any other ending than .json, as CSV, with its texts as they are, whole or not at all."""
    if path.suffix.lower() == ".json":
        return write_json(path, frame.astype(object).where(frame.notna(), None).to_dict("records"))
    with written_whole(path) as temporary:
        frame.to_csv(temporary, index=False, errors="backslashreplace")  # a file's name need not be Unicode
    return path

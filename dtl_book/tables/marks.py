"""The tables of RESULTS.md stand between marks, and are made from recorded files alone."""

from __future__ import annotations

from pathlib import Path

from dtl_core.files import written_whole

from ..paths import project_dir


def put_between(marks: tuple[str, str], text: str, page: Path | None = None) -> Path:
    """Replaces what stands between two marks, whole or not at all.

    Args:
        marks: the lines before and after.
        text: what goes between them.
        page: the project's RESULTS.md if None.

    Raises:
        ValueError: the file has no such marks.
    """
    page = page or project_dir() / "RESULTS.md"
    whole = page.read_text(encoding="utf-8")
    if any(mark not in whole for mark in marks):
        raise ValueError(
            f"{page} has no place for the table: put the lines {marks[0]!r} and {marks[1]!r} where it should stand"
        )
    before, after = whole.split(marks[0])[0], whole.split(marks[1])[1]
    with written_whole(page) as temporary:
        temporary.write_text(f"{before}{marks[0]}\n{text}\n{marks[1]}{after}", encoding="utf-8")
    return page

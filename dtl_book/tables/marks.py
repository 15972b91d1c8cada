"""The README's tables stand between marks, and are made from recorded files alone."""

from __future__ import annotations

from pathlib import Path

from dtl_core.files import written_whole

from ..paths import project_dir


def put_between(marks: tuple[str, str], text: str, readme: Path | None = None) -> Path:
    """Replaces what stands between two marks, whole or not at all.

    Args:
        marks: the lines before and after.
        text: what goes between them.
        readme: the project's README.md if None.

    Raises:
        ValueError: the file has no such marks.
    """
    readme = readme or project_dir() / "README.md"
    page = readme.read_text()
    if any(mark not in page for mark in marks):
        raise ValueError(
            f"{readme} has no place for the table: put the lines {marks[0]!r} and {marks[1]!r} where it should stand"
        )
    before, after = page.split(marks[0])[0], page.split(marks[1])[1]
    with written_whole(readme) as temporary:
        temporary.write_text(f"{before}{marks[0]}\n{text}\n{marks[1]}{after}")
    return readme

"""All tables of RESULTS.md that are made of what is recorded, and of plans that are made anew."""

from __future__ import annotations

from pathlib import Path

from ..paths import project_dir
from . import ablations, domain, few_shot, pitfalls, results, serving
from . import bf16 as half
from . import memory_forms as leaner
from .marks import put_between

Marks = tuple[str, str]


def recorded_tables(profile: str = "laptop") -> list[tuple[Marks, str]]:
    """The marks between which each table stands, and the table.

    Args:
        profile: whose cards.

    Raises:
        FileNotFoundError: a benchmark is not recorded.
    """
    tables = [
        (results.MARKS, results.results_markdown(profile)),
        (few_shot.MARKS, few_shot.few_shot_markdown(profile)),
        (domain.MARKS, domain.domain_markdown(profile)),
        (ablations.MARKS, ablations.ablation_markdown(profile)),
        (pitfalls.MARKS, pitfalls.pitfalls_markdown(profile)),
        (leaner.MARKS, leaner.trade_markdown()),
        (serving.MARKS, serving.serving_markdown()),
    ]
    return tables + ([(half.MARKS, half.half_markdown(profile))] if half.recorded(profile) else [])


def write_results(profile: str = "laptop", page: Path | None = None) -> Path:
    """Puts every table into RESULTS.md between its marks.

    Args:
        profile: whose cards.
        page: another file than the project's RESULTS.md.

    Raises:
        ValueError: the page lacks marks.
    """
    for marks, text in recorded_tables(profile):
        put_between(marks, text, page)
    return page or project_dir() / "RESULTS.md"

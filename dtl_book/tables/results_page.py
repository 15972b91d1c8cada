"""Write the tables of RESULTS.md between their marks, from what is recorded and from new plans."""

from __future__ import annotations

from pathlib import Path

from dtl_core.files import written_whole

from ..paths import project_dir
from . import benchmarks, changed_runs, equal_memory, memory_forms, serving

Marks = tuple[str, str]
TABLES = ("results", "few-shot", "domain", "ablations", "pitfalls", "equal memory", "leaner", "serving")
MADE_BY = dict.fromkeys(TABLES, "dtl results --write")
MADE_BY |= {"bf16": "dtl record --parts bf16", "figure 1": "dtl figure1 --write"}
MARKS: dict[str, Marks] = {
    name: (f"<!-- {name}: begin ({command}) -->", f"<!-- {name}: end -->") for name, command in MADE_BY.items()
}


def put_between(marks: Marks, text: str, page: Path | None = None) -> Path:
    """Replace the text between two marks (whole lines) of a page, RESULTS.md if None, whole or not at all."""
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


def recorded_tables(profile: str = "laptop") -> list[tuple[Marks, str]]:
    """Return the marks of each table, and the table."""
    tables = {
        "results": benchmarks.results_markdown(profile),
        "few-shot": benchmarks.few_shot_markdown(profile),
        "domain": benchmarks.domain_markdown(profile),
        "ablations": changed_runs.ablation_markdown(profile),
        "pitfalls": changed_runs.pitfalls_markdown(profile),
        "equal memory": equal_memory.equal_memory_markdown(profile),
        "leaner": memory_forms.trade_markdown(),
        "serving": serving.serving_markdown(),
        "bf16": changed_runs.bf16_markdown(profile),
    }
    return [(MARKS[name], text) for name, text in tables.items()]


def write_results(profile: str = "laptop", page: Path | None = None) -> Path:
    """Put every table into RESULTS.md, or another page, between its marks."""
    for marks, text in recorded_tables(profile):
        put_between(marks, text, page)
    return page or project_dir() / "RESULTS.md"

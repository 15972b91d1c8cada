"""The verdicts as tables: for RESULTS.md, the terminal and notebooks. Made from ``results/claims.json`` alone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ..tables.results_page import put_between
from .verdicts import load_verdicts

MARKS = ("<!-- claims: begin (dtl claims --write) -->", "<!-- claims: end -->")
SIGNS = {"supported": "✓", "not supported": "✗", "different setting": "≠", "not run": "–"}


def verdict_table(rows: list[dict]) -> pd.DataFrame:
    """A row a part: id, part, verdict, numbers, setting, date, stale, command.

    Args:
        rows: of ``load_verdicts``.
    """
    return pd.DataFrame(
        {
            "id": row["id"], "part": part["about"], "verdict": part["verdict"], "numbers": part["numbers"],
            "setting": part["setting"], "date": part["date"], "stale": "; ".join(part["stale"]), "command": part["command"],
        }
        for row in rows
        for part in row["parts"]
    )  # fmt: skip


def claims_markdown(path: Path | None = None) -> str:
    """The table of RESULTS.md: a row a claim, with the numbers of each part.

    Args:
        path: of the recorded verdicts; the project's if None.
    """
    lines = ["| | claim | verdict | evidence |", "|---|---|---|---|"]
    notes: dict[str, str] = {}  # what is stale, said once below the table: many parts rest on the same cards
    for row in load_verdicts(path):
        cells = []
        for part in row["parts"]:
            found = f": {part['numbers']}" if part["verdict"] != "not run" else ""
            old = "".join(notes.setdefault(said, f"<sup>{len(notes) + 1}</sup>") for said in part["stale"])
            cells.append(f"{SIGNS[part['verdict']]} {part['about']}{found}{old}")
        lines.append(f"| {row['id']} | {row['text']} | **{row['verdict']}** | {'<br>'.join(cells)} |")
    signs = ", ".join(f"{sign} {word}" for word, sign in SIGNS.items())
    note = (
        f"{signs}. A claim takes the least favourable verdict of its parts. *Different setting*: shown on the laptop's stand-in, which "
        "decides nothing about the paper's numbers. What is planned is not measured on a GPU. Settings, dates, tolerances and the command "
        "for each part: `results/claims.json`, or notebook 14."
    )
    footnotes = [f"{mark} {said[:1].upper()}{said[1:]}." for said, mark in notes.items()]
    return "\n".join([*lines, "", note, *(["", " ".join(footnotes)] if footnotes else [])])


def write_claims(path: Path | None = None, page: Path | None = None) -> Path:
    """Puts the table into RESULTS.md between its marks.

    Raises:
        ValueError: the page has no marks.
    """
    return put_between(MARKS, claims_markdown(path), page)

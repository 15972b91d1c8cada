"""What a claim is, what speaks to it, and what is found."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pandas as pd

from ..paths import RESOURCES

# from the least to the most favourable; a claim takes the least favourable of its parts
VERDICTS = ("not supported", "not run", "different setting", "supported")


@dataclass(frozen=True)
class Part:
    """One thing of a claim that can be checked.

    Attributes:
        about: what it says.
        check: name of the function that checks it, see ``verdicts.CHECKS``.
        command: what makes its evidence again.
        options: arguments of the check: methods, numbers, tolerances.
    """

    about: str
    check: str
    command: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """One claim of the paper. Source: ``resources/claims.toml``.

    Attributes:
        id: "C1" to "C12".
        text, source: the claim, and where the paper makes it.
        supports, refutes: what would decide it, tolerance included.
        notebooks: numbers of the notebooks that take it up.
        doubt: what a doubter should run next.
        context: what others found, with its source; it decides nothing.
        parts: what is checked.
    """

    id: str
    text: str
    source: str
    supports: str
    refutes: str
    notebooks: tuple[str, ...]
    doubt: str
    context: tuple[str, ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        verdict: one of ``VERDICTS``.
        numbers: what was found, in a sentence with its numbers.
        setting: where: backbone, images, precision, planned or trained.
        date: of the evidence, YYYY-MM-DD; the day of the evaluation where it was computed at once.
        stale: what has changed since the evidence was made; empty where nothing has.
    """

    verdict: str
    numbers: str
    setting: str
    date: str
    stale: tuple[str, ...] = field(default=())

    def __post_init__(self):
        if self.verdict not in VERDICTS:
            raise ValueError(f"{self.verdict!r} is no verdict: choose one of {', '.join(VERDICTS)}")


def load_claims() -> tuple[Claim, ...]:
    """The claims, in order."""
    claims = []
    for row in tomllib.loads((RESOURCES / "claims.toml").read_text(encoding="utf-8"))["claim"]:
        parts = tuple(
            Part(p["about"], p["check"], p["command"], {k: v for k, v in p.items() if k not in Part.__annotations__})
            for p in row["part"]
        )
        facts = {k: row[k] for k in ("id", "text", "source", "supports", "refutes", "doubt")}
        claims.append(
            Claim(**facts, notebooks=tuple(row["notebooks"]), context=tuple(row.get("context", ())), parts=parts)
        )
    return tuple(claims)


@cache
def paper_number(name: str) -> tuple[float, float, str]:
    """A number of the paper: value, its uncertainty, and source. Source: ``resources/paper_numbers.csv``.

    Raises:
        KeyError: there is no such number.
        ValueError: it is not known.
    """
    table = pd.read_csv(RESOURCES / "paper_numbers.csv", index_col="id")
    row = table.loc[name]
    if pd.isna(row["value"]):
        raise ValueError(f"the paper's number {name!r} ({row['what']}) is not known here")
    return float(row["value"]), float(row["plus_minus"]), str(row["source"])


def finding(holds: bool, numbers: str, setting: str) -> Finding:
    """What was computed just now."""
    return Finding("supported" if holds else "not supported", numbers, setting, today())


def today() -> str:
    """YYYY-MM-DD."""
    return datetime.now(UTC).strftime("%Y-%m-%d")

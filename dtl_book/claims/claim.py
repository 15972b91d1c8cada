"""What a claim is, what is checked of it, and what is found."""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import pandas as pd

from ..paths import RESOURCES

# from the least to the most favourable; a claim takes the least favourable of its parts
VERDICTS = ("not supported", "not run", "different setting", "supported")


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    verdict: str  # one of VERDICTS
    numbers: str  # what was found, as a sentence with its numbers
    setting: str  # backbone, images and precision, and whether it was planned or trained
    date: str  # of the evidence, YYYY-MM-DD; today where it was computed just now
    stale: tuple[str, ...] = ()  # what has changed since the evidence was made; empty where nothing has

    def __post_init__(self):
        if self.verdict not in VERDICTS:
            raise ValueError(f"{self.verdict!r} is no verdict: choose one of {', '.join(VERDICTS)}")


class Part(NamedTuple):
    """A part of a claim that can be checked: what it says, and the command that reproduces its evidence."""

    about: str
    command: str


@dataclass(frozen=True)
class Claim:
    """One claim of the paper."""

    id: str  # "C1" to "C12"
    text: str
    source: str  # where the paper makes the claim
    # what would decide it, tolerance included
    supports: str
    refutes: str
    notebooks: tuple[str, ...]  # numbers of the notebooks that discuss it
    doubt: str  # what a doubter should run next
    context: tuple[str, ...]  # what others found, with its source; it decides nothing
    parts: tuple[Part, ...]


def read_claim(function: Callable) -> Claim:
    """Return a claim as written in the docstring of its function.

    Named facts follow the text and may span several lines. The command of a part follows it in brackets.
    """
    text, rest = inspect.getdoc(function).split("\n\n")
    _, *words = re.split(r"^(\w[\w ]+)[:?] ", rest, flags=re.MULTILINE)
    facts = defaultdict(list)
    for name, fact in zip(words[::2], words[1::2], strict=True):
        facts[name].append(" ".join(fact.split()))
    names = ("Source", "Supported if", "Refuted if", "Notebooks", "Doubt it")
    source, supports, refutes, notebooks, doubt = (facts[name][0] for name in names)
    parts = tuple(Part(*re.fullmatch(r"(.*?)(?: \[(.*)\])?", part).groups("")) for part in facts["Part"])
    text, numbers = text.removesuffix("."), tuple(notebooks.split(", "))
    return Claim(function.__name__, text, source, supports, refutes, numbers, doubt, tuple(facts["Others"]), parts)


def paper_number(name: str) -> tuple[float, float, str]:
    """Return a number of the paper (``resources/paper_numbers.csv``): value, its uncertainty, and source."""
    row = pd.read_csv(RESOURCES / "paper_numbers.csv", index_col="id").loc[name]
    if pd.isna(row["value"]):
        raise ValueError(f"the paper's number {name!r} ({row['what']}) is not known here")
    return float(row["value"]), float(row["plus_minus"]), str(row["source"])


def finding(holds: bool, numbers: str, setting: str, date: str = "", stale: tuple[str, ...] = ()) -> Finding:
    """Return a finding that decides; dated today where no date is given."""
    return Finding("supported" if holds else "not supported", numbers, setting, date or today(), stale)


def today() -> str:
    """Return today's date, YYYY-MM-DD."""
    return datetime.now(UTC).strftime("%Y-%m-%d")

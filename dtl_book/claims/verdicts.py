"""Check every claim against its evidence and record the verdicts in ``claims.json``."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

from tqdm import tqdm

from dtl_core.files import DamagedFile

from ..json_files import write_json
from ..paths import recorded_path, results_dir
from ..tables.results_page import put_between
from .accuracy import C4, C5, C6, C7, C8
from .claim import VERDICTS, Claim, Finding, read_claim, today
from .costs import C1, C2, C3
from .identities import C9, C10, C11, C12

CLAIMS = (C1, C2, C3, C4, C5, C6, C7, C8, C9, C10, C11, C12)
MARKS = ("<!-- claims: begin (dtl claims --write) -->", "<!-- claims: end -->")
SIGNS = {"supported": "✓", "not supported": "✗", "different setting": "≠", "not run": "–"}


def load_claims() -> tuple[Claim, ...]:
    """Return the claims in order, unchecked."""
    return tuple(map(read_claim, CLAIMS))


@dataclass(frozen=True)
class Judged:
    """A claim with a finding for each of its parts."""

    claim: Claim
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> str:
        """The least favourable of the parts."""
        return min((f.verdict for f in self.findings), key=VERDICTS.index)

    @property
    def stale(self) -> tuple[str, ...]:
        """What has changed since the evidence of any part was made."""
        return tuple(dict.fromkeys(note for f in self.findings for note in f.stale))

    @property
    def summary(self) -> str:
        """How many parts have which verdict: "2 of 3 parts supported, 1 not run"; "one part, supported" where it has one."""
        if len(self.findings) == 1:
            return f"one part, {self.verdict}"
        count = {v: sum(f.verdict == v for f in self.findings) for v in reversed(VERDICTS)}
        (first, n), *others = [(v, n) for v, n in count.items() if n]
        return ", ".join([f"{n} of {len(self.findings)} parts {first}", *(f"{n} {v}" for v, n in others)])


def judge(ids: tuple[str, ...] = (), root: Path | None = None, progress: bool = True) -> tuple[Judged, ...]:
    """Check claims now, all or those of ``ids``, and return each with what was found."""
    claims = load_claims()
    if unknown := set(ids) - {c.id for c in claims}:
        raise ValueError(f"no claim is called {', '.join(sorted(unknown))}: choose from C1 to C{len(claims)}")
    chosen = [(claim, check) for claim, check in zip(claims, CLAIMS, strict=True) if not ids or claim.id in ids]
    count, judged = sum(len(claim.parts) for claim, _ in chosen), []
    with tqdm(total=count, desc="claims", unit="part", disable=not progress, leave=False, file=sys.stderr) as bar:
        for claim, check in chosen:
            bar.set_postfix_str(claim.id)
            findings = []
            for found in check(root):
                findings.append(found)
                bar.update()
            judged.append(Judged(claim, tuple(findings)))
    return tuple(judged)


def describe(judged: Judged) -> str:
    """Return a judged claim as ``dtl claims`` prints it: its verdict, then each part, what others found, and a doubter's step."""
    claim, lines = judged.claim, []

    def say(text: str, first: str = "    ") -> None:
        lines.extend(wrap(text, 110, initial_indent=first, subsequent_indent="      " if first else "    "))

    say(f"{claim.id}  {judged.verdict.upper()}: {claim.text}", "")
    for part, found in zip(claim.parts, judged.findings, strict=True):
        old = f" STALE: {'; '.join(found.stale)}." if found.stale else ""
        again = f" Again: {part.command}" if part.command else ""
        say(f"- {found.verdict}: {part.about}. {found.numbers} [{found.setting}, {found.date}].{old}{again}")
    for fact in claim.context:
        say(f"Others: {fact}")
    say(f"Doubt it? {claim.doubt}")
    return "\n".join(lines)


def save_claims(judged: tuple[Judged, ...], path: Path | None = None) -> Path:
    """Write the verdicts, whole or not at all: a row per claim with its parts."""
    rows = []
    for j in judged:
        facts = {name: value for name, value in vars(j.claim).items() if name != "parts"}
        both = zip(j.claim.parts, j.findings, strict=True)
        parts = [{"about": part.about, **vars(found), "command": part.command} for part, found in both]
        rows.append({**facts, "verdict": j.verdict, "summary": j.summary, "stale": j.stale, "parts": parts})
    path = path or results_dir() / "claims.json"
    return write_json(path, {"created": today(), "claims": rows}, ensure_ascii=False)


def load_verdicts(path: Path | None = None) -> list[dict]:
    """Return the recorded verdicts, a row per claim.

    Raises:
        FileNotFoundError: nothing is recorded.
        DamagedFile: the record is damaged.
    """
    path = path or recorded_path(results_dir() / "claims.json")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: `dtl claims --write` makes it")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["claims"]
        return [{**row, "parts": [dict(part) for part in row["parts"]]} for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedFile(f"{path} is damaged ({error}): `dtl claims --write` makes it again") from error


def claims_markdown(path: Path | None = None) -> str:
    """Return the table of RESULTS.md from the recorded verdicts: a row per claim, with the numbers of each part."""
    lines = ["| | claim | verdict | evidence |", "|---|---|---|---|"]
    notes: dict[str, str] = {}  # what is stale, said once below the table: many parts rest on the same cards
    for row in load_verdicts(path):
        cells = []
        for part in row["parts"]:
            found = f": {part['numbers']}" if part["verdict"] != "not run" else ""
            old = "".join(notes.setdefault(text, f"<sup>{len(notes) + 1}</sup>") for text in part["stale"])
            cells.append(f"{SIGNS[part['verdict']]} {part['about']}{found}{old}")
        lines.append(f"| {row['id']} | {row['text']} | **{row['verdict']}** | {'<br>'.join(cells)} |")
    signs = ", ".join(f"{sign} {word}" for word, sign in SIGNS.items())
    note = (
        f"{signs}. A claim takes the least favourable verdict of its parts. *Different setting*: shown on the laptop's stand-in, which "
        "decides nothing about the paper's numbers. What is planned is not measured on a GPU. Settings, dates, tolerances and the command "
        "for each part: `results/claims.json`, or notebook 15."
    )
    footnotes = [f"{mark} {text[:1].upper()}{text[1:]}." for text, mark in notes.items()]
    return "\n".join([*lines, "", note, *(["", " ".join(footnotes)] if footnotes else [])])


def write_claims() -> Path:
    """Put the table into RESULTS.md between its marks."""
    return put_between(MARKS, claims_markdown())

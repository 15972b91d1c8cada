"""Every claim meets its evidence, and takes the least favourable verdict of its parts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from dtl_core.files import DamagedFile, written_whole

from ..paths import recorded_path, results_dir
from . import accuracy, computed, memory
from .claim import VERDICTS, Claim, Finding, Part, load_claims, today
from .serving import serving_saves

COMPUTED: dict[str, Callable[..., Finding]] = {
    f.__name__: f
    for f in (
        computed.fewest_parameters, computed.gate, computed.golden, computed.parameter_shares, computed.parameters_below,
        computed.shared_prefix, computed.side_parameters, computed.start, accuracy.never_run,
    )
}  # fmt: skip
RECORDED: dict[str, Callable[..., Finding]] = {
    f.__name__: f
    for f in (
        accuracy.accuracy_by_m, accuracy.domain_best, accuracy.few_shot_best, accuracy.vtab_accuracy, accuracy.vtab_best,
        memory.least_memory, memory.memory_by_m, memory.memory_ratio, memory.memory_read, memory.memory_shares, serving_saves,
    )
}  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """A claim with what was found for each of its parts.

    Attributes:
        claim: the claim.
        findings: one for each of ``claim.parts``.
    """

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


def find(part: Part, root: Path | None = None) -> Finding:
    """Checks one part, from cards under ``root`` (``results_dir()`` if None) or at once.

    Raises:
        ValueError: the part names a check that there is not.
    """
    if part.check in COMPUTED:
        return COMPUTED[part.check](**part.options)
    if part.check in RECORDED:
        return RECORDED[part.check](**part.options, root=root)
    raise ValueError(
        f"no check is called {part.check!r} (claims.toml): choose one of {', '.join({**COMPUTED, **RECORDED})}"
    )


def judge(ids: tuple[str, ...] = (), root: Path | None = None, progress: bool = True) -> tuple[Judged, ...]:
    """Every claim with its verdict.

    Args:
        ids: only these claims; all if empty.
        root: folder of the results; ``results_dir()`` if None.
        progress: show a bar.

    Raises:
        ValueError: an unknown claim.
    """
    claims = load_claims()
    if unknown := set(ids) - {c.id for c in claims}:
        raise ValueError(f"no claim is called {', '.join(sorted(unknown))}: choose from C1 to C{len(claims)}")
    chosen = [c for c in claims if not ids or c.id in ids]
    bar = tqdm(
        total=sum(len(c.parts) for c in chosen),
        desc="claims",
        unit="part",
        disable=not progress,
        leave=False,
        file=sys.stderr,
    )
    judged = []
    for claim in chosen:
        findings = []
        for part in claim.parts:
            bar.set_postfix_str(claim.id)
            findings.append(find(part, root))
            bar.update()
        judged.append(Judged(claim, tuple(findings)))
    bar.close()
    return tuple(judged)


def claims_path(root: Path | None = None) -> Path:
    """Where the verdicts are recorded."""
    return (root or results_dir()) / "claims.json"


def save_claims(judged: tuple[Judged, ...], path: Path | None = None) -> Path:
    """Writes the verdicts, whole or not at all: a row a claim, its parts in it."""
    rows = []
    for j in judged:
        parts = [
            {"about": p.about, **asdict(f), "command": p.command}
            for p, f in zip(j.claim.parts, j.findings, strict=True)
        ]
        facts = {k: v for k, v in asdict(j.claim).items() if k != "parts"}
        rows.append({**facts, "verdict": j.verdict, "summary": j.summary, "stale": j.stale, "parts": parts})
    path = path or claims_path()
    with written_whole(path) as temporary:
        temporary.write_text(
            json.dumps({"created": today(), "claims": rows}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
    return path


def load_verdicts(path: Path | None = None) -> list[dict]:
    """The recorded verdicts, a row a claim.

    Raises:
        FileNotFoundError: nothing is recorded.
        DamagedFile: it is not whole.
    """
    path = path or recorded_path(claims_path())
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: `dtl claims --write` makes it")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["claims"]
        return [{**row, "parts": [dict(part) for part in row["parts"]]} for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedFile(f"{path} is damaged ({error}): `dtl claims --write` makes it again") from error

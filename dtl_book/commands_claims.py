"""The command that judges the claims."""

from __future__ import annotations

import textwrap
from typing import Annotated

import tyro

WIDTH = 110


def claims(ids: Annotated[tuple[str, ...], tyro.conf.Positional] = (), write: bool = False) -> None:
    """Judge the paper's claims, C1 to C12, from recorded runs and from what can be computed at once.

    Each part of a claim is supported, not supported, shown in a different setting (which decides nothing), or not run;
    a claim takes the least favourable of its parts. Nothing is trained.

    Args:
        ids: only these claims, e.g. `C4`; all if not given.
        write: also write results/claims.json, results/behaviour.json where the code changed, the table of RESULTS.md and a page,
            build/claims.html (all claims).
    """
    from .claims import judge, save_claims, write_claims
    from .claims.page import write_claims_html
    from .experiments.behaviour import record_behaviour
    from .experiments.code import recorded_code
    from .paths import shown

    if write and ids:
        raise ValueError("--write records all claims: leave the ids out")
    judged = judge(ids)
    for j in judged:
        print(
            "\n".join(
                textwrap.wrap(f"{j.claim.id}  {j.verdict.upper()}: {j.claim.text}", WIDTH, subsequent_indent="    ")
            )
        )
        for part, found in zip(j.claim.parts, j.findings, strict=True):
            old = f" STALE: {'; '.join(found.stale)}." if found.stale else ""
            again = f" Again: {part.command}" if part.command else ""
            text = f"- {found.verdict}: {part.about}. {found.numbers} [{found.setting}, {found.date}].{old}{again}"
            print("\n".join(textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="      ")))
        for fact in j.claim.context:
            print("\n".join(textwrap.wrap(f"Others: {fact}", WIDTH, initial_indent="    ", subsequent_indent="      ")))
        print(
            "\n".join(
                textwrap.wrap(f"Doubt it? {j.claim.doubt}", WIDTH, initial_indent="    ", subsequent_indent="      ")
            ),
            "\n",
        )
    if write:
        if path := record_behaviour(recorded_code()):
            print(f"written: {shown(path)}")
        print(f"written: {shown(save_claims(judged))}")
        print(f"written: {shown(write_claims())}")
        print(f"written: {shown(write_claims_html())}")

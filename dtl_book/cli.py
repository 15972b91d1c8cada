"""The command line: which command is called what, and errors without a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

import tyro

from . import commands as c
from . import commands_data as d
from . import commands_memory as m
from .bars import calm_bars
from .commands_claims import claims
from .commands_measure import COMMANDS as MEASURE
from .commands_sweep import record, sweep

GROUPS: dict[str, Callable | dict[str, Callable]] = {
    "data": {"fetch": d.fetch, "build": c.build, "check": d.check, "status": c.status, "clean": c.clean},
    "train": c.train,
    "predict": c.predict,
    "sweep": sweep,
    "record": record,
    "results": c.results,
    "claims": claims,
    "memory": m.memory,
    "figure1": m.figure1,
    "explorer": m.explorer,
    "measure": MEASURE,
    "notebooks": {
        "run": c.notebooks_run, "site": c.notebooks_site, "html": c.notebooks_site,
        "list": c.notebooks_list, "sync": c.notebooks_sync, "lab": c.notebooks_lab,
    },
}  # fmt: skip


def _summary(function: Callable) -> str:
    return (function.__doc__ or "").strip().split("\n")[0]


def _overview() -> str:
    lines = ["usage: dtl COMMAND [options]        (the same as python -m dtl_core)", ""]
    for name, entry in GROUPS.items():
        members = {f"{name} {k}": f for k, f in entry.items()} if isinstance(entry, dict) else {name: entry}
        lines += [f"  {k:16s} {_summary(f)}" for k, f in members.items()]
    return "\n".join(
        [*lines, "", "Each command explains its options with --help. To begin: dtl data fetch, then dtl data build."]
    )


def main(arguments: list[str] | None = None) -> None:
    """Entry point. Errors that a person can mend are printed without a traceback."""
    calm_bars()
    words = list(sys.argv[1:] if arguments is None else arguments)
    entry: Callable | dict[str, Callable] | None = GROUPS
    program = ["dtl"]
    while isinstance(entry, dict) and words and words[0] in entry:
        program.append(words[0])
        entry = entry[words.pop(0)]
    if isinstance(entry, dict):
        wanted_help = not words or words[0] in ("-h", "--help")
        print(
            _overview() if wanted_help else f"no command is called {' '.join([*program, words[0]])!r}\n\n{_overview()}"
        )
        sys.exit(0 if wanted_help else 2)
    try:
        tyro.cli(entry, prog=" ".join(program), args=words, description=entry.__doc__.split("Args:")[0])
    except (ValueError, OSError, RuntimeError, TypeError) as error:
        print(f"dtl: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()

"""The command line, ``dtl``: which words call which command, and errors without a traceback."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable

import tyro

from . import adapter_commands as a
from . import commands as c
from . import memory_commands as m
from .printing import printable

GROUPS: dict[str, Callable | dict[str, Callable]] = {
    "data": {
        "fetch": c.data_fetch, "build": c.data_build, "check": c.data_check, "status": c.data_status, "clean": c.data_clean,
    },
    "train": c.train,
    "predict": a.predict,
    "evaluate": a.evaluate,
    "export": a.export,
    "sweep": c.sweep,
    "record": c.record,
    "results": c.results,
    "claims": c.claims,
    "memory": m.memory,
    "figure1": m.figure1,
    "explorer": m.explorer,
    "measure": {"": m.measure, "pack": m.measure_pack},  # without a further word it is the first
    "notebooks": {
        "run": c.notebooks_run, "site": c.notebooks_site, "list": c.notebooks_list, "sync": c.notebooks_sync,
        "lab": c.notebooks_lab,
    },
}  # fmt: skip


def _overview() -> str:
    lines = ["usage: dtl COMMAND [options]        (the same as python -m dtl_core)", ""]
    for name, entry in GROUPS.items():
        members = {f"{name} {k}".strip(): f for k, f in entry.items()} if isinstance(entry, dict) else {name: entry}
        lines += [f"  {k:16s} {(f.__doc__ or '').strip().splitlines()[0]}" for k, f in members.items()]
    return "\n".join(
        [*lines, "", "Each command explains its options with --help. To begin: dtl data fetch, then dtl data build."]
    )


def main(arguments: list[str] | None = None) -> None:
    """Run a command. Errors that a person can mend are printed without a traceback."""
    for stream in (sys.stdout, sys.stderr):  # a terminal or a file may know fewer letters than a name or a table has
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    encoding = os.environ.get("PYTHONIOENCODING", "").partition(":")[0]
    os.environ["PYTHONIOENCODING"] = f"{encoding}:backslashreplace"  # of the processes that a command starts
    if not sys.stderr.isatty():  # a bar in a log, whoever shows it, writes every half minute at most
        os.environ.setdefault("TQDM_MININTERVAL", "30")
    warnings.formatwarning = lambda message, *_, **__: f"dtl: {printable(message, keep=chr(10))}\n"  # may name files
    words = list(sys.argv[1:] if arguments is None else arguments)
    entry: Callable | dict[str, Callable] | None = GROUPS
    program = ["dtl"]
    while isinstance(entry, dict) and words and words[0] in entry:
        program.append(words[0])
        entry = entry[words.pop(0)]
    if isinstance(entry, dict) and "" in entry:
        entry = entry[""]
    if isinstance(entry, dict):
        wanted_help = not words or words[0] in ("-h", "--help")
        print(
            _overview() if wanted_help else f"no command is called {' '.join([*program, words[0]])!r}\n\n{_overview()}"
        )
        sys.exit(0 if wanted_help else 2)
    try:
        tyro.cli(entry, prog=" ".join(program), args=words, description=entry.__doc__.split("Args:")[0])
    except KeyboardInterrupt:
        print("dtl: stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError, RuntimeError, TypeError) as error:
        print(f"dtl: {printable(error, keep=chr(10))}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()

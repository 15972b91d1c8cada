"""A piece of work in a process of its own: ``python -m dtl_book.sweep WORK ANSWER``, with its argument on stdin."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from dtl_core.files import written_whole

from ..experiments import execution
from ..experiments.run import Run
from .report import survey


def execute(run: dict) -> dict:
    """Return the card of a run; both as JSON values."""
    asked = Run.from_dict(run)
    card, _ = execution.execute(asked, prefixes=asked.prefixes, progress=False)
    return asdict(card)


WORK: dict[str, Callable] = {"execute": execute, "survey": survey}


def attempt(work: str, argument: Any) -> dict:
    """Return what the work returned as ``value``, or an empty one and its ``error`` in a line; a traceback is printed."""
    try:
        return {"value": WORK[work](argument), "error": ""}
    except Exception as failure:  # whatever it is, the other runs go on
        traceback.print_exc()
        return {"value": None, "error": f"{type(failure).__name__}: {failure}"}


def main(work: str, answer: str) -> None:
    """Do the work, and write what it returned, or the error that it raised, to the file ``answer``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the sweep's, which then ends its runs
    argument = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_sweep, daemon=True).start()
    found = attempt(work, argument)
    with written_whole(answer) as temporary:  # a kill leaves no half of it
        temporary.write_text(json.dumps(found), encoding="utf-8")


def _end_with_the_sweep() -> None:
    """Exit when the sweep is killed and stdin closes: the next sweep would start the same run beside this one."""
    sys.stdin.read()
    os._exit(1)

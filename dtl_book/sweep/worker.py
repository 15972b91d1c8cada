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
from pathlib import Path

from ..experiments import execution
from ..experiments.run import Run
from .report import survey


def execute(run: dict) -> dict:
    """Return the card of a run; both as JSON values."""
    asked = Run.from_dict(run)
    card, _ = execution.execute(asked, prefixes=asked.prefixes, progress=False)
    return asdict(card)


WORK: dict[str, Callable] = {"execute": execute, "survey": survey}


def main(work: str, answer: str) -> None:
    """Do the work, and write what it returned, or the error that it raised, to the file ``answer``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the sweep's, which then ends its runs
    argument = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_sweep, daemon=True).start()
    found = {"value": None, "error": ""}
    try:
        found["value"] = WORK[work](argument)
    except Exception as failure:  # whatever it is, the other runs go on
        traceback.print_exc()
        found["error"] = f"{type(failure).__name__}: {failure}"
    Path(answer).write_text(json.dumps(found), encoding="utf-8")


def _end_with_the_sweep() -> None:
    """Exit when the sweep is killed and stdin closes: the next sweep would start the same run beside this one."""
    sys.stdin.read()
    os._exit(1)

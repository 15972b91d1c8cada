"""The live table of a sweep: redrawn in place on a terminal, in whole lines in a log."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable
from typing import TextIO

from ..experiments.preflight import format_seconds
from .jobs import Job

STATES = ("done", "running", "failed", "waiting")
QUIET = 60  # seconds between two tables in a log


class Board:
    """What has become of each run.

    Args:
        jobs: all of them.
        before: those that are recorded already.
        out: where it is shown; standard output if None.
    """

    def __init__(self, jobs: Iterable[Job], before: Iterable[Job] = (), out: TextIO | None = None):
        before = set(before)
        self.states = {job: "done" if job in before else "waiting" for job in jobs}
        self.before, self.out = len(before), out or sys.stdout
        self.start, self.ran, self._shown, self._lines = time.monotonic(), 0, float("-inf"), 0

    def set(self, job: Job, state: str, said: str = "") -> None:
        """A run has come to a state; ``said`` is a line about it."""
        self.states[job] = state
        self.ran += state in ("done", "failed")
        self._show(said)

    def head(self) -> str:
        """The counts in one line."""
        counts = Counter(self.states.values())
        gone = time.monotonic() - self.start
        left = len(self.states) - counts["done"] - counts["failed"]
        text = f"{len(self.states)} runs: " + ", ".join(f"{counts[state]} {state}" for state in STATES)
        text += f"; {self.before} recorded before" if self.before else ""
        text += f"; {format_seconds(gone)} gone"
        if self.ran and left:
            text += f", about {format_seconds(gone / self.ran * left)} to go"
        return text

    def table(self) -> str:
        """The counts, then a row a task and a column a method: done of all, r running, f failed."""
        rows, methods = (list(dict.fromkeys(getattr(j, k) for j in self.states)) for k in ("where", "label"))
        cells = [["", *methods]]
        for task in rows:
            row = [task]
            for method in methods:
                counts = Counter(s for j, s in self.states.items() if (j.where, j.label) == (task, method))
                marks = "".join(f" {counts[s]}{s[0]}" for s in ("running", "failed") if counts[s])
                row.append(f"{counts['done']}/{counts.total()}{marks}" if counts else "")
            cells.append(row)
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
        return "\n".join([self.head(), *lines])

    def tick(self) -> None:
        """Time has gone by: on a terminal the times are drawn again."""
        if self.out.isatty() and time.monotonic() - self._shown > 1:
            self._show()

    def close(self) -> None:
        """The last table, which stays."""
        self._shown = float("-inf")
        self._show()

    def _show(self, said: str = "") -> None:
        now = time.monotonic()
        if self.out.isatty():
            up = f"\x1b[{self._lines}A\x1b[J" if self._lines else ""  # over the last table, and clear
            table = self.table()
            self.out.write(f"{up}{said}\n{table}\n" if said else f"{up}{table}\n")
            self._lines, self._shown = table.count("\n") + 1, now
        else:
            if said:
                self.out.write(f"{said}  [{self.head()}]\n")
            if now - self._shown >= QUIET:
                self.out.write(f"{self.table()}\n")
                self._shown = now
        self.out.flush()

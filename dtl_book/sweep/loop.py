"""Runs a list of jobs on a pool: what is recorded is left alone, what fails is tried again and then recorded as failed."""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from dtl_core.files import written_whole

from ..experiments import RunCard, save_card
from ..experiments.preflight import format_seconds
from ..paths import shown
from .board import Board
from .jobs import Job, recorded, run_job
from .pools import Outcome, Pool


@dataclass(frozen=True)
class Result:
    """What became of a job.

    Attributes:
        job: the job.
        card: None where it failed.
        tries: 0 where the card was there before.
        error: of the last try, where it failed.
    """

    job: Job
    card: RunCard | None
    tries: int
    error: str = ""


def sweep(
    jobs: Iterable[Job],
    pool: Pool,
    *,
    retries: int = 1,
    work: Callable[[Job], RunCard] = run_job,
    out: TextIO | None = None,
) -> list[Result]:
    """Runs what has no card yet, and writes the cards as they come.

    A run that fails, or whose process dies, is tried again after the others (it continues from its last whole epoch). After
    its last try it is recorded as failed, with its log; the next sweep tries it anew. The stored prefixes of a task are
    removed with its last run.

    Args:
        jobs: the runs.
        pool: where; see ``open_pool``.
        retries: further tries of a run that failed.
        work: from a job to its card.
        out: where the table is shown; standard output if None.

    Returns:
        A result for each job, in their order.

    Raises:
        DamagedFile: a card is not whole.
        ValueError: a card is of another run of the same name; nothing is run then.
    """
    jobs = list(dict.fromkeys(jobs))
    results = {job: Result(job, card, 0) for job in jobs if (card := recorded(job)) is not None}
    waiting, running = deque(job for job in jobs if job not in results), set()
    tried: dict[Job, list[Outcome]] = {job: [] for job in waiting}
    board = Board(jobs, results, out)
    while waiting or running:
        while waiting and len(running) < pool.slots:
            job = waiting.popleft()
            running.add(job)
            board.set(job, "running")
            pool.start(job, job.name, work, job)
        for job, outcome in pool.finished():
            running.remove(job)
            tried[job].append(outcome)
            count, took = len(tried[job]), format_seconds(outcome.seconds)
            if not outcome.error:
                save_card(outcome.value, job.card)
                forget_failure(job)
                results[job] = Result(job, outcome.value, count)
                board.set(job, "done", f"done: {job}: accuracy {outcome.value.accuracy:.3f} in {took}")
            elif count <= retries:
                waiting.append(job)
                board.set(
                    job, "waiting", f"again: {job}: {_short(outcome.error)} after {took}; try {count} of {retries + 1}"
                )
            else:
                path = record_failure(job, tried[job])
                results[job] = Result(job, None, count, outcome.error)
                board.set(job, "failed", f"failed: {job}: {_short(outcome.error)} after {took}; log: {shown(path)}")
            if not any(j.prefixes == job.prefixes for j in (*waiting, *running)):
                shutil.rmtree(job.prefixes, ignore_errors=True)
        board.tick()
    board.close()
    return [results[job] for job in jobs]


def record_failure(job: Job, tried: list[Outcome]) -> Path:
    """Writes what became of each try, and beside it the log of all of them. Returns the log's path."""
    log = job.failure.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(log) as temporary:
        parts = [f"--- try {i} of {len(tried)}: {o.error}\n{o.log}" for i, o in enumerate(tried, 1)]
        temporary.write_text("\n".join(parts), encoding="utf-8", errors="replace")
    note = {
        "job": asdict(job), "tries": [{"error": o.error, "seconds": o.seconds} for o in tried], "log": log.name,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }  # fmt: skip
    with written_whole(job.failure) as temporary:
        temporary.write_text(json.dumps(note, indent=1) + "\n")
    return log


def forget_failure(job: Job) -> None:
    """Takes away the record of a failure, and the folders that it leaves empty."""
    for path in (job.failure, job.failure.with_suffix(".log")):
        path.unlink(missing_ok=True)
    for folder in (job.failure.parent, *list(job.failure.parents)[1:3]):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _short(error: str) -> str:
    line = error.splitlines()[0] if error else ""
    return line if len(line) <= 160 else f"{line[:157]}..."

"""Run a list on workers: what is recorded is left alone, what fails is tried again and then recorded as failed."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tqdm import tqdm

from dtl_core.files import written_whole

from ..experiments.cards import RunCard, load_card, save_card
from ..experiments.preflight import format_seconds
from ..experiments.run import Run
from ..json_files import write_json
from ..paths import shown
from .workers import Outcome, Workers


@dataclass(frozen=True)
class Result:
    """The outcome of a run."""

    run: Run
    card: RunCard | None  # None where it failed
    tries: int  # 0 where the card was there before
    error: str = ""  # of the last try, where it failed


def recorded(run: Run) -> RunCard | None:
    """Return the card of a run that is recorded, else None.

    It is an error if the run on the card had another learning rate, drop path, length, batch or protocol.
    """
    if not run.card().exists():
        return None
    card = load_card(run.card())
    had = {"lr": card.lr, "protocol": card.protocol}
    had |= {k: card.recipe[k] for k in ("drop_path", "epochs", "batch_size")}
    other = [f"{k} {v}, not {getattr(run, k)}" for k, v in had.items() if getattr(run, k) not in (None, v)]
    if other:
        raise ValueError(
            f"{run.card()} is of a run with {' and '.join(other)}: move it away, or set DTL_RESULTS to another folder"
        )
    return card


def run_all(runs: Iterable[Run], pool: Workers, *, retries: int = 1) -> list[Result]:
    """Run what has no card yet, and write the cards as they come. The results have the order of the runs.

    A run that fails, or whose process dies, is tried again after the others (it continues from its last whole epoch). After
    ``retries`` further tries it is recorded as failed, with its log; the next sweep tries it again. The stored prefixes of a
    task are removed with its last run. If a card belongs to another run of the same name, nothing is run.
    """
    if retries < 0:
        raise ValueError(f"retries is {retries}: 0 tries each run once")
    runs = list(dict.fromkeys(runs))
    results = {run: Result(run, card, 0) for run in runs if (card := recorded(run)) is not None}
    waiting, running = deque(run for run in runs if run not in results), {}
    tried: dict[Run, list[Outcome]] = {run: [] for run in waiting}
    failed = 0
    with tqdm(total=len(runs), initial=len(results), desc="runs", unit="run", disable=None) as bar:
        while waiting or running:
            while waiting and len(running) < pool.slots():
                run = waiting.popleft()
                future: Future[Outcome] = pool.submit("execute", asdict(run), run.name)
                running[future] = run
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                run, outcome = running.pop(future), future.result()
                tried[run].append(outcome)
                count, took = len(tried[run]), format_seconds(outcome.seconds)
                short = outcome.error.splitlines()[0][:160] if outcome.error else ""
                if not outcome.error:
                    card = RunCard(**outcome.value)
                    save_card(card, run.card())
                    _forget_failure(run)
                    results[run] = Result(run, card, count)
                    line = f"done: {run}: accuracy {card.accuracy:.3f} in {took}"
                elif count <= retries:
                    waiting.append(run)
                    line = f"again: {run}: {short} after {took}; try {count} of {retries + 1}"
                else:
                    log, failed = _record_failure(run, tried[run]), failed + 1
                    results[run] = Result(run, None, count, outcome.error)
                    line = f"failed: {run}: {short} after {took}; log: {shown(log)}"
                bar.update(len(results) - bar.n)
                tqdm.write(f"{line}  [{len(results)} of {len(runs)} runs, {failed} failed]")
                if not any(other.prefixes == run.prefixes for other in (*waiting, *running.values())):
                    shutil.rmtree(run.prefixes, ignore_errors=True)
    return [results[run] for run in runs]


def _record_failure(run: Run, tried: list[Outcome]) -> Path:
    """Write the outcome of each try, and beside it the log of all of them. Return the log's path."""
    log = run.failure.with_suffix(".log")
    with written_whole(log) as temporary:
        parts = [f"--- try {i} of {len(tried)}: {o.error}\n{o.log}" for i, o in enumerate(tried, 1)]
        temporary.write_text("\n".join(parts), encoding="utf-8", errors="replace")
    note = {
        "run": asdict(run), "tries": [{"error": o.error, "seconds": o.seconds} for o in tried], "log": log.name,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }  # fmt: skip
    write_json(run.failure, note)
    return log


def _forget_failure(run: Run) -> None:
    """Remove the record of a failure, and the folders that it leaves empty."""
    for path in (run.failure, run.failure.with_suffix(".log")):
        path.unlink(missing_ok=True)
    for folder in (run.failure.parent, *list(run.failure.parents)[1:3]):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

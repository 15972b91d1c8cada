"""Where runs happen: here, in processes of this machine, or on Ray. Each pool takes work and says how it ended."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from ..paths import cache_dir


@dataclass(frozen=True)
class Outcome:
    """How one try ended.

    Attributes:
        value: what the work returned.
        error: one line; empty where it returned.
        log: all that it printed, and the traceback.
        seconds: it took.
    """

    value: Any
    error: str
    log: str
    seconds: float


class Pool(Protocol):
    """Takes work, a few pieces at a time.

    Attributes:
        slots: pieces at a time.
        share: of them, how many share the memory of a device.
    """

    slots: int
    share: int

    def start(self, key: Hashable, name: str, work: Callable, *arguments) -> None:
        """Begins; ``name`` is that of its log."""

    def finished(self) -> list[tuple[Hashable, Outcome]]:
        """What has ended since; waits a moment for it."""

    def close(self) -> None:
        """Ends what is running."""


def log_path(name: str) -> Path:
    """Where a run's output goes while it runs."""
    return cache_dir() / "sweep" / "logs" / f"{name}.log"


def attempt(work: Callable, arguments: tuple, name: str, own_process: bool, threads: int | None = None) -> Outcome:
    """Does the work with its output in a log, and turns an error into an outcome.

    Args:
        work, arguments: what is called.
        name: of the log.
        own_process: whether the process is the run's own; then what libraries write past Python goes to the log too.
        threads: of torch; as they are if None.
    """
    path, start, value, error = log_path(name), time.monotonic(), None, ""
    path.parent.mkdir(parents=True, exist_ok=True)
    if threads:
        torch.set_num_threads(threads)
    with ExitStack() as stack:
        log = stack.enter_context(open(path, "w", buffering=1, errors="replace"))
        if own_process:
            for stream in (1, 2):
                kept = os.dup(stream)
                stack.callback(os.close, kept)
                stack.callback(os.dup2, kept, stream)  # callbacks run last in, first out
                os.dup2(log.fileno(), stream)
        stack.enter_context(redirect_stdout(log))
        stack.enter_context(redirect_stderr(log))
        try:
            value = work(*arguments)
        except Exception as failure:  # whatever it is, the other runs go on
            traceback.print_exc(file=log)
            error = f"{type(failure).__name__}: {failure}"
    outcome = Outcome(value, error, read_log(name), time.monotonic() - start)
    path.unlink(missing_ok=True)
    return outcome


def read_log(name: str) -> str:
    """The log as it stands; where it lies on another machine, that is said."""
    try:
        return log_path(name).read_text(errors="replace")
    except FileNotFoundError:
        return f"(no log {log_path(name)} on this machine)\n"


def worker_died(name: str, how: str, start: float) -> Outcome:
    """The outcome of a run whose process is gone, with what it had printed until then."""
    log = f"{read_log(name)}{how}\n"
    log_path(name).unlink(missing_ok=True)
    return Outcome(None, how, log, time.monotonic() - start)


class Here:
    """In this process, one after the other."""

    slots = share = 1

    def __init__(self):
        self._done: list[tuple[Hashable, Outcome]] = []

    def start(self, key: Hashable, name: str, work: Callable, *arguments) -> None:
        self._done.append((key, attempt(work, arguments, name, own_process=False)))

    def finished(self) -> list[tuple[Hashable, Outcome]]:
        done, self._done = self._done, []
        return done

    def close(self) -> None:
        pass


@contextmanager
def open_pool(workers: int = 0, cluster: str | None = None) -> Iterator[Pool]:
    """A pool, closed at the end.

    Args:
        workers: 0: this process; n: so many processes at a time. On a cluster: runs at a time, 0 for as many as fit.
        cluster: address of a Ray cluster, or "local" for a Ray that is started on this machine.

    Raises:
        RuntimeError: Ray is not installed, or there is no cluster at the address.
        ValueError: a negative number of workers.
    """
    if workers < 0:
        raise ValueError(f"workers is {workers}: 0 runs in this process, n in so many processes at a time")
    if cluster:
        from .on_ray import OnRay

        pool: Pool = OnRay(cluster, workers)
    elif workers:
        from .processes import Processes

        pool = Processes(workers)
    else:
        pool = Here()
    try:
        yield pool
    finally:
        pool.close()


def finish(pool: Pool, name: str, work: Callable, *arguments) -> Any:
    """Does one piece of work on an idle pool and waits for what it returns.

    Raises:
        RuntimeError: it failed; the message is its error, or how its process ended.
    """
    pool.start(name, name, work, *arguments)
    while True:
        for _, outcome in pool.finished():
            if outcome.error:
                raise RuntimeError(outcome.error)
            return outcome.value

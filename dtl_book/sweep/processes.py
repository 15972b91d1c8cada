"""Runs in processes of this machine, each in one of its own: what kills a run kills nothing else."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Hashable
from multiprocessing import connection

import torch

from .pools import Outcome, attempt, worker_died


class Processes:
    """So many runs at a time, spread over the CUDA devices where there are any.

    The processes are forked from a server that has imported what a run needs; where there is no fork they are spawned.

    Args:
        workers: runs at a time.
    """

    def __init__(self, workers: int):
        forks = "forkserver" in multiprocessing.get_all_start_methods()
        self._context = multiprocessing.get_context("forkserver" if forks else "spawn")
        if forks:
            self._context.set_forkserver_preload(["dtl_book.experiments"])
        self.slots = workers
        self._devices = cuda_devices()
        self.share = math.ceil(workers / max(1, len(self._devices)))
        self._threads = max(1, torch.get_num_threads() // workers)
        self._free = list(range(workers))
        self._running: dict[connection.Connection, tuple] = {}

    def start(self, key: Hashable, name: str, work: Callable, *arguments) -> None:
        ours, theirs = self._context.Pipe(duplex=False)
        slot = self._free.pop(0)
        # a server that forks has the environment of its own start: this one is handed over
        environment = {k: v for k, v in os.environ.items() if k.startswith("DTL_")}
        if self._devices:
            environment["CUDA_VISIBLE_DEVICES"] = self._devices[slot % len(self._devices)]
        process = self._context.Process(
            target=_run, args=(theirs, environment, work, arguments, name, self._threads), daemon=True
        )
        process.start()
        theirs.close()  # so that the death of the process ends the pipe
        self._running[ours] = (key, name, slot, process, time.monotonic())

    def finished(self) -> list[tuple[Hashable, Outcome]]:
        done = []
        for pipe in connection.wait(list(self._running), timeout=1):
            key, name, slot, process, start = self._running.pop(pipe)
            try:
                outcome = pipe.recv()
                process.join()
            except (EOFError, OSError):
                process.join()
                outcome = worker_died(name, _ended(process.exitcode), start)
            pipe.close()
            self._free.append(slot)
            done.append((key, outcome))
        return done

    def close(self) -> None:
        for _, _, _, process, _ in self._running.values():
            process.kill()
            process.join()
        self._running.clear()


def cuda_devices() -> list[str]:
    """The CUDA devices as CUDA_VISIBLE_DEVICES names them."""
    count, named = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(i) for i in range(count)]


def _ended(code: int) -> str:
    if code < 0:
        return f"its process was killed by {signal.Signals(-code).name}"
    return f"its process ended with exit code {code}"


def _run(pipe: connection.Connection, environment: dict, work: Callable, arguments: tuple, name: str, threads: int):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the sweep's, which then ends its runs
    threading.Thread(target=_follow_the_sweep, daemon=True).start()
    for name_of in [k for k in os.environ if k.startswith("DTL_")]:
        del os.environ[name_of]
    os.environ.update(environment)
    pipe.send(attempt(work, arguments, name, own_process=True, threads=threads))
    pipe.close()


def _follow_the_sweep() -> None:
    """Ends the run where the sweep is killed: the next one would start the same run beside it."""
    multiprocessing.parent_process().join()
    os._exit(1)

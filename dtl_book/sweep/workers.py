"""Where runs happen: in this process, in processes of this machine, or on Ray. What kills a run kills nothing else."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..paths import cache_dir
from .worker import attempt

PROGRAM = ("-m", "dtl_book.sweep")
STORE = 100 * 2**20  # bytes of the object store of a Ray of our own: what goes through it is a card and a log


@dataclass(frozen=True)
class Outcome:
    """How one try ended."""

    value: Any  # what the work returned, as JSON has it
    error: str  # one line; empty where it returned
    log: str  # all that it printed, and the traceback
    seconds: float


@dataclass(frozen=True)
class Workers:
    """Takes a few pieces of work at a time."""

    submit: Callable[
        [str, Any, str], Future[Outcome]
    ]  # of a key of ``worker.WORK``, what it takes (JSON), and its log's name
    slots: Callable[[], int]  # pieces at a time, as of now: a cluster may grow
    share: int  # of them, how many share the memory of a device


@contextmanager
def open_workers(workers: int = 0, cluster: str | None = None, program: Sequence[str] = PROGRAM) -> Iterator[Workers]:
    """Yield workers; what is running at the end is ended.

    Args:
        workers: 0: this process; n: n processes at a time, spread over the CUDA devices where there are any. On a cluster:
            runs at a time, 0 for as many as fit.
        cluster: address of a Ray cluster, whose machines have this package and the data (``DTL_DATA``); or "local" for a
            Ray that is started on this machine, whose ports other machines can reach while it runs.
        program: of a process that does the work, after Python.
    """
    if workers < 0:
        raise ValueError(f"workers is {workers}: 0 runs in this process, n in n processes at a time")
    if not workers and not cluster:
        yield Workers(_here, lambda: 1, 1)
        return
    environment = {k: v for k, v in os.environ.items() if k.startswith("DTL_")}
    if workers and cluster in (None, "local"):  # they divide our own machine
        environment["OMP_NUM_THREADS"] = str(max(1, torch.get_num_threads() // workers))
    with _ray(cluster, workers, environment, program) if cluster else _processes(workers, environment, program) as pool:
        yield pool


def _here(work: str, argument: Any, name: str) -> Future[Outcome]:
    """Do the work now, with its output in a log; an error becomes an outcome."""
    future, start, log = Future(), time.monotonic(), io.StringIO()
    with redirect_stdout(log), redirect_stderr(log):
        found = attempt(work, argument)
    future.set_result(Outcome(found["value"], found["error"], log.getvalue(), time.monotonic() - start))
    return future


@contextmanager
def _processes(workers: int, environment: dict[str, str], program: Sequence[str]) -> Iterator[Workers]:
    devices, running = cuda_devices(), set()
    free: queue.SimpleQueue = queue.SimpleQueue()
    for slot in range(workers):
        free.put(devices[slot % len(devices)] if devices else None)

    def on_a_device(work: str, argument: Any, name: str) -> Outcome:
        device = free.get()
        own = environment if device is None else environment | {"CUDA_VISIBLE_DEVICES": device}
        try:
            return in_process(work, argument, name, own, program, running)
        finally:
            free.put(device)

    with ThreadPoolExecutor(workers) as threads:
        try:
            share = math.ceil(workers / max(1, len(devices)))
            yield Workers(lambda *what: threads.submit(on_a_device, *what), lambda: workers, share)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.kill()


def in_process(
    work: str, argument: Any, name: str, environment: dict[str, str], program: Sequence[str], running: set | None = None
) -> Outcome:
    """Do a piece of work in a process of its own, which ends with this one, and wait for it.

    ``running`` holds the process meanwhile. The other arguments are those of ``Workers.submit`` and ``open_workers``.
    """
    log, start = cache_dir() / "sweep" / "logs" / f"{name}.log", time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    running = set() if running is None else running
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [sys.executable, *program, work, str(answer)], stdin=subprocess.PIPE, stdout=output, stderr=output,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            )  # fmt: skip
        running.add(process)
        with suppress(OSError):  # it may be gone already, and its log says why
            # its input stays open: where this process is killed the input ends, and the other process with it
            process.stdin.write(json.dumps(argument).encode() + b"\n")
            process.stdin.flush()
        code = process.wait()
        running.discard(process)
        with suppress(OSError):
            process.stdin.close()
        found = json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else None
    text = log.read_text(errors="replace")
    log.unlink(missing_ok=True)
    if found is None:
        reason = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        found = {"value": None, "error": f"its process {reason}"}
        text += f"{found['error']}\n"
    return Outcome(found["value"], found["error"], text, time.monotonic() - start)


def cuda_devices() -> list[str]:
    """Return the CUDA devices as CUDA_VISIBLE_DEVICES names them."""
    count, named = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(i) for i in range(count)]


@contextmanager
def _ray(address: str, workers: int, environment: dict[str, str], program: Sequence[str]) -> Iterator[Workers]:
    """Yield workers on Ray: one CPU a run and, where there are GPUs, one GPU."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise RuntimeError(
            "--cluster needs Ray, which is not installed: pip install -e '.[sweep]' (--workers needs none)"
        ) from error
    _check_reachable(address)
    local = address == "local"
    own = dict(num_cpus=workers or None, include_dashboard=False, object_store_memory=STORE) if local else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, ValueError) as error:
        raise RuntimeError(f"there is no Ray cluster at {address}: {error}") from error
    with ThreadPoolExecutor(1024) as threads:  # each waits for a run
        try:
            gpus = int(ray.cluster_resources().get("GPU", 0))
            cpus = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
            share = min(cpus, workers or cpus)
            if gpus:  # on our own machine the runs share its GPUs; on a cluster each has its own
                share = math.ceil(workers / gpus) if local and workers else 1
            gpu = math.floor(1e4 / share) / 1e4 if gpus else 0  # Ray counts in parts of 1e-4
            remote = ray.remote(num_cpus=1, num_gpus=gpu, max_retries=0)(in_process)

            def on_ray(work: str, argument: Any, name: str) -> Outcome:
                start = time.monotonic()
                try:
                    return ray.get(remote.remote(work, argument, name, environment, program))
                except ray.exceptions.RayError as error:  # its machine is gone, say, or has no such module
                    reason = f"it died on Ray ({type(error).__name__}): {str(error).strip().splitlines()[-1]}"
                    return Outcome(None, reason, f"{error}\n", time.monotonic() - start)

            def slots() -> int:
                return workers or max(1, int(ray.cluster_resources().get("GPU" if gpus else "CPU", 0)))

            yield Workers(lambda *what: threads.submit(on_ray, *what), slots, share)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            ray.shutdown()


def _check_reachable(address: str) -> None:
    """Check that something answers at "host:port": Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise RuntimeError(f"there is no Ray cluster at {address}: {error}") from error

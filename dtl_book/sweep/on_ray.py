"""Runs on a Ray cluster, or on a Ray that is started on this machine for the time of the sweep."""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Callable, Hashable

import torch

from .pools import Outcome, attempt, worker_died

STORE = 100 * 2**20  # bytes of the object store of a Ray of our own: what goes through it is a card and a log


class OnRay:
    """One CPU a run and, where there are GPUs, one GPU.

    A process that held a GPU ends with its run; another is kept for the next run, as is Ray's custom. The machines of a cluster need this package and the data (``DTL_DATA``); the cards come back and are written here.

    Args:
        address: of a cluster; "local" starts a Ray here. Its ports can be reached from other machines while it runs.
        workers: runs at a time; 0 for as many as there is room for.

    Raises:
        RuntimeError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, address: str, workers: int = 0):
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise RuntimeError(
                "--cluster needs Ray, which is not installed: pip install -e '.[sweep]' (--workers needs none)"
            ) from error
        self._ray, self._local, self._workers = ray, address == "local", workers
        _check_reachable(address)
        own = dict(num_cpus=workers or None, include_dashboard=False, object_store_memory=STORE) if self._local else {}
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
        except (ConnectionError, ValueError) as error:
            raise RuntimeError(f"there is no Ray cluster at {address}: {error}") from error
        there = ray.cluster_resources()
        gpus = int(there.get("GPU", 0))
        cpus = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
        if gpus:  # on a machine of one's own the runs that are asked for share its GPUs; on a cluster each has its own
            self.share = math.ceil(workers / gpus) if self._local and workers else 1
        else:
            self.share = min(cpus, workers or cpus)
        self._each = "GPU" if gpus else "CPU"
        threads = max(1, torch.get_num_threads() // workers) if self._local and workers else None
        self._environment = {k: v for k, v in os.environ.items() if k.startswith("DTL_")}
        gpu = math.floor(1e4 / self.share) / 1e4 if gpus else 0  # Ray counts in parts of 1e-4
        self._attempt = ray.remote(num_cpus=1, num_gpus=gpu, max_retries=0)(_attempt)
        self._threads, self._running = threads, {}

    @property
    def slots(self) -> int:
        """As many as were asked for, else as the cluster has room for now: it may grow."""
        return self._workers or max(1, int(self._ray.cluster_resources().get(self._each, 0)))

    def start(self, key: Hashable, name: str, work: Callable, *arguments) -> None:
        reference = self._attempt.remote(self._environment, work, arguments, name, self._threads)
        self._running[reference] = (key, name, time.monotonic())

    def finished(self) -> list[tuple[Hashable, Outcome]]:
        ready, _ = self._ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        if not ready:
            ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=1)
        done = []
        for reference in ready:
            key, name, start = self._running.pop(reference)
            try:
                outcome = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:  # the work could not be read there: no such module, say
                outcome = worker_died(name, f"it could not begin on Ray: {str(error).strip().splitlines()[-1]}", start)
            except self._ray.exceptions.RayError as error:  # killed, out of memory, or its machine is gone
                outcome = worker_died(name, f"its process died ({type(error).__name__}): {str(error).strip()}", start)
            done.append((key, outcome))
        return done

    def close(self) -> None:
        self._ray.shutdown()


def _check_reachable(address: str) -> None:
    """Looks whether anyone answers at "host:port": Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise RuntimeError(f"there is no Ray cluster at {address}: {error}") from error


def _attempt(environment: dict, work: Callable, arguments: tuple, name: str, threads: int | None) -> Outcome:
    os.environ.update(environment)
    return attempt(work, arguments, name, own_process=True, threads=threads)

"""How benchmarks/serving.py measures: multiply-adds, bytes, seconds, and where the seconds go."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from serving_models import FULL, KINDS, KNOWN, LORA, ONE, Bench, answers
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dtl_core.memory import Ledger
from dtl_core.memory.step import set_attention
from dtl_core.serving import MultiTask


@torch.no_grad()
def multiply_adds(bench: Bench) -> dict[tuple[str, int], int]:
    """Of every kind and number of tasks for one image, counted on the meta device. Digests need pixels: none of ``KNOWN``."""
    with torch.device("meta"):
        work, held, server = answers(bench)
        images, counts = torch.empty(1, 3, bench.image_size, bench.image_size), {}
        for model in (server.backbone, held[LORA], held[FULL]):
            set_attention(model, "math")
        for kind in (k for k in KINDS if k != KNOWN):
            for tasks in bench.tasks:
                with FlopCounterMode(display=False) as counter:
                    if kind == ONE:
                        work[kind](images, tasks)
                    else:
                        for task in range(tasks):
                            work[kind](images, task)
                counts[kind, tasks] = counter.get_total_flops() // 2
    return counts


def peak_bytes(work: Callable[[], object], models: Iterable[nn.Module]) -> int:
    """The most bytes alive at once of what the work makes, beside the weights and the images."""
    ledger = Ledger()
    ledger.adopt((t for m in models for t in (*m.parameters(), *m.buffers())), "frozen parameters")
    ledger.start()
    weights = ledger.live
    with ledger:
        work()
    ledger.close()
    return ledger.peak - weights


def shares(server: MultiTask, work: Callable[[], object]) -> dict[str, float]:
    """Where the seconds of one call go: inside the frozen blocks with few rows and with many, and beside them."""
    seconds, begun = {"prefix": 0.0, "suffix": 0.0}, []
    handles = []
    for i, block in enumerate(server.backbone.blocks):
        part = "prefix" if i <= next(iter(server.tasks.values())).config.inject_from else "suffix"

        def after(module, args, out, part=part):
            seconds[part] += time.perf_counter() - begun.pop()

        handles.append(block.register_forward_pre_hook(lambda module, args: begun.append(time.perf_counter())))
        handles.append(block.register_forward_hook(after))
    start = time.perf_counter()
    work()
    whole = time.perf_counter() - start
    for handle in handles:
        handle.remove()
    return {"whole": whole, **seconds, "beside": whole - sum(seconds.values())}


def quartiles(values: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"ratio": middle, "low": low, "high": high}


@dataclass
class Clock:
    """Seconds on the wall and of this process' threads, from its start."""

    def __post_init__(self):
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self.wall, time.process_time() - self.cpu

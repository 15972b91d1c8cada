"""How long the steps of a run take, from a few of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import default_collate

from dtl_core.training.loop import autocast, logits_of

from .prepare import Prepared

TIMES = 2  # timed steps, after one that warms up


@dataclass(frozen=True)
class Speed:
    """Seconds an image: to open it, through the prefix (0 where none is stored), in a training step, in evaluation."""

    load: float
    prefix: float
    step: float
    evaluate: float


def speed_of(ready: Prepared, device: torch.device, precision: str, cached: bool, batch: int) -> Speed:
    """Takes a few steps of a prepared run. Its model is moved to the device; its weights and gradients stay as they were.

    Args:
        ready: of ``prepare``.
        device, precision: of the run.
        cached: whether the run stores its prefix, and steps from there.
        batch: images a step.
    """
    model = ready.model.to(device)
    start, training = time.perf_counter(), model.training
    images, labels = default_collate([ready.train[i] for i in range(batch)])
    load = time.perf_counter() - start
    images, labels = images.to(device), labels.to(device)
    prefix, inputs = 0.0, images
    if cached:
        model.eval()
        prefix, inputs = _shortest(lambda: model.prefix(images), device), model.prefix(images)

    def step() -> None:
        with autocast(precision, device):
            loss = nn.functional.cross_entropy(logits_of(model, inputs, device), labels)
        loss.backward()
        for p in model.parameters():
            p.grad = None

    def evaluate() -> None:
        with torch.no_grad(), autocast(precision, device):
            logits_of(model, inputs, device)

    model.train()
    stepped = _shortest(step, device)
    model.eval()
    evaluated = _shortest(evaluate, device)
    model.train(training)
    return Speed(*(seconds / batch for seconds in (load, prefix, stepped, evaluated)))


def _shortest(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call: the shortest of a few, after one that warms up."""
    seconds = []
    for _ in range(TIMES + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])

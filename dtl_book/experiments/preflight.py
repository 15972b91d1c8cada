"""The plan of a run before its first step: weights, data, device, memory and time. What cannot fit is refused."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils.data import default_collate

from dtl_core.backbones import BackboneInfo
from dtl_core.files import format_bytes
from dtl_core.memory import GIB, BatchFit, largest_batch, plan_training
from dtl_core.training import pick_device
from dtl_core.training.loop import autocast, cpu_has_bf16, logits_of, pick_precision

from .run import Run

if TYPE_CHECKING:
    from .execution import Prepared

# our own choice: what a CUDA device needs beside tensors (workspaces, fragmentation), and what a machine does
RESERVE_GIB = {"cuda": 1.0, "cpu": 0.25, "mps": 1.0}
PLANNED = {"fp32": "fp32", "fp16": "amp", "bf16": "amp-bf16"}  # precision of a recipe -> of a plan
TIMES = 2  # timed steps, after one that warms up


class CannotFit(RuntimeError):
    """The device has no room for a step. The message says what would fit."""


@dataclass(frozen=True)
class Speed:
    """Seconds an image: to open it, through the prefix (0 where none is stored), in a training step, in evaluation."""

    load: float
    prefix: float
    step: float
    evaluate: float


@dataclass(frozen=True)
class Preflight:
    """The plan of a run."""

    run: Run
    backbone: BackboneInfo
    data: dict[str, tuple[int, str]]  # split -> (images, digest), the training split first
    device: str
    precision: str
    batch_size: int
    passes: int  # over the training images
    planned_bytes: int  # peak of a training step from images, as plan_training counts it
    free_bytes: int | None  # of the device, for each of the runs that share it; None where unknown
    share: int  # runs that share the device
    reserve_gib: float  # of the free memory, left for what is not counted
    cached: bool  # whether the prefix is run once and stored
    classes: str = ""  # of the user's own images, and how they are split
    fit: BatchFit | None = None  # the largest batch, where this one does not fit
    speed: Speed | None = None  # of a few timed steps; None where none was taken
    # on disk, of the prefix of the training and of the test images; 0 where none is stored
    stored_bytes: tuple[int, int] = (0, 0)

    def seconds(
        self, train_images: int | None = None, test_images: int | None = None, passes: int | None = None
    ) -> float | None:
        """Estimate the time of the whole run, on data of this size or another. None where nothing was timed."""
        if self.speed is None:
            return None
        train, test = (n for n, _ in self.data.values())
        train, test, s = train_images or train, test_images or test, self.speed
        size = min(self.batch_size, train)
        stepped = (passes or self.passes) * (train // size) * size  # a last, smaller batch is dropped
        opened = train + test if self.cached else stepped + test
        return opened * s.load + (train + test) * s.prefix + stepped * s.step + test * s.evaluate

    def memory(self) -> str:
        """Return planned and free bytes in words."""
        free = "an unknown amount is" if self.free_bytes is None else f"{format_bytes(self.free_bytes)} are"
        shared = f" for each of the {self.share} runs that share it" if self.share > 1 else ""
        return f"a step of {self.batch_size} images needs {format_bytes(self.planned_bytes)} (planned), {free} free{shared}"

    def disk(self) -> str:
        """Return the size of the stored prefix in words; empty where none is stored."""
        total = sum(self.stored_bytes)
        return f"the frozen prefix takes {format_bytes(total)} on disk, shared by the runs of a task" if total else ""

    def slow(self) -> str:
        """Warn in words where bf16 has to be emulated; empty elsewhere."""
        half = self.run.backbone_dtype == "bfloat16" or self.precision == "bf16"
        if self.device != "cpu" or not half or cpu_has_bf16():
            return ""
        # measured with benchmarks/step_time.py: 41 s a step in place of 2
        return "this CPU has no instructions for bf16: a step takes about 20 times as long as in float32"

    def text(self) -> str:
        """Return the plan: several lines for the ``paper`` profile, one line with shortened digests for the others.

        The classes of the user's own images are a line more.
        """
        seconds = self.seconds()
        takes = "not timed" if seconds is None else f"about {format_seconds(seconds)}, from {TIMES} timed steps"
        if self.run.profile != "paper":
            data = ", ".join(f"{n:,} images {split} ({digest[:8]})" for split, (n, digest) in self.data.items())
            return (
                f"pre-flight: {self.backbone.name} ({self.backbone.sha256[:8]}); {self.run.task}: {data}; {self.device}, "
                f"{self.precision}; {'; '.join(filter(None, (self.memory(), self.disk(), takes, self.slow())))}"
                + (f"\n{self.run.task}: {self.classes}" if self.classes else "")
            )
        data = [f"data     {self.run.task}, {split}: {n:,} images, digest {d}" for split, (n, d) in self.data.items()]
        data += [f"classes  {self.classes}"] if self.classes else []
        lines = [
            f"pre-flight: {self.run.method} on {self.run.task} ({self.run.setting})",
            f"weights  {self.backbone.name}, sha256 {self.backbone.sha256}", *data,
            f"device   {self.device}, {self.precision}", f"memory   {self.memory()}",
            *([f"disk     {self.disk()}"] if self.disk() else []), f"time     {takes}",
            *([f"note     {self.slow()}"] if self.slow() else []),
        ]  # fmt: skip
        return "\n".join(lines)

    def refuse(self) -> None:
        """Raise ``CannotFit`` where a step does not fit."""
        if fits(self.planned_bytes, self.free_bytes, self.reserve_gib):
            return
        largest = self.fit.largest if self.fit else 0
        would = (
            f"a batch of at most {largest} would fit (--batch-size {largest})"
            if largest
            else "not even one image would: take a smaller backbone or image, or another device"
        )
        raise CannotFit(
            f"{self.run.method} on {self.run.task} does not fit {self.device}: {self.memory()}, {self.reserve_gib:g} GiB of which "
            f"are left for what is not counted; {would}"
        )


def format_seconds(seconds: float) -> str:
    """Return a time in a convenient unit."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def fits(planned_bytes: int, free_bytes: int | None, reserve_gib: float) -> bool:
    """Return whether there is room; assumed where the free memory is unknown."""
    return free_bytes is None or planned_bytes <= free_bytes - reserve_gib * GIB


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that a run could still take on a device: CUDA's own answer, else the machine's available memory.

    Without psutil that is the machine's whole memory, and None on a system that does not report even that.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # of earlier runs, free again
        return torch.cuda.mem_get_info(device)[0] + cached
    try:
        import psutil

        return psutil.virtual_memory().available
    except ImportError:
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError, OSError):
            return None


@lru_cache(maxsize=64)
def _planned_bytes(method: str, backbone: str, options: tuple, **setting) -> int:
    """Return the peak; cached, since the runs of a task differ only in seed and learning rate."""
    return plan_training(method, backbone, **setting, **dict(options)).peak_bytes


def preflight(ready: Prepared, *, cached: bool, timed: bool = True, share: int = 1) -> Preflight:
    """Plan a prepared run for ``share`` runs on one device and, if ``timed``, time a few steps of it.

    The steps change nothing of the model, which moves to the device; none is taken where the plan does not fit.
    """
    recipe, run, data = ready.recipe, ready.run, ready.data
    where = pick_device(run.device)
    precision = pick_precision(recipe.precision, where)
    setting = dict(
        image_size=ready.info.image_size, num_classes=data.train.classes,
        precision="bf16" if run.backbone_dtype == "bfloat16" else PLANNED[precision],
    )  # fmt: skip
    options = tuple((k, v) for k, v in ready.options.items() if k != "backbone_dtype")
    batch = min(recipe.batch_size, len(data.train))
    shape = run.arch or run.backbone_name
    planned = _planned_bytes(run.method, shape, options, batch_size=batch, **setting)
    free, reserve, found = free_memory(where), RESERVE_GIB[where.type], {}
    free = None if free is None else free // share
    if fits(planned, free, reserve):
        found = {"speed": speed_of(ready, where, precision, cached, batch)} if timed else {}
        found |= {"stored_bytes": ready.stored_bytes()} if cached else {}
    elif free > reserve * GIB:
        room = dict(gpu_gib=free / GIB, reserve_gib=reserve)
        found = {"fit": largest_batch(run.method, shape, **room, **setting, **dict(options))}
    return Preflight(
        run=run, backbone=ready.info, data={d.split: (len(d), d.digest) for d in (data.train, data.test)},
        device=f"cuda ({torch.cuda.get_device_name(where)})" if where.type == "cuda" else where.type, precision=precision,
        batch_size=batch, passes=recipe.total_epochs, planned_bytes=planned, free_bytes=free, share=share,
        reserve_gib=reserve, cached=cached, classes=data.train.summary() if run.data else "", **found,
    )  # fmt: skip


def speed_of(ready: Prepared, device: torch.device, precision: str, cached: bool, batch: int) -> Speed:
    """Time a few steps of a prepared run, from the stored prefix if ``cached``.

    Its model is moved to the device; its weights and gradients stay as they were.
    """
    model = ready.model.to(device)
    start, training = time.perf_counter(), model.training
    images, labels = default_collate([ready.data.train[i] for i in range(batch)])
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
    """Return the seconds of the shortest of a few calls, after one that warms up."""
    seconds = []
    for _ in range(TIMES + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])

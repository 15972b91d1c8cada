"""What a run will be, said before its first step: weights, data, device, memory and time. What cannot fit is refused."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache

import torch

from dtl_core.memory import GIB, MIB, BatchFit, largest_batch, plan_training
from dtl_core.training import pick_device
from dtl_core.training.loop import pick_precision

from .prepare import Prepared
from .speed import TIMES, Speed, speed_of

# our own choice: what a CUDA device needs beside tensors (workspaces, fragmentation), and what a machine does
RESERVE_GIB = {"cuda": 1.0, "cpu": 0.25, "mps": 1.0}
PLANNED = {"fp32": "fp32", "fp16": "amp", "bf16": "amp-bf16"}  # precision of a recipe -> of a plan


class CannotFit(RuntimeError):
    """The device has no room for a step. The message says what would fit."""


@dataclass(frozen=True)
class Preflight:
    """What a run will be.

    Attributes:
        method, task, profile, setting: what is run; ``setting`` is the profile's phrase for it.
        backbone, backbone_sha256: the weights.
        data: split -> (images, digest), the training split first.
        device, precision: where, and in which types.
        batch_size, passes: images a step; passes over the training images.
        planned_bytes: peak of a training step from images, as ``plan_training`` counts it.
        free_bytes: of the device, for each of the runs that share it; None where it is not known.
        share: runs that share the device.
        reserve_gib: of the free memory, left for what is not counted.
        fit: the largest batch, where this one does not fit.
        speed: of a few timed steps; None where none was taken.
        cached: whether the prefix is run once and stored.
        stored_bytes: on disk, of the prefix of the training and of the test images; 0 where none is stored.
    """

    method: str
    task: str
    profile: str
    setting: str
    backbone: str
    backbone_sha256: str
    data: dict[str, tuple[int, str]]
    device: str
    precision: str
    batch_size: int
    passes: int
    planned_bytes: int
    free_bytes: int | None
    share: int
    reserve_gib: float
    fit: BatchFit | None
    speed: Speed | None
    cached: bool
    stored_bytes: tuple[int, int]

    def seconds(
        self, train_images: int | None = None, test_images: int | None = None, passes: int | None = None
    ) -> float | None:
        """Estimated time of the whole run, on data of this size or another. None where nothing was timed."""
        if self.speed is None:
            return None
        train, test = (n for n, _ in self.data.values())
        train, test, s = train_images or train, test_images or test, self.speed
        size = min(self.batch_size, train)
        stepped = (passes or self.passes) * (train // size) * size  # a last, smaller batch is dropped
        opened = train + test if self.cached else stepped + test
        return opened * s.load + (train + test) * s.prefix + stepped * s.step + test * s.evaluate

    def memory(self) -> str:
        """Planned and free bytes, in words."""
        free = "an unknown amount is" if self.free_bytes is None else f"{format_bytes(self.free_bytes)} are"
        shared = f" for each of the {self.share} runs that share it" if self.share > 1 else ""
        return f"a step of {self.batch_size} images needs {format_bytes(self.planned_bytes)} (planned), {free} free{shared}"

    def disk(self) -> str:
        """What the stored prefix takes, in words; empty where none is stored."""
        total = sum(self.stored_bytes)
        return f"the frozen prefix takes {format_bytes(total)} on disk, shared by the runs of a task" if total else ""

    def text(self) -> str:
        """All of it for the ``paper`` profile, line by line; one line with shortened digests for the others."""
        seconds = self.seconds()
        takes = "not timed" if seconds is None else f"about {format_seconds(seconds)}, from {TIMES} timed steps"
        if self.profile != "paper":
            data = ", ".join(f"{n:,} images {split} ({digest[:8]})" for split, (n, digest) in self.data.items())
            return (
                f"pre-flight: {self.backbone} ({self.backbone_sha256[:8]}); {self.task}: {data}; {self.device}, "
                f"{self.precision}; {'; '.join(filter(None, (self.memory(), self.disk(), takes)))}"
            )
        data = [f"data     {self.task}, {split}: {n:,} images, digest {d}" for split, (n, d) in self.data.items()]
        return "\n".join(
            [
                f"pre-flight: {self.method} on {self.task} ({self.setting})",
                f"weights  {self.backbone}, sha256 {self.backbone_sha256}", *data,
                f"device   {self.device}, {self.precision}", f"memory   {self.memory()}",
                *([f"disk     {self.disk()}"] if self.disk() else []), f"time     {takes}",
            ]
        )  # fmt: skip

    def refuse(self) -> None:
        """Does nothing where a step fits.

        Raises:
            CannotFit: it does not.
        """
        if fits(self.planned_bytes, self.free_bytes, self.reserve_gib):
            return
        largest = self.fit.largest if self.fit else 0
        would = (
            f"a batch of at most {largest} would fit (--batch-size {largest})"
            if largest
            else "not even one image would: take a smaller backbone or image, or another device"
        )
        raise CannotFit(
            f"{self.method} on {self.task} does not fit {self.device}: {self.memory()}, {self.reserve_gib:g} GiB of which "
            f"are left for what is not counted; {would}"
        )


def format_seconds(seconds: float) -> str:
    """A time in the unit that a person would say it in."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def format_bytes(n: int) -> str:
    """Bytes in MiB or GiB."""
    return f"{n / GIB:.2f} GiB" if n >= GIB else f"{n / MIB:.0f} MiB"


def fits(planned_bytes: int, free_bytes: int | None, reserve_gib: float) -> bool:
    """Whether there is room; where the free memory is not known, it is hoped."""
    return free_bytes is None or planned_bytes <= free_bytes - reserve_gib * GIB


def free_memory(device: torch.device) -> int | None:
    """Bytes that a run could still take on a device: CUDA's own answer, else the machine's available memory.

    Without psutil the whole memory of the machine is taken, and None on a system that does not tell even that.
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
    """Of ``plan_training``; kept, since the runs of a task differ in seed and learning rate alone."""
    return plan_training(method, backbone, **setting, **dict(options)).peak_bytes


def preflight(
    ready: Prepared, *, cached: bool, timed: bool = True, device: str | None = None, share: int = 1
) -> Preflight:
    """Plans a prepared run and takes a few timed steps of it, which change nothing of the model.

    Args:
        ready: of ``prepare``. Where steps are timed its model is moved to the device.
        cached: whether the run stores its prefix.
        timed: take the steps; none is taken where the plan does not fit.
        device: chosen if None.
        share: runs that will share the device's memory.
    """
    where, recipe, info = pick_device(device), ready.recipe, ready.info
    precision = pick_precision(recipe.precision, where)
    frozen = ready.options.get("backbone_dtype")
    setting = dict(
        image_size=info.image_size, num_classes=ready.train.classes,
        precision="bf16" if frozen == torch.bfloat16 else PLANNED[precision],
    )  # fmt: skip
    options = tuple((k, v) for k, v in ready.options.items() if k != "backbone_dtype")
    batch = min(recipe.batch_size, len(ready.train))
    planned = _planned_bytes(ready.method, info.name, options, batch_size=batch, **setting)
    free, reserve, fit, speed = free_memory(where), RESERVE_GIB[where.type], None, None
    free = None if free is None else free // share
    if not fits(planned, free, reserve):
        if free > reserve * GIB:
            room = dict(gpu_gib=free / GIB, reserve_gib=reserve)
            fit = largest_batch(ready.method, info.name, **room, **setting, **dict(options))
    elif timed:
        speed = speed_of(ready, where, precision, cached, batch)
    stored = ready.stored_bytes() if cached and fits(planned, free, reserve) else (0, 0)
    name = f"cuda ({torch.cuda.get_device_name(where)})" if where.type == "cuda" else where.type
    data = {d.split: (len(d), d.digest) for d in (ready.train, ready.test)}
    return Preflight(
        ready.method, ready.task, ready.profile.name, ready.profile.setting_of(ready.benchmark), info.name, info.sha256, data, name, precision,
        batch, recipe.total_epochs, planned, free, share, reserve, fit, speed, cached, stored,
    )  # fmt: skip

"""The pre-flight of a whole sweep, taken where its runs will be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dtl_core.backbones import load_backbone

from ..experiments import Preflight, open_images, preflight, prepare
from ..experiments.preflight import format_seconds
from ..experiments.profiles import get_profile
from ..experiments.recipes import at_least, profile_recipe
from .jobs import Job
from .pools import Pool, finish


@dataclass(frozen=True)
class Survey:
    """What the runs will be.

    Attributes:
        methods: a ``Preflight`` a method (see ``kind_of``), of its run with the most training images.
        data: (task with its shots, purpose) -> list -> (images, digest), the training list first.
        sizes: job -> training images, test images (of all tests), passes over the training images.
    """

    methods: dict[str, Preflight]
    data: dict[tuple[str, str], dict[str, tuple[int, str]]]
    sizes: dict[Job, tuple[int, int, int]]

    def seconds(self, job: Job) -> float | None:
        """Estimated time of one run."""
        return self.methods[kind_of(job)].seconds(*self.sizes[job])

    def text(self, jobs: Sequence[Job], slots: int) -> str:
        """Weights, data, device, and a row a method: memory of a step, time of its runs."""
        first = next(iter(self.methods.values()))
        at_once = min(slots, len(jobs))
        lines = [
            f"pre-flight: {len(jobs)} runs, {at_once} at a time ({first.setting})",
            f"weights  {first.backbone}, sha256 {first.backbone_sha256}",
            f"device   {first.device}, {first.precision}, as the pre-flight found it",
        ]
        for (where, _), splits in self.data.items():
            lines += [
                f"data     {where}, {split}: {n:,} images, digest {digest}" for split, (n, digest) in splits.items()
            ]
        for method, told in self.methods.items():
            mine = [self.seconds(job) for job in jobs if kind_of(job) == method]
            runs = "1 run" if len(mine) == 1 else f"{len(mine)} runs"
            time = f"its {runs} about {format_seconds(sum(mine))}" if None not in mine else "not timed"
            lines.append(f"{method:8s} {'; '.join(filter(None, (told.memory(), told.disk(), time)))}")
        every = [self.seconds(job) for job in jobs]
        if None not in every:
            whole = format_seconds(sum(every) / at_once)
            lines.append(f"time     about {whole} in all, from timed steps of each method")
        return "\n".join(lines)


def kind_of(job: Job) -> str:
    """The method, and whether drop path was asked for: such a run stores no prefix, so its steps take longer."""
    return f"{job.method} with drop path" if job.drop_path else job.method


def survey(jobs: Sequence[Job], share: int) -> Survey:
    """Opens the data of every task, and prepares and times one run a method.

    Args:
        jobs: of one profile.
        share: runs that share a device's memory.
    """
    profile = get_profile(jobs[0].profile)
    info = load_backbone(profile.backbone, image_size=profile.image_size).dtl_info
    methods, data, tests, sizes = {}, {}, {}, {}
    for job in jobs:
        place = job.where, job.purpose
        if place not in data:
            asked = dict(purpose=job.purpose, shots=job.shots, seed=job.seed)
            reads = open_images(profile, job.benchmark, job.task, info, **asked)
            opened = zip(reads.names, (reads.train, reads.test), strict=True)
            data[place] = {name: (len(d), d.digest) for name, d in opened}
            tests[place] = len(reads.test) + sum(map(len, reads.targets.values()))
        images = next(iter(data[place].values()))[0]
        asked = dict(benchmark=job.benchmark, shots=job.shots, protocol=job.protocol)
        recipe = profile_recipe(profile, job.method, job.task, job.lr, job.seed, **asked)
        recipe = replace(recipe, batch_size=job.batch_size or recipe.batch_size)
        recipe = (
            replace(recipe, epochs=job.epochs)
            if job.epochs
            else at_least(recipe, profile.least_steps_of(job.benchmark), images)
        )
        sizes[job] = images, tests[place], recipe.total_epochs
    for kind in dict.fromkeys(map(kind_of, jobs)):
        job = max(
            (j for j in jobs if kind_of(j) == kind), key=lambda j: sizes[j][0]
        )  # a whole batch, where any has one
        ready = prepare(
            job.method, job.task, profile=job.profile, benchmark=job.benchmark, shots=job.shots, protocol=job.protocol,
            purpose=job.purpose, seed=job.seed, lr=job.lr, drop_path=job.drop_path, epochs=job.epochs, batch_size=job.batch_size,
        )  # fmt: skip
        methods[kind] = preflight(ready, cached=ready.cacheable, share=share)
    return Survey(methods, data, sizes)


def check_sweep(jobs: Sequence[Job], pool: Pool) -> Survey:
    """Takes the survey on the pool, prints it, and refuses what cannot fit.

    Raises:
        CannotFit: a method has no room on the device.
        RuntimeError: the survey failed: data that is not there, say.
    """
    share = max(1, min(pool.share, len(jobs)))
    found = finish(pool, "pre-flight", survey, list(jobs), share)
    print(found.text(jobs, pool.slots), flush=True)
    for told in found.methods.values():
        told.refuse()
    return found

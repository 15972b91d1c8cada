"""The command that runs a grid."""

from __future__ import annotations

import sys
from typing import Literal

from .commands import Method, ProfileName


def sweep(
    tasks: tuple[str, ...] = (),
    methods: tuple[Method, ...] = ("linear", "lora", "dtl", "dtl+"),
    seeds: tuple[int, ...] = (0, 1, 2),
    lr: tuple[float, ...] = (),
    drop_path: tuple[float, ...] = (),
    benchmark: Literal["vtab-1k", "few-shot", "domain"] = "vtab-1k",
    shots: tuple[int, ...] = (),
    protocol: Literal["authors", "clean"] | None = None,
    profile: ProfileName | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    workers: int = 0,
    cluster: str | None = None,
    retries: int = 1,
) -> None:
    """Run a grid of tasks, methods, seeds, learning rates and drop paths: here, in worker processes, or on a Ray cluster.

    Before the first run it says which weights, data and device, how much memory and about how long, and refuses what
    cannot fit. Each run writes its card under results/. A run that fails, or is killed, harms no other: it is tried
    again and then recorded under results/<profile>/failed with its log. The same command again runs only what is missing.

    Args:
        tasks: of the benchmark; all of the profile's if not given.
        methods: how to adapt.
        seeds: of initialisation and order.
        lr: none: the recipe's own; one: that one; several: chosen per task and method on validation images
            with the first seed.
        drop_path: the same for the drop path of DTL and DTL+, e.g. `--lr 0.001 0.01 --drop-path 0 0.1 0.2` tries six pairs.
            The other methods run without, so that DTL has more settings to choose from than they; and a run with drop
            path stores no prefix, so it takes longer.
        benchmark: which one. A domain run trains on the source and is tested on every domain.
        shots: training images a class (few-shot): of 1, 2, 4, 8, 16; all five if not given.
        protocol: `authors` (their recipe for each task) or `clean` (one grid for all methods); the profile's if not given.
        profile: sizes and sources; `DTL_PROFILE`, else laptop.
        epochs: passes over the images; the recipe's own if not given.
        batch_size: images a step; the recipe's own if not given.
        workers: 0 runs here, one after the other; N in N processes at a time.
        cluster: address of a Ray cluster, whose machines have this package and the data; or `local` for a Ray on this
            machine, whose ports other machines can reach while it runs. Needs the extra `sweep`.
        retries: further tries of a run that failed.
    """
    from .sweep import sweep_grid

    try:
        results = sweep_grid(
            tasks, methods, seeds, lr, drop_path, benchmark=benchmark, shots=shots, protocol=protocol, profile=profile, epochs=epochs, batch_size=batch_size, workers=workers,
            cluster=cluster, retries=retries,
        )  # fmt: skip
    except KeyboardInterrupt:
        print("dtl: stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    if any(result.card is None for result in results):
        sys.exit(1)


Part = Literal["vtab-1k", "few-shot", "domain", "ablations", "pitfalls", "bf16"]


def record(
    profile: ProfileName = "laptop",
    parts: tuple[Part, ...] = ("vtab-1k", "few-shot", "domain", "ablations", "pitfalls"),
    methods: tuple[Method, ...] = ("linear", "bitfit", "adaptformer", "lora", "dtl", "dtl+"),
    tasks: tuple[str, ...] = (),
    workers: int = 0,
) -> None:
    """Record the results that the tables are made of: benchmarks, ablations, pitfalls. Goes on where it was stopped.

    Args:
        profile: whose data.
        parts: which of them; `bf16` is DTL with its frozen backbone in bf16 on two tasks, beside the runs in fp32.
        methods: only these methods.
        tasks: only these tasks of VTAB-1K.
        workers: 0 runs one after the other; N in N processes at a time.
    """
    from .experiments.grids import HALF_TASKS as TASKS
    from .sweep import record as record_grids
    from .sweep.half import record_half

    record_grids(profile, methods, tasks, tuple(p for p in parts if p != "bf16"), workers)
    if "bf16" in parts:
        record_half(profile, tasks or TASKS)

"""The recorded results of the laptop, all of them, as one command that goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Sequence

from ..experiments import COMPARED, runs
from .ablations import ablate
from .grid import sweep_grid
from .pitfalls import measure_pitfalls

PARTS = ("vtab-1k", "few-shot", "domain", "ablations", "pitfalls")


def record(
    profile: str = "laptop",
    methods: Sequence[str] = COMPARED,
    tasks: Sequence[str] = (),
    parts: Sequence[str] = PARTS,
    workers: int = 0,
) -> None:
    """Records the grids: per task and method a learning rate chosen on validation images with one seed, then three runs.

    What is recorded already is left alone; a run that was killed continues from its last epoch. The cards are written
    as they come.

    Args:
        profile: whose data.
        methods: of the three benchmarks.
        tasks: only these tasks of VTAB-1K; all if empty.
        parts: which benchmarks; the ablations of DTL; the field's pitfalls.
        workers: runs at a time, see ``sweep_grid``.

    Raises:
        ValueError: an unknown part.
    """
    if unknown := set(parts) - set(PARTS):
        raise ValueError(f"nothing is called {', '.join(sorted(unknown))} here: choose from {', '.join(PARTS)}")
    for part in parts:
        print(f"--- {part}", flush=True)
        if part == "ablations":
            ablate(profile, workers=workers)
        elif part == "pitfalls":
            measure_pitfalls(profile, workers=workers)
        else:
            chosen = tuple(tasks) if part == "vtab-1k" else ()
            asked = dict(benchmark=part, profile=profile, workers=workers)
            sweep_grid(chosen, methods, runs.SEEDS, runs.LEARNING_RATES, **asked)

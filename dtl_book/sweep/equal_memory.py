"""Record the comparison at equal memory, see ``experiments.equal_memory``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..experiments.equal_memory import (
    FEW_SHOT,
    GROUP,
    SIX,
    TASKS,
    base_runs,
    choice_card,
    chosen_rate,
    close_rates,
    runs_along_m,
    tried,
    whole_runs,
)
from ..experiments.run import Run
from ..experiments.settings import SEEDS
from ..paths import recorded_path, results_dir
from .grid import sweep_runs
from .runner import Result


def record_chosen(runs: Sequence[Run], *, workers: int = 0) -> list[Result]:
    """Record what is missing of these methods: their choices, close choices with every seed, then the final runs."""
    folder = results_dir() / runs[0].profile / GROUP

    def missing(selects: list[Run]) -> list[Run]:
        return [select for select in selects if choice_card(select) == recorded_path(select.card())]

    results = sweep_runs(missing([s for run in runs for s in tried(run)]), folder, workers=workers)
    again = missing([s for run in runs for s in tried(run, SEEDS, close_rates(run))])
    results += sweep_runs(again, folder, workers=workers)
    final = [replace(run, lr=chosen_rate(run), seed=seed) for run in runs for seed in SEEDS]
    return results + sweep_runs(final, folder, workers=workers)


def record_equal_memory(profile: str = "laptop", tasks: Sequence[str] = TASKS, *, workers: int = 0) -> None:
    """Record the comparison, a task at a time; then along M, with few shots, and the rivals over all blocks."""
    few = dict(benchmark="few-shot", names=SIX)
    parts = [base_runs(profile, (task,)) for task in tasks]
    parts += [runs_along_m(profile), *(base_runs(profile, FEW_SHOT[:1], shots=n, **few) for n in FEW_SHOT[1])]
    for runs in [*parts, *(whole_runs(profile, (task,)) for task in tasks)]:
        record_chosen(runs, workers=workers)

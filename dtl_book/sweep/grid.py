"""Grids of runs, with settings chosen on validation images, and lists of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from dtl_core.data.fewshot import SETS, SHOTS
from dtl_core.data.vtab import official_tasks

from ..experiments.profiles import Profile, get_profile
from ..experiments.run import Benchmark, Run
from ..experiments.run_data import source_of
from ..experiments.settings import Grid, Setting, best_setting, selection_runs
from ..paths import results_dir
from .report import check_sweep, write_summary
from .runner import Result, recorded, run_all
from .workers import open_workers


def tasks_of(profile: Profile, benchmark: Benchmark = "vtab-1k") -> tuple[str, ...]:
    """Return the tasks of a profile: the official ones for ``paper``, else those that are built; for domain the source."""
    official = profile.name == "paper"
    if benchmark == "few-shot":
        return tuple(SETS) if official else ("typefaces",)
    if benchmark == "domain":
        return (source_of(profile),)
    if official:
        return tuple(dict.fromkeys(row["folder"] for row in official_tasks().values()))
    from ..standins import TASKS  # brings scikit-learn, which no process of a sweep needs

    return TASKS


def curves_of(grid: Grid) -> list[Run]:
    """Return the runs with the first seed and no setting yet: a setting is chosen for each.

    Each number of shots has its own: with one for all a method can fall to chance at the others, and the curve would show
    the choice, not the method.
    """
    shots = (grid.shots or SHOTS) if grid.benchmark == "few-shot" else (None,)
    shared = {k: getattr(grid, k) for k in ("benchmark", "protocol", "profile", "epochs", "batch_size")}
    tasks = grid.tasks or tasks_of(get_profile(grid.profile), grid.benchmark)
    return [
        Run(task, method, shots=n, seed=grid.seeds[0], **shared)
        for task, method, n in product(tasks, grid.methods, shots)
    ]


def sweep_grid(grid: Grid, *, workers: int = 0, cluster: str | None = None, retries: int = 1) -> list[Result]:
    """Run what is missing of a grid, print the plan beforehand, and write a card per run and one summary.

    Return a result per run, those that chose a setting first. Where a method does not fit the device nothing is run.
    """
    curves = curves_of(grid)
    tried = {run: selection_runs(run, grid.lr, grid.drop_path) for run in curves}

    def finals(run: Run, chosen: Setting) -> list[Run]:
        return [replace(run, seed=seed, lr=chosen.lr, drop_path=chosen.drop_path) for seed in grid.seeds]

    # until a setting is chosen any card of a final run will do
    known = {run: next(iter(each)) if len(each) == 1 else Setting() for run, each in tried.items()}
    selects = [select for each in tried.values() if len(each) > 1 for select in each.values()]
    planned = [*selects, *(final for run in curves for final in finals(run, known[run]))]
    missing = [run for run in planned if recorded(run) is None]
    results: list[Result] = []
    with open_workers(*((workers, cluster) if missing else ())) as pool:
        if missing:
            check_sweep(missing, pool)
        if selects:
            what = [
                name for name, given in (("learning rates", grid.lr), ("drop paths", grid.drop_path)) if len(given) > 1
            ]
            print(f"choosing {' and '.join(what)} on validation images")
            results += run_all(selects, pool, retries=retries)
        failed = {result.run for result in results if result.card is None}
        undecided = [run for run, each in tried.items() if failed & set(each.values())]
        for run in undecided:
            print(f"no final runs of {run.method} on {run.where}: a run that was to choose its setting failed")
        chosen = {
            run: best_setting(run, grid.lr or (None,), grid.drop_path) if len(tried[run]) > 1 else known[run]
            for run in curves
            if run not in undecided
        }
        final = [run for curve, setting in chosen.items() for run in finals(curve, setting)]
        results += run_all(final, pool, retries=retries)
    return write_summary(results, results_dir() / grid.profile / grid.benchmark)


def sweep_runs(runs: Sequence[Run], folder: Path, *, workers: int = 0) -> list[Result]:
    """Run what is missing of a list, print the plan beforehand, and write one summary into ``folder``."""
    if not runs:
        return []
    missing = [run for run in runs if recorded(run) is None]
    with open_workers(workers if missing else 0) as pool:
        if missing:
            check_sweep(missing, pool)
        results = run_all(runs, pool)
    return write_summary(results, folder)

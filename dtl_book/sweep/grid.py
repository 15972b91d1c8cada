"""A grid of tasks, methods, seeds, learning rates and drop paths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from dtl_core.data.fewshot import SETS, SHOTS
from dtl_core.data.vtab import official_tasks

from ..experiments import DROP_PATH_METHODS, METHODS, SEEDS, RunCard, Setting, best_setting, settings_for
from ..experiments.profiles import get_profile
from ..experiments.run_data import Benchmark, source_of
from ..paths import results_dir, shown
from ..standins import TASKS
from .jobs import Job, recorded, run_job
from .loop import Result, sweep
from .pools import open_pool
from .summary import summary_table, summary_text, write_summary
from .survey import check_sweep


def tasks_of(profile: str, benchmark: Benchmark = "vtab-1k") -> tuple[str, ...]:
    """The tasks of a profile: the official ones for ``paper``, else those that are built; the source for "domain"."""
    if benchmark == "few-shot":
        return tuple(SETS) if profile == "paper" else ("typefaces",)
    if benchmark == "domain":
        return (source_of(get_profile(profile)),)
    return tuple(dict.fromkeys(row["folder"] for row in official_tasks().values())) if profile == "paper" else TASKS


def sweep_grid(
    tasks: Sequence[str] = (),
    methods: Sequence[str] = METHODS,
    seeds: Sequence[int] = SEEDS,
    rates: Sequence[float] = (),
    drop_paths: Sequence[float] = (),
    *,
    benchmark: Benchmark = "vtab-1k",
    shots: Sequence[int] = (),
    profile: str | None = None,
    protocol: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    workers: int = 0,
    cluster: str | None = None,
    retries: int = 1,
    work: Callable[[Job], RunCard] = run_job,
) -> list[Result]:
    """Runs what is missing of a grid, says beforehand what it will be, and writes a card a run and one summary.

    Args:
        tasks: all of the profile's if empty; for "domain" the source, which is tested on every domain.
        methods, seeds: of the grid.
        rates: none: the recipe's own learning rate; one: that one; several: per task, method and number of shots each is
            tried with the first seed, and the best on the validation images is taken for the final runs.
        drop_paths: the same for the drop path of DTL and DTL+; with several rates every pair is tried. The other methods
            run without, so that DTL and DTL+ have more settings to choose from than they. With drop path a run stores no
            prefix, and is slower for it.
        benchmark: "vtab-1k", "few-shot" or "domain".
        shots: training images a class (few-shot); all five if empty. Each has its own choice: with one for all a
            method can fall to chance at the others, and the curve would show the choice, not the method.
        profile: see ``get_profile``.
        protocol: "authors" or "clean"; the profile's if None.
        epochs, batch_size: the recipe's own if None.
        workers, cluster: see ``open_pool``.
        retries, work: see ``sweep``.

    Returns:
        A result a run, those that chose a setting first.

    Raises:
        CannotFit: a method has no room on the device; nothing was run.
        ValueError: an empty grid, shots of another benchmark, a drop path that is none or that no method takes, or a card
            of another run of the same name.
    """
    name = get_profile(profile).name
    shared = dict(benchmark=benchmark, profile=name, protocol=protocol, epochs=epochs, batch_size=batch_size)
    if shots and benchmark != "few-shot":
        raise ValueError(f"shots belong to the few-shot benchmark, and this is {benchmark}: leave them out")
    drawn: list[int | None] = list(shots or SHOTS) if benchmark == "few-shot" else [None]
    curves = [(task, method, n) for task in tasks or tasks_of(name, benchmark) for method in methods for n in drawn]
    if not curves or not seeds or retries < 0:
        raise ValueError("a sweep needs at least one task, one method and one seed, and retries of 0 or more")
    if not all(0 <= drop < 1 for drop in drop_paths):
        raise ValueError(f"drop paths {', '.join(map(str, drop_paths))}: each is a probability below 1")
    if drop_paths and not set(methods) & set(DROP_PATH_METHODS):
        raise ValueError(f"none of {', '.join(methods)} takes a drop path: leave it out, or sweep dtl or dtl+")
    grids = {method: settings_for(method, rates, drop_paths) for method in methods}
    selects = [
        Job(task, method, seeds[0], tried.lr, drop_path=tried.drop_path, shots=n, purpose="select", **shared)
        for task, method, n in curves
        for tried in (grids[method] if len(grids[method]) > 1 else ())
    ]

    def finals(of: tuple[str, str, int | None], chosen: Setting) -> list[Job]:
        task, method, n = of
        setting = dict(lr=chosen.lr, drop_path=chosen.drop_path, shots=n, **shared)
        return [Job(task, method, seed, **setting) for seed in seeds]

    # until a setting is chosen any card of a final run will do
    open_ones = {m: grid[0] if len(grid) == 1 else Setting() for m, grid in grids.items()}
    planned = [*selects, *(job for of in curves for job in finals(of, open_ones[of[1]]))]
    missing = [job for job in planned if recorded(job) is None]
    results: list[Result] = []
    with open_pool(*((workers, cluster) if missing else ())) as pool:
        if missing:
            check_sweep(missing, pool)
        if selects:
            kinds = [("learning rates", rates), ("drop paths", drop_paths)]
            print(f"choosing {' and '.join(what for what, given in kinds if len(given) > 1)} on validation images")
            results += sweep(selects, pool, retries=retries, work=work)
        lost = {(r.job.task, r.job.method, r.job.shots) for r in results if r.card is None}
        asked = dict(rates=tuple(rates) or (None,), seed=seeds[0], benchmark=benchmark, drop_paths=tuple(drop_paths))
        chosen = {
            of: best_setting(name, *of[:2], shots=of[2], **asked) if len(grids[of[1]]) > 1 else open_ones[of[1]]
            for of in curves
            if of not in lost
        }
        for task, method, n in (of for of in curves if of in lost):
            where = task if n is None else f"{task}, {n} shots"
            print(f"no final runs of {method} on {where}: a run that was to choose its setting failed")
        results += sweep([job for of in chosen for job in finals(of, chosen[of])], pool, retries=retries, work=work)
    return _summed_up(results, results_dir() / name / benchmark)


def _summed_up(results: list[Result], folder: Path) -> list[Result]:
    table = summary_table(results)
    print(summary_text(table))
    for path in write_summary(table, folder):
        print(f"written: {shown(path)}")
    return results


def sweep_jobs(
    jobs: Sequence[Job], folder: Path, *, workers: int = 0, work: Callable[[Job], RunCard] = run_job
) -> list[Result]:
    """Runs what is missing of a list, says beforehand what it will be, and writes one summary.

    Args:
        jobs: of one profile and benchmark.
        folder: of the summary.
        workers, work: see ``sweep_grid``.

    Raises:
        CannotFit, ValueError: see ``sweep_grid``.
    """
    missing = [job for job in jobs if recorded(job) is None]
    with open_pool(*((workers, None) if missing else ())) as pool:
        if missing:
            check_sweep(missing, pool)
        results = sweep(jobs, pool, work=work)
    return _summed_up(results, folder)

"""The field's pitfalls, measured: the same run with one of them switched on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..experiments import SEEDS, RunCard, best_setting
from ..experiments.grids import PITFALL_METHODS as METHODS
from ..experiments.grids import PITFALLS as GROUP
from ..experiments.grids import SWITCHES, is_run, pitfall_tasks
from ..experiments.profiles import get_profile
from ..paths import results_dir
from .grid import sweep_jobs
from .jobs import Job, run_job
from .loop import Result


def measure_pitfalls(
    profile: str | None = None,
    tasks: Sequence[str] = (),
    seeds: Sequence[int] = SEEDS,
    *,
    lr: float | None = None,
    workers: int = 0,
    work: Callable[[Job], RunCard] = run_job,
) -> list[Result]:
    """Records what is missing of the pitfalls. The runs without one are those of the table of VTAB-1K.

    Args:
        profile: see ``get_profile``.
        tasks: of VTAB-1K; the profile's two (``pitfall_tasks``) if empty.
        seeds: of initialisation and order.
        lr: for all; the one that was chosen for the method on the task if None.
        workers, work: see ``sweep_grid``.

    Returns:
        A result a run.

    Raises:
        FileNotFoundError: no learning rate was chosen for a method on a task yet.
    """
    name = get_profile(profile).name
    jobs = [
        Job(
            task, method, seed, lr or best_setting(name, task, method).lr, profile=name, switches=switches, group=GROUP,
            variant=variant,
        )
        for task in tasks or pitfall_tasks(name)
        for method in METHODS
        for variant, switches in SWITCHES.items()
        if is_run(method, variant)
        for seed in seeds
    ]  # fmt: skip
    return sweep_jobs(jobs, results_dir() / name / GROUP, workers=workers, work=work)

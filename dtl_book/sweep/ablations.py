"""Records what each part of DTL is worth: M, rank, beta and kernel, one at a time, at the learning rate that DTL has on the task."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..experiments import SEEDS, RunCard, best_setting
from ..experiments.grids import ABLATIONS as GROUP
from ..experiments.grids import task_of, variants
from ..experiments.profiles import get_profile
from ..paths import results_dir
from .grid import sweep_jobs
from .jobs import Job, run_job
from .loop import Result


def ablate(
    profile: str | None = None,
    task: str | None = None,
    seeds: Sequence[int] = SEEDS,
    *,
    lr: float | None = None,
    workers: int = 0,
    work: Callable[[Job], RunCard] = run_job,
) -> list[Result]:
    """Records what is missing of the ablations. The paper's own configuration is DTL's in the table of VTAB-1K.

    Args:
        profile: see ``get_profile``.
        task: of VTAB-1K; the profile's own (``task_of``) if None.
        seeds: of initialisation and order.
        lr: for all; the one that was chosen for DTL on this task if None.
        workers, work: see ``sweep_grid``.

    Returns:
        A result a run.

    Raises:
        FileNotFoundError: no learning rate was chosen for DTL on this task yet.
    """
    name = get_profile(profile).name
    task = task or task_of(name)
    lr = lr or best_setting(name, task, "dtl").lr
    jobs = [
        Job(task, "dtl", seed, lr, profile=name, config=config, group=GROUP, variant=variant)
        for variant, config in variants().items()
        for seed in seeds
    ]
    return sweep_jobs(jobs, results_dir() / name / GROUP, workers=workers, work=work)

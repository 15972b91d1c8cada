"""Many runs: a grid or a list, in this process, in several processes, or on a Ray cluster."""

from ..experiments.settings import Grid
from .grid import sweep_grid, sweep_runs, tasks_of
from .recording import ablate, measure_pitfalls, record
from .runner import Result, run_all
from .workers import open_workers

__all__ = [
    "Grid", "Result", "ablate", "measure_pitfalls", "open_workers", "record", "run_all", "sweep_grid", "sweep_runs", "tasks_of",
]  # fmt: skip

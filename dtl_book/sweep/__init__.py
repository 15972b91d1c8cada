"""A grid of runs: in this process, in processes beside it, or on a Ray cluster."""

from ..experiments.grids import variants
from .ablations import ablate
from .grid import sweep_grid, tasks_of
from .jobs import Job, run_job
from .loop import Result, sweep
from .pitfalls import measure_pitfalls
from .pools import open_pool
from .recording import record
from .summary import summary_table

__all__ = [
    "Job", "Result", "ablate", "measure_pitfalls", "open_pool", "record", "run_job", "summary_table", "sweep", "sweep_grid", "tasks_of", "variants",
]  # fmt: skip

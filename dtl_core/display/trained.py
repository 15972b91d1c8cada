"""What an executed workbook trained: a line in the table on its first page for each run that a notebook notes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from dtl_core.files import written_whole

FOLDER_VARIABLE = "DTL_TRAINED"  # set by the runner; in JupyterLab nothing is noted


def note_run(method: str, task: str, seed: int, split: str, accuracy: float, seconds: float) -> None:
    """Notes a run that was just trained. Does nothing unless the workbook's runner asks for it.

    Args:
        method: a key of ``baselines.METHODS``.
        task: folder of the task.
        seed: of the run.
        split: list file that it was scored on.
        accuracy: on that split, in [0, 1].
        seconds: of training.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return
    facts = {"method": method, "task": task, "seed": seed, "split": split, "accuracy": accuracy, "seconds": seconds}
    with written_whole(Path(folder) / f"{time.time_ns()}.json") as part:
        part.write_text(json.dumps(facts))

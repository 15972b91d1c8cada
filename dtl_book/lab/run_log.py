"""What an executed workbook trained: a line in the table on its first page for each run that a notebook notes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pandas as pd

from ..json_files import write_json

FOLDER_VARIABLE = "DTL_TRAINED"  # set by the runner; in JupyterLab nothing is noted
COLUMNS = ["method", "task", "seed", "split", "accuracy", "seconds"]


def note_run(method: str, task: str, seed: int, split: str, accuracy: float, seconds: float) -> None:
    """Note a run that was just trained, with its accuracy in [0, 1]. Does nothing unless the workbook's runner asks for it."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return
    facts = dict(zip(COLUMNS, (method, task, seed, split, accuracy, seconds), strict=True))
    write_json(Path(folder) / f"{time.time_ns()}.json", facts)


def trained_in(folder: Path) -> pd.DataFrame:
    """Return the runs that notebooks noted (``note_run``) in a folder, a row each, in the order of noting.

    A file that cannot be read is left out; a key of ``COLUMNS`` that it lacks is missing in its row.
    """
    rows = []
    for path in sorted(folder.glob("*.json")):
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue
        if isinstance(run, dict) and "method" in run:
            rows.append({key: run.get(key) for key in COLUMNS})
    return pd.DataFrame(rows, columns=COLUMNS)

"""The check of what one shared prefix saves, from the card of its benchmark."""

from __future__ import annotations

import json
from pathlib import Path

from ...paths import results_dir
from .claim import Finding, today


def serving_saves(quantity: str, high: float, root: Path | None = None) -> Finding:
    """The largest number of tasks on one prefix needs less than this share of what separate models do.

    Args:
        quantity: "flops" (multiply-adds by the counter) or "time" (median over rounds, side by side in one run).
        high: the share.
        root: folder of the results; ``results_dir()`` if None.
    """
    path = (root or results_dir()) / "benchmarks" / "serving.json"
    if not path.is_file():
        return Finding("not run", f"{path.name} is not recorded", "", today())
    card = json.loads(path.read_text())
    raise NotImplementedError(card)

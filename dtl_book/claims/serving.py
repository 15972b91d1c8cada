"""The check of what one shared prefix saves, from the card of ``benchmarks/serving.py``."""

from __future__ import annotations

import json
from pathlib import Path

from dtl_core.files import DamagedFile

from ..experiments.behaviour import SERVING
from ..experiments.code import age_of, serving_code
from ..paths import recorded_path, results_dir
from .claim import Finding, today

SHARED, SEPARATE = "MultiTask", "separate DTL models"


def serving_saves(quantity: str, high: float, root: Path | None = None) -> Finding:
    """The largest number of tasks on one prefix needs less than this share of what separate models do.

    Args:
        quantity: "multiply-adds" (by the counter) or "time" (median over rounds, side by side in one run).
        high: the share.
        root: folder of the results; ``results_dir()`` if None.

    Raises:
        DamagedFile: the card is not whole.
    """
    path = recorded_path((root or results_dir()) / "benchmarks" / "serving.json")
    if not path.is_file():
        return Finding("not run", "the benchmark is not recorded", "", today())
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        most = max(row["tasks"] for row in card["rows"])
        one, many = (
            next(r for r in card["rows"] if r["kind"] == kind and r["tasks"] == most) for kind in (SHARED, SEPARATE)
        )
        if quantity == "time":
            share = one["ratio"]
            numbers = f"{share:.2f} of the time for {most} tasks (quartiles {one['low']:.2f} to {one['high']:.2f})"
        else:
            share = one["multiply_adds"] / many["multiply_adds"]
            numbers = f"{share:.3f} of the multiply-adds for {most} tasks"
        s, date = card["setting"], card["created"][:10]
        setting = (
            f"{s['backbone']} at {s['image_size']} px, random weights, {s['batch_size']} image(s) a call, CPU, fp32"
        )
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise DamagedFile(f"{path} is damaged ({error!r}): python benchmarks/serving.py --out {path}") from error
    return Finding(
        "supported" if share < high else "not supported",
        numbers,
        setting,
        date,
        tuple(age_of(card.get("code", {}), serving_code(), SERVING)),
    )

"""Run the parts one after the other, within a budget of minutes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from ..paths import shown
from .cards import PARTS, device_name, measured_dir, slug
from .memory import MEMORY, describe_summary
from .rehearsal import PAPER
from .rows import Part, fill_card
from .suites import NOTEBOOKS, TESTS
from .timing import TIME

MEASURE: dict[str, Part] = {"tests": TESTS, "memory": MEMORY, "time": TIME, "notebooks": NOTEBOOKS, "paper": PAPER}
# when a part has to end, as a share of all the minutes; what a part does not use is left to those after it
ENDS = {"tests": 0.25, "memory": 0.55, "time": 0.72, "notebooks": 0.82, "paper": 1.0}


def measure(
    parts: Sequence[str] = PARTS, device: str = "cuda", minutes: float = 10.0, out: Path | None = None,
    backbone: str = "vit_base_patch16_224",
) -> int:  # fmt: skip
    """Measure the parts in order of worth, and write a card for each into a folder named after the device.

    Args:
        parts: some of ``PARTS``.
        device: "cuda", or "cpu" for what can be done without.
        minutes: for all parts together.
        out: folder for the cards; ``measured_dir()`` if None.
        backbone: a name for ``load_backbone``; random weights.

    Returns:
        Exit status: 0; 1 where a row failed (not where the device had too little memory); 2 where there is no CUDA device
        and no other was asked for.
    """
    start = time.monotonic()
    if minutes <= 0:
        raise ValueError(f"minutes is {minutes:g}: the budget has to be more than 0")
    if device == "cuda" and not torch.cuda.is_available():
        for part in parts:
            print(
                f"{part}: not measured, for torch finds no CUDA device here (`--device cpu --backbone toy/vit` tries it out)."
            )
        return 2
    where = torch.device(device)
    folder = (out or measured_dir()) / slug(device_name(where))
    failed = False
    for part in parts:
        print(f"\n{part}", flush=True)
        path, end = folder / f"{part}.json", ENDS[part] if len(parts) > 1 else 1.0
        try:
            card = fill_card(part, MEASURE[part], path, where, backbone, start + 60 * minutes * end)
        except Exception as error:  # of the part as a whole: those after it can still be measured
            if len(parts) == 1:
                raise
            print(f"{part}: failed, {error}", flush=True)
            failed = True
            continue
        if card.get("summary"):
            print(describe_summary(card["summary"]))
        bad = [row["name"] for row in card["rows"] if row["status"] == "failed"]
        failed = failed or bool(bad)
        left = f", {len(card['not_run'])} not run" if card["not_run"] else ""
        print(f"{part}: {len(card['rows'])} rows, {len(bad)} failed{left}; {shown(path)}", flush=True)
    return int(failed)

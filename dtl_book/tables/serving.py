"""The cost of many tasks, for RESULTS.md: from the recorded card of ``benchmarks/serving.py`` alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from dtl_core.memory import MIB

from .cells import markdown
from .records import read_record

SERVER, KNOWN, SEPARATE = "MultiTask", "MultiTask, known images", "separate DTL models"
LORA, FULL = "LoRA (peft), switched", "full copies"


def serving_card(root: Path | None = None, shape: Callable = dict) -> Any:
    """Return the recorded card; see ``read_record``."""
    return read_record("benchmarks/serving.json", "python benchmarks/serving.py --out {}", root, shape)


def serving_table(card: dict) -> pd.DataFrame:
    """Return a row for each kind and number of tasks.

    Returns:
        kind, tasks; ratio, low, high: median and quartiles of the seconds, of separate DTL models; cpu_ratio: the same of
        the seconds that the process' threads worked; multiply_adds (of one image), weight_bytes, peak_bytes (beside the
        weights); arithmetic: blocks that run, of those of separate models (1 for LoRA and copies, which share none).
    """
    table = pd.DataFrame(card["rows"])
    pairs = zip(table["kind"], table["tasks"], strict=True)
    return table.assign(arithmetic=[by_arithmetic(*pair, card["blocks"], card["inject_from"]) for pair in pairs])


def by_arithmetic(kind: str, tasks: int, blocks: int = 12, m: int = 6) -> float:
    """Return the blocks that an image runs through for this many tasks, relative to separate models."""
    shared, own = {SERVER: (m + 1, blocks - m - 1), KNOWN: (0, blocks - m - 1)}.get(kind, (0, blocks))
    return (shared + own * tasks) / (blocks * tasks)


def serving_note(card: dict) -> str:
    """Return the setting of the card, and where the time of the largest number of tasks goes, in sentences."""
    s, versions, where, m = card["setting"], card["versions"], card["where"], card["inject_from"]
    images = "one image" if s["batch_size"] == 1 else f"{s['batch_size']} images"
    chunks = ", ".join(f"{c['cpu_ratio']:.2f} in chunks of {c['chunk']}" for c in card["chunks"])
    load = f" under a load of {card['load'][0]:.0f} to {card['load'][1]:.0f}" if "load" in card else ""
    waiting = ", waiting asleep" if card["wait_policy"].lower() == "passive" else ""
    return (
        f"Median ratio and quartiles over {s['rounds']} rounds; {s['backbone']} at {s['image_size']} px, {images}, {s['classes']} classes, "
        f"chunks of {s['chunk']}, fp32, {s['threads']} threads of a CPU{load}{waiting}; "
        f"torch {versions['torch']}, peft {versions['peft']}. CPU time: what the threads of the process worked, whatever else ran. "
        f"Of MultiTask's time with {max(s['tasks'])} tasks {100 * where['prefix']:.0f} % lies in blocks 0 to {m}, {100 * where['suffix']:.0f} % in blocks "
        f"{m + 1} to {card['blocks'] - 1}, and {100 * where['beside']:.0f} % beside the blocks: embedding, side networks, joining the batch, heads. "
        f"Rows at once, by CPU time of the quickest: {chunks}. Larger products use a CPU better, so the time can fall below the arithmetic."
    )


def serving_markdown(root: Path | None = None) -> str:
    """Return a row for each number of tasks, and the note; see ``read_record`` for what it raises."""
    card = serving_card(root)
    kinds = {kind: rows.set_index("tasks") for kind, rows in serving_table(card).groupby("kind")}
    times = {
        kind: [f"{row.ratio:.2f} ({row.low:.2f} to {row.high:.2f})" for row in rows.itertuples()]
        for kind, rows in kinds.items()
    }
    mine, copies = kinds[SERVER], kinds[FULL]
    texts = pd.DataFrame({
        "tasks": mine.index.map(str),
        "blocks, by arithmetic": mine["arithmetic"].map("{:.3f}".format),
        "multiply-adds, counted": (mine["multiply_adds"] / kinds[SEPARATE]["multiply_adds"]).map("{:.3f}".format),
        "`MultiTask`, time": times[SERVER],
        "CPU time": mine["cpu_ratio"].map("{:.2f}".format),
        "known images, time": times[KNOWN],
        "LoRA switched (peft), time": times[LORA],
        "full copies, time": times[FULL],
        "weights (MiB)": (mine["weight_bytes"] / MIB).map("{:,.0f}".format),
        "of full copies": (copies["weight_bytes"] / mine["weight_bytes"]).map("1/{:.1f}".format),
        "peak beside them (MiB)": (mine["peak_bytes"] / MIB).map("{:,.0f}".format),
    })  # fmt: skip
    return f"{markdown(texts, left=0)}\n\n{serving_note(card)}"

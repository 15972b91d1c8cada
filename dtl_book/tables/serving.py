"""What many tasks cost, for RESULTS.md: from the recorded card of ``benchmarks/serving.py`` alone."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from dtl_core.memory import MIB

from ..paths import results_dir

MARKS = ("<!-- serving: begin (dtl results --write) -->", "<!-- serving: end -->")
SERVER, KNOWN, SEPARATE = "MultiTask", "MultiTask, known images", "separate DTL models"
LORA, FULL = "LoRA (peft), switched", "full copies"


def serving_card(root: Path | None = None) -> dict:
    """The recorded card.

    Raises:
        FileNotFoundError: nothing is recorded.
    """
    path = (root or results_dir()) / "benchmarks" / "serving.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: python benchmarks/serving.py --out {path}")
    return json.loads(path.read_text())


def serving_table(card: dict) -> pd.DataFrame:
    """A row for each kind and number of tasks.

    Returns:
        kind, tasks; ratio, low, high: median and quartiles of the seconds, of separate DTL models; cpu_ratio: the same of
        the seconds that the process' threads worked; multiply_adds (of one image), weight_bytes, peak_bytes (beside the
        weights); arithmetic: blocks that run, of those of separate models (1 for LoRA and copies, which share none).
    """
    table = pd.DataFrame(card["rows"])
    table["arithmetic"] = [
        by_arithmetic(k, t, card["blocks"], card["inject_from"])
        for k, t in zip(table["kind"], table["tasks"], strict=True)
    ]
    return table


def by_arithmetic(kind: str, tasks: int, blocks: int = 12, m: int = 6) -> float:
    """Blocks that an image runs through for so many tasks, of those of separate models."""
    shared, own = {SERVER: (m + 1, blocks - m - 1), KNOWN: (0, blocks - m - 1)}.get(kind, (0, blocks))
    return (shared + own * tasks) / (blocks * tasks)


def serving_note(card: dict) -> str:
    """The setting of the card, and where the time of the largest number of tasks goes, in sentences."""
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
    """A row for each number of tasks. Raises ``FileNotFoundError`` where nothing is recorded."""
    card = serving_card(root)
    table = serving_table(card).set_index(["kind", "tasks"])

    def time(kind: str, tasks: int) -> str:
        r = table.loc[(kind, tasks)]
        return f"{r['ratio']:.2f} ({r['low']:.2f} to {r['high']:.2f})"

    lines = [
        "| tasks | blocks, by arithmetic | multiply-adds, counted | `MultiTask`, time | CPU time | known images, time | LoRA switched (peft), time | full copies, time "
        "| weights (MiB) | of full copies | peak beside them (MiB) |",
        "|--:|" + "--:|" * 10,
    ]
    for tasks in card["setting"]["tasks"]:
        mine, copies = table.loc[(SERVER, tasks)], table.loc[(FULL, tasks)]
        counted = mine["multiply_adds"] / table.loc[(SEPARATE, tasks), "multiply_adds"]
        lines.append(
            f"| {tasks} | {mine['arithmetic']:.3f} | {counted:.3f} | {time(SERVER, tasks)} | {mine['cpu_ratio']:.2f} | {time(KNOWN, tasks)} | "
            f"{time(LORA, tasks)} | {time(FULL, tasks)} | {mine['weight_bytes'] / MIB:,.0f} | 1/{copies['weight_bytes'] / mine['weight_bytes']:.1f} | "
            f"{mine['peak_bytes'] / MIB:,.0f} |"
        )
    return "\n".join([*lines, "", serving_note(card)])

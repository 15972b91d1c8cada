"""What a frozen backbone in bf16 does to DTL: to its logits, and to its accuracy beside the runs in fp32."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from ..experiments.cards import load_cards
from ..experiments.profiles import get_profile
from ..experiments.settings import SEEDS
from ..paths import recorded_path, results_dir

METHOD, TASKS = "dtl", ("mnist", "shape_location")
FOLDER = "{profile}-bf16"  # beside the cards in fp32, never among them
MARKS = ("<!-- bf16: begin (dtl record --parts bf16) -->", "<!-- bf16: end -->")


def _logits_path(profile: str, task: str, root: Path | None = None) -> Path:
    return (root or results_dir()) / FOLDER.format(profile=profile) / "logits" / f"{task}.json"


def recorded(profile: str = "laptop", root: Path | None = None) -> bool:
    """Whether there is any card in bf16."""
    return not load_cards(FOLDER.format(profile=profile), root=root).empty


def half_table(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """A row per task: accuracy in fp32 and bf16 (percent, mean and spread over the seeds), and what the logits do.

    Raises:
        FileNotFoundError: a card is missing.
    """
    rows = []
    cards = {
        kind: load_cards(folder, root=root)
        for kind, folder in (("fp32", profile), ("bf16", FOLDER.format(profile=profile)))
    }
    if cards["bf16"].empty:
        raise FileNotFoundError(f"nothing is recorded in bf16 for {profile}: dtl record --parts bf16")
    for task in sorted(set(cards["bf16"]["task"])):
        row: dict = {"task": task}
        for kind, table in cards.items():
            accuracy = 100 * table[(table["task"] == task) & (table["method"] == METHOD)]["accuracy"]
            row |= {
                f"{kind} mean": accuracy.mean(),
                f"{kind} spread": accuracy.std(ddof=1),
                f"{kind} seeds": len(accuracy),
            }
        rows.append(row | json.loads(recorded_path(_logits_path(profile, task, root)).read_text()))
    return pd.DataFrame(rows).set_index("task")


def half_markdown(profile: str = "laptop", root: Path | None = None) -> str:
    """The table for RESULTS.md."""
    lines = [
        "| task | DTL, fp32 | DTL, frozen backbone in bf16 | logits differ by (relative) | same answer |",
        "|---|--:|--:|--:|--:|",
    ]
    for task, row in half_table(profile, root).iterrows():
        lines.append(
            f"| {task} | {row['fp32 mean']:.1f} ± {row['fp32 spread']:.1f} | {row['bf16 mean']:.1f} ± {row['bf16 spread']:.1f} | "
            f"{row['relative_difference']:.2%} | {row['same_answer']:.1%} of {row['images']} |"
        )
    note = (
        f"Test accuracy in percent over {len(SEEDS)} seeds; setting: {get_profile(profile).setting}; the learning rate of the runs in fp32. "
        "Logits: one trained model (seed 0), its frozen backbone in fp32 and in bf16, on val200."
    )
    return "\n".join([*lines, "", note])

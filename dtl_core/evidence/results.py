"""The table of recorded results, made from run cards alone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ..data import TASKS
from ..profiles import get_profile
from .cards import load_cards
from .readme import put_between
from .runs import METHODS, SEEDS

MARKS = ("<!-- results: begin (dtl results --write) -->", "<!-- results: end -->")
NAMES = {
    "linear": "Linear probe", "bitfit": "BitFit", "adaptformer": "AdaptFormer", "lora": "LoRA (r = 8)", "dtl": "DTL",
    "dtl+": "DTL+",
}  # fmt: skip
GROUPS = {"natural": ("mnist",), "specialized": ("elpv",), "structured": TASKS[2:]}


def results_table(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Mean and spread of the test accuracy over the seeds.

    Returns:
        A row per method and task: method, task, mean, spread (standard deviation over seeds, n - 1), seeds, lr,
        parameters_without_head, seconds (mean). In percent. Empty where nothing is recorded.
    """
    cards = load_cards(profile, root=root)
    columns = ["method", "task", "mean", "spread", "seeds", "lr", "parameters_without_head", "seconds"]
    if cards.empty:
        return pd.DataFrame(columns=columns)
    rows = []
    for (method, task), group in cards.groupby(["method", "task"]):
        accuracy = 100 * group["accuracy"]
        rows.append(
            (
                method,
                task,
                accuracy.mean(),
                accuracy.std(ddof=1),
                len(group),
                group["lr"].iloc[0],
                group["parameters_without_head"].iloc[0],
                group["seconds"].mean(),
            )
        )
    return pd.DataFrame(rows, columns=columns)


def readme_table(profile: str = "laptop", root: Path | None = None) -> str:
    """The table in Markdown, with its setting: a row per method, a column per task, and the mean of the three groups.

    A cell without all of its seeds says how many it has; a mean is given only for a row that is complete.
    """
    table = results_table(profile, root)
    setting = get_profile(profile).setting
    if table.empty:
        return f"*Nothing is recorded for the profile {profile} ({setting}): `dtl record` does it.*"
    lines = [
        "| method | parameters | " + " | ".join(TASKS) + " | mean of groups |",
        "|---|" + "--:|" * (len(TASKS) + 2),
    ]
    for method in METHODS:
        cells, means = [], {}
        for task in TASKS:
            row = table[(table["method"] == method) & (table["task"] == task)]
            if row.empty:
                cells.append("not run")
                continue
            row = row.iloc[0]
            whole = row["seeds"] == len(SEEDS)
            cells.append(
                f"{row['mean']:.1f} ± {row['spread']:.1f}"
                if whole
                else f"{row['mean']:.1f} ({row['seeds']} of {len(SEEDS)} seeds)"
            )
            if whole:
                means[task] = row["mean"]
        mine = table[table["method"] == method]
        count = f"{mine['parameters_without_head'].iloc[0]:,}" if len(mine) else "–"
        mean = "–"
        if len(means) == len(TASKS):
            mean = f"{sum(sum(means[t] for t in tasks) / len(tasks) for tasks in GROUPS.values()) / len(GROUPS):.1f}"
        lines.append(f"| {NAMES[method]} | {count} | " + " | ".join(cells) + f" | {mean} |")
    cards = load_cards(profile, root=root)
    minutes = cards[cards["method"].isin(METHODS)]["seconds"].sum() / 60
    note = (
        f"Test accuracy in percent, mean ± standard deviation over {len(SEEDS)} seeds. Setting: {setting}; {get_profile(profile).epochs} epochs, "
        "batch 32, fp32, CPU; the learning rate chosen per task and method on val200 from the same two values. "
        "Parameters without the head. The last column is the mean of the three group means (natural, specialized, structured). "
        f"The final runs trained for {minutes:.0f} minutes in all."
    )
    return "\n".join([*lines, "", note])


def write_readme_table(profile: str = "laptop", readme: Path | None = None) -> Path:
    """Puts the table into the README between its marks.

    Raises:
        ValueError: the README has no marks.
    """
    return put_between(MARKS, readme_table(profile), readme)

"""The recorded results as tables. Every table works with no card, some cards, or all of them, and says which."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pandas as pd

from dtl_core.evidence import (
    LEARNING_RATES,
    METHODS,
    SEEDS,
    TASKS,
    RunCard,
    card_path,
    load_card,
    load_cards,
    results_table,
)
from dtl_core.evidence.results import GROUPS
from dtl_core.paths import recorded_path

from .plots import METHOD_STYLES

NOT_RUN = "not run"
LABELS = {method: METHOD_STYLES[method][0] for method in METHODS}


def recorded_status(profile: str = "laptop", root: Path | None = None) -> str:
    """One sentence: how many of the final runs are recorded, and which method lacks seeds on which tasks."""
    cards = load_cards(profile, root=root)
    whole = len(METHODS) * len(TASKS) * len(SEEDS)
    if cards.empty:
        return f"None of the {whole} final runs is recorded here: `dtl record` makes the cards."
    seeds = cards.groupby(["method", "task"]).size()
    lacking = {m: [t for t in TASKS if seeds.get((m, t), 0) < len(SEEDS)] for m in METHODS}
    if not any(lacking.values()):
        return f"All {whole} final runs are recorded."
    words = {m: "every task" if len(tasks) == len(TASKS) else ", ".join(tasks) for m, tasks in lacking.items() if tasks}
    names = "; ".join(f"{LABELS[m]} on {tasks}" for m, tasks in words.items())
    return f"{int(seeds.sum())} of {whole} final runs are recorded. Without all {len(SEEDS)} seeds: {names}."


def group_means(profile: str = "laptop", root: Path | None = None) -> dict[str, pd.Series]:
    """The mean of the three group means of each method that is recorded in full.

    Returns:
        method -> a value in percent for each seed; a method that lacks a run is left out.
    """
    cards, means = load_cards(profile, root=root), {}
    for method in METHODS if len(cards) else ():
        mine = cards[cards["method"] == method].pivot(index="seed", columns="task", values="accuracy")
        mine = 100 * mine.reindex(index=SEEDS, columns=TASKS)
        if mine.notna().all(axis=None):
            means[method] = sum(mine[list(tasks)].mean(axis=1) for tasks in GROUPS.values()) / len(GROUPS)
    return means


def recorded_table(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Test accuracy in percent, mean ± standard deviation over the seeds: a row per task, a column per method.

    The last row is the mean of the three group means, only for a method that is recorded in full. A pair without all of its
    seeds says how many it has; one without any says "not run".
    """
    results = results_table(profile, root).set_index(["task", "method"])
    rows = []
    for group, tasks in GROUPS.items():
        for task in tasks:
            cells = {"group": group, "task": task}
            for method in METHODS:
                cells[LABELS[method]] = NOT_RUN
                if (task, method) in results.index:
                    row = results.loc[(task, method)]
                    short = row["seeds"] < len(SEEDS)
                    more = f" ({int(row['seeds'])} of {len(SEEDS)} seeds)" if short else f" ± {row['spread']:.1f}"
                    cells[LABELS[method]] = f"{row['mean']:.1f}{more}"
            rows.append(cells)
    means = {LABELS[m]: f"{v.mean():.1f} ± {v.std(ddof=1):.1f}" for m, v in group_means(profile, root).items()}
    last = {label: means.get(label, "–") for label in LABELS.values()}
    rows.append({"group": "all three", "task": "mean of groups"} | last)
    return pd.DataFrame(rows)


def rates_table(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """The learning rate that val200 chose for each task and method, and by how many points it beat the next best.

    Returns:
        A row per task, a column per method; "not run" where a value of the grid is missing.
    """
    cards = load_cards(profile, purpose="select", root=root)
    rows = []
    for task in TASKS:
        row = {"task": task}
        for method in METHODS:
            row[LABELS[method]] = NOT_RUN
            mine = cards[(cards["task"] == task) & (cards["method"] == method)] if len(cards) else cards
            mine = mine[mine["lr"].isin(LEARNING_RATES)] if len(mine) else mine  # a card of an older grid chose nothing
            if len(mine) == len(LEARNING_RATES):
                ranked = mine.sort_values(["accuracy", "lr"], ascending=[False, True])
                lead = 100 * (ranked["accuracy"].iloc[0] - ranked["accuracy"].iloc[1])
                row[LABELS[method]] = f"{ranked['lr'].iloc[0]:g} (+{lead:.1f})"
        rows.append(row)
    return pd.DataFrame(rows)


def balanced_table(task: str, profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Accuracy and balanced accuracy of each method on one task, in percent, mean ± standard deviation over the seeds."""
    cards, rows = load_cards(profile, root=root), []
    for method in METHODS:
        mine = cards[(cards["task"] == task) & (cards["method"] == method)] if len(cards) else cards
        cells = {"method": LABELS[method], "seeds": len(mine), "accuracy": NOT_RUN, "balanced accuracy": NOT_RUN}
        for column in ("accuracy", "balanced_accuracy") if len(mine) else ():
            values = 100 * mine[column]
            spread = f" ± {values.std(ddof=1):.1f}" if len(mine) > 1 else ""
            cells[column.replace("_", " ")] = f"{values.mean():.1f}{spread}"
        rows.append(cells)
    return pd.DataFrame(rows)


def recorded_card(task: str, method: str = "linear", seed: int = 0, profile: str = "laptop") -> RunCard | None:
    """A final card of the recorded grid; None where it was not recorded."""
    path = recorded_path(card_path(profile, "vtab-1k", task, method, seed))
    return load_card(path) if path.is_file() else None


def card_table(card: RunCard) -> pd.DataFrame:
    """A card, field by field: long texts cut, the epochs counted, DTL's settings left out where the method has none."""
    hidden = () if card.method.startswith("dtl") else ("config",)

    def short(value: object) -> str:
        if isinstance(value, dict):
            return ", ".join(f"{k} {short(v)}" for k, v in value.items() if k not in hidden)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return f"{len(value)} rows of {', '.join(value[0])}"
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        return f"{text[:12]}…" if len(text) == 64 else text  # 64: a sha256 in hex

    rows = [
        (name, textwrap.shorten(short(value), 80, placeholder=" …"))
        for name, value in vars(card).items()
        if value not in (None, "")
    ]
    return pd.DataFrame(rows, columns=["field", "value"])


def compare_cards(recorded: RunCard | None, live: RunCard) -> pd.DataFrame:
    """A recorded card and a run of now: what has to be the same, then what came out."""
    names = ("backbone_sha256", "data_digest", "parameters", "classes", "lr", "seed", "threads", "accuracy", "loss")
    then = card_table(recorded).set_index("field")["value"] if recorded else {}
    now = card_table(live).set_index("field")["value"]
    return pd.DataFrame([(n, then.get(n, NOT_RUN), now[n]) for n in names], columns=["field", "recorded", "now"])

"""The recorded results as tables. Each works with no card, some cards, or all of them, and says which."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pandas as pd

from ..experiments import COMPARED, LEARNING_RATES, SEEDS, RunCard, card_path, load_card, load_cards
from ..experiments.profiles import Profile, get_profile
from ..lab.plots import METHOD_STYLES
from ..paths import recorded_path
from ..tables import results_table
from ..tables.benchmarks import OF_GROUPS, final_cards, groups_of, means_by_seed, not_whole, of_tasks, tasks_of
from ..tables.cells import NOT_RUN, NOTHING, cell, cell_grid, mean_cell
from .paired_seeds import versus

LABELS = {method: METHOD_STYLES[method][0] for method in COMPARED}


def recorded_profile(profile: Profile, root: Path | None = None) -> Profile:
    """Return the profile whose recorded runs are shown: its own, where it has final ones, else the laptop's, with a message."""
    laptop = get_profile("laptop")
    if profile.name == laptop.name or len(load_cards(profile.name, root=root)):
        return profile
    print(f"No final run of the profile {profile.name} is recorded here. The recorded runs shown are the laptop's:")
    print(f"{laptop.setting}.")
    return laptop


def shown_methods(profile: str = "laptop", root: Path | None = None) -> tuple[str, ...]:
    """Return the methods that are recorded in full; while there are none, all that a recording runs."""
    return tuple(means_by_seed(profile, root)) or COMPARED


def recorded_status(profile: str = "laptop", root: Path | None = None) -> str:
    """Return one or two sentences: how many final runs are recorded, and which methods are incomplete."""
    means, each = means_by_seed(profile, root), len(tasks_of(profile)) * len(SEEDS)
    if load_cards(profile, root=root).empty:
        return f"None of the {len(COMPARED) * each} final runs is recorded here: `dtl record` makes the cards."
    whole = f"All {each} final runs of {', '.join(LABELS[m] for m in means)} are recorded." if means else ""
    return f"{whole} {not_whole(profile, root)}".strip()


def recorded_table(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Return the ``cell`` of each task and method: a row per task, group by group, a column per method.

    The last two rows are the mean of the three group means and the mean of all tasks, only for a method that is recorded
    in full.
    """
    means = means_by_seed(profile, root)
    grid = cell_grid(results_table(profile, root), "task", tasks_of(profile)).loc[list(shown_methods(profile, root))]
    for name in (OF_GROUPS, of_tasks(groups_of(profile))):
        grid[name] = [mean_cell(means[method][name]) if method in means else NOTHING for method in grid.index]
    return grid.rename(index=LABELS).T.rename_axis("task").rename_axis(columns=None).reset_index()


def rates_table(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Return the learning rate that val200 chose for each task and method, and by how many points it beat the next best.

    Where several drop paths were tried, the chosen one is given too. "not run" where a learning rate of the grid is missing.
    """
    cards = load_cards(profile, purpose="select", root=root)
    rows = []
    for task in tasks_of(profile):
        row = {"task": task}
        for method in shown_methods(profile, root):
            row[LABELS[method]] = NOT_RUN
            mine = cards[(cards["task"] == task) & (cards["method"] == method)]
            mine = mine[mine["lr"].isin(LEARNING_RATES)]  # a card of an older grid chose nothing
            if set(mine["lr"]) == set(LEARNING_RATES):
                ranked = mine.assign(drop=[recipe["drop_path"] for recipe in mine["recipe"]])
                ranked = ranked.sort_values(["accuracy", "lr", "drop"], ascending=[False, True, True])
                lead = 100 * (ranked["accuracy"].iloc[0] - ranked["accuracy"].iloc[1])
                drop = f", drop path {ranked['drop'].iloc[0]:g}" if ranked["drop"].nunique() > 1 else ""
                row[LABELS[method]] = f"{ranked['lr'].iloc[0]:g}{drop} (+{lead:.1f})"
        rows.append(row)
    return pd.DataFrame(rows)


def differences_table(method: str = "dtl", profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Return by how many points a method is ahead of each other one that is shown, paired by seed: a row per task."""
    columns = {}
    for other in (m for m in shown_methods(profile, root) if m != method):
        rows = versus(other, method, profile, root)[["difference", "difference ±", "seeds"]].itertuples(index=False)
        columns[f"less {LABELS[other]}"] = [cell(*row, "+") for row in rows]
    return pd.DataFrame({"task": tasks_of(profile), **columns})


def balanced_table(task: str, profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Return accuracy and balanced accuracy of each method on one task, in percent, mean ± standard deviation over the seeds."""
    cards, rows = final_cards(profile, root), []
    for method in shown_methods(profile, root):
        mine = cards[(cards["task"] == task) & (cards["method"] == method)]
        cells = {"method": LABELS[method], "seeds": len(mine), "accuracy": NOT_RUN, "balanced accuracy": NOT_RUN}
        for column in ("accuracy", "balanced_accuracy") if len(mine) else ():
            values = 100 * mine[column]
            spread = f" ± {values.std(ddof=1):.1f}" if len(mine) > 1 else ""
            cells[column.replace("_", " ")] = f"{values.mean():.1f}{spread}"
        rows.append(cells)
    return pd.DataFrame(rows)


def recorded_card(task: str, method: str = "linear", seed: int = 0, profile: str = "laptop") -> RunCard | None:
    """Return a final card of the recorded grid; None where it was not recorded."""
    path = recorded_path(card_path(profile, "vtab-1k", task, method, seed))
    return load_card(path) if path.is_file() else None


def card_table(card: RunCard) -> pd.DataFrame:
    """Return a card, field by field: long texts cut, the epochs counted, DTL's settings left out where the method has none."""
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
    """Return a recorded card beside a new run: first what has to be the same, then the results."""
    names = ("backbone_sha256", "data_digest", "parameters", "classes", "lr", "seed", "threads", "accuracy", "loss")
    then = card_table(recorded).set_index("field")["value"] if recorded else {}
    now = card_table(live).set_index("field")["value"]
    return pd.DataFrame([(n, then.get(n, NOT_RUN), now[n]) for n in names], columns=["field", "recorded", "now"])

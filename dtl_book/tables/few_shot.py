"""The recorded few-shot results as tables, made from run cards alone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from dtl_core.data.fewshot import SEEDS, SHOTS

from ..experiments.cards import load_cards
from ..experiments.profiles import get_profile
from ..experiments.settings import COMPARED
from .results import NAMES, how

COLUMNS = ["method", "set", "shots", "mean", "spread", "seeds", "lr", "parameters_without_head"]
MARKS = ("<!-- few-shot: begin (dtl results --write) -->", "<!-- few-shot: end -->")


def few_shot_table(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Mean and spread of the test accuracy over the split seeds, from final run cards.

    Args:
        profile: whose cards.
        root: folder of the results, if not the project's.

    Returns:
        A row per method, set and number of shots: method, set, shots, mean and spread (percent; standard deviation over the
        seeds, n - 1), seeds (how many), lr, parameters_without_head. Empty where nothing is recorded.
    """
    cards, rows = load_cards(profile, "few-shot", root=root), []
    if cards.empty:
        return pd.DataFrame(columns=COLUMNS)
    for (method, name, shots), group in cards.groupby(["method", "task", "shots"]):
        accuracy = 100 * group["accuracy"]
        fixed = (group["lr"].iloc[0], group["parameters_without_head"].iloc[0])
        rows.append((method, name, int(shots), accuracy.mean(), accuracy.std(ddof=1), len(group), *fixed))
    return pd.DataFrame(rows, columns=COLUMNS)


def few_shot_cells(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """One set's results as texts: a row per method, a column per number of shots.

    A cell without all of its seeds says how many it has; one without any says "not run".

    Args:
        table: of ``few_shot_table``.
        name: the set.

    Returns:
        Columns method, parameters (without the head), one for each of ``SHOTS``, and lr: "0.01 (4, 8), 0.001 (16)" says
        at which numbers of shots the learning rate was which.
    """
    mine, rows = table[table["set"] == name], []
    for method in COMPARED:
        runs = mine[mine["method"] == method].set_index("shots")
        first = runs.iloc[0] if len(runs) else None
        row = {"method": NAMES[method], "parameters": "–"}
        if first is not None:
            row["parameters"] = f"{first['parameters_without_head']:,.0f}"
        for shots in SHOTS:
            text = "not run"
            if shots in runs.index:
                cell = runs.loc[shots]
                whole = cell["seeds"] == len(SEEDS)
                more = f" ± {cell['spread']:.1f}" if whole else f" ({cell['seeds']} of {len(SEEDS)} seeds)"
                text = f"{cell['mean']:.1f}{more}"
            row[_column(shots)] = text
        rows.append({**row, "lr": _rates(runs["lr"])})
    return pd.DataFrame(rows)


def _column(shots: int) -> str:
    return "1 shot" if shots == 1 else f"{shots} shots"


def _rates(rates: pd.Series) -> str:
    """The learning rates in the order of the shots; where there are several, each with its numbers of shots."""
    if rates.nunique() < 2:
        return f"{rates.iloc[0]:g}" if len(rates) else "–"
    return ", ".join(
        f"{lr:g} ({', '.join(str(n) for n in SHOTS if rates.get(n) == lr)})" for lr in dict.fromkeys(rates)
    )


def tried_cells(name: str = "typefaces", profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """What the choice of a learning rate saw: the accuracy of each rate on the validation list, from selection cards.

    Args:
        name: the set.
        profile: whose cards.
        root: folder of the results, if not the project's.

    Returns:
        A row per method: method, and for each of ``SHOTS`` the percents in the order of the rates, as in "14.8 / 4.5"; "–" for
        a rate that was not tried, and where nothing was.
    """
    cards = load_cards(profile, "few-shot", purpose="select", root=root).to_dict("records")
    seen = {(c["method"], c["shots"], c["lr"]): f"{100 * c['accuracy']:.1f}" for c in cards if c["task"] == name}
    rates = sorted({lr for _, _, lr in seen}) or [None]
    return pd.DataFrame(
        {"method": NAMES[method]}
        | {_column(n): " / ".join(seen.get((method, n, lr), "–") for lr in rates) for n in SHOTS}
        for method in COMPARED
    )


def few_shot_markdown(profile: str = "laptop", root: Path | None = None) -> str:
    """The results in Markdown, with their setting: a table per set, a row per method, a column per number of shots.

    Args:
        profile: whose cards.
        root: folder of the results, if not the project's.
    """
    table, setting = few_shot_table(profile, root), get_profile(profile).network
    if table.empty:
        return f"*No few-shot run is recorded for the profile {profile} ({setting}): not run.*"
    parts = []
    for name in sorted(set(table["set"])):
        cells = few_shot_cells(table, name)
        lines = [
            f"**{name}**",
            "",
            "| " + " | ".join(cells.columns) + " |",
            "|---|" + "--:|" * (len(cells.columns) - 1),
            *("| " + " | ".join(row) + " |" for row in cells.itertuples(index=False)),
        ]
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, few_shot_note(profile, root)])


def few_shot_note(profile: str = "laptop", root: Path | None = None) -> str:
    """One paragraph: what the numbers are, their setting, and how the runs on the cards were done."""
    cards = load_cards(profile, "few-shot", root=root)
    text = (
        f"Test accuracy in percent, mean ± standard deviation over the {len(SEEDS)} split seeds. "
        f"Setting: {get_profile(profile).network}"
    )
    if cards.empty:
        return f"{text}. Parameters without the head. No run is recorded."
    augmentations = sorted({recipe["augmentation"] for recipe in cards["recipe"]})
    tried = load_cards(profile, "few-shot", purpose="select", root=root)
    done = how(cards, tried, "per method and number of shots on the validation list")
    return (
        f"{text}; {done}; augmentation: {' and '.join(augmentations)}. Parameters without the head. {len(cards)} final runs "
        f"are recorded; they trained for {cards['seconds'].sum() / 60:.0f} minutes in all."
    )

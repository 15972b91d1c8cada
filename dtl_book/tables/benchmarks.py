"""The recorded results of the three benchmarks: VTAB-1K, few-shot learning and domain generalization.

A table is made of run cards alone. See ``cells`` for what ``profile`` and ``root`` are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from dtl_core.data.domain import OFFICIAL, official_domain
from dtl_core.data.fewshot import SHOTS
from dtl_core.data.vtab import official_tasks

from .. import standins
from ..experiments.cards import load_cards
from ..experiments.profiles import get_profile
from ..experiments.run_data import source_of
from ..experiments.settings import COMPARED, SEEDS
from ..standins import digits
from .cells import (
    FIXED,
    NAMES,
    NOTHING,
    cell_grid,
    cell_list,
    counted,
    describe_runs,
    markdown,
    mean_cell,
    mean_sd,
    named,
    percent,
    whole_grids,
)

GROUPS = {"natural": ("mnist",), "specialized": ("elpv",), "structured": standins.TASKS[2:]}
OF_GROUPS = "mean of groups"
OF_TARGETS = "mean of targets"


def groups_of(profile: str = "laptop") -> dict[str, tuple[str, ...]]:
    """Return the tasks of each group of a profile's VTAB-1K, by folder: the official 19 in ``paper``, else the six built ones."""
    if profile != "paper":
        return GROUPS
    rows = {row["folder"]: row["group"] for row in official_tasks().values()}
    return {g: tuple(task for task, group in rows.items() if group == g) for g in dict.fromkeys(rows.values())}


def tasks_of(profile: str = "laptop") -> list[str]:
    """Return the tasks of a profile's VTAB-1K, group by group."""
    return _flat(groups_of(profile))


def _flat(groups: Mapping[str, tuple[str, ...]]) -> list[str]:
    return [task for tasks in groups.values() for task in tasks]


def of_tasks(groups: Mapping[str, tuple[str, ...]]) -> str:
    """Return the name of the mean over all tasks: "mean of 19 tasks", of 6 on the laptop."""
    return f"mean of {len(_flat(groups))} tasks"


def both_means(accuracies: pd.DataFrame, groups: Mapping[str, tuple[str, ...]]) -> pd.DataFrame:
    """Return two averages that are both called the accuracy on VTAB-1K. They differ, so each has its own name.

    For each row they are the mean of the groups' means ("mean of groups", the paper's), beside these means, and the mean of
    all tasks ("mean of 19 tasks"). NaN where a task is missing.
    """
    means = pd.DataFrame({g: accuracies[list(tasks)].mean(axis=1, skipna=False) for g, tasks in groups.items()})
    of_all = accuracies[_flat(groups)].mean(axis=1, skipna=False)
    return means.assign(**{OF_GROUPS: means.mean(axis=1, skipna=False), of_tasks(groups): of_all})


def final_cards(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Return the final cards of VTAB-1K, each task under its folder's name (three official ones have another).

    A run that is recorded under both names is an error.
    """
    cards, official = load_cards(profile, root=root), official_tasks()
    under = cards["task"]
    cards["task"] = [official[task]["folder"] if task in official else task for task in under]
    for (_, method, seed), same in under.groupby([cards["task"], cards["method"], cards["seed"]]):
        if len(same) > 1:
            raise ValueError(
                f"{method}, seed {seed} is recorded twice, as the task {' and as '.join(same)}: move one of the cards away"
            )
    return cards


def means_by_seed(profile: str = "laptop", root: Path | None = None) -> dict[str, pd.DataFrame]:
    """Return ``both_means`` of each method that is recorded in full, in percent, a row per seed."""
    groups = groups_of(profile)
    grids = whole_grids(percent(final_cards(profile, root)), "task", _flat(groups))
    return {method: both_means(grid, groups) for method, grid in grids.items()}


def not_whole(profile: str = "laptop", root: Path | None = None) -> str:
    """Return one sentence: which methods lack final runs, and how many they have; empty where none lacks any."""
    cards, tasks = final_cards(profile, root), tasks_of(profile)
    counts = cards["method"][cards["task"].isin(tasks) & cards["seed"].isin(SEEDS)].value_counts()
    whole = len(tasks) * len(SEEDS)
    lacking = [f"{NAMES[m]} ({counts.get(m, 0)} of {whole} runs)" for m in COMPARED if counts.get(m, 0) < whole]
    return f"Not whole yet: {', '.join(lacking)}." if lacking else ""


def results_table(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Return a row per method and task of VTAB-1K: ``mean_sd``, lr, parameters_without_head, seconds (mean)."""
    return mean_sd(percent(final_cards(profile, root)), ["method", "task"], **FIXED, seconds=("seconds", "mean"))


def results_markdown(profile: str = "laptop", root: Path | None = None) -> str:
    """Return the table of VTAB-1K with its setting: a row per method, a column per task, and both means.

    Methods without all of their runs are only named below, with the runs that they have.
    """
    table, means, groups = results_table(profile, root), means_by_seed(profile, root), groups_of(profile)
    setting, missing, averages = get_profile(profile).setting, not_whole(profile, root), (OF_GROUPS, of_tasks(groups))
    if table.empty:
        return f"*Nothing is recorded for the profile {profile} ({setting}): `dtl record` does it.*"
    if not means:
        return f"*No method is recorded in full for the profile {profile} ({setting}). {missing}*"
    table = table[table["task"].isin(_flat(groups))]
    grid = cell_grid(table, "task", _flat(groups)).loc[list(means)]
    grid = grid.assign(**{name: [mean_cell(mine[name]) for mine in means.values()] for name in averages})
    cards = final_cards(profile, root)
    done = describe_runs(cards, load_cards(profile, purpose="select", root=root))
    minutes = cards[cards["method"].isin(list(means))]["seconds"].sum() / 60
    note = (
        f"Test accuracy in percent, mean ± standard deviation over {len(SEEDS)} seeds. Setting: {setting}; {done}. "
        f"Parameters without the head. Two averages, never one for the other: *{averages[0]}* is the mean of the three group means "
        f"(natural, specialized, structured), as the paper averages; *{averages[1]}* weighs every task alike. "
        f"The final runs trained for {minutes:.0f} minutes in all. {missing}"
    )
    return f"{markdown(named(grid, table))}\n\n{note.strip()}"


def few_shot_table(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Return a row per method, set and number of shots: ``mean_sd`` over the split seeds, lr, parameters_without_head."""
    cards = load_cards(profile, "few-shot", root=root).rename(columns={"task": "set"})
    return mean_sd(percent(cards), ["method", "set", "shots"], **FIXED)


def few_shot_cells(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the cells of one set of ``few_shot_table``: a row per method, a column per number of shots.

    The last column, lr, lists the learning rates with their numbers of shots: "0.01 (4, 8), 0.001 (16)".
    """
    mine = table[table["set"] == name]
    grid = cell_grid(mine, "shots", SHOTS).rename(columns=_shots)
    rates = {method: _rates(rows.set_index("shots")["lr"]) for method, rows in mine.groupby("method")}
    return named(grid, mine).assign(lr=[rates.get(method, NOTHING) for method in COMPARED])


def _shots(shots: int) -> str:
    return "1 shot" if shots == 1 else f"{shots} shots"


def _rates(by_shots: pd.Series) -> str:
    """Return the learning rates in the order of the shots; where there are several, each with its numbers of shots."""
    shots = {lr: [str(n) for n in SHOTS if by_shots.get(n) == lr] for lr in dict.fromkeys(by_shots)}
    return ", ".join(f"{lr:g}" if len(shots) == 1 else f"{lr:g} ({', '.join(shots[lr])})" for lr in shots)


def tried_cells(name: str = "typefaces", profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Return the accuracies on a set's validation list from which the learning rates were chosen.

    A row per method: method, and for each of ``SHOTS`` the percents in the order of the rates, as in "14.8 / 4.5"; "–" for
    a rate that was not tried.
    """
    cards = load_cards(profile, "few-shot", "select", root)
    cards = cards[cards["task"] == name]
    seen = {(card.method, card.shots, card.lr): f"{100 * card.accuracy:.1f}" for card in cards.itertuples()}
    rates = sorted(set(cards["lr"])) or [None]
    return pd.DataFrame(
        {"method": NAMES[method]}
        | {_shots(n): " / ".join(seen.get((method, n, lr), NOTHING) for lr in rates) for n in SHOTS}
        for method in COMPARED
    )


def few_shot_markdown(profile: str = "laptop", root: Path | None = None) -> str:
    """Return the tables of few-shot learning, one per set, with their setting."""
    table = few_shot_table(profile, root)
    if table.empty:
        network = get_profile(profile).network
        return f"*No few-shot run is recorded for the profile {profile} ({network}): not run.*"
    parts = [f"**{name}**\n\n{markdown(few_shot_cells(table, name))}" for name in sorted(set(table["set"]))]
    return "\n\n".join([*parts, few_shot_note(profile, root)])


def few_shot_note(profile: str = "laptop", root: Path | None = None) -> str:
    """Return one paragraph: what the numbers are, their setting, and how the recorded runs were done."""
    cards = load_cards(profile, "few-shot", root=root)
    text = (
        f"Test accuracy in percent, mean ± standard deviation over the {len(SEEDS)} split seeds. "
        f"Setting: {get_profile(profile).network}"
    )
    if cards.empty:
        return f"{text}. Parameters without the head. No run is recorded."
    augmentations = sorted({recipe["augmentation"] for recipe in cards["recipe"]})
    tried = load_cards(profile, "few-shot", "select", root)
    done = describe_runs(cards, tried, "per method and number of shots on the validation list")
    return (
        f"{text}; {done}; augmentation: {' and '.join(augmentations)}. Parameters without the head. {len(cards)} final runs "
        f"are recorded; they trained for {cards['seconds'].sum() / 60:.0f} minutes in all."
    )


def domains_of(profile: str = "laptop") -> tuple[str, ...]:
    """Return the domains of a profile, the source first."""
    return tuple(OFFICIAL) if source_of(get_profile(profile)) in OFFICIAL else digits.DOMAINS


def domain_setting(profile: str = "laptop") -> str:
    """Return the profile's setting, with the images that this benchmark trains on."""
    chosen = get_profile(profile)
    return f"{chosen.network}; trained on {digits.SHOTS} images a class of {source_of(chosen)}"


def domain_scores(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Return every recorded score of domain generalization: a row per method, seed and domain.

    Only runs on the source count, which test one trained model on every domain; a run for one target alone may have a
    learning rate of its own. ``within`` is the accuracy among the classes that occur, missing where these are all.
    """
    cards = load_cards(profile, "domain", root=root)
    same = ["method", "seed", "lr", "parameters_without_head"]
    rows = [
        # a folder may go by another of its names
        [*(card[column] for column in same), official_domain(name) or name, score["accuracy"], score["accuracy_within"]]
        for card in cards[cards["task"] == source_of(get_profile(profile))].to_dict("records")
        for name, score in {card["task"]: card, **card["targets"]}.items()
    ]
    scores = percent(pd.DataFrame(rows, columns=[*same, "domain", "accuracy", "within"]))
    return scores.assign(within=100 * scores["within"].astype(float))


def domain_table(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Return a row per method and domain: ``mean_sd``, within and within_spread (see ``domain_scores``), lr, parameters_without_head."""
    within = {"within": ("within", "mean"), "within_spread": ("within", "std")}
    return mean_sd(domain_scores(profile, root), ["method", "domain"], sort=False, **within, **FIXED)


def target_means(profile: str = "laptop", root: Path | None = None) -> dict[str, pd.Series]:
    """Return the mean over the targets, without the source, of each method recorded in full: method -> percent by seed."""
    grids = whole_grids(domain_scores(profile, root), "domain", domains_of(profile)[1:])
    return {method: grid.mean(axis=1) for method, grid in grids.items()}


def domain_cells(profile: str = "laptop", root: Path | None = None, column: str = "mean") -> pd.DataFrame:
    """Return the cells of ``domain_table``: a row per method (the index), a column per domain, and the mean of the targets.

    ``column`` is "mean", or "within", which has no mean of the targets.
    """
    table, means = domain_table(profile, root), target_means(profile, root)
    if column == "within":
        return cell_grid(table, "domain", domains_of(profile), cell_list(table, ("within", "within_spread")))
    of_targets = [mean_cell(means[method]) if method in means else NOTHING for method in COMPARED]
    return cell_grid(table, "domain", domains_of(profile)).assign(**{OF_TARGETS: of_targets})


def domain_status(profile: str = "laptop", root: Path | None = None) -> str:
    """Return one sentence: how many of the final runs are recorded."""
    scores = domain_scores(profile, root)
    mine = scores[scores["method"].isin(COMPARED) & scores["seed"].isin(SEEDS)]
    there = len(mine.drop_duplicates(["method", "seed"]))
    return counted(there, len(COMPARED) * len(SEEDS), "final runs are recorded.")


def domain_markdown(profile: str = "laptop", root: Path | None = None) -> str:
    """Return the table of domain generalization with its setting."""
    cards = load_cards(profile, "domain", root=root)
    epochs = sorted({recipe["epochs"] for recipe in cards["recipe"]})
    length = f" {' or '.join(map(str, epochs))} epochs;" if epochs else ""
    protocols = sorted(set(cards["protocol"]))
    rule = " one learning rate a method for all domains, chosen on validation images of the source alone."
    note = (
        f"Test accuracy in percent, mean ± standard deviation over {len(SEEDS)} seeds, each with its own training images. "
        f"Setting: {domain_setting(profile)};{length}"
        f"{rule if protocols in ([], ['clean']) else ' protocol: ' + ', '.join(protocols) + '.'} "
        f"Parameters without the head. The last column leaves the source out. {domain_status(profile, root)}"
    )
    return f"{markdown(named(domain_cells(profile, root), domain_table(profile, root)))}\n\n{note}"

"""The table of recorded results, made from run cards alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from dtl_core.data.vtab import official_tasks

from ..experiments.cards import load_cards
from ..experiments.profiles import get_profile
from ..experiments.settings import COMPARED, SEEDS
from ..standins import TASKS

MARKS = ("<!-- results: begin (dtl results --write) -->", "<!-- results: end -->")
NAMES = {
    "linear": "Linear probe", "bitfit": "BitFit", "adaptformer": "AdaptFormer", "lora": "LoRA (r = 8)", "dtl": "DTL",
    "dtl+": "DTL+",
}  # fmt: skip
GROUPS = {"natural": ("mnist",), "specialized": ("elpv",), "structured": TASKS[2:]}
OF_GROUPS = "mean of groups"


def groups_of(profile: str = "laptop") -> dict[str, tuple[str, ...]]:
    """The tasks of each group of a profile's VTAB-1K, by folder: the official 19 in ``paper``, else the six built ones."""
    if profile != "paper":
        return GROUPS
    rows = {row["folder"]: row["group"] for row in official_tasks().values()}
    return {g: tuple(task for task, group in rows.items() if group == g) for g in dict.fromkeys(rows.values())}


def of_tasks(groups: Mapping[str, tuple[str, ...]]) -> str:
    """The name of the other mean: "mean of 19 tasks", of 6 on the laptop."""
    return f"mean of {sum(map(len, groups.values()))} tasks"


def both_means(accuracies: pd.DataFrame, groups: Mapping[str, tuple[str, ...]]) -> pd.DataFrame:
    """Two averages that are both called the accuracy on VTAB-1K. They are other numbers, so each has its name.

    Args:
        accuracies: a column per task; a row per method or seed.
        groups: group -> its tasks.

    Returns:
        The same rows: the mean of each group, the mean of these means ("mean of groups", the paper's), and the mean of all
        tasks ("mean of 19 tasks"). NaN where a task is missing.
    """
    means = pd.DataFrame({g: accuracies[list(t)].mean(axis=1, skipna=False) for g, t in groups.items()})
    tasks = [task for names in groups.values() for task in names]
    together = {OF_GROUPS: means.mean(axis=1, skipna=False)}
    return means.assign(**together, **{of_tasks(groups): accuracies[tasks].mean(axis=1, skipna=False)})


def final_cards(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """The final cards of VTAB-1K, each task under its folder's name (three official ones have another).

    Raises:
        ValueError: a run is recorded under both of its task's names.
    """
    cards, official = load_cards(profile, root=root), official_tasks()
    if len(cards):
        named = cards["task"]
        cards["task"] = [official[t]["folder"] if t in official else t for t in named]
        for _, same in cards.assign(named=named).groupby(["task", "method", "seed"]):
            if len(same) > 1:
                run = f"{same['method'].iloc[0]}, seed {same['seed'].iloc[0]}"
                raise ValueError(
                    f"{run} is recorded twice, as the task {' and as '.join(same['named'])}: move one of the cards away"
                )
    return cards


def means_by_seed(profile: str = "laptop", root: Path | None = None) -> dict[str, pd.DataFrame]:
    """The means of each method that is recorded in full, in the order of ``COMPARED``.

    Returns:
        method -> a row per seed, in percent, with the columns of ``both_means``. A method that lacks a run is left out.
    """
    cards, groups, found = final_cards(profile, root), groups_of(profile), {}
    tasks = [task for names in groups.values() for task in names]
    for method in COMPARED if len(cards) else ():
        mine = cards[cards["method"] == method].pivot(index="seed", columns="task", values="accuracy")
        mine = 100 * mine.reindex(index=SEEDS, columns=tasks)
        if mine.notna().all(axis=None):
            found[method] = both_means(mine, groups)
    return found


def not_whole(profile: str = "laptop", root: Path | None = None) -> str:
    """One sentence: which methods lack final runs, and how many they have; empty where none lacks any."""
    cards, whole = final_cards(profile, root), means_by_seed(profile, root)
    tasks = [task for names in groups_of(profile).values() for task in names]
    wanted = cards[cards["task"].isin(tasks) & cards["seed"].isin(SEEDS)] if len(cards) else cards
    lacking = {m: int((wanted["method"] == m).sum()) if len(wanted) else 0 for m in COMPARED if m not in whole}
    told = (f"{NAMES[m]} ({n} of {len(tasks) * len(SEEDS)} runs)" for m, n in lacking.items())
    return f"Not whole yet: {', '.join(told)}." if lacking else ""


def results_table(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Mean and spread of the test accuracy over the seeds.

    Returns:
        A row per method and task: method, task, mean, spread (standard deviation over seeds, n - 1), seeds, lr,
        parameters_without_head, seconds (mean). In percent. Empty where nothing is recorded.
    """
    cards, rows = final_cards(profile, root), []
    columns = ["method", "task", "mean", "spread", "seeds", "lr", "parameters_without_head", "seconds"]
    for (method, task), group in cards.groupby(["method", "task"]) if len(cards) else ():
        accuracy = 100 * group["accuracy"]
        first, mean = group.iloc[0], group["seconds"].mean()
        score = (method, task, accuracy.mean(), accuracy.std(ddof=1), len(group))
        rows.append((*score, first["lr"], first["parameters_without_head"], mean))
    return pd.DataFrame(rows, columns=columns)


def results_markdown(profile: str = "laptop", root: Path | None = None) -> str:
    """The table in Markdown, with its setting: a row per method, a column per task, and both means.

    A method is in as soon as all of its runs are recorded; the others are named below, with the runs that they have.
    """
    table, means = results_table(profile, root), means_by_seed(profile, root)
    chosen, groups = get_profile(profile), groups_of(profile)
    if table.empty:
        return f"*Nothing is recorded for the profile {profile} ({chosen.setting}): `dtl record` does it.*"
    if not means:
        return (
            f"*No method is recorded in full for the profile {profile} ({chosen.setting}). {not_whole(profile, root)}*"
        )
    tasks, averages = [task for names in groups.values() for task in names], (OF_GROUPS, of_tasks(groups))
    lines = [
        f"| method | parameters | {' | '.join((*tasks, *averages))} |",
        "|---|" + "--:|" * (len(tasks) + 3),
    ]
    for method, mine in means.items():
        rows = table[table["method"] == method].set_index("task").loc[tasks]
        cells = [f"{mean:.1f} ± {spread:.1f}" for mean, spread in zip(rows["mean"], rows["spread"], strict=True)]
        cells += [f"{mine[name].mean():.1f} ± {mine[name].std(ddof=1):.1f}" for name in averages]
        counts = sorted({f"{int(count):,}" for count in rows["parameters_without_head"]}, key=lambda n: (len(n), n))
        count = counts[0] if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"  # the paper's kernel differs by task
        lines.append(f"| {NAMES[method]} | {count} | " + " | ".join(cells) + " |")
    cards = final_cards(profile, root)
    done = how(cards, load_cards(profile, purpose="select", root=root))
    minutes = cards[cards["method"].isin(list(means))]["seconds"].sum() / 60
    note = (
        f"Test accuracy in percent, mean ± standard deviation over {len(SEEDS)} seeds. Setting: {chosen.setting}; {done}. "
        f"Parameters without the head. Two averages, never one for the other: *{averages[0]}* is the mean of the three group means "
        f"(natural, specialized, structured), as the paper averages; *{averages[1]}* weighs every task alike. "
        f"The final runs trained for {minutes:.0f} minutes in all. {not_whole(profile, root)}"
    )
    return "\n".join([*lines, "", note.strip()])


def how(cards: pd.DataFrame, tried: pd.DataFrame, chosen: str = "per task and method on val200") -> str:
    """How runs were done, in words; where settings were chosen, also from what.

    Args:
        cards: of the final runs.
        tried: of the runs that chose a setting; may be empty.
        chosen: for what, and on which images.
    """
    grid = []
    for name, values in (("learning rate", tried["lr"]), ("drop path", _drop_paths(tried))) if len(tried) else ():
        values = sorted(set(values))
        if len(values) > 1:
            grid.append(f"{name} of {', '.join(f'{v:g}' for v in values[:-1])} and {values[-1]:g}")
    choice = f" ({' and '.join(grid)}, chosen {chosen})" if grid else ""
    epochs = sorted({len(rows) for rows in cards["epochs"]})
    said = [
        f"{f'{epochs[0]} to {epochs[-1]}' if len(epochs) > 1 else epochs[0]} epochs",
        f"batch {' or '.join(str(n) for n in sorted({recipe['batch_size'] for recipe in cards['recipe']}))}",
        f"{' and '.join(sorted(set(cards['precision'])))}, {' and '.join(sorted(set(cards['device']))).upper()}",
    ]
    return ", ".join(said) + f"; protocol: {' and '.join(sorted(set(cards['protocol'])))}{choice}"


def _drop_paths(cards: pd.DataFrame) -> list[float]:
    return [recipe["drop_path"] for recipe in cards["recipe"]]

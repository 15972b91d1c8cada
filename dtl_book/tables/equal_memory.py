"""The recorded comparison at equal memory: DTL beside rivals that adapt the blocks after M alone.

A table is made of run cards alone, with planned memory and timed steps beside them. See ``cells`` for ``profile`` and ``root``.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd

from dtl_core.memory import MIB, plan_training

from ..experiments.cards import load_cards
from ..experiments.equal_memory import (
    ALONG,
    FEW_SHOT,
    FIRST,
    GROUP,
    LATE,
    METHODS,
    PROBE_EPOCHS,
    RATES,
    SIX,
    TASKS,
    WHOLE,
)
from ..experiments.profiles import get_profile
from ..experiments.settings import SEEDS
from .cells import NOTHING, cell_list, counted, markdown, mean_cell, mean_sd, percent
from .memory_forms import BACKBONE, SETTING, step_times

NAMES = {
    "dtl": "DTL", "dtl+": "DTL+", "lora-late": "LoRA (r = 8)", "lora-late-r2": "LoRA (r = 2)",
    "adaptformer-late": "AdaptFormer (8)", "adaptformer-late-b4": "AdaptFormer (4)", "bitfit-late": "BitFit",
    "full-late": "Full fine-tuning", "linear": "Linear probe", "linear-taps": "Probe on all taps",
    "res-tuning-bypass": "Res-Tuning-Bypass",
}  # fmt: skip
OF_TASKS = "mean of tasks"
# kind of a timed step, see benchmarks/step_time.py; those of one method differ in width alone, which costs no time
TIMED = {
    "dtl": "DTL side", "lora": f"LoRA from block {FIRST}", "adaptformer": f"AdaptFormer from block {FIRST}",
    "bitfit": f"BitFit from block {FIRST}", "full": f"full from block {FIRST}", "res-tuning-bypass": "Res-Tuning-Bypass",
}  # fmt: skip

# of the planner, which has the method's own name for a size
LATE_OPTIONS = {
    label: {
        "bottleneck" if label.startswith("adaptformer") and name == "rank" else name: size for name, size in own.items()
    }
    for label, own in LATE.items()
}


def final_runs(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Return the final cards as rows: label (method and variant), task, shots, seed, accuracy in percent, lr, parameters."""
    cards = percent(load_cards(profile, GROUP, root=root))
    cards = cards[cards["seed"].isin(SEEDS)]
    variant = cards["run"].map(lambda run: run.get("variant", ""))
    label = cards["method"] + variant.map(lambda name: f"-{name}" if name else "")
    return cards.assign(label=label)[
        ["label", "method", "task", "shots", "seed", "accuracy", "lr", "parameters_without_head"]
    ]


def table_of(runs: pd.DataFrame, labels: tuple[str, ...], column: str, order: tuple) -> pd.DataFrame:
    """Return the cells of these runs: a row for each label, a column for each of ``order``, and their mean by seed."""
    mine = runs[runs["label"].isin(labels)]
    means = mean_sd(mine, ["label", column])
    texts = means.assign(text=cell_list(means)).pivot(index="label", columns=column, values="text")
    grid = texts.reindex(index=list(labels), columns=list(order)).fillna("not run").rename_axis(columns=None)
    by_seed = {label: grid_of(mine, label, column, order).mean(axis=1, skipna=False).dropna() for label in labels}
    return grid.assign(
        **{OF_TASKS: [mean_cell(by_seed[label]) if len(by_seed[label]) else NOTHING for label in labels]}
    )


def grid_of(runs: pd.DataFrame, label: str, column: str, order: tuple) -> pd.DataFrame:
    """Return the accuracies of a label: a row for each seed, a column for each of ``order``; NaN where there is no run."""
    mine = runs[runs["label"] == label]
    return (
        mine.pivot(index="seed", columns=column, values="accuracy")
        .reindex(index=SEEDS, columns=list(order))
        .astype(float)
    )


def paired(runs: pd.DataFrame, tasks: tuple[str, ...] = TASKS) -> pd.DataFrame:
    """Return DTL less each rival in points, paired by seed: a row per rival and task, and one for the mean over the tasks.

    Columns: label, task, mean, spread, seeds (that both have), ahead (of them, where DTL is above the rival).
    """
    ours, rows = grid_of(runs, "dtl", "task", tasks), []
    for label in METHODS:
        if label == "dtl":
            continue
        points = ours - grid_of(runs, label, "task", tasks)
        points[OF_TASKS] = points.mean(axis=1, skipna=False)
        for task in points:
            found = points[task].dropna()
            rows.append((label, task, found.mean(), found.std(), len(found), int((found > 0).sum())))
    return pd.DataFrame(rows, columns=["label", "task", "mean", "spread", "seeds", "ahead"])


@cache
def planned_peak(label: str) -> tuple[int, int]:
    """Return trained parameters without the head and the peak bytes of a step from the stored prefix, on ``BACKBONE``."""
    method, *_ = label.split("-late")
    options: dict = {"first_block": FIRST, **LATE_OPTIONS[label]} if label in LATE_OPTIONS else {}
    if label.startswith("linear"):
        method, options = "linear", {"taps": True} if label.endswith("taps") else {}
    plan = plan_training(method, BACKBONE, cached=True, **SETTING, **options)
    return plan.parameters, plan.peak_bytes


def step_ratio(label: str) -> str:
    """Return the time of a step from the stored prefix as a multiple of DTL's; a dash where it was not timed."""
    rows = {row["kind"]: row["to_plain"] for row in step_times()["rows"]}
    kind = TIMED.get(label.split("-late")[0])
    ours, theirs = (rows.get(f"{k}, cached prefix") for k in (TIMED["dtl"], kind))
    return f"{theirs / ours:.2f}" if ours and theirs else NOTHING


def accuracy_table(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Return a row per method: parameters, planned peak, time of a step, and the accuracy on each task and of their mean."""
    grid = table_of(final_runs(profile, root), METHODS, "task", TASKS)
    plans = [planned_peak(label) for label in METHODS]
    first = pd.DataFrame({
        "method": [NAMES[label] for label in METHODS],
        "parameters": [f"{parameters:,}" for parameters, _ in plans],
        "peak (MiB)": [f"{peak / MIB:,.0f}" for _, peak in plans],
        "step": [step_ratio(label) for label in METHODS],
    })  # fmt: skip
    return pd.concat([first, grid.reset_index(drop=True)], axis=1)


def paired_table(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Return ``paired`` as texts: a row per rival, a column per task; beside the mean of the tasks, the seeds that DTL won."""
    rows = paired(final_runs(profile, root))
    texts = rows.assign(text=cell_list(rows, sign="+")).pivot(index="label", columns="task", values="text")
    grid = texts.reindex(index=[m for m in METHODS if m != "dtl"], columns=[*TASKS, OF_TASKS])
    whole = rows[rows["task"] == OF_TASKS].set_index("label").loc[grid.index]
    won = [f"{row.ahead} of {row.seeds}" for row in whole.itertuples()]
    names = pd.Series([NAMES[label] for label in grid.index], index=grid.index)
    return pd.concat([names.rename("DTL less"), grid, pd.Series(won, grid.index, name="seeds won")], axis=1)


def along_table(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Return DTL and LoRA of the blocks after M along M: a row for each, a column per M, as texts."""
    task, values = ALONG
    runs = final_runs(profile, root)
    runs = runs[runs["task"] == task]
    rows = {}
    for name, middle, stem in (("DTL", "dtl", "dtl-M{}"), ("LoRA of the blocks after M", "lora-late", "lora-late-M{}")):
        labels = {m: stem.format(m) for m in values} | {6: middle}
        rows[name] = {f"M = {m}": mean_cell(runs[runs["label"] == labels[m]]["accuracy"]) for m in sorted(labels)}
    return pd.DataFrame(rows).T.rename_axis("method").reset_index()


def few_shot_table(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Return the six methods with few shots: a row per method, a column per number of shots, as texts."""
    name, shots = FEW_SHOT
    runs = final_runs(profile, root)
    grid = table_of(runs[runs["task"] == name], SIX, "shots", shots).drop(columns=OF_TASKS)
    return grid.rename(columns=lambda n: f"{n} shots").rename(index=NAMES).rename_axis("method").reset_index()


def whole_table(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Return the rivals over all blocks, chosen by the same rule: a row per method, a column per task, as texts."""
    labels = tuple(f"{method}-whole" for method in WHOLE)
    grid = table_of(final_runs(profile, root), labels, "task", TASKS)
    named = [NAMES[f"{method}-late"] for method in WHOLE]
    return grid.set_axis(pd.Index(named, name="over all blocks"), axis=0).reset_index()


def status(profile: str = "laptop", root: Path | None = None) -> str:
    """Return one sentence: how many of the final runs of the main table are recorded."""
    runs = final_runs(profile, root)
    mine = runs[runs["label"].isin(METHODS) & runs["task"].isin(TASKS)]
    return counted(len(mine), len(METHODS) * len(TASKS) * len(SEEDS), "final runs of the first table are recorded.")


def equal_memory_markdown(profile: str = "laptop", root: Path | None = None) -> str:
    """Return the tables of the comparison, with their setting and protocol."""
    if final_runs(profile, root).empty:
        return f"*No final run is recorded for the profile {profile}: `dtl record --parts equal-memory` does it.*"
    rates = ", ".join(f"{rate:g}" for rate in RATES)
    note = (
        f"Test accuracy in percent, mean ± standard deviation over {len(SEEDS)} seeds. Setting: {get_profile(profile).setting}; "
        f"ten epochs ({PROBE_EPOCHS} for the two probes), from the stored prefix. The rivals adapt blocks {FIRST} to 11; DTL has "
        f"M = {FIRST - 1}. Learning rate of {rates} for every method, chosen per task on val200 with one seed, and with three "
        "where two rates lie within two points. Parameters (without the head) and peak: planned, ViT-B/16, batch 32, from the "
        f"stored prefix. Step: its time as a multiple of DTL's, both from the stored prefix. {status(profile, root)}"
    )
    parts = [
        markdown(accuracy_table(profile, root)), note,
        "DTL less each rival, in points, paired by seed:", markdown(paired_table(profile, root)),
        f"Along M, on {ALONG[0]}, the rate chosen at each M:", markdown(along_table(profile, root)),
        f"With few shots, on {FEW_SHOT[0]}:", markdown(few_shot_table(profile, root)),
        "The rivals over all blocks, which no stored prefix serves, with rates chosen by the same rule:",
        markdown(whole_table(profile, root)),
    ]  # fmt: skip
    return "\n\n".join(parts)

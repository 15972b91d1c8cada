"""The recorded runs that differ from those of VTAB-1K in one thing: ablations, common pitfalls, a backbone in bf16.

A table is made of run cards alone, with planned memory beside the ablations. See ``cells`` for ``profile`` and ``root``.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, replace
from functools import cache
from itertools import product
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from dtl_core.dtl import DTLConfig
from dtl_core.memory import MIB, plan_training

from ..experiments import grids
from ..experiments.cards import load_cards
from ..experiments.grids import BASE, LETTERS, PITFALL_METHODS, PITFALL_VARIANTS, TASK, VALUES
from ..experiments.profiles import get_profile
from ..experiments.run import bf16_folder
from ..experiments.settings import SEEDS
from ..paths import recorded_path, results_dir
from .cells import NAMES, NOTHING, cell_list, counted, markdown, mean_cell, mean_sd, percent

EACH = [(varied, value) for varied, values in VALUES.items() for value in values]
OWN = {varied: float(getattr(BASE, varied)) for varied in VALUES}  # the paper's values
BACKBONE, SETTING = "vit_base_patch16_224", {"batch_size": 32, "image_size": 224, "num_classes": 100}
FORMS = {"plain": "none", "default": "side"}  # what is recomputed
PLANNED = "planned: ViT-B/16, batch 32, 224 px, 100 classes, fp32, fused attention"
TITLES = {
    "half": "normalised with 0.5, where the weights want ImageNet's",
    "jpeg75": "pictures stored as JPEG, quality 75",
    "jpeg30": "pictures stored as JPEG, quality 30",
    "cls": "class token read out, not the mean",
}


def label_of(varied: str, value: float) -> str:
    """Return a value as tables name it: "M = 4", "beta = ∞ (ReLU)"; the paper's own is marked."""
    number = "∞ (ReLU)" if math.isinf(value) else f"{value:g}"
    return f"{LETTERS[varied]} = {number}{' (as in the paper)' if value == OWN[varied] else ''}"


def ablated_tasks(profile: str = "laptop", root: Path | None = None) -> tuple[str, ...]:
    """Return the tasks that have cards of ablations; the profile's own where none has."""
    found = {path.parent.name for path in ((root or results_dir()) / profile / grids.ABLATIONS).glob("*/*.json")}
    return tuple(sorted(found)) or (grids.task_of(profile),)


def ablation_runs(profile: str = "laptop", task: str = TASK, root: Path | None = None) -> pd.DataFrame:
    """Return every recorded final run: a row per varied value and seed.

    The paper's own configuration is DTL's run in the benchmark's cards; it is one of the values of each quantity. A
    configuration that differs from it in more than one value is left out. Accuracies are in percent, parameters without the
    head and of the profile's network.
    """
    rows = []
    for benchmark in ("vtab-1k", grids.ABLATIONS):
        cards = load_cards(profile, benchmark, root=root)
        for card in cards[(cards["task"] == task) & (cards["method"] == "dtl")].itertuples():
            config = card.recipe["config"]
            other = [name for name, value in asdict(BASE).items() if config[name] != value]
            if len(other) == (benchmark == grids.ABLATIONS) and set(other) <= VALUES.keys():
                fixed = (card.seed, 100 * card.accuracy, card.lr, card.recipe["epochs"], card.parameters_without_head)
                rows += [(name, float(config[name]), *fixed) for name in other or VALUES]
    columns = ["varied", "value", "seed", "accuracy", "lr", "epochs", "parameters"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(("accuracy", "lr", "parameters"), float))


def ablation_table(profile: str = "laptop", task: str = TASK, root: Path | None = None) -> pd.DataFrame:
    """Return a row for every value of ``VALUES``, run or not: ``mean_sd``, lr, parameters (see ``ablation_runs``)."""
    more = {name: (name, "first") for name in ("lr", "parameters")}
    return _every(mean_sd(ablation_runs(profile, task, root), ["varied", "value"], **more), ["varied", "value"], EACH)


def _every(table: pd.DataFrame, by: list[str], rows: list[tuple]) -> pd.DataFrame:
    """Return the table with all these rows in their order; one that it lacks has no seeds and no numbers."""
    table = table.set_index(by).reindex(pd.MultiIndex.from_tuples(rows, names=by)).reset_index()
    return table.assign(seeds=table["seeds"].fillna(0).astype(int))


def paired_with_paper(profile: str = "laptop", task: str = TASK, root: Path | None = None) -> pd.DataFrame:
    """Return each value of ``VALUES`` less the paper's, paired by seed, in points of test accuracy.

    ``seeds`` counts those that both have, ``lower`` those of them that lie below the paper's value.
    """
    runs, rows = ablation_runs(profile, task, root), []
    grid = runs.pivot(index=["varied", "value"], columns="seed", values="accuracy")
    grid = grid.reindex(pd.MultiIndex.from_tuples(EACH))
    for varied, value in EACH:
        ahead = (grid.loc[(varied, value)] - grid.loc[(varied, OWN[varied])]).dropna()
        if value != OWN[varied]:
            rows.append((varied, float(value), len(ahead), int((ahead < 0).sum()), ahead.mean(), ahead.std()))
    return pd.DataFrame(rows, columns=["varied", "value", "seeds", "lower", "difference", "difference ±"])


@cache
def _peak(config: DTLConfig, form: str) -> tuple[int, int]:
    plan = plan_training("dtl", BACKBONE, config=config, recompute=FORMS[form], **SETTING)
    return plan.parameters, plan.peak_bytes


def planned_memory(progress: bool = True) -> pd.DataFrame:
    """Plan the peak of a step of the paper's ViT-B/16 for every value of ``VALUES`` (``PLANNED``); some ten seconds, the first time.

    Parameters are without the head; plain and default are the bytes of the two ``FORMS``.
    """
    rows = []
    for varied, value in tqdm(EACH, "planning", leave=False, delay=1, disable=not progress, file=sys.stderr):
        (parameters, plain), (_, default) = (_peak(replace(BASE, **{varied: value}), form) for form in FORMS)
        rows.append((varied, float(value), parameters, plain, default))
    return pd.DataFrame(rows, columns=["varied", "value", "parameters", "plain", "default"])


def ablation_cells(profile: str = "laptop", task: str = TASK, root: Path | None = None) -> pd.DataFrame:
    """Return accuracy (recorded, of the profile's network) and memory (planned, of the paper's) side by side, as texts."""
    plans = planned_memory()
    return pd.DataFrame({
        "varied": [label_of(*pair) for pair in EACH],
        f"accuracy (%), {profile}, {task}": cell_list(ablation_table(profile, task, root)),
        "ViT-B/16: parameters": plans["parameters"].map("{:,}".format),
        "plain form (MiB)": (plans["plain"] / MIB).map("{:,.0f}".format),
        "default form (MiB)": (plans["default"] / MIB).map("{:,.0f}".format),
    })  # fmt: skip


def ablation_status(profile: str = "laptop", task: str = TASK, root: Path | None = None) -> str:
    """Return one sentence: how many of the final runs are recorded."""
    runs = ablation_runs(profile, task, root)
    own = runs["value"] == runs["varied"].map(OWN)
    other = counted(int((~own).sum()), len(grids.variants()) * len(SEEDS), "runs with another value")
    return f"{other} and {(own & (runs['varied'] == 'rank')).sum()} of {len(SEEDS)} with the paper's are recorded."


def ablation_note(profile: str = "laptop", task: str = TASK, root: Path | None = None) -> str:
    """Return one paragraph: the two settings, which have to be read apart, and how the recorded runs were done."""
    runs = ablation_runs(profile, task, root)
    conditions = ""
    if len(runs):
        lr, epochs = (" and ".join(f"{v:g}" for v in sorted(set(runs[name]))) for name in ("lr", "epochs"))
        conditions = (
            f" {epochs} epochs; the learning rate, {lr}, was chosen for the paper's values and is the same for all."
        )
    return (
        f"Two settings, side by side. Accuracy: mean ± standard deviation over {len(SEEDS)} seeds, {task}; "
        f"{get_profile(profile).setting}.{conditions} Parameters (without the head) and memory: {PLANNED}; DTL's plain "
        f"form, which keeps everything for backward, and its default. One value is varied at a time. {ablation_status(profile, task, root)}"
    )


def ablation_markdown(profile: str = "laptop", root: Path | None = None) -> str:
    """Return the tables of the ablations with both settings, one for each task that has cards."""
    return "\n\n".join(
        f"{markdown(ablation_cells(profile, task, root))}\n\n{ablation_note(profile, task, root)}"
        for task in ablated_tasks(profile, root)
    )


def pitfall_pairs(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Return every pair of a run with one pitfall and the run that is otherwise the same.

    A pair has one task, method, seed and backbone, and one recipe to the last value: any other change would be part of
    the difference too. ``accuracy`` is with less without, in percent as all three.
    """
    plain, changed = (percent(load_cards(profile, folder, root=root)) for folder in ("vtab-1k", grids.PITFALLS))
    names = {str(pitfall.active()): name for name, pitfall in PITFALL_VARIANTS.items()}
    changed["pitfall"] = [names.get(str(switches)) for switches in changed["switches"]]
    same = ["task", "method", "seed", "backbone_sha256"]
    pairs = changed.dropna(subset="pitfall").merge(plain, on=same, suffixes=("", " without"))
    pairs = pairs.loc[[one == other for one, other in zip(pairs["recipe"], pairs["recipe without"], strict=True)]]
    pairs = pairs.rename(columns={"accuracy": "with", "accuracy without": "without"})
    pairs["accuracy"] = pairs["with"] - pairs["without"]
    return pairs[["pitfall", "task", "method", "seed", "without", "with", "accuracy"]]


def pitfalls_table(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Return the effect of each pitfall: a row for every pitfall, task and method that can have a run.

    ``seeds`` counts pairs; ``spread`` is that of the difference, in percent. Numbers are NaN where nothing is recorded.
    """
    by = ["pitfall", "task", "method"]
    table = mean_sd(pitfall_pairs(profile, root), by, **{name: (name, "mean") for name in ("without", "with")})
    rows = [
        row
        for row in product(PITFALL_VARIANTS, grids.pitfall_tasks(profile), PITFALL_METHODS)
        if grids.pitfall_applies(row[2], row[0])
    ]
    table = _every(table, by, rows).rename(columns={"mean": "difference"})
    return table[[*by, "seeds", "without", "with", "difference", "spread"]]


def pitfalls_cells(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Return the cells of ``pitfalls_table``: a row per pitfall, a column per task and method; a dash where no run can be."""
    table = pitfalls_table(profile, root)
    texts = table.assign(text=cell_list(table, ("difference", "spread"), "+"))
    columns = list(product(grids.pitfall_tasks(profile), PITFALL_METHODS))
    grid = texts.pivot(index="pitfall", columns=["task", "method"], values="text").fillna(NOTHING)
    cells = {f"{task}, {NAMES[method]}": grid[task, method] for task, method in columns}
    return pd.DataFrame({"pitfall": TITLES, **cells}).loc[list(TITLES)].reset_index(drop=True)


def pitfalls_status(profile: str = "laptop", root: Path | None = None) -> str:
    """Return one sentence: how many of the pairs are recorded."""
    seeds = pitfalls_table(profile, root)["seeds"]
    return counted(seeds.sum(), len(seeds) * len(SEEDS), "pairs are recorded.")


def pitfalls_markdown(profile: str = "laptop", root: Path | None = None) -> str:
    """Return the table of the pitfalls with its setting."""
    setting = get_profile(profile).setting
    if pitfall_pairs(profile, root).empty:
        return f"*No pitfall is recorded for the profile {profile} ({setting}): not run.*"
    note = (
        "Change of the test accuracy in points, paired by seed with the same run without the switch (same learning rate, chosen "
        f"without it), mean ± standard deviation over {len(SEEDS)} seeds. Setting: {setting}. DTL reads the mean alone, so it has "
        f"no run with the class token. {pitfalls_status(profile, root)}"
    )
    return f"{markdown(pitfalls_cells(profile, root))}\n\n{note}"


def bf16_markdown(profile: str = "laptop", root: Path | None = None) -> str:
    """Return the effect of a frozen backbone in bf16 on DTL: a row per task, with its accuracy beside that in fp32."""
    fp32, bf16 = (load_cards(folder, root=root) for folder in (profile, bf16_folder(profile)))
    setting = get_profile(profile).setting
    if bf16.empty:
        return (
            f"*Nothing is recorded in bf16 for the profile {profile} ({setting}): `dtl record --parts bf16` does it.*"
        )
    rows = []
    for task in sorted(set(bf16["task"])):
        logits = json.loads(recorded_path(grids.bf16_logits_path(profile, task, root)).read_text())
        both = (cards[(cards["task"] == task) & (cards["method"] == "dtl")] for cards in (fp32, bf16))
        rows.append((task, *(mean_cell(100 * cards["accuracy"]) for cards in both),
                     f"{logits['relative_difference']:.2%}", f"{logits['same_answer']:.1%} of {logits['images']}"))  # fmt: skip
    columns = ["task", "DTL, fp32", "DTL, frozen backbone in bf16", "logits differ by (relative)", "same answer"]
    note = (
        f"Test accuracy in percent over {len(SEEDS)} seeds; setting: {setting}; the learning rate of the runs in fp32. "
        "Logits: one trained model (seed 0), its frozen backbone in fp32 and in bf16, on val200."
    )
    return f"{markdown(pd.DataFrame(rows, columns=columns))}\n\n{note}"

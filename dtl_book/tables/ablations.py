"""M, rank, beta and kernel, one at a time: accuracy from run cards (the profile's network), planned memory (the paper's)."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from dtl_core.dtl import DTLConfig
from dtl_core.memory import MIB, plan_training

from ..experiments.cards import load_cards
from ..experiments.profiles import get_profile
from ..experiments.settings import SEEDS
from ..paths import results_dir

TASK = "shape_location"  # where DTL gains most on a linear probe among the laptop's tasks that are drawn from a seed
OFFICIAL = "dsprites_loc"  # what it is drawn after: the task of the paper profile
GROUP, BASE = "ablations", DTLConfig()
VALUES = {
    "inject_from": (0, 2, 4, 6, 8, 10),
    "rank": (1, 2, 4, 8),
    "beta": (1.0, 10.0, 100.0, math.inf),  # infinity is ReLU
    "dwconv_kernel": (0, 3, 5),
}
LETTERS = {"inject_from": "M", "rank": "r", "beta": "beta", "dwconv_kernel": "k"}
BACKBONE, SETTING = "vit_base_patch16_224", {"batch_size": 32, "image_size": 224, "num_classes": 100}
FORMS = {"plain": "none", "default": "side"}  # what is recomputed
PLANNED = "planned: ViT-B/16, batch 32, 224 px, 100 classes, fp32, fused attention"
NOT_RUN = "not run"
COLUMNS = ["varied", "value", "mean", "spread", "seeds", "lr", "parameters"]
MARKS = ("<!-- ablations: begin (dtl results --write) -->", "<!-- ablations: end -->")


def variants() -> dict[str, DTLConfig]:
    """The configurations that differ from the paper's in one value, by name: "M4", "r8", "beta10", "k3"."""
    return {
        f"{LETTERS[name]}{value:g}": replace(BASE, **{name: value})
        for name, values in VALUES.items()
        for value in values
        if value != getattr(BASE, name)
    }


def label_of(varied: str, value: float) -> str:
    """A value as tables name it: "M = 4", "beta = ∞ (ReLU)"; the paper's own says so."""
    number = "∞ (ReLU)" if math.isinf(value) else f"{value:g}"
    return f"{LETTERS[varied]} = {number}{' (as in the paper)' if value == getattr(BASE, varied) else ''}"


def ablated_tasks(profile: str = "laptop", root: Path | None = None) -> tuple[str, ...]:
    """The tasks that have cards of ablations; the profile's own where none has."""
    found = {p.parent.name for p in ((root or results_dir()) / profile / GROUP).glob("*/*.json")}
    return tuple(sorted(found)) or (task_of(profile),)


def task_of(profile: str) -> str:
    """The task that a profile runs the ablations on."""
    return OFFICIAL if profile == "paper" else TASK


def ablation_runs(profile: str = "laptop", task: str = TASK, root: Path | None = None) -> pd.DataFrame:
    """Every recorded final run: a row per varied value and seed.

    The paper's own configuration is DTL's run in the benchmark's cards; it stands among the values of each quantity. A
    configuration that differs from it in more than one value is left out.

    Args:
        profile, task: whose cards.
        root: folder of the results, if not the project's.

    Returns:
        Columns varied, value, seed, accuracy (percent), lr, epochs, parameters (without the head, of the profile's network).
    """
    rows, base = [], asdict(BASE)
    for benchmark in ("vtab-1k", GROUP):
        cards = load_cards(profile, benchmark, root=root)
        mine = cards[(cards["task"] == task) & (cards["method"] == "dtl")] if len(cards) else cards
        for _, card in mine.iterrows():
            config = card["recipe"]["config"]
            other = [name for name in base if config[name] != base[name]]
            if len(other) > 1 or (bool(other) == (benchmark == "vtab-1k")) or (other and other[0] not in VALUES):
                continue
            fixed = (100 * card["accuracy"], card["lr"], card["recipe"]["epochs"], card["parameters_without_head"])
            rows += [(name, float(config[name]), card["seed"], *fixed) for name in other or VALUES]
    return pd.DataFrame(rows, columns=["varied", "value", "seed", "accuracy", "lr", "epochs", "parameters"])


def ablation_table(profile: str = "laptop", task: str = TASK, root: Path | None = None) -> pd.DataFrame:
    """Mean and spread of the test accuracy over the seeds, for every value of ``VALUES``, run or not.

    Args:
        profile, task, root: see ``ablation_runs``.

    Returns:
        Columns varied, value, mean and spread (percent; standard deviation over the seeds, n - 1), seeds (how many, 0 where
        it was not run), lr, parameters (without the head, of the profile's network).
    """
    runs, rows = ablation_runs(profile, task, root), []
    for varied, values in VALUES.items():
        for value in values:
            mine = runs[(runs["varied"] == varied) & (runs["value"] == value)]
            accuracy = mine["accuracy"].astype(float)
            fixed = mine[["lr", "parameters"]].iloc[0] if len(mine) else (math.nan, math.nan)
            rows.append((varied, float(value), accuracy.mean(), accuracy.std(ddof=1), len(mine), *fixed))
    return pd.DataFrame(rows, columns=COLUMNS)


def paired_with_paper(profile: str = "laptop", task: str = TASK, root: Path | None = None) -> pd.DataFrame:
    """Each value less the paper's, within each seed first, in points of test accuracy.

    Returns:
        Columns varied, value, seeds (that both have), lower (how many of them lie below the paper's value), difference
        (mean) and difference ± (standard deviation, n - 1); a row for every value of ``VALUES`` but the paper's.
    """
    runs, rows = ablation_runs(profile, task, root), []
    for varied, values in VALUES.items():
        grid = runs[runs["varied"] == varied].pivot(index="seed", columns="value", values="accuracy").astype(float)
        paper = float(getattr(BASE, varied))
        for value in map(float, values):
            if value != paper:
                grid = grid.reindex(columns=sorted({*grid.columns, value, paper}))
                ahead = (grid[value] - grid[paper]).dropna()
                rows.append((varied, value, len(ahead), int((ahead < 0).sum()), ahead.mean(), ahead.std(ddof=1)))
    return pd.DataFrame(rows, columns=["varied", "value", "seeds", "lower", "difference", "difference ±"])


@cache
def _peak(config: DTLConfig, form: str) -> tuple[int, int]:
    plan = plan_training("dtl", BACKBONE, config=config, recompute=FORMS[form], **SETTING)
    return plan.parameters, plan.peak_bytes


def planned_memory(progress: bool = True) -> pd.DataFrame:
    """The peak of a training step of the paper's ViT-B/16 for every value of ``VALUES``, planned here and now (``PLANNED``).

    Args:
        progress: show a bar; some ten seconds, the first time.

    Returns:
        Columns varied, value, parameters (without the head), plain and default (bytes; the two forms of ``FORMS``).
    """
    rows = []
    pairs = [(varied, value) for varied, values in VALUES.items() for value in values]
    for varied, value in tqdm(pairs, "planning", leave=False, delay=1, disable=not progress, file=sys.stderr):
        (parameters, plain), (_, default) = (_peak(replace(BASE, **{varied: value}), form) for form in FORMS)
        rows.append((varied, float(value), parameters, plain, default))
    return pd.DataFrame(rows, columns=["varied", "value", "parameters", "plain", "default"])


def ablation_cells(profile: str = "laptop", task: str = TASK, root: Path | None = None) -> pd.DataFrame:
    """Accuracy (recorded, of the profile's network) and memory (planned, of the paper's) side by side, as texts.

    Returns:
        A row for each value of ``VALUES``, a column for each of: what is varied, the accuracy, and for the ViT-B/16 its
        parameters and two planned peaks. "95.0 ± 0.9" with all seeds, "95.0 (1 of 3 seeds)" with some, else "not run".
    """
    rows = []
    for run, plan in zip(ablation_table(profile, task, root).itertuples(), planned_memory().itertuples(), strict=True):
        more = f" ± {run.spread:.1f}" if run.seeds == len(SEEDS) else f" ({run.seeds} of {len(SEEDS)} seeds)"
        rows.append(
            {
                "varied": label_of(run.varied, run.value),
                f"accuracy (%), {profile}, {task}": f"{run.mean:.1f}{more}" if run.seeds else NOT_RUN,
                "ViT-B/16: parameters": f"{plan.parameters:,}",
                "plain form (MiB)": f"{plan.plain / MIB:,.0f}",
                "default form (MiB)": f"{plan.default / MIB:,.0f}",
            }
        )
    return pd.DataFrame(rows)


def ablation_status(profile: str = "laptop", task: str = TASK, root: Path | None = None) -> str:
    """One sentence: how many of the final runs are recorded."""
    runs = ablation_runs(profile, task, root)
    own = {name: float(getattr(BASE, name)) for name in VALUES}
    there = sum(row.value != own[row.varied] for row in runs.itertuples())
    whole, paper = len(variants()) * len(SEEDS), int((runs["varied"].eq("rank") & runs["value"].eq(own["rank"])).sum())
    text = f"All {whole} runs with another value" if there == whole else f"{there} of {whole} runs with another value"
    return f"{text} and {paper} of {len(SEEDS)} with the paper's are recorded."


def ablation_note(profile: str = "laptop", task: str = TASK, root: Path | None = None) -> str:
    """One paragraph: the two settings, which have to be read apart, and how the runs on the cards were done."""
    runs = ablation_runs(profile, task, root)
    how = ""
    if len(runs):
        lr, epochs = (" and ".join(f"{v:g}" for v in sorted(set(runs[name]))) for name in ("lr", "epochs"))
        how = f" {epochs} epochs; the learning rate, {lr}, was chosen for the paper's values and is the same for all."
    return (
        f"Two settings, side by side. Accuracy: mean ± standard deviation over {len(SEEDS)} seeds, {task}; "
        f"{get_profile(profile).setting}.{how} Parameters (without the head) and memory: {PLANNED}; DTL's plain "
        f"form, which keeps everything for backward, and its default. One value is varied at a time. {ablation_status(profile, task, root)}"
    )


def ablation_markdown(profile: str = "laptop", root: Path | None = None) -> str:
    """The tables in Markdown, one for each task that has cards, with both settings. What is not recorded says "not run".

    Args:
        profile: whose cards.
        root: folder of the results, if not the project's.
    """
    parts = []
    for task in ablated_tasks(profile, root):
        cells = ablation_cells(profile, task, root)
        lines = ["| " + " | ".join(cells.columns) + " |", "|---|" + "--:|" * (len(cells.columns) - 1)]
        lines += ["| " + " | ".join(row) + " |" for row in cells.itertuples(index=False)]
        parts += ["\n".join(lines), ablation_note(profile, task, root)]
    return "\n\n".join(parts)

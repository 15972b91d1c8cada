"""The recipe of a run: the authors' own where they have one, a short one for the laptop."""

from __future__ import annotations

import math
from dataclasses import replace

from dtl_core.data.augment import AUTHORS
from dtl_core.data.domain import official_domain
from dtl_core.data.fewshot import official_set
from dtl_core.data.vtab import official_tasks
from dtl_core.dtl import DTLConfig
from dtl_core.training import Recipe, authors_table

from .profiles import Profile
from .run_data import Benchmark

BENCHMARKS = {"vtab-1k": "vtab-1k", "few-shot": "fgfs", "domain": "domain_generalization"}  # as the scripts name them


def script_name(benchmark: Benchmark, task: str) -> str:
    """What the authors' scripts call a task; its own name where they have none for it."""
    if benchmark == "few-shot":
        return f"{official_set(task)}-FS" if official_set(task) else task
    if benchmark == "domain":
        return official_domain(task) or task
    tasks = official_tasks()
    return tasks[task]["script_name"] if task in tasks else task  # three differ from the folder's


def profile_recipe(
    profile: Profile,
    method: str,
    task: str,
    lr: float | None,
    seed: int,
    *,
    benchmark: Benchmark = "vtab-1k",
    shots: int | None = None,
    protocol: str | None = None,
    backbone: str = "vit",
) -> Recipe:
    """The recipe of a profile: the authors' schedule in ``paper``; else a short cosine with a tenth of warm-up.

    Under the authors' protocol DTL and DTL+ take their script's row for the task: learning rate, drop path and kernel. All
    other runs of ``paper`` have the same schedule and augmentation and the learning rate that is given.

    The short one starts at 1e-4 and has no cool-down: of the authors' 110 epochs 1 is spent at 1e-7 and 10 at 1e-8, which
    ten epochs cannot afford.

    Args:
        profile, method, task, benchmark, shots: what is run.
        lr: learning rate; the recipe's own if None.
        seed: of the run.
        protocol: the profile's if None.
        backbone: "vit" or "swin": whose scripts and configuration ``paper`` takes.
    """
    if profile.name == "paper":
        rows, script = authors_table(), script_name(benchmark, task)
        rows = rows[rows.backbone.str.startswith(backbone)]
        named = set(rows.dataset[rows.benchmark == BENCHMARKS.get(benchmark)])
        if (protocol or profile.protocol) == "authors" and method in ("dtl", "dtl+") and script in named:
            drawn = None if benchmark == "vtab-1k" else shots or 16
            row = Recipe.authors(
                backbone=backbone, benchmark=BENCHMARKS[benchmark], task=script, method=method, shot=drawn
            )
            return replace(row, seed=seed, lr=lr or row.lr)
        augmentation = AUTHORS if benchmark in ("few-shot", "domain") else "none"
        config = DTLConfig.paper(backbone, plus=method == "dtl+")
        return Recipe(lr=lr or 1e-3, seed=seed, augmentation=augmentation, config=config)
    return short(Recipe(lr=lr or 1e-3, batch_size=profile.batch_size, precision="fp32", seed=seed), profile.epochs)


def short(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe in so few epochs, a tenth of them warm-up."""
    warmup = max(1, round(epochs / 10))
    return replace(recipe, epochs=epochs, warmup_epochs=warmup, warmup_lr=1e-4, cooldown_epochs=0)


def at_least(recipe: Recipe, steps: int, images: int) -> Recipe:
    """The recipe with as many epochs as so many steps take on so few images."""
    size = min(recipe.batch_size, images)
    needed = math.ceil(steps / (images // size))
    return recipe if needed <= recipe.epochs else short(recipe, needed)

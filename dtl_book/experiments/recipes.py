"""The recipe of a run: the authors' where they have one, a short one for the laptop, and what the run asks for."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

from torch import nn

from dtl_core.data.augment import AUTHORS, LETTERS
from dtl_core.data.domain import official_domain
from dtl_core.data.fewshot import official_set
from dtl_core.data.vtab import official_tasks
from dtl_core.dtl import DTLConfig
from dtl_core.training import Recipe, authors_table

from .run import DROP_PATH_METHODS, Run

BENCHMARKS = {"vtab-1k": "vtab-1k", "few-shot": "fgfs", "domain": "domain_generalization"}  # as the scripts name them


def recipe_of(run: Run, backbone: nn.Module | None = None, images: int | None = None) -> Recipe:
    """Return the final recipe of a run, whose own settings go before all else.

    The backbone's depth sets DTL's configuration; without it the recipe's own stays. Too few training images for enough steps
    mean more epochs.
    """
    names = ("lr", "batch_size", "drop_path", "weight_decay", "precision")
    asked = {name: getattr(run, name) for name in names}
    recipe = replace(_of_the_profile(run), seed=run.seed, augmentation=augmentation_of(run))
    recipe = replace(recipe, **{name: value for name, value in asked.items() if value is not None})
    if run.epochs:
        recipe = replace(recipe, epochs=run.epochs)
    elif images:
        recipe = at_least(recipe, run.sizes.least_steps_of(run.benchmark), images)
    if run.warmup_epochs is not None:
        recipe = replace(recipe, warmup_epochs=run.warmup_epochs)
    if run.method in DROP_PATH_METHODS:
        config = recipe.config
        if backbone is not None:
            with warnings.catch_warnings():
                if run.inject_from is not None:
                    warnings.simplefilter("ignore")  # it says that M is not the paper's, and here M is the user's
                config = DTLConfig.for_backbone(backbone, plus=run.method == "dtl+")
            if run.profile == "paper" and not (run.data or run.backbone):  # all else is the paper's already
                config = replace(config, dwconv_kernel=recipe.config.dwconv_kernel)
        recipe = replace(recipe, config=replace(config, **run.function))
    return recipe


def augmentation_of(run: Run) -> str:
    """Return the augmentation of the training images, see ``augment.train_transform``.

    On letters and digits the authors' becomes the form that keeps the class: flips and turns would make other classes.
    """
    asked = run.augmentation or _of_the_profile(run).augmentation
    keeps = run.benchmark in ("few-shot", "domain") and not is_official(run)
    return LETTERS if asked == AUTHORS and keeps else asked


def is_official(run: Run) -> bool:
    """Return whether this is one of the photographic sets of the official few-shot and domain benchmarks."""
    name = {"few-shot": official_set, "domain": official_domain}.get(run.benchmark)
    return name is not None and name(run.task) is not None


def takes_views(run: Run) -> bool:
    """Return whether images go through ``data.augment``: random views, or the centre crop of photographs."""
    return augmentation_of(run) != "none" or is_official(run)


def _of_the_profile(run: Run) -> Recipe:
    """Return the authors' schedule in ``paper``; else a short cosine with a tenth of warm-up.

    Under the authors' protocol DTL and DTL+ take their script's row for the task: learning rate, drop path and kernel. All
    other runs of ``paper`` have the same schedule and augmentation.

    The short one starts at 1e-4 and has no cool-down: of the authors' 110 epochs 1 is spent at 1e-7 and 10 at 1e-8, which
    ten epochs cannot afford.
    """
    if run.profile != "paper":
        return short(Recipe(lr=1e-3, batch_size=run.sizes.batch_size, precision="fp32"), run.sizes.epochs)
    backbone = "swin" if "swin" in (run.arch or run.backbone_name) else "vit"
    if (run.protocol or run.sizes.protocol) == "authors" and run.method in DROP_PATH_METHODS:
        benchmark, script, rows = BENCHMARKS.get(run.benchmark), script_name(run), authors_table()
        rows = rows[rows.backbone.str.startswith(backbone)]
        if script in set(rows.dataset[rows.benchmark == benchmark]):
            shot = None if run.benchmark == "vtab-1k" else run.shots or 16
            return Recipe.authors(backbone=backbone, benchmark=benchmark, task=script, method=run.method, shot=shot)
    augmentation = AUTHORS if run.benchmark in ("few-shot", "domain") else "none"
    config = DTLConfig.paper(backbone, plus=run.method == "dtl+")
    return Recipe(lr=1e-3, augmentation=augmentation, config=config)


def script_name(run: Run) -> str:
    """Return the authors' name of the task; the task itself where their scripts have none."""
    if run.benchmark == "few-shot":
        return f"{official_set(run.task)}-FS" if official_set(run.task) else run.task
    if run.benchmark == "domain":
        return official_domain(run.task) or run.task
    tasks = official_tasks()
    return tasks[run.task]["script_name"] if run.task in tasks else run.task  # three differ from the folder's


def short(recipe: Recipe, epochs: int) -> Recipe:
    """Return the recipe with this many epochs, a tenth of them warm-up."""
    warmup = max(1, round(epochs / 10))
    return replace(recipe, epochs=epochs, warmup_epochs=warmup, warmup_lr=1e-4, cooldown_epochs=0)


def at_least(recipe: Recipe, steps: int, images: int) -> Recipe:
    """Return the recipe with enough epochs for this many steps on this many images."""
    size = min(recipe.batch_size, images)
    needed = math.ceil(steps / (images // size))
    return recipe if needed <= recipe.epochs else short(recipe, needed)

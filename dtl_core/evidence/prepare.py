"""What a run starts from: its recipe, its data and its model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset

from ..backbones import BackboneInfo, load_backbone
from ..baselines import build
from ..data import ImageFolderTask, VTAB1k, eval_transform
from ..data.vtab import official_tasks
from ..dtl import DTLConfig
from ..paths import vtab_dir
from ..profiles import Profile, get_profile
from ..training import Recipe, authors_table, seed_everything


@dataclass(frozen=True)
class Prepared:
    """A run before its first step.

    Attributes:
        profile, method, task: what is run.
        recipe: how.
        info: the backbone's identity.
        train, test: the data, with the transform of the backbone.
        model: initialised from the seed, on the CPU.
        options: of ``baselines.build``, as the model was built.
    """

    profile: Profile
    method: str
    task: str
    recipe: Recipe
    info: BackboneInfo
    train: Dataset
    test: Dataset
    model: nn.Module
    options: dict

    @property
    def cacheable(self) -> bool:
        """Whether the method has a frozen prefix, and drop path leaves it as it is."""
        return hasattr(self.model, "prefix") and not self.recipe.drop_path


def profile_recipe(profile: Profile, method: str, task: str, lr: float | None, seed: int) -> Recipe:
    """The recipe of a profile: the authors' own row in ``paper``; else a short cosine with one epoch of warm-up.

    The short one starts at 1e-4 and has no cool-down: of the authors' 110 epochs 1 is spent at 1e-7 and 10 at 1e-8, which
    ten epochs cannot afford.
    """
    script = (
        official_tasks()[task]["script_name"] if task in official_tasks() else task
    )  # three differ from the folder's
    rows = authors_table()
    if (
        profile.name == "paper"
        and method in ("dtl", "dtl+")
        and script in set(rows.dataset[rows.benchmark == "vtab-1k"])
    ):
        recipe = Recipe.authors(backbone="vit", benchmark="vtab-1k", task=script, method=method)
        return replace(recipe, seed=seed, lr=lr or recipe.lr)
    if profile.name == "paper":
        return Recipe(lr=lr or 1e-3, seed=seed)
    return Recipe(
        lr=lr or 1e-3,
        batch_size=profile.batch_size,
        epochs=profile.epochs,
        warmup_epochs=1,
        warmup_lr=1e-4,
        cooldown_epochs=0,
        precision="fp32",
        seed=seed,
    )


def open_data(
    profile: Profile,
    task: str,
    train_split: str = "train800val200",
    test_split: str = "test",
    transform: Callable | None = None,
    folder: str | Path | None = None,
) -> tuple[Dataset, Dataset]:
    """The training and the test split of a task of VTAB-1K, or of a folder of the user's own."""
    if folder is None:
        train, test = (VTAB1k(vtab_dir(profile.name), task, split, transform) for split in (train_split, test_split))
    else:
        train, test = (ImageFolderTask(folder, split, transform) for split in (train_split, test_split))
    return train, test


def prepare(
    method: str,
    task: str,
    *,
    profile: str | None = None,
    seed: int = 0,
    lr: float | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    train_split: str = "train800val200",
    test_split: str = "test",
    folder: str | Path | None = None,
    backbone_dtype: torch.dtype | None = None,
) -> Prepared:
    """Loads the backbone, opens the data and builds the model from the seed. The arguments are those of ``run``."""
    chosen = get_profile(profile)
    recipe = profile_recipe(chosen, method, task, lr, seed)
    recipe = replace(recipe, epochs=epochs or recipe.epochs, batch_size=batch_size or recipe.batch_size)
    backbone = load_backbone(chosen.backbone, image_size=chosen.image_size)
    info = backbone.dtl_info
    transform = eval_transform(info.image_size, info.mean, info.std)
    train, test = open_data(chosen, task, train_split, test_split, transform, folder)
    seed_everything(seed)
    options = {}
    if method in ("dtl", "dtl+"):
        config = (
            recipe.config
            if chosen.name == "paper" and not folder
            else DTLConfig.for_backbone(backbone, plus=method == "dtl+")
        )
        recipe = replace(recipe, config=config)
        options = {"config": config, "drop_path": recipe.drop_path}
    if backbone_dtype is not None:
        options["backbone_dtype"] = backbone_dtype
    model = build(method, backbone, train.classes, inplace=True, **options)
    model.class_names = train.class_names
    return Prepared(chosen, method, task, recipe, info, train, test, model, options)

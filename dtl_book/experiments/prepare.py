"""What a run starts from: its recipe, its data and its model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset

from dtl_core.backbones import BackboneInfo, load_backbone
from dtl_core.baselines import build
from dtl_core.dtl import DTLConfig
from dtl_core.memory import GIB
from dtl_core.training import PrefixCache, Recipe, seed_everything

from .pitfalls import Pitfalls
from .profiles import Profile, get_profile
from .recipes import at_least, profile_recipe
from .run_data import Benchmark, RunData, is_official, open_images

# timm sets a block's drop path when it builds the block, and the rivals run timm's own blocks, which are built without
DROP_PATH_METHODS = ("dtl", "dtl+")
# Test images are passed once a run, so storing them spares a pass to later runs alone: not worth filling a disk (dSprites
# on a ViT-B/16: 357 GB)
STORED_TEST_BYTES = 16 * GIB


@dataclass(frozen=True)
class Prepared:
    """A run before its first step.

    Attributes:
        profile, benchmark, method, task: what is run.
        recipe: how.
        info: the backbone's identity.
        reads: the data, with the transforms of the backbone.
        protocol: "authors" or "clean", see ``Profile``.
        model: initialised from the seed, on the CPU.
        options: of ``baselines.build``, as the model was built.
    """

    profile: Profile
    benchmark: Benchmark
    method: str
    task: str
    recipe: Recipe
    info: BackboneInfo
    reads: RunData
    protocol: str
    model: nn.Module
    options: dict

    @property
    def train(self) -> Dataset:
        """The training images."""
        return self.reads.train

    @property
    def test(self) -> Dataset:
        """The images that the accuracy is taken on."""
        return self.reads.test

    @property
    def cacheable(self) -> bool:
        """Whether the method has a frozen prefix, and neither drop path nor a random transform changes what it gives."""
        fixed = getattr(self.train.transform, "deterministic", False)
        return hasattr(self.model, "prefix") and fixed and not self.recipe.drop_path

    def stored_bytes(self) -> tuple[int, int]:
        """What the frozen prefix of the training and of the test images takes on disk, where ``cacheable``.

        Test images that would take more than ``STORED_TEST_BYTES`` are not stored: 0.
        """
        dtype = self.options.get("backbone_dtype") or torch.float32
        an_image = PrefixCache.plan_bytes(self.model, self.train[0][0], 1, dtype)
        test = an_image * len(self.test)
        return an_image * len(self.train), test if test <= STORED_TEST_BYTES else 0


def prepare(
    method: str,
    task: str,
    *,
    profile: str | None = None,
    benchmark: Benchmark = "vtab-1k",
    shots: int | None = None,
    protocol: str | None = None,
    purpose: str = "final",
    seed: int = 0,
    lr: float | None = None,
    drop_path: float | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    augmentation: str | None = None,
    train_split: str | None = None,
    test_split: str | None = None,
    folder: str | Path | None = None,
    backbone_dtype: torch.dtype | None = None,
    options: dict | None = None,
    switches: Pitfalls | None = None,
) -> Prepared:
    """Loads the backbone, opens the data and builds the model from the seed. The arguments are those of ``run``.

    Raises:
        ValueError: drop path for a method that takes none; no epoch, or no image a step.
    """
    if 0 in (epochs, batch_size):
        raise ValueError(f"epochs={epochs}, batch_size={batch_size}: both must be at least 1, or left out")
    chosen, benchmark = get_profile(profile), "folder" if folder else benchmark
    if drop_path and method not in DROP_PATH_METHODS:
        raise ValueError(
            f"drop_path is {drop_path}, and {method} takes none: it belongs to {' and '.join(DROP_PATH_METHODS)}, "
            "which walk through the frozen blocks themselves"
        )
    protocol = protocol or chosen.protocol
    switches = switches or Pitfalls()
    named = switches.weights or chosen.backbone
    recipe = profile_recipe(
        chosen, method, task, lr, seed, benchmark=benchmark, shots=shots, protocol=protocol,
        backbone="swin" if "swin" in named else "vit",
    )  # fmt: skip
    recipe = replace(
        recipe, batch_size=batch_size or recipe.batch_size, augmentation=augmentation or recipe.augmentation
    )
    recipe = recipe if drop_path is None else replace(recipe, drop_path=drop_path)
    backbone = load_backbone(named, image_size=chosen.image_size)
    info = backbone.dtl_info = switches.normalised(backbone.dtl_info)  # an adapter file carries it on
    reads = open_images(
        chosen, benchmark, task, info, purpose=purpose, splits=(train_split, test_split),
        shots=shots, seed=seed, augmentation=recipe.augmentation, folder=folder,
        choose_epoch=protocol == "authors" and benchmark == "few-shot" and purpose == "final",
    )  # fmt: skip
    for data in filter(None, (reads.train, reads.test, reads.validation, *reads.targets.values())):
        switches.applied(data)
    # what the images went through: letters get the form of the augmentation that keeps them
    recipe = replace(recipe, augmentation=getattr(reads.train.transform, "augmentation", "none"))
    recipe = (
        replace(recipe, epochs=epochs)
        if epochs
        else at_least(recipe, chosen.least_steps_of(benchmark), len(reads.train))
    )
    seed_everything(seed)
    options = dict(options or {})
    if method in DROP_PATH_METHODS:
        config = options.pop("config", None)
        if config is None:
            config = DTLConfig.for_backbone(backbone, plus=method == "dtl+")
            if chosen.name == "paper" and not folder:  # all else in the scripts is the paper's configuration
                config = replace(config, dwconv_kernel=recipe.config.dwconv_kernel)
        recipe = replace(recipe, config=config)
        options = {"config": config, "drop_path": recipe.drop_path, **options}
    if switches.readout != "mean":
        options["readout"] = switches.readout
    if backbone_dtype is not None:
        options["backbone_dtype"] = backbone_dtype
    model = build(method, backbone, reads.train.classes, inplace=True, **options)
    model.class_names = reads.train.class_names
    model.view = "crop" if is_official(benchmark, task) else "resize"  # an adapter file carries it on
    return Prepared(chosen, benchmark, method, task, recipe, info, reads, protocol, model, options)

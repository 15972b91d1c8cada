"""One run, from its record to its card."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset

from dtl_core.adapters import start_from
from dtl_core.backbones import BackboneInfo, load_backbone
from dtl_core.baselines import build
from dtl_core.memory import GIB
from dtl_core.training import Evaluation, PrefixCache, Recipe, evaluate, fit, seed_everything
from dtl_core.training.evaluate import class_order

from .cards import RunCard
from .code_digests import code_of
from .preflight import preflight
from .recipes import is_official, recipe_of, takes_views
from .run import DROP_PATH_METHODS, RANKED, Run
from .run_data import RunData, open_data

# Test images are passed once a run, so storing them spares a pass to later runs alone: not worth filling a disk (dSprites
# on a ViT-B/16: 357 GB)
STORED_TEST_BYTES = 16 * GIB


@dataclass(frozen=True)
class Prepared:
    """A run before its first step."""

    run: Run
    recipe: Recipe
    info: BackboneInfo  # the backbone's identity
    data: RunData  # the images, with the transforms of the backbone
    model: nn.Module  # initialised from the seed, on the CPU
    options: dict  # of baselines.build, as the model was built

    @property
    def cacheable(self) -> bool:
        """Whether the method has a frozen prefix, and neither drop path nor a random transform changes its output."""
        fixed = getattr(self.data.train.transform, "deterministic", False)
        return hasattr(self.model, "prefix") and fixed and not self.recipe.drop_path

    def stored_bytes(self) -> tuple[int, int]:
        """Return what the stored prefix of the training and of the test images takes on disk, where ``cacheable``.

        Test images that would take more than ``STORED_TEST_BYTES`` are not stored: 0.
        """
        dtype = getattr(torch, self.run.backbone_dtype)
        an_image = PrefixCache.plan_bytes(self.model, self.data.train[0][0], 1, dtype)
        test = an_image * len(self.data.test)
        return an_image * len(self.data.train), test if test <= STORED_TEST_BYTES else 0


def prepare(run: Run) -> Prepared:
    """Load the backbone, open the data and build the model from the seed."""
    kind = {"arch": run.arch} if run.arch else {}
    backbone = load_backbone(run.backbone_name, image_size=run.input_size, pretrained=run.pretrained, **kind)
    info = backbone.dtl_info = run.pitfalls.normalised(backbone.dtl_info)  # an adapter file carries it on
    data = open_data(run, info)
    recipe = recipe_of(run, backbone, len(data.train))
    options: dict = {}
    if run.method in DROP_PATH_METHODS:
        options = {"config": recipe.config, "drop_path": recipe.drop_path}
        if run.recompute != "side":
            options["recompute"] = run.recompute
    if run.first_block:
        options["first_block"] = run.first_block
    if run.rank is not None and run.method in RANKED:
        options[RANKED[run.method]] = run.rank
    if run.taps:
        options["taps"] = True
    if run.pitfalls.readout != "mean":
        options["readout"] = run.pitfalls.readout
    if run.backbone_dtype != "float32":
        options["backbone_dtype"] = getattr(torch, run.backbone_dtype)
    seed_everything(run.seed)
    model = build(run.method, backbone, data.train.classes, inplace=True, **options)
    model.class_names = data.train.class_names
    model.view = "crop" if is_official(run) else "resize"  # an adapter file carries it on
    for images in (data.test, data.validation, *data.targets.values()):
        if images is not None:
            class_order(model, images)  # other classes than the head's are an error before the first step
    if run.from_adapter:
        start_from(model, run.from_adapter)
    return Prepared(run, recipe, info, data, model, options)


def execute(
    run: Run, *, cache: bool = True, prefixes: Path | None = None, keep_checkpoint: bool = True, progress: bool = True,
    save: Callable[[RunCard, nn.Module], None] | None = None,
) -> tuple[RunCard, nn.Module]:  # fmt: skip
    """Train one method on one task, test it once, and return the card, which is not written, and the model.

    Args:
        run: what is run.
        cache: train from the stored prefix where the method has one and that is exact.
        prefixes: folder of the stored prefix, see ``PrefixCache``.
        keep_checkpoint: write the state after each epoch and continue a run that was killed.
        progress: print the plan of the run beforehand, and show bars.
        save: writes what the run has made. The checkpoint is removed only after it, so that nothing is lost where it fails.

    Raises:
        CannotFit: the device has no memory for a step.
    """
    ready = prepare(run)
    recipe, info, model, data = ready.recipe, ready.info, ready.model, ready.data
    use_cache = cache and ready.cacheable
    check = preflight(ready, cached=use_cache, timed=progress)
    if progress:
        print(check.text())
    check.refuse()

    start, inexact = time.perf_counter(), ""
    train_data, test_data = data.train, data.test
    if use_cache:
        dtype = getattr(torch, run.backbone_dtype)
        stored = dict(dtype=dtype, root=prefixes, progress=progress, device=run.device, workers=run.workers)
        train_data = PrefixCache(model, data.train, **stored)
        if check.precision != "fp32":
            inexact = (
                f"the prefix is stored in {run.backbone_dtype}; from images it would run in {check.precision} autocast"
            )
        if check.stored_bytes[1]:
            test_data = PrefixCache(model, data.test, **stored)
    cache_seconds = time.perf_counter() - start

    how: dict = dict(device=run.device, workers=run.workers)
    judge = None
    if data.validation is not None:

        def judge(trained: nn.Module) -> float:
            return evaluate(trained, data.validation, precision=check.precision, progress=False, **how).accuracy

    state = run.checkpoint if keep_checkpoint else None
    record = fit(model, train_data, recipe, checkpoint=state, progress=progress, score=judge, **how)

    def score_on(images: Dataset, stored: Dataset | None = None) -> Evaluation:
        within, shown = _within(images), dict(precision=record.precision, progress=progress, **how)
        return evaluate(model, images if stored is None else stored, within=within, **shown)

    score = score_on(data.test, test_data)
    targets = {name: _scores(score_on(images)) for name, images in data.targets.items()}
    trained = sum(p.numel() for p in model.trainable_parameters())
    head = sum(p.numel() for p in model.head.parameters())
    history = record.history.astype(object).where(record.history.notna(), None)  # JSON knows no NaN
    train_split, test_split = data.names
    card = RunCard(
        run=asdict(run) | {"image_size": list(run.image_size)}, method=run.method, profile=run.profile, benchmark=run.benchmark, task=run.task, purpose=run.purpose,
        protocol=run.protocol or run.sizes.protocol, shots=data.shots, seed=run.seed, lr=recipe.lr, recipe=asdict(recipe),
        readout=getattr(model, "readout", "mean"), switches=run.pitfalls.active(),
        backbone=info.name, backbone_sha256=info.sha256, backbone_dtype=run.backbone_dtype, image_size=list(info.image_size),
        train_split=train_split, test_split=test_split, classes=data.train.classes,
        data_digest={train_split: data.train.digest, test_split: data.test.digest},
        parameters=trained, parameters_without_head=trained - head, **_scores(score), loss=score.loss, targets=targets,
        epochs=history.to_dict("records"), kept_epoch=record.kept_epoch, seconds=record.seconds, cache_seconds=cache_seconds,
        peak_bytes=record.peak_bytes, cache=run.backbone_dtype if use_cache else None, cache_inexact=inexact,
        device=record.device, threads=torch.get_num_threads(), precision=record.precision,
        code=code_of(run.method, takes_views(run)),
    )  # fmt: skip
    if save:
        save(card, model)
    if state:
        state.unlink(missing_ok=True)
    return card, model


def _within(data: Dataset) -> tuple[int, ...] | None:
    """Return the classes that occur, where they are only some of the head's (ImageNet-A and -R)."""
    present = getattr(data, "present_classes", None)
    return present if present is not None and len(present) < data.classes else None


def _scores(score: Evaluation) -> dict:
    names = ("accuracy", "balanced_accuracy", "accuracy_within")
    return {name: getattr(score, name) for name in names}

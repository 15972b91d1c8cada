"""One run from a profile, a task and a method to a run card."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.utils.data import Dataset

from dtl_core.training import Evaluation, PrefixCache, evaluate, fit

from ..paths import cache_dir, recorded_path
from .cards import RunCard, card_path, load_card
from .code import code_of
from .pitfalls import Pitfalls
from .preflight import preflight
from .prepare import DROP_PATH_METHODS, Prepared, prepare
from .run_data import Benchmark, takes_views

METHODS = ("linear", "lora", "dtl", "dtl+")  # what a sweep runs if not told
COMPARED = ("linear", "bitfit", "adaptformer", "lora", "dtl", "dtl+")  # all that a recording runs
SEEDS = (0, 1, 2)
# the same values for every method, on a logarithmic scale over the range of the authors' own
LEARNING_RATES = (1e-3, 1e-2)


def run(
    method: str,
    task: str,
    *,
    profile: str | None = None,
    benchmark: Benchmark = "vtab-1k",
    shots: int | None = None,
    protocol: str | None = None,
    seed: int = 0,
    lr: float | None = None,
    drop_path: float | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    augmentation: str | None = None,
    train_split: str | None = None,
    test_split: str | None = None,
    purpose: str = "final",
    folder: str | Path | None = None,
    cache: bool = True,
    cache_root: Path | None = None,
    keep_checkpoint: bool = True,
    progress: bool = True,
    backbone_dtype: torch.dtype | None = None,
    options: dict | None = None,
    switches: Pitfalls | None = None,
) -> tuple[RunCard, torch.nn.Module]:
    """Trains one method on one task, tests it once, and returns the card and the model. Writes no card.

    Args:
        method: a key of ``baselines.METHODS``.
        task: a task, few-shot set or domain of the profile, see ``open_images``; with ``folder``, a name for the card.
        profile: sizes and sources; see ``get_profile``.
        benchmark: "vtab-1k", "few-shot" or "domain".
        shots: training images a class (few-shot).
        protocol: "authors" or "clean"; the profile's if None, see ``Profile``.
        seed: of initialisation and order, and which drawing of the shots.
        lr, epochs, batch_size, augmentation: the recipe's own if None.
        drop_path: the recipe's own if None. DTL and DTL+ alone take it; with it no prefix is stored.
        train_split, test_split: other lists than the purpose's; for a folder "train", "val", "trainval" or "test".
        purpose: see ``RunCard``.
        folder: a folder of the user's own images, one sub-folder a class, in the place of a benchmark.
        cache: train from the stored prefix where the method has one and that is exact.
        cache_root: where the stored prefix lies; see ``PrefixCache``.
        keep_checkpoint: write the state after each epoch and continue a run that was killed.
        progress: say beforehand what the run will be (``preflight``), and show bars.
        backbone_dtype: of the frozen weights and the tokens; the trained parameters stay fp32.
        options: of the method, see ``baselines.build``.
        switches: the field's pitfalls; all as they should be if None.

    Raises:
        CannotFit: the device's memory has no room for a step.
        ValueError: drop path for another method than DTL and DTL+.
    """
    ready = prepare(
        method, task, profile=profile, benchmark=benchmark, shots=shots, protocol=protocol, purpose=purpose, seed=seed, lr=lr,
        drop_path=drop_path, epochs=epochs, batch_size=batch_size, augmentation=augmentation, train_split=train_split, test_split=test_split,
        folder=folder, backbone_dtype=backbone_dtype, options=options, switches=switches,
    )  # fmt: skip
    chosen, recipe, info, model, reads = ready.profile, ready.recipe, ready.info, ready.model, ready.reads
    kind = str(backbone_dtype or torch.float32).removeprefix("torch.")
    use_cache = cache and ready.cacheable
    check = preflight(ready, cached=use_cache, timed=progress)
    if progress:
        print(check.text())
    check.refuse()

    start, inexact = time.perf_counter(), ""
    train_data, test_data = reads.train, reads.test
    if use_cache:
        stored = dict(dtype=backbone_dtype or torch.float32, root=cache_root, progress=progress)
        train_data = PrefixCache(model, reads.train, **stored)
        inexact = train_data.inexact
        if not inexact and check.precision != "fp32":
            inexact = f"the prefix is stored in {kind}; from images it would run in {check.precision} autocast"
        if check.stored_bytes[1]:
            test_data = PrefixCache(model, reads.test, **stored)
    cache_seconds = time.perf_counter() - start

    splits = reads.names
    name = run_name(ready, kind)
    turned = switches.turned() if switches else {}
    state = (
        cache_dir()
        / "runs"
        / f"{'-'.join([name, *(f'{k}-{v}'.replace('/', '-') for k, v in turned.items())])}.safetensors"
    )
    judge = None
    if reads.validation is not None:

        def judge(trained: torch.nn.Module) -> float:
            return evaluate(trained, reads.validation, precision=check.precision, progress=False).accuracy

    record = fit(
        model, train_data, recipe, checkpoint=state if keep_checkpoint else None, progress=progress, score=judge
    )
    score = evaluate(model, test_data, precision=record.precision, progress=progress, within=_within(reads.test))
    targets = {
        name: _scores(evaluate(model, data, precision=record.precision, progress=progress, within=_within(data)))
        for name, data in reads.targets.items()
    }
    if keep_checkpoint:
        state.unlink(missing_ok=True)
    trained = sum(p.numel() for p in model.trainable_parameters())
    head = sum(p.numel() for p in model.head.parameters())
    history = record.history.astype(object).where(record.history.notna(), None)  # JSON knows no NaN
    card = RunCard(
        method=method, profile=chosen.name, benchmark=ready.benchmark, task=task, purpose=purpose,
        train_split=splits[0], test_split=splits[1], seed=seed, lr=recipe.lr, readout=getattr(model, "readout", "mean"),
        recipe=asdict(recipe), backbone=info.name, backbone_sha256=info.sha256, image_size=list(info.image_size),
        data_digest=dict(zip(splits, (reads.train.digest, reads.test.digest), strict=True)), classes=reads.train.classes,
        parameters=trained, parameters_without_head=trained - head, **_scores(score), loss=score.loss,
        epochs=history.to_dict("records"), seconds=record.seconds, cache_seconds=cache_seconds,
        peak_bytes=record.peak_bytes, cache=kind if use_cache else None, cache_inexact=inexact, device=record.device,
        threads=torch.get_num_threads(), precision=record.precision, backbone_dtype=kind, protocol=ready.protocol,
        shots=reads.shots, kept_epoch=record.kept_epoch, targets=targets,
        switches=turned, code=code_of(method, takes_views(ready.benchmark, task, recipe.augmentation)),
    )  # fmt: skip
    return card, model


def run_name(ready: Prepared, kind: str) -> str:
    """Name of a run's checkpoint: no two runs that could go on at once share it. ``kind``: type of the frozen weights."""
    recipe, c, where = ready.recipe, ready.recipe.config, ready.task
    if ready.benchmark != "vtab-1k":
        where = f"{ready.benchmark}-{where}"
    half = "" if kind == "float32" else f"-{kind}"
    own = f"-M{c.inject_from}-r{c.rank}-beta{c.beta:g}-k{c.dwconv_kernel}" if ready.method in ("dtl", "dtl+") else ""
    drop = f"-dp{recipe.drop_path:g}" if recipe.drop_path else ""
    split = ready.reads.names[0]  # a list's name has its shots
    return f"{ready.profile.name}-{where}-{ready.method}{own}{half}-{split}-lr{recipe.lr:g}{drop}-seed{recipe.seed}"


def _within(data: Dataset) -> tuple[int, ...] | None:
    """The classes that occur, where they are only some of those that the head has (ImageNet-A and -R)."""
    present = getattr(data, "present_classes", None)
    return present if present is not None and len(present) < data.classes else None


def _scores(score: Evaluation) -> dict:
    names = ("accuracy", "balanced_accuracy", "accuracy_within")
    return {name: getattr(score, name) for name in names}


@dataclass(frozen=True)
class Setting:
    """What validation images can choose for a method on a task.

    Attributes:
        lr: learning rate; the recipe's own if None.
        drop_path: of DTL and DTL+; the recipe's own if None.
    """

    lr: float | None = None
    drop_path: float | None = None


def settings_for(
    method: str, rates: Sequence[float | None], drop_paths: Sequence[float | None] = ()
) -> tuple[Setting, ...]:
    """The grid of one method: every learning rate with every drop path; of methods that take none, the learning rates."""
    drops = (drop_paths if method in DROP_PATH_METHODS else ()) or (None,)
    return tuple(Setting(lr, drop) for lr in rates or (None,) for drop in drops)


def best_setting(
    profile: str,
    task: str,
    method: str,
    rates: Sequence[float | None] | None = None,
    seed: int | None = None,
    benchmark: Benchmark = "vtab-1k",
    shots: int | None = None,
    drop_paths: Sequence[float] = (),
) -> Setting:
    """The setting with the best accuracy on validation images among the selection cards.

    On a tie the smaller learning rate is taken, then the smaller drop path.

    Args:
        profile, task, method, benchmark, shots: whose cards.
        rates, seed: of the selection; ``LEARNING_RATES`` and the first of ``SEEDS`` if None.
        drop_paths: of the selection; none: each run had the recipe's own.

    Raises:
        FileNotFoundError: a run of the grid is not recorded.
    """
    seed = SEEDS[0] if seed is None else seed
    scores = {}
    for tried in settings_for(method, LEARNING_RATES if rates is None else rates, drop_paths):
        path = card_path(profile, benchmark, task, method, seed, tried.lr, shots=shots, drop_path=tried.drop_path)
        scores[tried] = load_card(recorded_path(path)).accuracy
    return max(scores, key=lambda tried: (scores[tried], -(tried.lr or 0), -(tried.drop_path or 0)))

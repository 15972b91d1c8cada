"""One run from a profile, a task and a method to a run card; and the grid of them that the tables rest on."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm.auto import tqdm

from ..data import TASKS
from ..paths import cache_dir
from ..training import PrefixCache, evaluate, fit
from .cards import RunCard, card_path, load_card, save_card
from .preflight import preflight
from .prepare import prepare

METHODS = ("linear", "lora", "dtl", "dtl+")
SEEDS = (0, 1, 2)
# the same values for every method, on a logarithmic scale over the range of the authors' own
LEARNING_RATES = (1e-3, 1e-2)


def run(
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
    purpose: str = "final",
    folder: str | Path | None = None,
    cache: bool = True,
    cache_root: Path | None = None,
    keep_checkpoint: bool = True,
    progress: bool = True,
    backbone_dtype: torch.dtype | None = None,
) -> tuple[RunCard, torch.nn.Module]:
    """Trains one method on one task, tests it once, and returns the card and the model. Writes no card.

    Args:
        method: a key of ``baselines.METHODS``.
        task: a task folder of the profile's VTAB-1K; with ``folder``, a name for the card.
        profile: sizes and sources; see ``get_profile``.
        seed: of initialisation and order.
        lr, epochs, batch_size: learning rate, length of the cosine and images a step; the recipe's own if None.
        train_split, test_split: list files; for a folder "train", "val", "trainval" or "test".
        purpose: see ``RunCard``.
        folder: a folder of the user's own images, one sub-folder a class, in the place of VTAB-1K.
        cache: train from the stored prefix where the method has one and that is exact.
        cache_root: where the stored prefix lies; see ``PrefixCache``.
        keep_checkpoint: write the state after each epoch and continue a run that was killed.
        progress: say beforehand what the run will be (``preflight``), and show bars.
        backbone_dtype: of the frozen weights and the tokens; the trained parameters stay fp32.

    Raises:
        CannotFit: the device's memory has no room for a step.
    """
    ready = prepare(
        method, task, profile=profile, seed=seed, lr=lr, epochs=epochs, batch_size=batch_size, train_split=train_split,
        test_split=test_split, folder=folder, backbone_dtype=backbone_dtype,
    )  # fmt: skip
    chosen, recipe, info, model = ready.profile, ready.recipe, ready.info, ready.model
    train, test = ready.train, ready.test
    kind = str(backbone_dtype or torch.float32).removeprefix("torch.")
    use_cache = cache and ready.cacheable
    check = preflight(ready, cached=use_cache, timed=progress)
    if progress:
        print(check.text())
    check.refuse()

    start, inexact = time.perf_counter(), ""
    train_data, test_data = train, test
    if use_cache:
        stored = dict(dtype=backbone_dtype or torch.float32, root=cache_root, progress=progress)
        train_data, test_data = (PrefixCache(model, d, **stored) for d in (train, test))
        inexact = train_data.inexact
    cache_seconds = time.perf_counter() - start

    half = "" if backbone_dtype is None else f"-{kind}"
    name = f"{chosen.name}-{task}-{method}{half}-{train_split}-lr{recipe.lr:g}-seed{seed}.safetensors"
    state = cache_dir() / "runs" / name
    record = fit(model, train_data, recipe, checkpoint=state if keep_checkpoint else None, progress=progress)
    score = evaluate(model, test_data, precision=record.precision, progress=progress)
    if keep_checkpoint:
        state.unlink(missing_ok=True)
    trained = sum(p.numel() for p in model.trainable_parameters())
    head = sum(p.numel() for p in model.head.parameters())
    card = RunCard(
        method=method, profile=chosen.name, benchmark="folder" if folder else "vtab-1k", task=task, purpose=purpose, train_split=train_split,
        test_split=test_split, seed=seed, lr=recipe.lr, readout=getattr(model, "readout", "mean"), recipe=asdict(recipe),
        backbone=info.name, backbone_sha256=info.sha256, image_size=list(info.image_size),
        data_digest={train_split: train.digest, test_split: test.digest}, classes=train.classes, parameters=trained,
        parameters_without_head=trained - head, accuracy=score.accuracy, balanced_accuracy=score.balanced_accuracy,
        loss=score.loss, epochs=record.history.to_dict("records"), seconds=record.seconds, cache_seconds=cache_seconds,
        peak_bytes=record.peak_bytes, cache=kind if use_cache else None, cache_inexact=inexact, device=record.device,
        threads=torch.get_num_threads(), precision=record.precision, backbone_dtype=kind,
    )  # fmt: skip
    return card, model


def best_lr(
    profile: str, task: str, method: str, rates: tuple[float, ...] | None = None, seed: int | None = None
) -> float:
    """The learning rate with the best accuracy on val200 among the selection cards; the smaller one on a tie.

    Args:
        profile, task, method: whose cards.
        rates, seed: of the selection; those of ``record`` if None.
    """
    seed = SEEDS[0] if seed is None else seed
    cards = [load_card(card_path(profile, "vtab-1k", task, method, seed, lr)) for lr in rates or LEARNING_RATES]
    return max(cards, key=lambda c: (c.accuracy, -c.lr)).lr


def record(profile: str = "laptop", methods: tuple[str, ...] = METHODS, tasks: tuple[str, ...] = TASKS) -> None:
    """Records the grid: per task and method a learning rate chosen on val200 with one seed, then three final runs.

    What is recorded already is left alone; a run that was killed continues from its last epoch. The cards are written
    as they come. The prefix caches of a task are removed when it is done.
    """
    bar = tqdm(total=len(tasks) * len(methods) * (len(LEARNING_RATES) + len(SEEDS)), desc="recording", unit="run")
    for task in tasks:
        prefixes = cache_dir() / "record" / f"{profile}-{task}"
        for method in methods:
            for lr in LEARNING_RATES:
                options = {
                    "seed": SEEDS[0],
                    "lr": lr,
                    "train_split": "train800",
                    "test_split": "val200",
                    "purpose": "select",
                }
                _record_one(
                    profile,
                    task,
                    method,
                    options,
                    card_path(profile, "vtab-1k", task, method, SEEDS[0], lr),
                    prefixes,
                    bar,
                )
            for seed in SEEDS:
                options = {"seed": seed, "lr": best_lr(profile, task, method)}
                _record_one(
                    profile, task, method, options, card_path(profile, "vtab-1k", task, method, seed), prefixes, bar
                )
        shutil.rmtree(prefixes, ignore_errors=True)
    bar.close()


def _record_one(profile: str, task: str, method: str, options: dict, path: Path, prefixes: Path, bar: tqdm) -> None:
    if path.exists():
        load_card(path)  # a damaged card is named, not passed over
    else:
        bar.set_postfix_str(f"{task} {method} lr {options['lr']:g} seed {options['seed']}")
        card, _ = run(method, task, profile=profile, cache_root=prefixes, progress=False, **options)
        save_card(card, path)
        tqdm.write(
            f"{task:18s} {method:7s} {card.purpose:6s} lr {card.lr:g} seed {card.seed}: accuracy {card.accuracy:.3f} in {card.seconds:.0f} s"
        )
    bar.update()

"""One run from a profile, a task and a method to a run card; and the grid of them that the tables rest on."""

from __future__ import annotations

import time
from dataclasses import asdict, replace

import torch
from tqdm.auto import tqdm

from ..backbones import load_backbone
from ..baselines import build
from ..data import VTAB1k, eval_transform
from ..dtl import DTLConfig
from ..paths import cache_dir, vtab_dir
from ..profiles import Profile, get_profile
from ..training import PrefixCache, Recipe, evaluate, fit, seed_everything
from .cards import RunCard, card_path, load_card, save_card

METHODS = ("linear", "lora", "dtl", "dtl+")
SEEDS = (0, 1, 2)
# the same values for every method, on a logarithmic scale
LEARNING_RATES = (1e-3, 3e-3, 1e-2)
LAPTOP_TASKS = ("mnist", "elpv", "shape_location", "shape_orientation", "object_count", "object_distance")


def profile_recipe(profile: Profile, method: str, task: str, lr: float | None, seed: int) -> Recipe:
    """The recipe of a profile: the authors' own row in ``paper``; else a short cosine with one epoch of warm-up.

    The short one starts at 1e-4 and has no cool-down: of the authors' 110 epochs 1 is spent at 1e-7 and 10 at 1e-8, which
    ten epochs cannot afford.
    """
    if profile.name == "paper" and method in ("dtl", "dtl+"):
        recipe = Recipe.authors(backbone="vit", benchmark="vtab-1k", task=task, method=method)
        return replace(recipe, seed=seed, lr=lr or recipe.lr)
    if profile.name == "paper":
        return Recipe(lr=lr or 1e-3, seed=seed)
    return Recipe(lr=lr or 1e-3, batch_size=profile.batch_size, epochs=profile.epochs, warmup_epochs=1, warmup_lr=1e-4,
                  cooldown_epochs=0, precision="fp32", seed=seed)


def run(
    method: str,
    task: str,
    *,
    profile: str | None = None,
    seed: int = 0,
    lr: float | None = None,
    train_split: str = "train800val200",
    test_split: str = "test",
    purpose: str = "final",
    cache: bool = True,
    keep_checkpoint: bool = True,
    progress: bool = True,
) -> tuple[RunCard, torch.nn.Module]:
    """Trains one method on one task, tests it once, and returns the card and the model. Writes no card.

    Args:
        method: a key of ``baselines.METHODS``.
        task: a task folder of the profile's VTAB-1K.
        profile: sizes and sources; see ``get_profile``.
        seed: of initialisation and order.
        lr: learning rate; the recipe's own if None.
        train_split, test_split: list files.
        purpose: see ``RunCard``.
        cache: train from the stored prefix where the method has one and that is exact.
        keep_checkpoint: write the state after each epoch and continue a run that was killed.
        progress: show bars.
    """
    chosen = get_profile(profile)
    recipe = profile_recipe(chosen, method, task, lr, seed)
    backbone = load_backbone(chosen.backbone, image_size=chosen.image_size)
    info = backbone.dtl_info
    transform = eval_transform(info.image_size, info.mean, info.std)
    train, test = (VTAB1k(vtab_dir(chosen.name), task, split, transform) for split in (train_split, test_split))
    seed_everything(seed)
    options = {}
    if method in ("dtl", "dtl+"):
        config = recipe.config if chosen.name == "paper" else DTLConfig.for_backbone(backbone, plus=method == "dtl+")
        recipe = replace(recipe, config=config)
        options = {"config": config, "drop_path": recipe.drop_path}
    model = build(method, backbone, train.classes, inplace=True, **options)
    model.class_names = train.class_names

    start, inexact, use_cache = time.perf_counter(), "", cache and hasattr(model, "prefix") and not recipe.drop_path
    train_data, test_data = train, test
    if use_cache:
        train_data, test_data = (PrefixCache(model, d, progress=progress) for d in (train, test))
        inexact = train_data.inexact
    cache_seconds = time.perf_counter() - start

    state = cache_dir() / "runs" / f"{chosen.name}-{task}-{method}-{train_split}-lr{recipe.lr:g}-seed{seed}.safetensors"
    record = fit(model, train_data, recipe, checkpoint=state if keep_checkpoint else None, progress=progress)
    score = evaluate(model, test_data, precision=record.precision, progress=progress)
    if keep_checkpoint:
        state.unlink(missing_ok=True)
    trained = sum(p.numel() for p in model.trainable_parameters())
    head = sum(p.numel() for p in model.head.parameters())
    card = RunCard(
        method=method, profile=chosen.name, benchmark="vtab-1k", task=task, purpose=purpose, train_split=train_split,
        test_split=test_split, seed=seed, lr=recipe.lr, readout=getattr(model, "readout", "mean"), recipe=asdict(recipe),
        backbone=info.name, backbone_sha256=info.sha256, image_size=list(info.image_size),
        data_digest={train_split: train.digest, test_split: test.digest}, classes=train.classes, parameters=trained,
        parameters_without_head=trained - head, accuracy=score.accuracy, balanced_accuracy=score.balanced_accuracy,
        loss=score.loss, epochs=record.history.to_dict("records"), seconds=record.seconds, cache_seconds=cache_seconds,
        peak_bytes=record.peak_bytes, cache="float32" if use_cache else None, cache_inexact=inexact, device=record.device,
        threads=torch.get_num_threads(), precision=record.precision,
    )  # fmt: skip
    return card, model


def best_lr(profile: str, task: str, method: str) -> float:
    """The learning rate with the best accuracy on val200 among the selection cards; the smaller one on a tie."""
    cards = [load_card(card_path(profile, "vtab-1k", task, method, SEEDS[0], lr)) for lr in LEARNING_RATES]
    return max(cards, key=lambda c: (c.accuracy, -c.lr)).lr


def record(profile: str = "laptop", methods: tuple[str, ...] = METHODS, tasks: tuple[str, ...] = LAPTOP_TASKS) -> None:
    """Records the grid: per task and method a learning rate chosen on val200 with one seed, then three final runs.

    What is recorded already is left alone; a run that was killed continues from its last epoch. The cards are written
    as they come. The prefix caches of a task are removed when it is done.
    """
    jobs = [(task, method, "select", lr) for task in tasks for method in methods for lr in LEARNING_RATES]
    jobs += [(task, method, "final", seed) for task in tasks for method in methods for seed in SEEDS]
    jobs.sort(key=lambda j: (tasks.index(j[0]), methods.index(j[1]), j[2] == "final"))
    bar = tqdm(jobs, desc="recording", unit="run")
    for task, method, purpose, value in bar:
        final = purpose == "final"
        path = card_path(profile, "vtab-1k", task, method, value if final else SEEDS[0], None if final else value)
        if path.exists():
            load_card(path)
            continue
        bar.set_postfix_str(f"{task} {method} {purpose} {value}")
        if final:
            card, _ = run(method, task, profile=profile, seed=value, lr=best_lr(profile, task, method), progress=False)
        else:
            card, _ = run(method, task, profile=profile, seed=SEEDS[0], lr=value, train_split="train800", test_split="val200",
                          purpose="select", progress=False)
        save_card(card, path)
        tqdm.write(f"{task:18s} {method:7s} {purpose:6s} lr {card.lr:g} seed {card.seed}: accuracy {card.accuracy:.3f} in {card.seconds:.0f} s")

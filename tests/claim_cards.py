"""Run cards of a made-up outcome, as this code would write them: what the claims are tested on."""

from __future__ import annotations

from dataclasses import asdict, fields, replace

from dtl_book.claims import load_claims
from dtl_book.claims.trust import lists_of
from dtl_book.experiments import SEEDS, RunCard, card_path, save_card
from dtl_book.experiments.code import code_of
from dtl_book.experiments.profiles import get_profile
from dtl_book.experiments.recipes import profile_recipe
from dtl_book.experiments.run_data import takes_views
from dtl_book.tables.benchmarks import groups_of

CLAIMS = {c.id: c for c in load_claims()}


def part(claim, about):
    return next(p for p in CLAIMS[claim].parts if about in p.about)


REACHES, BETTER, BEST = part("C4", "DTL reaches"), part("C6", "more accurate"), part("C4", "other methods")


def make_card(method, task, seed, accuracy, profile="paper", benchmark="vtab-1k", shots=None, **other):
    """A card of a final run as this code would write it."""
    chosen = get_profile(profile)
    recipe = profile_recipe(chosen, method, task, None, seed, benchmark=benchmark, shots=shots)
    if profile != "paper":  # there the config comes with the backbone
        recipe = replace(recipe, config=replace(recipe.config, dwconv_kernel=3 if method == "dtl+" else 0))
    lists = lists_of(benchmark, seed, shots)
    facts = dict.fromkeys(f.name for f in fields(RunCard)) | dict(
        method=method, profile=profile, benchmark=benchmark, task=task, purpose="final", seed=seed, lr=recipe.lr,
        recipe=asdict(recipe), backbone=chosen.backbone, backbone_sha256="ab", image_size=[chosen.image_size] * 2,
        train_split=lists[0], test_split=lists[1], accuracy=accuracy, loss=0.5, protocol=chosen.protocol, shots=shots,
        backbone_dtype="float32", targets={}, switches={}, code=code_of(method, takes_views(benchmark, task, recipe.augmentation)),
        created="2026-01-02T03:04:05Z",
        precision="fp16", parameters_without_head=1,
    )  # fmt: skip
    return RunCard(**{**facts, **other})


def write(root, card):
    shots = card.shots if card.benchmark == "few-shot" else None  # a domain's card does not name them
    return save_card(
        card, card_path(card.profile, card.benchmark, card.task, card.method, card.seed, root=root, shots=shots)
    )


def write_vtab(root, methods, profile="paper", levels=(0.768, 0.778)):
    tasks = [t for group in groups_of(profile).values() for t in group]
    for method, level in zip(methods, levels, strict=True):
        for task in tasks:
            for seed in SEEDS:
                write(root, make_card(method, task, seed, level + 0.001 * (seed - 1), profile))
    return tasks

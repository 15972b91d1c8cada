"""Run cards of a made-up outcome, as this code would write them: what the claims are tested on."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from itertools import islice

from dtl_book.claims.claim import read_claim
from dtl_book.claims.trust import lists_of
from dtl_book.experiments import SEEDS, Run, RunCard, card_path, save_card
from dtl_book.experiments.code_digests import code_of
from dtl_book.experiments.profiles import get_profile
from dtl_book.experiments.recipes import recipe_of, takes_views
from dtl_book.tables.benchmarks import groups_of

FIGURE_RIVALS = ("full", "bitfit", "vpt-deep", "lst", "adaptformer", "lora", "noah", "fact", "ssf")
COMPARED = ("linear", "bitfit", "adaptformer", "lora", "dtl", "dtl+")


def find(claim, about, root=None, **tolerances):
    """What the function of a claim finds for the part with these words."""
    (k,) = (k for k, part in enumerate(read_claim(claim).parts) if about in part.about)
    return next(islice(claim(root, **tolerances), k, None))


def make_card(method, task, seed, accuracy, profile="paper", benchmark="vtab-1k", shots=None, **other):
    """A card of a final run as this code would write it."""
    chosen = get_profile(profile)
    drawn = shots if benchmark == "few-shot" else None  # a domain run has 16, and does not ask for them
    run = Run(task, method, benchmark=benchmark, profile=profile, seed=seed, shots=drawn)
    recipe = recipe_of(run)
    if profile != "paper":  # there the config comes with the backbone
        recipe = replace(recipe, config=replace(recipe.config, dwconv_kernel=3 if method == "dtl+" else 0))
    lists = lists_of(benchmark, seed, shots)
    facts = dict.fromkeys(f.name for f in fields(RunCard)) | dict(
        method=method, profile=profile, benchmark=benchmark, task=task, purpose="final", seed=seed, lr=recipe.lr,
        recipe=asdict(recipe), backbone=chosen.backbone, backbone_sha256="ab", image_size=[chosen.image_size] * 2,
        train_split=lists[0], test_split=lists[1], accuracy=accuracy, loss=0.5, protocol=chosen.protocol, shots=shots,
        backbone_dtype="float32", targets={}, switches={}, code=code_of(method, takes_views(run)),
        created="2026-01-02T03:04:05Z",
        precision="fp16", parameters_without_head=1,
    )  # fmt: skip
    return RunCard(**{**facts, **other})


def write(root, card):
    shots = card.shots if card.benchmark == "few-shot" else None  # a domain's card does not name them
    where = card_path(card.profile, card.benchmark, card.task, card.method, card.seed, root=root, shots=shots)
    return save_card(card, where)


def write_vtab(root, methods, profile="paper", levels=(0.768, 0.778)):
    tasks = [t for group in groups_of(profile).values() for t in group]
    for method, level in zip(methods, levels, strict=True):
        for task in tasks:
            for seed in SEEDS:
                write(root, make_card(method, task, seed, level + 0.001 * (seed - 1), profile))
    return tasks

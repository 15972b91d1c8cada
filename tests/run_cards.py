"""Run cards of a made-up outcome: any card for tables and pictures, and cards as this code would write them for claims."""

from dataclasses import asdict, replace
from itertools import islice

from dtl_book.claims.claim import read_claim
from dtl_book.claims.trust import lists_of
from dtl_book.experiments import SEEDS, Run, RunCard, card_path, save_card
from dtl_book.experiments.code_digests import code_of
from dtl_book.experiments.profiles import get_profile
from dtl_book.experiments.recipes import recipe_of, takes_views
from dtl_book.tables.benchmarks import groups_of
from dtl_core.dtl import DTLConfig

CONFIG = asdict(DTLConfig())
RECIPE = {"batch_size": 32, "drop_path": 0.0, "augmentation": "none", "epochs": 10, "config": CONFIG}
CARD = RunCard(
    method="dtl", profile="laptop", benchmark="vtab-1k", task="mnist", purpose="final", train_split="train800val200",
    test_split="test", seed=0, lr=0.01, readout="mean", recipe=RECIPE, backbone="b", backbone_sha256="0", image_size=[98, 98],
    data_digest={}, classes=22, parameters=30, parameters_without_head=20, accuracy=0.9, balanced_accuracy=0.9, loss=1.0,
    epochs=[{}] * 5, seconds=60.0, cache_seconds=0.0, peak_bytes=None, cache=None, cache_inexact="", device="cpu", threads=1,
    precision="fp32",
)  # fmt: skip


def put(root, variant="", drop_path=None, **changes):
    """Write a card that differs from ``CARD`` in these fields; a variant's name goes into the file's."""
    card = replace(CARD, **changes)
    lr = card.lr if card.purpose == "select" else None
    where = (card.profile, card.benchmark, card.task, f"{card.method}{variant}", card.seed)
    return save_card(card, card_path(*where, lr, root=root, shots=card.shots, drop_path=drop_path))


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
    train, test = lists_of(benchmark, seed, shots)
    facts = dict(
        method=method, profile=profile, benchmark=benchmark, task=task, seed=seed, lr=recipe.lr, recipe=asdict(recipe),
        backbone=chosen.backbone, backbone_sha256="ab", image_size=[chosen.image_size] * 2, train_split=train,
        test_split=test, accuracy=accuracy, protocol=chosen.protocol, shots=shots, backbone_dtype="float32",
        code=code_of(method, takes_views(run)), created="2026-01-02T03:04:05Z", precision="fp16",
    )  # fmt: skip
    return replace(CARD, **{**facts, **other})


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

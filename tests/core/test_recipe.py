"""The authors' recipe: their 136 rows, the learning rate of each epoch, and what is refused."""

import csv
import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn
from toys import toy_model

from dtl_core.paths import RESOURCES
from dtl_core.training import Recipe, authors_table

ROWS = list(csv.DictReader((RESOURCES / "recipes.csv").read_text().splitlines()))
CALL = dict(backbone="vit", benchmark="vtab-1k", task="caltech101", method="dtl")


def authors(row):
    return Recipe.authors(
        backbone=row["backbone"].split("_")[0],
        benchmark=row["benchmark"],
        task=row["dataset"],
        method=row["method"].lower(),
        shot=int(float(row["shot"])) if row["shot"] else None,
    )


def test_the_table_has_all_136_rows():
    assert len(ROWS) == len(authors_table()) == 136
    assert Counter((r["benchmark"], r["backbone"][:3]) for r in ROWS) == {
        ("vtab-1k", "vit"): 38,
        ("vtab-1k", "swi"): 38,
        ("fgfs", "vit"): 50,
        ("domain_generalization", "vit"): 10,
    }
    kernels = [int(r["fusion_size"]) for r in ROWS if r["backbone"][:3] == "vit" and r["benchmark"] == "vtab-1k"]
    # the mean size of DTL+ over the 19 tasks, as it is known from elsewhere: 12 maps, and one kernel of each task
    assert round(12 * 2 * 2 * 768 + 768 * sum(k * k for k in kernels) / 19) == 50_728


@pytest.mark.parametrize(
    "row", ROWS, ids=lambda r: "-".join(r[k][:12] for k in ("backbone", "dataset", "shot", "method"))
)
def test_each_row_is_found_and_comes_back(row):
    recipe, config = authors(row), authors(row).config
    assert recipe.lr == float(row["lr"])
    assert recipe.drop_path == float(row["drop_path"])
    assert config.dwconv_kernel == int(row["fusion_size"])
    assert (config.dwconv_kernel > 0) == (row["method"] == "DTL+")
    assert config.rank == int(row["rank"])
    assert config.beta == float(row["beta"])
    assert config.tap_from == int(row["csn_blocks"].split("-")[0])
    assert config.inject_from == int(row["inject_blocks"].split("-")[0])
    assert recipe.weight_decay == float(row["weight_decay"])
    assert (recipe.epochs, recipe.warmup_epochs, recipe.batch_size) == (100, 10, 32)
    assert (recipe.augmentation == "none") == (row["benchmark"] == "vtab-1k")
    assert recipe.total_epochs == 110 and recipe.seed == 42 and recipe.precision == "auto"


def plain_rate(epoch, lr):
    """The schedule as the paper's notes tell it, without any library."""
    if epoch < 10:
        return 1e-7 + (lr - 1e-7) * epoch / 10
    if epoch >= 100:
        return 1e-8
    return 1e-8 + 0.5 * (lr - 1e-8) * (1 + math.cos(math.pi * epoch / 100))


@pytest.mark.parametrize("lr", sorted({float(r["lr"]) for r in ROWS}))
def test_learning_rate_of_each_epoch(lr):
    rates = Recipe(lr=lr).learning_rates()
    assert len(rates) == 110
    assert rates == pytest.approx([plain_rate(t, lr) for t in range(110)], rel=1e-12)
    assert rates[0] == 1e-7
    assert rates.index(max(rates)) == 10 and max(rates) == pytest.approx(0.9755 * lr, rel=1e-4)
    assert rates[100:] == [1e-8] * 10 and rates[99] > 1e-8


def test_a_rate_below_the_warm_up_or_the_floor_is_never_exceeded():
    assert max(Recipe(lr=1e-9).learning_rates()) <= 1e-9


@pytest.mark.parametrize(
    "wrong, named",
    [
        ({"backbone": "resnet"}, ["resnet", "'vit', 'swin'"]),
        ({"benchmark": "imagenet"}, ["imagenet", "'vtab-1k'", "'fgfs'", "'domain_generalization'"]),
        ({"backbone": "swin", "benchmark": "fgfs"}, ["fgfs", "'vtab-1k'"]),
        ({"method": "lora"}, ["lora", "'dtl'", "'dtl+'"]),
        ({"task": "mnist"}, ["mnist", "'caltech101'", "'svhn'"]),
        ({"shot": 1}, ["shot=1", "choose one of None"]),
        ({"benchmark": "fgfs", "task": "fgvc-aircraft-FS"}, ["shot=None", "choose one of 1, 2, 4, 8, 16"]),
        ({"benchmark": "fgfs", "task": "fgvc-aircraft-FS", "shot": 3}, ["shot=3", "choose one of 1, 2, 4, 8, 16"]),
    ],
)
def test_unknown_names_name_the_choices(wrong, named):
    with pytest.raises(ValueError, match=named[0]) as error:
        Recipe.authors(**(CALL | wrong))
    for word in named:
        assert word in str(error.value)


def test_the_choices_that_a_message_names_are_accepted():
    for backbone in ("vit", "swin"):
        for method in ("dtl", "dtl+", "DTL+"):
            Recipe.authors(**(CALL | {"backbone": backbone, "method": method}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": 0.0},
        {"lr": -1e-3},
        {"lr": math.nan},
        {"lr": math.inf},
        {"weight_decay": -0.1},
        {"weight_decay": math.nan},
        {"batch_size": 0},
        {"epochs": 0},
        {"warmup_epochs": -1},
        {"cooldown_epochs": -1},
        {"warmup_lr": -1e-7},
        {"min_lr": math.nan},
        {"drop_path": 1.0},
        {"drop_path": -0.1},
        {"precision": "fp8"},
    ],
    ids=str,
)
def test_wrong_values_are_refused_by_name(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        Recipe(**wrong)
    with pytest.raises(ValueError, match=name):
        replace(Recipe(), **wrong)


@pytest.mark.parametrize("method", ["linear", "full", "lora", "dtl", "dtl+"])
def test_biases_and_norms_have_no_weight_decay_and_the_rest_has(method):
    model = toy_model(method)
    optimizer = Recipe(weight_decay=0.05).optimizer(model)
    assert isinstance(optimizer, torch.optim.AdamW)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert decay.keys() == {id(p) for p in named.values()}, "the optimizer holds what is trained, and nothing else"
    for name, p in named.items():
        assert decay[id(p)] == (0.0 if name.endswith("bias") or p.ndim == 1 else 0.05), name
    assert decay[id(model.head.bias)] == 0 and decay[id(model.head.weight)] == 0.05


def test_the_optimizer_starts_at_the_rate_of_epoch_0():
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1e-3)
    Recipe(lr=1e-3).scheduler(optimizer)
    assert optimizer.param_groups[0]["lr"] == 1e-7

"""Few-shot and domain runs: what they read, on which recipe, and what their cards say. Official layouts by stand-ins."""

import json
from dataclasses import asdict, replace

import pytest
from asked import prepare, run
from official import domains, few_shot

from dtl_book.experiments import Run, execution, load_card, save_card
from dtl_book.experiments.profiles import PROFILES
from dtl_book.experiments.recipes import at_least, recipe_of
from dtl_book.paths import domain_dir, few_shot_dir
from dtl_book.standins import build_suite
from dtl_core.data.augment import AUTHORS, LETTERS, CropTransform
from dtl_core.training import authors_table

QUIET = dict(profile="smoke", progress=False, keep_checkpoint=False)


@pytest.fixture(scope="module", autouse=True)
def built(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("suites")
        patch.setenv("DTL_DATA", str(root / "data"))
        patch.setenv("DTL_CACHE", str(root / "cache"))
        build_suite("smoke", tasks=("typefaces", "digits"))
        yield


def test_a_few_shot_run_reads_its_shots_and_its_draw(tmp_path):
    cards = {}
    for shots, seed in ((1, 0), (2, 0), (2, 1)):
        card, model = run("dtl", "typefaces", benchmark="few-shot", shots=shots, seed=seed, lr=1e-2, **QUIET)
        assert (card.benchmark, card.task, card.shots, card.protocol) == ("few-shot", "typefaces", shots, "clean")
        assert card.train_split == f"train_meta.list.num_shot_{shots}.seed_{seed}"
        assert card.kept_epoch == len(card.epochs) and card.cache == "float32" and card.targets == {}
        assert 0 <= card.accuracy <= 1 and model.class_names is not None
        path = Run("typefaces", "dtl", benchmark="few-shot", profile="smoke", shots=shots, seed=seed).card(tmp_path)
        assert path.name == f"dtl-{shots}shot-seed{seed}.json"
        assert asdict(load_card(save_card(card, path))) == json.loads(json.dumps(asdict(card)))
        cards[shots, seed] = card
    train = {key: card.data_digest[card.train_split] for key, card in cards.items()}
    assert len(set(train.values())) == 3 and len({c.data_digest["test_meta.list"] for c in cards.values()}) == 1


def test_a_selection_run_is_scored_on_validation_images():
    card, _ = run("linear", "typefaces", benchmark="few-shot", shots=2, purpose="select", lr=1e-2, **QUIET)
    assert (card.purpose, card.test_split) == ("select", "val_meta.list")
    card, _ = run("linear", "mnist", benchmark="domain", purpose="select", lr=1e-2, **QUIET)
    assert card.test_split == "unofficial_val_list_4_shot16seed0" and card.targets == {}


def test_a_run_on_a_target_learns_from_the_source():
    with pytest.raises(ValueError, match="choose vtab-1k, few-shot or domain, or give --data"):
        prepare("linear", "mnist", profile="smoke", benchmark="imagenet")
    ready = prepare("linear", "sketch", profile="smoke", benchmark="domain")
    assert (ready.data.train.task, ready.data.test.task, ready.data.targets) == ("mnist", "sketch", {})


def test_augmentation_keeps_letters_and_is_named_on_the_card():
    card, _ = run("dtl", "typefaces", benchmark="few-shot", shots=2, lr=1e-2, augmentation=AUTHORS, **QUIET)
    assert card.recipe["augmentation"] == LETTERS, "letters are not flipped"
    assert card.cache is None, "what a random view gives cannot be stored"
    plain, _ = run("dtl", "typefaces", benchmark="few-shot", shots=2, lr=1e-2, **QUIET)
    assert plain.recipe["augmentation"] == "none" and plain.cache == "float32"


def test_a_large_test_set_is_not_stored_and_scores_the_same(tmp_path, monkeypatch):
    options = dict(benchmark="few-shot", shots=2, lr=1e-2, **QUIET)
    stored, _ = run("dtl", "typefaces", prefixes=tmp_path / "both", **options)
    monkeypatch.setattr(execution, "STORED_TEST_BYTES", 1000)
    opened, _ = run("dtl", "typefaces", prefixes=tmp_path / "one", **options)
    assert [len(list((tmp_path / n).glob("*.bin"))) for n in ("both", "one")] == [2, 1]
    assert (opened.accuracy, opened.loss) == pytest.approx((stored.accuracy, stored.loss), rel=1e-6)
    assert opened.cache == "float32", "the training images are"


def test_a_stored_prefix_beside_autocast_is_named_on_the_card(monkeypatch):
    monkeypatch.setattr(execution, "recipe_of", lambda *a, **k: replace(recipe_of(*a, **k), precision="bf16"))
    options = dict(benchmark="few-shot", shots=2, lr=1e-2, epochs=1, **QUIET)
    stored, opened = (run("dtl", "typefaces", cache=cache, **options)[0] for cache in (True, False))
    assert stored.cache_inexact == "the prefix is stored in float32; from images it would run in bf16 autocast"
    assert opened.cache_inexact == "" and opened.precision == stored.precision == "bf16"


def test_the_authors_protocol_keeps_the_best_epoch_on_the_validation_list(monkeypatch):
    options = dict(benchmark="few-shot", shots=2, lr=1e-2, epochs=12)
    lists, real = [], execution.evaluate

    def noted(model, data, **kwargs):
        lists.append(getattr(data, "data", data).list_path.name)
        return real(model, data, **kwargs)

    monkeypatch.setattr(execution, "evaluate", noted)
    card, _ = run("dtl", "typefaces", protocol="authors", **options, **QUIET)
    assert lists == ["val_meta.list"] * 2 + ["test_meta.list"], "the test list is seen once, after the choice"
    scored = {row["epoch"]: row["score"] for row in card.epochs if row["score"] is not None}
    assert list(scored) == [10, 12] and card.protocol == "authors"
    assert card.kept_epoch == max(scored, key=lambda e: (scored[e], -e))
    clean, _ = run("dtl", "typefaces", protocol="clean", **options, **QUIET)
    assert clean.kept_epoch == 12 and "score" not in clean.epochs[0]


def test_small_sets_get_more_epochs():
    recipe = recipe_of(Run("typefaces", "lora", profile="laptop", benchmark="few-shot", shots=1, lr=1e-3))
    for images, epochs in ((22, 200), (44, 200), (88, 100), (176, 40), (352, 19), (1000, 10)):
        got = at_least(recipe, 200, images)
        assert (got.epochs, got.warmup_epochs, got.cooldown_epochs) == (epochs, max(1, round(epochs / 10)), 0)


@pytest.mark.parametrize("method", ["linear", "lora", "dtl", "dtl+"])
@pytest.mark.parametrize(
    "benchmark, task, shots, lr",
    [
        ("few-shot", "oxford-pets", 4, None),
        ("domain", "imagenet-sketch", None, 5e-5),
        ("domain", "imagenet-r", None, 3e-5),
    ],
)
def test_the_recipes_of_the_paper_profile(method, benchmark, task, shots, lr):
    run = Run(task, method, profile="paper", benchmark=benchmark, shots=shots)
    recipe = recipe_of(run)
    assert recipe.augmentation == AUTHORS and recipe.total_epochs == 110
    if benchmark == "domain":
        assert recipe.lr == pytest.approx(lr if method.startswith("dtl") else 1e-3)
    if method.startswith("dtl"):
        assert recipe.config.dwconv_kernel == (3 if method == "dtl+" else 0)
        grid = recipe_of(replace(run, protocol="clean", lr=3e-3))
        assert grid.lr == 3e-3 and grid.config.dwconv_kernel == recipe.config.dwconv_kernel and grid.drop_path == 0


@pytest.fixture(scope="module")
def official(built):
    """Folders of the official shape where the paper profile looks for them: layout tested, official archive not seen."""
    few_shot(few_shot_dir("paper"))
    domains(domain_dir("paper"))


@pytest.fixture
def paper(official, monkeypatch):
    """The paper profile, its recipes and its code, on a toy backbone and for a few epochs."""
    toy = replace(PROFILES["paper"], backbone="toy/vit", image_size=32)
    monkeypatch.setitem(PROFILES, "paper", toy)
    return dict(profile="paper", progress=False, keep_checkpoint=False, epochs=1)


def test_few_shot_end_to_end_on_the_official_shape(paper):
    card, model = run("dtl+", "oxford_pets", benchmark="few-shot", shots=1, seed=2, **paper)
    assert (card.protocol, card.classes, card.shots) == ("authors", 37, 1)
    row = authors_table().query(
        "benchmark == 'fgfs' and dataset == 'oxford-pets-FS' and shot == 1 and method == 'DTL+'"
    )
    assert card.lr == row.lr.item() and card.recipe["augmentation"] == AUTHORS and card.cache is None
    assert card.recipe["config"]["dwconv_kernel"] == row.fusion_size.item() == 3
    assert [r["epoch"] for r in card.epochs if r["score"] is not None] == [10, 11], "scored on val_meta.list"
    ready = prepare("dtl+", "oxford_pets", benchmark="few-shot", shots=1, seed=2, profile="paper")
    assert type(ready.data.test.transform) is CropTransform and ready.model.view == "crop"
    assert len(ready.data.train) == 6, "three classes, every image twice"
    assert prepare("dtl", "typefaces", profile="smoke", benchmark="few-shot").model.view == "resize"


def test_domains_end_to_end_on_the_official_shape(paper):
    card, _ = run("dtl", "imagenet", benchmark="domain", **paper)
    assert (card.shots, card.train_split) == (16, "train_meta.list.num_shot_16.seed_0")
    assert list(card.targets) == ["imagenet-adversarial", "imagenet-rendition", "imagenet-sketch", "imagenetv2"]
    assert card.classes == 1000 and card.lr == pytest.approx(1e-4)
    for score in card.targets.values():
        assert score["accuracy"] <= score["accuracy_within"] <= 1, "over 1,000 classes, and over those that occur"
    target, _ = run("dtl", "imagenet-r", benchmark="domain", **paper)
    assert target.lr == pytest.approx(3e-5), "a learning rate for each target, as the authors have"
    assert target.targets == {} and target.accuracy_within is not None

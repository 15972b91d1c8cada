"""Run cards: whole files, one table, and the learning rate that they choose."""

import json
import math
from dataclasses import asdict, fields

import pytest

from dtl_book.experiments import (
    Run,
    RunCard,
    Setting,
    best_setting,
    card_path,
    load_card,
    load_cards,
    save_card,
    settings,
)
from dtl_core.files import DamagedFile


def card(**facts):
    values = dict(
        method="dtl", profile="smoke", benchmark="vtab-1k", task="mnist", purpose="final", train_split="train800val200",
        test_split="test", seed=0, lr=1e-3, readout="mean", recipe={"lr": 1e-3, "config": {"rank": 2}}, backbone="toy/vit",
        backbone_sha256="ab", image_size=[32, 32], data_digest={"test": "cd"}, classes=10, parameters=100,
        parameters_without_head=60, accuracy=0.1 + 0.2, balanced_accuracy=0.25, loss=1.5,
        epochs=[{"epoch": 1, "loss": 2 / 3}], seconds=1.0, cache_seconds=0.5, peak_bytes=None, cache="float32",
        cache_inexact="", device="cpu", threads=1, precision="fp32",
    )  # fmt: skip
    return RunCard(**(values | facts))


def test_round_trip(tmp_path):
    saved = card()
    path = save_card(saved, card_path("smoke", "vtab-1k", "mnist", "dtl", 0, root=tmp_path))
    assert path == tmp_path / "smoke" / "vtab-1k" / "mnist" / "dtl-seed0.json"
    assert load_card(path) == saved, "every float comes back with its bits"
    assert set(saved.versions) == {"torch", "torchvision", "timm", "numpy"}
    assert json.loads(path.read_text()).keys() == {f.name for f in fields(RunCard)}
    chosen = card_path("smoke", "vtab-1k", "mnist", "dtl+", 0, lr=1e-3, root=tmp_path)
    assert chosen.name == "select-dtl+-lr0.001-seed0.json"


def strict(text):
    """JSON as its standard has it: without the words Infinity and NaN, which Python reads and writes."""

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_numbers_that_are_not_finite_are_strict_json(tmp_path):
    relu = {"lr": 1e-3, "config": {"rank": 2, "beta": math.inf}}
    saved = card(recipe=relu, task="nan", loss=math.inf, epochs=[{"epoch": 1, "loss": -math.inf, "accuracy": 0.5}])
    path = save_card(saved, tmp_path / "dtl-betainf-seed0.json")
    written = strict(path.read_text())
    assert written["recipe"]["config"]["beta"] == written["loss"] == "inf"
    assert written["task"] == "nan" and written["epochs"] == [{"epoch": 1, "loss": "-inf", "accuracy": 0.5}]
    assert load_card(path) == saved, "infinity comes back as a number, a text stays one"
    lost = load_card(save_card(card(loss=math.nan), tmp_path / "diverged.json"))
    assert strict((tmp_path / "diverged.json").read_text())["loss"] == "nan" and math.isnan(lost.loss)


def test_older_cards_with_infinity_are_read(tmp_path):
    relu = card(recipe={"config": {"beta": math.inf}})
    path = tmp_path / "dtl-betainf-seed0.json"
    path.write_text(json.dumps(asdict(relu)))
    assert '"beta": Infinity' in path.read_text()
    assert load_card(path) == relu


def test_a_card_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "dtl-seed0.json"
    save_card(card(seed=0), path)
    before = path.read_bytes()

    def stops(*_names):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dtl_core.files.os.replace", stops)
        with pytest.raises(KeyboardInterrupt):
            save_card(card(seed=1), path)
    with pytest.raises(TypeError):
        save_card(card(recipe={"lr": object()}), path)  # what JSON cannot hold
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("damage", ["cut", "empty", "a field less", "a field more", "a list", "bytes"])
def test_a_damaged_card_is_named(damage, tmp_path):
    path = save_card(card(), card_path("smoke", "vtab-1k", "mnist", "dtl", 0, root=tmp_path))
    text = path.read_text()
    values, short = json.loads(text), json.loads(text)
    del short["accuracy"]
    path.write_bytes(
        {
            "cut": text[: len(text) // 2].encode(),
            "empty": b"",
            "a field less": json.dumps(short).encode(),
            "a field more": json.dumps(values | {"top5": 1.0}).encode(),
            "a list": b"[1, 2]",
            "bytes": b"\xff\xfe\x00",
        }[damage]
    )
    for read in (lambda: load_card(path), lambda: load_cards("smoke", root=tmp_path)):
        with pytest.raises(DamagedFile, match="is no whole run card.*delete it and record the run again") as error:
            read()
        assert str(path) in str(error.value)


def test_a_card_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="dtl-seed0.json.*record the run first"):
        load_card(tmp_path / "dtl-seed0.json")


def test_the_table_has_a_row_per_run_of_one_purpose(tmp_path, monkeypatch):
    monkeypatch.setenv("DTL_RESULTS", str(tmp_path))
    assert load_cards("smoke").empty
    for task, seed, accuracy in (("mnist", 1, 0.5), ("mnist", 0, 0.75), ("elpv", 0, 0.25)):
        save_card(card(task=task, seed=seed, accuracy=accuracy), card_path("smoke", "vtab-1k", task, "dtl", seed))
    save_card(card(purpose="select"), card_path("smoke", "vtab-1k", "mnist", "dtl", 0, lr=1e-3))
    save_card(card(profile="laptop"), card_path("laptop", "vtab-1k", "mnist", "dtl", 0))
    table = load_cards("smoke")
    assert list(table.columns) == [f.name for f in fields(RunCard)]
    assert table[["task", "seed", "accuracy"]].values.tolist() == [
        ["elpv", 0, 0.25],
        ["mnist", 0, 0.75],
        ["mnist", 1, 0.5],
    ]
    assert set(table["profile"]) == {"smoke"} and set(table["purpose"]) == {"final"}
    assert load_cards("smoke", purpose="select")["lr"].tolist() == [1e-3]
    assert len(load_cards("laptop")) == 1


@pytest.mark.parametrize(
    "accuracies, best",
    [((0.5, 0.7, 0.6), 3e-3), ((0.7, 0.7, 0.6), 1e-3), ((0.6, 0.7, 0.7), 3e-3), ((0.4, 0.4, 0.4), 1e-3)],
)
def test_the_best_rate_is_by_accuracy_and_the_smaller_on_a_tie(accuracies, best, tmp_path, monkeypatch):
    monkeypatch.setenv("DTL_RESULTS", str(tmp_path))
    for order in (1, -1):  # neither the order of the rates nor of the files decides
        monkeypatch.setattr(settings, "LEARNING_RATES", (1e-3, 3e-3, 1e-2)[::order])
        for lr, accuracy in zip((1e-3, 3e-3, 1e-2), accuracies, strict=True):
            # a lower loss or a better balance is no reason
            chosen = card(lr=lr, accuracy=accuracy, purpose="select", balanced_accuracy=lr, loss=1 / lr)
            save_card(chosen, card_path("smoke", "vtab-1k", "mnist", "dtl", 0, lr=lr))
        assert best_setting(Run("mnist", "dtl", profile="smoke")) == Setting(best)


def test_selection_cards_are_named_after_what_was_tried(tmp_path):
    where = ("smoke", "vtab-1k", "mnist", "dtl", 0)
    named = {
        "dtl-seed0": {},
        "select-dtl-lr0.001-seed0": {"lr": 1e-3},
        "select-dtl-lr0.001-dp0-seed0": {"lr": 1e-3, "drop_path": 0.0},
        "select-dtl-dp0.1-seed0": {"drop_path": 0.1},
        "select-dtl-4shot-lr0.01-dp0.2-seed0": {"lr": 1e-2, "drop_path": 0.2, "shots": 4},
    }
    assert {card_path(*where, **asked).stem: asked for asked in named.values()} == named


def test_the_best_setting_is_a_pair_and_the_smaller_one_on_a_tie(tmp_path, monkeypatch):
    monkeypatch.setenv("DTL_RESULTS", str(tmp_path))
    grid = {(1e-3, 0.0): 0.5, (1e-3, 0.2): 0.7, (1e-2, 0.0): 0.6, (1e-2, 0.2): 0.7}

    def put():
        for (lr, drop), accuracy in grid.items():
            tried = card(lr=lr, accuracy=accuracy, purpose="select")
            save_card(tried, card_path("smoke", "vtab-1k", "mnist", "dtl", 0, lr=lr, drop_path=drop))

    def best(method="dtl"):
        return {best_setting(Run("mnist", method, profile="smoke"), r, d) for r in rates for d in drops}

    rates, drops = [(1e-3, 1e-2), (1e-2, 1e-3)], [(0.0, 0.2), (0.2, 0.0)]
    put()
    assert best() == {Setting(1e-3, 0.2)}, "of two equal ones the smaller learning rate"
    grid[1e-3, 0.0] = 0.7
    put()
    assert best() == {Setting(1e-3, 0.0)}, "then the smaller drop path"
    with pytest.raises(FileNotFoundError, match="select-dtl-lr0.001-seed0"):
        best_setting(
            Run("mnist", "dtl", profile="smoke"), (1e-3, 1e-2)
        )  # those runs had a drop path of their own choice
    with pytest.raises(FileNotFoundError, match="select-linear-lr0.00?1-seed0"):
        best("linear")  # it takes no drop path, so its cards have none

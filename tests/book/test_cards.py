"""Run cards: whole files, one table, and the learning rate that they choose."""

import json
import math
from dataclasses import asdict, fields, replace
from functools import partial

import pytest
from run_cards import CARD

from dtl_book.experiments import Run, RunCard, Setting, best_setting, card_path, load_card, load_cards, save_card
from dtl_core.files import DamagedFile


def card(**facts):
    return replace(CARD, **({"profile": "smoke", "accuracy": 0.1 + 0.2, "loss": 2 / 3} | facts))


def test_round_trip(tmp_path):
    saved = card()
    path = save_card(saved, card_path("smoke", "vtab-1k", "mnist", "dtl", 0, root=tmp_path))
    assert path == tmp_path / "smoke" / "vtab-1k" / "mnist" / "dtl-seed0.json"
    assert load_card(path) == saved, "every float comes back with its bits"
    assert set(saved.versions) == {"torch", "torchvision", "timm", "numpy"}
    assert json.loads(path.read_text()).keys() == {f.name for f in fields(RunCard)}


def test_numbers_that_are_not_finite_are_strict_json(tmp_path):
    """JSON as its standard has it: without the words Infinity and NaN, which Python reads and writes."""
    strict = partial(json.loads, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    relu = {"lr": 1e-3, "config": {"rank": 2, "beta": math.inf}}
    saved = card(recipe=relu, task="nan", loss=math.inf, epochs=[{"epoch": 1, "loss": -math.inf, "accuracy": 0.5}])
    path = save_card(saved, tmp_path / "dtl-betainf-seed0.json")
    written = strict(path.read_text())
    assert written["recipe"]["config"]["beta"] == written["loss"] == "inf"
    assert written["task"] == "nan" and written["epochs"] == [{"epoch": 1, "loss": "-inf", "accuracy": 0.5}]
    assert load_card(path) == saved, "infinity comes back as a number, a text stays one"
    lost = load_card(save_card(card(loss=math.nan), tmp_path / "diverged.json"))
    assert strict((tmp_path / "diverged.json").read_text())["loss"] == "nan" and math.isnan(lost.loss)
    path.write_text(json.dumps(asdict(saved)))
    assert '"beta": Infinity' in path.read_text() and load_card(path) == saved, "as older cards have it"


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


@pytest.mark.parametrize("damage", ["cut", "", "a field less", "a field more", "[1, 2]", "bytes"])
def test_a_damaged_card_is_named(damage, tmp_path):
    path = save_card(card(), card_path("smoke", "vtab-1k", "mnist", "dtl", 0, root=tmp_path))
    text = path.read_text()
    spoilt = {
        "cut": text[: len(text) // 2],
        "a field less": text.replace('"accuracy"', '"exactness"'),
        "a field more": json.dumps(json.loads(text) | {"top5": 1.0}),
        "bytes": b"\xff\xfe\x00",
    }.get(damage, damage)
    path.write_bytes(spoilt if isinstance(spoilt, bytes) else spoilt.encode())
    for read in (lambda: load_card(path), lambda: load_cards("smoke", root=tmp_path)):
        with pytest.raises(DamagedFile, match="is no whole run card.*delete it and record the run again") as error:
            read()
        assert str(path) in str(error.value)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="dtl-seed0.json.*record the run first"):
        load_card(path)


def test_the_table_has_a_row_per_run_of_one_purpose(tmp_path, monkeypatch):
    monkeypatch.setenv("DTL_RESULTS", str(tmp_path))
    assert load_cards("smoke").empty
    for task, seed, accuracy in (("mnist", 1, 0.5), ("mnist", 0, 0.75), ("elpv", 0, 0.25)):
        save_card(card(task=task, seed=seed, accuracy=accuracy), card_path("smoke", "vtab-1k", task, "dtl", seed))
    save_card(card(purpose="select", lr=1e-3), card_path("smoke", "vtab-1k", "mnist", "dtl", 0, lr=1e-3))
    save_card(card(profile="laptop"), card_path("laptop", "vtab-1k", "mnist", "dtl", 0))
    table = load_cards("smoke")
    assert list(table.columns) == [f.name for f in fields(RunCard)]
    rows = table[["task", "seed", "accuracy"]].values.tolist()
    assert rows == [["elpv", 0, 0.25], ["mnist", 0, 0.75], ["mnist", 1, 0.5]]
    assert set(table["profile"]) == {"smoke"} and set(table["purpose"]) == {"final"}
    assert load_cards("smoke", purpose="select")["lr"].tolist() == [1e-3]
    assert len(load_cards("laptop")) == 1


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
            # a lower loss or a better balance is no reason
            tried = card(lr=lr, accuracy=accuracy, purpose="select", balanced_accuracy=lr, loss=1 / lr)
            save_card(tried, card_path("smoke", "vtab-1k", "mnist", "dtl", 0, lr=lr, drop_path=drop))

    def best(method="dtl"):
        return {best_setting(Run("mnist", method, profile="smoke"), r, d) for r in rates for d in drops}

    rates, drops = [(1e-3, 1e-2), (1e-2, 1e-3)], [(0.0, 0.2), (0.2, 0.0)]
    put()
    assert best() == {Setting(1e-3, 0.2)}, "of two equal ones the smaller learning rate"
    grid[1e-3, 0.0] = 0.7
    put()
    assert best() == {Setting(1e-3, 0.0)}, "then the smaller drop path"
    with pytest.raises(FileNotFoundError, match="select-dtl-lr0.001-seed0"):  # those runs chose a drop path, too
        best_setting(Run("mnist", "dtl", profile="smoke"), (1e-3, 1e-2))
    with pytest.raises(FileNotFoundError, match="select-linear-lr0.00?1-seed0"):
        best("linear")  # it takes no drop path, so its cards have none

"""The grid of runs: recorded whole, also after a kill at any moment."""

import os
import random
import time

import pytest
from toys import timeless
from victims import record_process

from dtl_book.experiments import Run, best_setting, load_card, settings
from dtl_book.sweep import record as record_parts

GRID = (("linear", "dtl+"), ("shape_location",))  # methods, tasks; two learning rates and two seeds each


@pytest.fixture
def recording(place, monkeypatch):
    """The place of one recording, and its environment for a process."""
    monkeypatch.setattr(settings, "LEARNING_RATES", (1e-3, 1e-2))
    monkeypatch.setattr(settings, "SEEDS", (0, 1))
    return place, {name: os.environ[name] for name in ("DTL_DATA", "DTL_RESULTS", "DTL_CACHE")}


def record(profile, methods, tasks):
    record_parts(profile, methods, tasks, parts=("vtab-1k",))


def cards_in(folder):
    return {p.name: load_card(p) for p in (folder / "results").rglob("*.json")}


def test_record_writes_the_grid(recording):
    folder, _ = recording
    record("smoke", *GRID)
    cards = cards_in(folder)
    assert cards.keys() == {
        *(f"select-{m}-lr{lr}-seed0.json" for m in GRID[0] for lr in ("0.001", "0.01")),
        *(f"{m}-seed{s}.json" for m in GRID[0] for s in (0, 1)),
    }
    for name, one in cards.items():
        final = not name.startswith("select")
        wanted = ("final", "train800val200", "test") if final else ("select", "train800", "val200")
        assert (one.purpose, one.train_split, one.test_split) == wanted
        if final:
            assert one.lr == best_setting(Run("shape_location", one.method, profile="smoke")).lr
        assert (one.cache, one.cache_inexact, one.device, one.threads) == ("float32", "", "cpu", 1)
        assert one.recipe["lr"] == one.lr and one.recipe["seed"] == one.seed
        assert one.data_digest.keys() == {one.train_split, one.test_split}
        assert len(one.epochs) == one.recipe["epochs"] and 0 <= one.accuracy <= 1
    assert cards["dtl+-seed0.json"].recipe["config"]["dwconv_kernel"] == 3
    assert not [p for p in (folder / "cache").rglob("*") if p.is_file()], "no cache or checkpoint is left behind"


def test_record_killed_at_random_moments_ends_with_the_same_cards(recording, processes):
    folder, environment = recording
    record("smoke", *GRID)
    whole = {name: timeless(one) for name, one in cards_in(folder).items()}

    environment |= {"DTL_RESULTS": str(folder / "again" / "results"), "DTL_CACHE": str(folder / "again" / "cache")}
    rng, codes = random.Random(0), []
    while not codes or codes[-1] != 0:
        assert len(codes) < 12, f"the recording never ends: {codes}"
        process = processes.Process(target=record_process, args=(environment, *GRID))
        before = len(list((folder / "again").rglob("*.json")))
        process.start()
        if len(codes) < 3:
            while process.is_alive() and len(list((folder / "again").rglob("*.json"))) == before:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.3))
            process.kill()
        process.join(120)
        codes.append(process.exitcode)
    assert codes[0] == -9
    assert {name: timeless(one) for name, one in cards_in(folder / "again").items()} == whole

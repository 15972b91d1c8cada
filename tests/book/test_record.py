"""The grid of runs: recorded once, and whole after a kill at any moment."""

import os
import random
import time

import pytest
from toys import timeless
from victims import record_process

from dtl_book.experiments import Run, best_setting, execution, load_card, settings
from dtl_book.sweep import record as record_parts
from dtl_core.files import DamagedFile
from dtl_core.training import loop

GRID = (("linear", "dtl+"), ("shape_location",))  # methods, tasks; two learning rates and two seeds each


@pytest.fixture
def recording(place, monkeypatch):
    """The place of one recording, and its environment for a process."""
    monkeypatch.setattr(settings, "LEARNING_RATES", (1e-3, 1e-2))
    monkeypatch.setattr(settings, "SEEDS", (0, 1))
    return place, {name: os.environ[name] for name in ("DTL_DATA", "DTL_RESULTS", "DTL_CACHE")}


def record(profile, methods, tasks):
    record_parts(profile, methods, tasks, parts=("vtab-1k",))


def files_in(folder):
    return sorted(p for p in (folder / "results").rglob("*.json"))


def cards_in(folder):
    return {p.name: load_card(p) for p in files_in(folder)}


def test_record_writes_the_grid_and_skips_what_exists(recording, monkeypatch):
    folder, _ = recording
    record("smoke", *GRID)
    cards = cards_in(folder)
    assert cards.keys() == {
        *(f"select-{m}-lr{lr}-seed0.json" for m in GRID[0] for lr in ("0.001", "0.01")),
        *(f"{m}-seed{s}.json" for m in GRID[0] for s in (0, 1)),
    }
    for name, one in cards.items():
        final = not name.startswith("select")
        assert (one.purpose, one.train_split, one.test_split) == (
            ("final", "train800val200", "test") if final else ("select", "train800", "val200")
        )
        if final:
            assert one.lr == best_setting(Run("shape_location", one.method, profile="smoke")).lr
        assert (one.cache, one.cache_inexact, one.device, one.threads) == ("float32", "", "cpu", 1)
        assert one.recipe["lr"] == one.lr and one.recipe["seed"] == one.seed
        assert one.data_digest.keys() == {one.train_split, one.test_split}
        assert len(one.epochs) == one.recipe["epochs"] and 0 <= one.accuracy <= 1
    assert cards["dtl+-seed0.json"].recipe["config"]["dwconv_kernel"] == 3
    assert not [p for p in (folder / "cache").rglob("*") if p.is_file()], "no cache or checkpoint is left behind"

    files = {p: p.stat().st_mtime_ns for p in files_in(folder)}
    ran, execute = [], execution.execute

    def counted(run, **options):
        ran.append((run.method, run.purpose, run.seed))
        return execute(run, **options)

    monkeypatch.setattr(execution, "execute", counted)
    record("smoke", *GRID)
    assert ran == [] and all(p.stat().st_mtime_ns == t for p, t in files.items())
    gone = next(p for p in files if p.name == "dtl+-seed1.json")
    gone.unlink()
    record("smoke", *GRID)
    assert ran == [("dtl+", "final", 1)]
    assert timeless(load_card(gone)) == timeless(cards["dtl+-seed1.json"]), "the same run gives the same card"

    gone.write_text("{")
    with pytest.raises(DamagedFile, match=r"dtl\+-seed1.json"):
        record("smoke", *GRID)
    assert len(ran) == 1


def test_record_continues_an_interrupted_run_from_its_last_epoch(recording, monkeypatch):
    folder, _ = recording
    write, started = loop.Checkpoint.write, []

    def interrupted(self, rows):
        write(self, rows)
        started.append(len(rows))
        if len(started) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr("dtl_core.training.loop.Checkpoint.write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        record("smoke", ("dtl+",), GRID[1])
    assert not (folder / "results").exists(), "half a run has no card"
    assert [p.suffix for p in (folder / "cache" / "runs").iterdir()] == [".safetensors"]
    monkeypatch.setattr(settings, "SEEDS", (0,))
    record("smoke", ("dtl+",), GRID[1])
    assert started == [1, 2, 1, 2, 1, 2], "the first run goes on with its second epoch, the next start with their first"


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

"""A sweep here and in processes: a card a run, faults kept to the run that has them, and only what is missing run again."""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toys import only_cpu, timeless
from victims import planted, sweep_process

from dtl_book import cli
from dtl_book.experiments import Run, execution, load_card
from dtl_book.sweep import open_workers, run_all
from dtl_book.sweep.runner import recorded
from dtl_book.sweep.workers import cuda_devices
from dtl_core.files import DamagedFile

TASK = "shape_location"
SMOKE = dict(profile="smoke")
RUNS = [Run(TASK, method, seed=seed, **SMOKE) for method, seed in (("linear", 0), ("lora", 0), ("dtl", 0), ("dtl", 1))]
LINEAR, FAILS, _, KILLED = RUNS  # as ``planted`` has it
PLANTED = (str(Path(__file__).parents[1] / "victims.py"), "planted")


@pytest.fixture(scope="module")
def expected(smoke_data, tmp_path_factory):
    """The cards of the runs themselves, without a sweep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DTL_DATA", str(smoke_data))
        patch.setenv("DTL_CACHE", str(tmp_path_factory.mktemp("cache")))
        only_cpu(patch)
        return {run: timeless(execution.execute(run, progress=False)[0]) for run in RUNS}


def notes(place, run):
    """What ``planted`` noted of a run."""
    path = place / "cache" / "notes" / run.name
    return [line.split(" in ")[0] for line in path.read_text().splitlines()] if path.exists() else []


def pids(place):
    """The process of each run that began."""
    lines = (line for p in (place / "cache" / "notes").glob("smoke-*") for line in p.read_text().splitlines())
    return [int(line.split()[-1]) for line in lines if line.startswith("run in ")]


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("where", [(0, None), (2, None), (2, "local")], ids=["here", "processes", "ray"])
def test_faults_stay_with_their_runs_and_only_what_is_missing_runs_again(where, place, expected, capsys, monkeypatch):
    if where[1]:
        pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[sweep]'")
    elif not where[0]:
        monkeypatch.setattr(execution, "execute", planted(execution.execute))
        (place / "cache" / "notes").mkdir(parents=True)
        (place / "cache" / "notes" / "killed").touch()  # in this process a kill would end the test
    with open_workers(*where, program=PLANTED) as pool:
        results = run_all(RUNS, pool)
        said = capsys.readouterr().out
        assert [r.run for r in results] == RUNS
        assert [r.tries for r in results] == [1, 2, 1, 2 if where[0] else 1]
        assert results[1].card is None and results[1].error == "RuntimeError: a planted failure"
        assert notes(place, FAILS) == ["run", "run"]
        for r in results[:1] + results[2:]:
            assert timeless(load_card(r.run.card())) == timeless(r.card) == expected[r.run]
        if where[0]:
            assert notes(place, KILLED) == ["run", "epoch 1", "run", "epoch 2"], "it went on from its last whole epoch"
            assert f"again: {KILLED}: its process " in said and ("SIGKILL" in said or where[1])
            own = pids(place)
            assert os.getpid() not in own and len(own) == 6
            assert where[1] or len(set(own)) == 6, "each try in a process of its own"
        assert said.count("done: ") == 3 and "[4 of 4 runs, 1 failed]" in said
        assert files(place / "results") == [
            *(f"smoke/failed/vtab-1k/{TASK}/lora-seed0.{kind}" for kind in ("json", "log")),
            *(f"smoke/vtab-1k/{TASK}/{name}.json" for name in ("dtl-seed0", "dtl-seed1", "linear-seed0")),
        ]
        note = json.loads(FAILS.failure.read_text())
        assert Run.from_dict(note["run"]) == FAILS and [t["error"] for t in note["tries"]] == [results[1].error] * 2
        log = (FAILS.failure.parent / note["log"]).read_text()
        assert log.count("something is said before it fails") == 2 and "Traceback" in log and "--- try 2 of 2" in log
        prefixes = place / "cache" / "sweep" / f"smoke-vtab-1k-{TASK}-float32"
        assert not prefixes.exists(), "prefixes go with the last run"
        assert not list((place / "cache").rglob("*.log")) and not list((place / "cache" / "runs").iterdir())

        stamps = {p: p.stat().st_mtime_ns for p in (place / "results" / "smoke" / "vtab-1k").rglob("*.json")}
        (place / "cache" / "notes" / "mended").touch()
        again = run_all(RUNS, pool)
        assert [r.tries for r in again] == [0, 1, 0, 0], "what failed is tried again, what is recorded is left alone"
        assert all(p.stat().st_mtime_ns == t for p, t in stamps.items())
        assert {r.run: timeless(r.card) for r in again} == expected
        assert not (place / "results" / "smoke" / "failed").exists()
        monkeypatch.setattr(execution, "execute", lambda *_, **__: pytest.fail("ran again"))
        assert [r.tries for r in run_all(RUNS, pool)] == [0] * 4


@pytest.mark.parametrize("retries", [0, 2])
def test_retries_are_those_that_were_stated(retries, place, monkeypatch):
    monkeypatch.setattr(execution, "execute", planted(execution.execute))
    with open_workers() as pool:
        (result,) = run_all([FAILS], pool, retries=retries)
    assert result.tries == retries + 1 == len(notes(place, FAILS))
    assert len(json.loads(FAILS.failure.read_text())["tries"]) == retries + 1


def test_a_card_of_another_run_is_not_taken_for_this_one(place, monkeypatch):
    run = replace(LINEAR, lr=1e-3)
    with open_workers() as pool:
        run_all([run], pool)
    monkeypatch.setattr(execution, "execute", lambda *_, **__: pytest.fail("ran"))
    assert recorded(LINEAR).lr == 1e-3, "where no learning rate is asked for, any will do"
    others = {
        "lr 0.001, not 0.01": replace(run, lr=1e-2), "epochs 2, not 5": replace(run, epochs=5),
        "protocol clean, not authors": replace(run, protocol="authors"), "batch_size 8, not 4": replace(run, batch_size=4),
    }  # fmt: skip
    for said, other in others.items():
        with open_workers() as pool, pytest.raises(ValueError, match=f"{said}: move it away"):
            run_all([KILLED, other], pool)
    run.card().write_text("{")
    with open_workers() as pool, pytest.raises(DamagedFile, match="linear-seed0.json"):
        run_all([run], pool)


def test_a_sweep_that_is_killed_takes_its_runs_along(place, processes):
    environment = {k: v for k, v in os.environ.items() if k.startswith("DTL_")}
    process = processes.Process(target=sweep_process, args=(environment, RUNS[:3]))
    process.start()
    end = time.monotonic() + 60
    while len(pids := [int(p.name) for p in (place / "cache").glob("pids/*")]) < 2:
        assert time.monotonic() < end and process.is_alive()
        time.sleep(0.02)
    process.kill()
    process.join()
    while any(map(alive, pids)):
        assert time.monotonic() < end, "an orphan goes on, and the next sweep would run beside it"
        time.sleep(0.02)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_command_says_by_its_exit_what_failed(place, monkeypatch, capsys):
    words = ["sweep", "--profile", "smoke", "--tasks", TASK, "--methods", "linear", "--seeds", "0", "--retries", "0"]
    cli.main([*words, "--epochs", "1"])
    assert "written:" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, "--lr", "0.5"])
    assert stop.value.code == 1 and "lr 0.001, not 0.5" in capsys.readouterr().err
    Run(TASK, "linear", **SMOKE).card().unlink()
    monkeypatch.setattr(execution, "execute", lambda *_, **__: 1 / 0)
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    said = capsys.readouterr().out
    assert stop.value.code == 1 and "failed: linear on shape_location, seed 0, final: ZeroDivision" in said


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # as where it is not installed
    with pytest.raises(RuntimeError, match=r"pip install -e '.\[sweep\]'"), open_workers(0, "local"):
        pass


def test_processes_spread_over_the_devices(monkeypatch):
    def share():
        with open_workers(3) as pool:
            return pool.share

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert cuda_devices() == ["0", "1"] and share() == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert cuda_devices() == ["5", "7"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert share() == 3, "without a GPU all share the machine's memory"

"""A sweep here and in processes: a card a run, faults kept to the run that has them, and only what is missing run again."""

import io
import json
import os
import sys
import time
from dataclasses import asdict, replace

import pandas as pd
import pytest
import torch
from toys import planted_job, sweep_process

from dtl_core import cli
from dtl_core.data import build_suite
from dtl_core.evidence import CannotFit, load_card, preflight, prepare
from dtl_core.evidence.runs import run_name
from dtl_core.files import DamagedFile
from dtl_core.sweep import Job, open_pool, run_job, sweep, sweep_grid, tasks_of
from dtl_core.sweep.board import Board
from dtl_core.sweep.jobs import recorded
from dtl_core.sweep.processes import Processes, cuda_devices
from dtl_core.sweep.survey import survey

TASK = "shape_location"
SMOKE = dict(profile="smoke")
JOBS = [Job(TASK, *run, **SMOKE) for run in (("linear", 0), ("lora", 0), ("dtl", 0), ("dtl", 1))]
LINEAR, FAILS, _, KILLED = JOBS  # as ``planted_job`` has it


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DTL_DATA", str(folder))
        build_suite("smoke", tasks=(TASK,))
    return folder


@pytest.fixture
def place(data, tmp_path, monkeypatch):
    for name, value in {"DATA": data, "RESULTS": tmp_path / "results", "CACHE": tmp_path / "cache"}.items():
        monkeypatch.setenv(f"DTL_{name}", str(value))
    for accelerator in (torch.cuda, torch.backends.mps):  # bits are compared, and those are the CPU's
        monkeypatch.setattr(accelerator, "is_available", lambda: False)
    return tmp_path


@pytest.fixture(scope="module")
def expected(data, tmp_path_factory):
    """The cards of the runs themselves, without a sweep."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DTL_DATA", str(data))
        patch.setenv("DTL_CACHE", str(tmp_path_factory.mktemp("cache")))
        for accelerator in (torch.cuda, torch.backends.mps):
            patch.setattr(accelerator, "is_available", lambda: False)
        return {job: timeless(run_job(job)) for job in JOBS}


def timeless(card):
    """A card without what the clock says."""
    epochs = [{k: v for k, v in row.items() if k != "seconds"} for row in card.epochs]
    return asdict(replace(card, seconds=0, cache_seconds=0, created="", epochs=epochs))


def notes(place, job):
    """What ``planted_job`` noted of a job."""
    path = place / "cache" / "notes" / job.name
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
        path = [os.path.dirname(__file__), os.environ.get("PYTHONPATH")]  # Ray's processes find ``toys`` by it
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    elif not where[0]:
        (place / "cache" / "notes").mkdir(parents=True)
        (place / "cache" / "notes" / "killed").touch()  # in this process a kill would end the test
    with open_pool(*where) as pool:
        results = sweep(JOBS, pool, work=planted_job)
        said = capsys.readouterr().out
        assert [r.job for r in results] == JOBS
        assert [r.tries for r in results] == [1, 2, 1, 2 if where[0] else 1]
        assert results[1].card is None and results[1].error == "RuntimeError: a planted failure"
        assert notes(place, FAILS) == ["run", "run"]
        for r in results[:1] + results[2:]:
            assert timeless(load_card(r.job.card)) == timeless(r.card) == expected[r.job]
        if where[0]:
            assert notes(place, KILLED) == ["run", "epoch 1", "run", "epoch 2"], "it went on from its last whole epoch"
            assert f"again: {KILLED}: its process " in said and ("SIGKILL" in said or where[1])
            own = pids(place)
            assert os.getpid() not in own and len(own) == 6
            assert where[1] or len(set(own)) == 6, "each try in a process of its own"
        assert "4 runs: 3 done, 0 running, 1 failed, 0 waiting" in said
        assert files(place / "results") == [
            *(f"smoke/failed/vtab-1k/{TASK}/lora-seed0.{kind}" for kind in ("json", "log")),
            *(f"smoke/vtab-1k/{TASK}/{name}.json" for name in ("dtl-seed0", "dtl-seed1", "linear-seed0")),
        ]
        note = json.loads(FAILS.failure.read_text())
        assert note["job"] == asdict(FAILS) and [t["error"] for t in note["tries"]] == [results[1].error] * 2
        log = (FAILS.failure.parent / note["log"]).read_text()
        assert log.count("something is said before it fails") == 2 and "Traceback" in log and "--- try 2 of 2" in log
        assert not (place / "cache" / "sweep" / f"smoke-vtab-1k-{TASK}").exists(), "prefixes go with the last run"
        assert not list((place / "cache").rglob("*.log")) and not list((place / "cache" / "runs").iterdir())

        stamps = {p: p.stat().st_mtime_ns for p in (place / "results" / "smoke" / "vtab-1k").rglob("*.json")}
        (place / "cache" / "notes" / "mended").touch()
        again = sweep(JOBS, pool, work=planted_job)
        assert [r.tries for r in again] == [0, 1, 0, 0], "what failed is tried again, what is recorded is left alone"
        assert all(p.stat().st_mtime_ns == t for p, t in stamps.items())
        assert {r.job: timeless(r.card) for r in again} == expected
        assert not (place / "results" / "smoke" / "failed").exists()
        assert [r.tries for r in sweep(JOBS, pool, work=lambda job: pytest.fail("ran again"))] == [0] * 4


@pytest.mark.parametrize("retries", [0, 2])
def test_retries_are_those_that_were_stated(retries, place):
    with open_pool() as pool:
        (result,) = sweep([FAILS], pool, retries=retries, work=planted_job)
    assert result.tries == retries + 1 == len(notes(place, FAILS))
    assert len(json.loads(FAILS.failure.read_text())["tries"]) == retries + 1


def test_a_grid_chooses_its_learning_rates_and_sums_up(place, capsys):
    results = sweep_grid([TASK], ["linear", "dtl"], [0, 2], [1e-3, 3e-2], profile="smoke", epochs=3)
    out = capsys.readouterr().out
    assert [(r.job.purpose, r.job.method, r.job.seed) for r in results] == [
        *(("select", m, 0) for m in ("linear", "dtl") for _ in range(2)),
        *(("final", m, s) for m in ("linear", "dtl") for s in (0, 2)),
    ]
    for method in ("linear", "dtl"):
        tried = {r.card.lr: r.card.accuracy for r in results if r.job.method == method and r.job.purpose == "select"}
        best = max(tried, key=lambda lr: (tried[lr], -lr))
        finals = [r.card for r in results if r.job.method == method and r.job.purpose == "final"]
        assert tried.keys() == {1e-3, 3e-2} and {c.lr for c in finals} == {best}
        assert {c.train_split for c in finals} == {"train800val200"} and {len(c.epochs) for c in finals} == {3}
    written = json.loads((place / "results" / "smoke" / "vtab-1k" / "sweep.json").read_text())
    frame = pd.read_csv(place / "results" / "smoke" / "vtab-1k" / "sweep.csv")
    assert [row["accuracy"] for row in written] == frame["accuracy"].tolist() == [r.card.accuracy for r in results]
    assert all((place / "results" / row["card"]).is_file() for row in written)
    accuracy = 100 * pd.Series([r.card.accuracy for r in results[-2:]])
    assert f"{accuracy.mean():.1f} ± {accuracy.std(ddof=1):.1f}" in out and "smoke: a toy ViT" in out
    # the pre-flight of it all comes first, with each task's data for both purposes
    assert out.startswith("pre-flight: 8 runs, 1 at a time") and out.index("time     about") < out.index("done: ")
    assert all(digest in out for r in results for digest in r.card.data_digest.values())
    assert results[0].card.backbone_sha256 in out and out.count("MiB (planned)") == 2

    sweep_grid([TASK], ["linear", "dtl"], [0, 2], [1e-3, 3e-2], profile="smoke", epochs=3, cluster="nowhere:1")
    assert "pre-flight" not in capsys.readouterr().out, "nothing is missing, so no cluster is asked for"


def test_a_grid_chooses_drop_path_with_the_learning_rate(place, capsys):
    grid = dict(profile="smoke", epochs=3)
    results = sweep_grid([TASK], ["linear", "dtl+"], [0, 1], [1e-3, 3e-2], [0.0, 0.4], **grid)
    out = capsys.readouterr().out
    tried = {(r.card.lr, r.card.recipe["drop_path"]): r for r in results[:-4] if r.job.method == "dtl+"}
    assert tried.keys() == {(lr, drop) for lr in (1e-3, 3e-2) for drop in (0.0, 0.4)}
    assert {r.job.card.name for r in tried.values()} == {
        f"select-dtl+-lr{lr}-dp{drop}-seed0.json" for lr in ("0.001", "0.03") for drop in ("0", "0.4")
    }
    best = max(tried, key=lambda pair: (tried[pair].card.accuracy, -pair[0], -pair[1]))
    finals = {m: [r.card for r in results[-4:] if r.job.method == m] for m in ("linear", "dtl+")}
    assert {(c.lr, c.recipe["drop_path"]) for c in finals["dtl+"]} == {best}
    assert {c.recipe["drop_path"] for c in finals["linear"]} == {0.0}, "a rival runs without"
    assert {r.job.card.name for r in results if r.job.method == "linear"} == {
        "select-linear-lr0.001-seed0.json", "select-linear-lr0.03-seed0.json", "linear-seed0.json", "linear-seed1.json",
    }  # fmt: skip
    assert all((r.card.cache is None) == (r.card.recipe["drop_path"] > 0) for r in results), "not exact, so not stored"
    assert tried[3e-2, 0.4].card.epochs != tried[3e-2, 0.0].card.epochs
    assert "choosing learning rates and drop paths on validation images" in out
    assert "dtl+ with drop path" in out and "lr 0.03, drop path 0.4: accuracy" in out
    written = json.loads((place / "results" / "smoke" / "vtab-1k" / "sweep.json").read_text())
    assert {row["drop_path"] for row in written if row["purpose"] == "select"} == {0.0, 0.4}
    again = sweep_grid([TASK], ["linear", "dtl+"], [0, 1], [1e-3, 3e-2], [0.0, 0.4], **grid, work=lambda job: 1 / 0)
    assert {r.tries for r in again} == {0}


@pytest.mark.parametrize("rates, name", [([], "select-dtl-dp0.4-seed0"), ([1e-2], "select-dtl-lr0.01-dp0.4-seed0")])
def test_drop_path_can_be_chosen_alone(rates, name, place):
    results = sweep_grid([TASK], ["dtl"], [0], rates, [0.0, 0.4], profile="smoke", epochs=1)
    assert [r.job.purpose for r in results] == ["select", "select", "final"]
    assert name in {r.job.card.stem for r in results} and len({r.card.lr for r in results}) == 1


def test_one_drop_path_is_that_one_for_all_and_a_card_with_another_is_not_taken(place):
    (result,) = sweep_grid([TASK], ["dtl"], [0], [], [0.4], profile="smoke", epochs=1)
    assert (result.job.purpose, result.card.recipe["drop_path"], result.job.card.stem) == ("final", 0.4, "dtl-seed0")
    with pytest.raises(ValueError, match=r"drop_path 0.4, not 0.2: move it away"):
        sweep_grid([TASK], ["dtl"], [0], [], [0.2], profile="smoke", epochs=1)


def test_runs_with_another_drop_path_share_no_checkpoint(place):
    names = []
    for drop in (None, 0.0, 0.1, 0.2):
        ready = prepare("dtl", TASK, profile="smoke", lr=1e-3, drop_path=drop)
        names.append(run_name(ready, "float32"))
    assert names[0] == names[1] and len(set(names)) == 3


def test_drop_path_reaches_the_frozen_blocks_of_dtl_and_no_other_method(place):
    ready = prepare("dtl", TASK, profile="smoke", drop_path=0.3)
    assert ready.recipe.drop_path == ready.options["drop_path"] == 0.3 and not ready.cacheable
    image = torch.stack([ready.train[0][0]] * 8)
    logits = ready.model.train()(image)
    assert not torch.equal(logits[0], logits[1]), "each image loses other blocks"
    logits = ready.model.eval()(image)
    torch.testing.assert_close(logits[0], logits[1])
    with pytest.raises(ValueError, match="drop_path is 0.3, and lora takes none"):
        prepare("lora", TASK, profile="smoke", drop_path=0.3)
    assert prepare("lora", TASK, profile="smoke", drop_path=0.0).recipe.drop_path == 0


def test_each_number_of_shots_chooses_its_own_setting(place, monkeypatch):
    """With one rate for all a curve over shots shows the choice, not the method."""
    monkeypatch.setenv("DTL_DATA", str(place / "data"))
    build_suite("smoke", tasks=("typefaces",))
    better = {1: 3e-2, 4: 1e-3}

    def judged(job):
        return replace(run_job(job), accuracy=1.0 if job.lr == better[job.shots] else 0.0)

    grid = dict(seeds=[0, 1], rates=[1e-3, 3e-2], shots=[1, 4], benchmark="few-shot", profile="smoke", epochs=1)
    results = sweep_grid(["typefaces"], ["linear"], **grid, work=judged)
    selects = [(r.job.shots, r.job.lr) for r in results if r.job.purpose == "select"]
    assert selects == [(1, 1e-3), (1, 3e-2), (4, 1e-3), (4, 3e-2)]
    finals = [(r.job.shots, r.job.seed, r.card.lr) for r in results if r.job.purpose == "final"]
    assert finals == [(n, seed, lr) for n, lr in better.items() for seed in (0, 1)]


@pytest.mark.parametrize(
    "benchmark, grid",
    [("few-shot", dict(tasks=["typefaces"], shots=[1, 4])), ("domain", dict(tasks=["mnist"]))],
    ids=["few-shot", "domain"],
)
def test_the_other_benchmarks_are_swept_and_surveyed_too(benchmark, grid, place, monkeypatch, capsys):
    monkeypatch.setenv("DTL_DATA", str(place / "data"))
    build_suite("smoke", tasks=("typefaces" if benchmark == "few-shot" else "digits",))
    results = sweep_grid(**grid, methods=["linear", "dtl"], seeds=[1], benchmark=benchmark, profile="smoke")
    out, jobs = capsys.readouterr().out, [r.job for r in results]
    assert all(r.card for r in results) and len(results) == 2 * len(grid.get("shots", [None]))
    found = survey(jobs, 1)
    for job, card in ((r.job, r.card) for r in results):
        images, tests, passes = found.sizes[job]
        assert passes == len(card.epochs) and card.benchmark == benchmark and card.shots == (job.shots or 16)
        assert {d: digest for d, (_, digest) in found.data[job.where, "final"].items()} == card.data_digest
        assert found.data[job.where, "final"][card.train_split][0] == images
        assert (tests > found.data[job.where, "final"][card.test_split][0]) is bool(card.targets)
    for method, told in found.methods.items():
        largest = max(found.sizes[job][0] for job in jobs)
        assert told.batch_size == min(8, largest), f"the memory of {method} is that of its largest step"
    assert all(job.where in out for job in jobs) and (place / "results" / "smoke" / benchmark / "sweep.csv").is_file()


def test_a_failed_choice_has_no_final_runs(place, capsys):
    results = sweep_grid([TASK], ["lora", "linear"], [0], [1e-3, 1e-2], profile="smoke", retries=0, work=planted_job)
    assert [(r.job.method, r.job.purpose, r.card is None) for r in results] == [
        ("lora", "select", True), ("lora", "select", True), ("linear", "select", False), ("linear", "select", False),
        ("linear", "final", False),
    ]  # fmt: skip
    out = capsys.readouterr().out
    assert f"no final runs of lora on {TASK}" in out and out.count("failed: lora on") == 4
    written = json.loads((place / "results" / "smoke" / "vtab-1k" / "sweep.json").read_text())
    assert [row["state"] for row in written] == ["failed", "failed", "done", "done", "done"]
    assert written[0]["accuracy"] is None and written[0]["error"] == "RuntimeError: a planted failure"


def test_a_card_of_another_run_is_not_taken_for_this_one(place):
    job = replace(LINEAR, lr=1e-3)
    with open_pool() as pool:
        sweep([job], pool)
    assert recorded(LINEAR).lr == 1e-3, "where no learning rate is asked for, any will do"
    for other, said in ((replace(job, lr=1e-2), "lr 0.001, not 0.01"), (replace(job, epochs=5), "epochs 2, not 5")):
        with open_pool() as pool, pytest.raises(ValueError, match=f"{said}: move it away"):
            sweep([KILLED, other], pool, work=lambda job: pytest.fail("ran"))
    job.card.write_text("{")
    with open_pool() as pool, pytest.raises(DamagedFile, match="linear-seed0.json"):
        sweep([job], pool)


def test_what_cannot_fit_is_refused_before_the_first_run(place, monkeypatch):
    monkeypatch.setattr(sys.modules[preflight.__module__], "free_memory", lambda device: 1000)
    with pytest.raises(CannotFit, match="linear on shape_location does not fit cpu"):
        sweep_grid([TASK], ["linear"], [0], profile="smoke", work=lambda job: pytest.fail("ran"))
    assert not (place / "results").exists()


def test_a_sweep_that_is_killed_takes_its_runs_along(place, processes):
    environment = {k: v for k, v in os.environ.items() if k.startswith("DTL_")}
    process = processes.Process(target=sweep_process, args=(environment, JOBS[:3]))
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


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_table_says_what_has_become_of_each_run():
    board = Board(JOBS, JOBS[:1], out=io.StringIO())
    board.set(KILLED, "running")
    board.set(FAILS, "failed", "failed: lora on shape_location")
    head, *rows = board.table().split("\n")
    assert head.startswith("4 runs: 1 done, 1 running, 1 failed, 1 waiting; 1 recorded before; 0 s gone, about")
    assert [" ".join(row.split()) for row in rows] == ["linear lora dtl", f"{TASK} 1/1 0/1 1f 0/2 1r"]
    lines = board.out.getvalue().split("\n")
    assert sum(line.startswith("4 runs") for line in lines) == 1, "a log has a table at times"
    assert (
        lines[-2].startswith("failed: lora on shape_location  [4 runs: 1 done, 1 running") and "\x1b" not in lines[-2]
    )

    terminal = Board(JOBS, out=Terminal())
    terminal.set(LINEAR, "running")
    first = terminal.out.getvalue()
    terminal.set(LINEAR, "done", "done: linear")
    assert first.count("\n") == 3 and "\x1b" not in first
    assert terminal.out.getvalue()[len(first) :].startswith("\x1b[3A\x1b[Jdone: linear\n4 runs: 1 done"), "drawn over"


def test_the_command_says_by_its_exit_what_failed(place, monkeypatch, capsys):
    words = ["sweep", "--profile", "smoke", "--tasks", TASK, "--methods", "linear", "--seeds", "0", "--retries", "0"]
    cli.main([*words, "--epochs", "1"])
    assert "written:" in capsys.readouterr().out
    dropped = [*words[:5], "--methods", "dtl", *words[7:], "--epochs", "1", "--drop-path", "0", "0.3"]
    cli.main(dropped)
    assert "choosing drop paths on validation images" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, "--lr", "0.5"])
    assert stop.value.code == 1 and "lr 0.001, not 0.5" in capsys.readouterr().err
    Job(TASK, "linear", **SMOKE).card.unlink()
    monkeypatch.setattr("dtl_core.sweep.jobs.run", lambda *_, **__: 1 / 0)
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert (
        stop.value.code == 1
        and "failed: linear on shape_location, seed 0, final: ZeroDivision" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "change, message",
    [
        ({"tasks": ["nowhere"]}, "no folder for the task 'nowhere'"),
        ({"seeds": []}, "at least one"),
        ({"workers": -1}, "workers is -1"),
        ({"drop_paths": [0.1]}, "none of linear takes a drop path"),
        ({"drop_paths": [0.1, 1.0], "methods": ["dtl"]}, "a probability below 1"),
        ({"cluster": "127.0.0.1:1"}, "there is no Ray cluster at 127.0.0.1:1|Ray, which is not installed"),
        ({"work": run_job, "methods": ["dtl++"]}, "no method is called"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_mistakes_are_told_before_a_run(change, message, place):
    with pytest.raises((ValueError, RuntimeError), match=message):
        sweep_grid(**{"tasks": [TASK], "methods": ["linear"], "seeds": [0], "profile": "smoke", **change})
    assert not (place / "results").exists()


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # as where it is not installed
    with pytest.raises(RuntimeError, match=r"pip install 'dtl-workbook\[sweep\]'"), open_pool(0, "local"):
        pass


def test_the_tasks_of_a_profile():
    paper = tasks_of("paper")
    assert len(paper) == 19 and {"cifar", "oxford_iiit_pet", "smallnorb_ele"} <= set(paper)
    assert TASK in tasks_of("smoke") and set(paper).isdisjoint(tasks_of("laptop"))


def test_processes_spread_over_the_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert cuda_devices() == ["0", "1"] and Processes(3).share == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert cuda_devices() == ["5", "7"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert Processes(3).share == 3, "without a GPU all share the machine's memory"

"""A grid: its settings are chosen on validation images, the pre-flight comes first, and mistakes are told before a run."""

import json
import sys
from dataclasses import replace

import pandas as pd
import pytest
import torch
from victims import planted_job

from dtl_book.experiments import CannotFit, preflight, prepare
from dtl_book.experiments.runs import run_name
from dtl_book.standins import build_suite
from dtl_book.sweep import run_job, sweep_grid, tasks_of
from dtl_book.sweep.survey import survey

TASK = "shape_location"


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


def test_a_grid_in_two_processes_is_the_grid_in_one(place, capsys, monkeypatch):
    cards = {}
    for workers in (2, 0):
        monkeypatch.setenv("DTL_RESULTS", str(place / f"results-{workers}"))
        found = sweep_grid([TASK], ["linear"], [0, 1], profile="smoke", epochs=3, workers=workers)
        out = capsys.readouterr().out
        assert out.startswith(f"pre-flight: 2 runs, {workers or 1} at a time")
        assert ("for each of the 2 runs that share it" in out) == (workers == 2)
        cards[workers] = [(r.card.seed, r.card.accuracy, pytest.approx(r.card.loss, rel=1e-5)) for r in found]
    assert cards[2] == cards[0]


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


def test_what_cannot_fit_is_refused_before_the_first_run(place, monkeypatch):
    monkeypatch.setattr(sys.modules[preflight.__module__], "free_memory", lambda device: 1000)
    with pytest.raises(CannotFit, match="linear on shape_location does not fit cpu"):
        sweep_grid([TASK], ["linear"], [0], profile="smoke", work=lambda job: pytest.fail("ran"))
    assert not (place / "results").exists()


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


def test_the_tasks_of_a_profile():
    paper = tasks_of("paper")
    assert len(paper) == 19 and {"cifar", "oxford_iiit_pet", "smallnorb_ele"} <= set(paper)
    assert TASK in tasks_of("smoke") and set(paper).isdisjoint(tasks_of("laptop"))

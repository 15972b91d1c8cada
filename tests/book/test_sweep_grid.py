"""A grid: its settings are chosen on validation images, the pre-flight comes first, and mistakes are told before a run."""

import math
import re
from dataclasses import asdict, replace

import pandas as pd
import pytest
import torch
from asked import prepare
from victims import planted

from dtl_book.experiments import CannotFit, Grid, Pitfalls, Run, execution
from dtl_book.standins import build_suite
from dtl_book.sweep import sweep_grid
from dtl_book.sweep.report import survey

TASK = "shape_location"


def swept(tasks, methods, seeds, lr=(), drop_path=(), *, workers=0, cluster=None, retries=1, **asked):
    """``sweep_grid`` of a grid with these fields."""
    grid = Grid(*map(tuple, (tasks, methods, seeds, lr, drop_path)), **asked)
    return sweep_grid(grid, workers=workers, cluster=cluster, retries=retries)


def test_a_grid_chooses_its_learning_rates_and_sums_up(place, capsys):
    results = swept([TASK], ["linear", "dtl"], [0, 2], [1e-3, 3e-2], profile="smoke", epochs=3)
    out = capsys.readouterr().out
    assert [(r.run.purpose, r.run.method, r.run.seed) for r in results] == [
        *(("select", m, 0) for m in ("linear", "dtl") for _ in range(2)),
        *(("final", m, s) for m in ("linear", "dtl") for s in (0, 2)),
    ]
    for method in ("linear", "dtl"):
        tried = {r.card.lr: r.card.accuracy for r in results if r.run.method == method and r.run.purpose == "select"}
        best = max(tried, key=lambda lr: (tried[lr], -lr))
        finals = [r.card for r in results if r.run.method == method and r.run.purpose == "final"]
        assert tried.keys() == {1e-3, 3e-2} and {c.lr for c in finals} == {best}
        assert {c.train_split for c in finals} == {"train800val200"} and {len(c.epochs) for c in finals} == {3}
    written = pd.read_csv(place / "results" / "smoke" / "vtab-1k" / "sweep.csv")
    assert written["accuracy"].tolist() == [r.card.accuracy for r in results]
    assert all((place / "results" / card).is_file() for card in written["card"])
    accuracy = 100 * pd.Series([r.card.accuracy for r in results[-2:]])
    assert f"{accuracy.mean():.1f} ± {accuracy.std(ddof=1):.1f}" in out and "smoke: a toy ViT" in out
    # the pre-flight of it all comes first, with each task's data for both purposes
    assert out.startswith("pre-flight: 8 runs, 1 at a time") and out.index("time     about") < out.index("done: ")
    assert all(digest in out for r in results for digest in r.card.data_digest.values())
    assert results[0].card.backbone_sha256 in out and out.count("MiB (planned)") == 2

    swept([TASK], ["linear", "dtl"], [0, 2], [1e-3, 3e-2], profile="smoke", epochs=3, cluster="nowhere:1")
    assert "pre-flight" not in capsys.readouterr().out, "nothing is missing, so no cluster is asked for"


def test_a_grid_chooses_drop_path_with_the_learning_rate(place, capsys):
    results = swept([TASK], ["linear", "dtl+"], [0, 1], [1e-3, 3e-2], [0.0, 0.4], profile="smoke", epochs=3)
    out = capsys.readouterr().out
    tried = {(r.card.lr, r.card.recipe["drop_path"]): r for r in results[:-4] if r.run.method == "dtl+"}
    assert tried.keys() == {(lr, drop) for lr in (1e-3, 3e-2) for drop in (0.0, 0.4)}
    best = max(tried, key=lambda pair: (tried[pair].card.accuracy, -pair[0], -pair[1]))
    finals = {m: [r.card for r in results[-4:] if r.run.method == m] for m in ("linear", "dtl+")}
    assert {(c.lr, c.recipe["drop_path"]) for c in finals["dtl+"]} == {best}
    assert {c.recipe["drop_path"] for c in finals["linear"]} == {0.0}, "a rival runs without"
    assert all((r.card.cache is None) == (r.card.recipe["drop_path"] > 0) for r in results), "not exact, so not stored"
    assert tried[3e-2, 0.4].card.epochs != tried[3e-2, 0.0].card.epochs
    assert "choosing learning rates and drop paths on validation images" in out
    assert "dtl+ with drop path" in out and "lr 0.03, drop path 0.4: accuracy" in out
    written = pd.read_csv(place / "results" / "smoke" / "vtab-1k" / "sweep.csv")
    assert set(written["drop_path"][written["purpose"] == "select"]) == {0.0, 0.4}


def test_drop_path_can_be_chosen_alone_or_given(place):
    results = swept([TASK], ["dtl"], [0], [], [0.0, 0.4], profile="smoke", epochs=1)
    assert [r.run.purpose for r in results] == ["select", "select", "final"]
    assert "select-dtl-dp0.4-seed0" in {r.run.card().stem for r in results} and len({r.card.lr for r in results}) == 1
    (result,) = swept([TASK], ["dtl"], [1], [], [0.4], profile="smoke", epochs=1)
    assert (result.run.purpose, result.card.recipe["drop_path"], result.run.card().stem) == ("final", 0.4, "dtl-seed1")
    with pytest.raises(ValueError, match=r"drop_path 0.4, not 0.2: move it away"):
        swept([TASK], ["dtl"], [1], [], [0.2], profile="smoke", epochs=1)


def test_different_runs_share_no_checkpoint(place):
    asked = [{}, {"drop_path": 0.1}, {"drop_path": 0.2}, {"lr": 1e-3}, {"epochs": 3}, {"backbone_dtype": "bfloat16"}]
    asked += [{"pitfalls": Pitfalls(jpeg=30)}, {"pitfalls": Pitfalls(jpeg=75)}]
    assert len({Run(TASK, "dtl", profile="smoke", **a).checkpoint for a in asked}) == len(asked)


def test_drop_path_reaches_the_frozen_blocks_of_dtl_and_no_other_method(place):
    ready = prepare("dtl", TASK, profile="smoke", drop_path=0.3)
    assert ready.recipe.drop_path == ready.options["drop_path"] == 0.3 and not ready.cacheable
    image = torch.stack([ready.data.train[0][0]] * 8)
    logits = ready.model.train()(image)
    assert not torch.equal(logits[0], logits[1]), "each image loses other blocks"
    with pytest.raises(ValueError, match="drop_path is 0.3, and lora takes none"):
        prepare("lora", TASK, profile="smoke", drop_path=0.3)
    assert prepare("lora", TASK, profile="smoke", drop_path=0.0).recipe.drop_path == 0


def test_each_number_of_shots_chooses_its_own_setting(place, monkeypatch):
    """With one rate for all a curve over shots shows the choice, not the method."""
    monkeypatch.setenv("DTL_DATA", str(place / "data"))
    build_suite("smoke", tasks=("typefaces",))
    better = {1: 3e-2, 4: 1e-3}

    execute = execution.execute

    def judged(run, **options):
        card, model = execute(run, **options)
        return replace(card, accuracy=1.0 if run.lr == better[run.shots] else 0.0), model

    monkeypatch.setattr(execution, "execute", judged)
    grid = dict(seeds=[0, 1], lr=[1e-3, 3e-2], shots=[1, 4], benchmark="few-shot", profile="smoke", epochs=1)
    results = swept(["typefaces"], ["linear"], **grid)
    selects = [(r.run.shots, r.run.lr) for r in results if r.run.purpose == "select"]
    assert selects == [(1, 1e-3), (1, 3e-2), (4, 1e-3), (4, 3e-2)]
    finals = [(r.run.shots, r.run.seed, r.card.lr) for r in results if r.run.purpose == "final"]
    assert finals == [(n, seed, lr) for n, lr in better.items() for seed in (0, 1)]


@pytest.mark.parametrize(
    "benchmark, grid",
    [("few-shot", dict(tasks=["typefaces"], shots=[1, 4])), ("domain", dict(tasks=["mnist"]))],
    ids=["few-shot", "domain"],
)
def test_the_other_benchmarks_are_swept_and_surveyed_too(benchmark, grid, place, monkeypatch, capsys):
    monkeypatch.setenv("DTL_DATA", str(place / "data"))
    build_suite("smoke", tasks=("typefaces" if benchmark == "few-shot" else "digits",))
    results = swept(**grid, methods=["linear", "dtl"], seeds=[1], benchmark=benchmark, profile="smoke")
    out = capsys.readouterr().out
    assert all(r.card for r in results) and len(results) == 2 * len(grid.get("shots", [None]))
    for run, card in ((r.run, r.card) for r in results):
        assert card.benchmark == benchmark and card.shots == (run.shots or 16) and run.where in out
        for name, digest in card.data_digest.items():
            assert re.search(f"data     {run.where}, {name}: [0-9,]+ images, digest {digest}", out)
    asked = {"runs": [asdict(r.run) for r in results], "slots": 1, "share": 1}
    largest = max(min(8, int(n)) for n in re.findall(r"train_meta[^:]*: ([0-9]+) images", out))
    assert survey(asked)["text"].count(f"a step of {largest} images needs") == 2, "that of its largest step"
    assert (place / "results" / "smoke" / benchmark / "sweep.csv").is_file()


def test_a_failed_choice_has_no_final_runs(place, capsys, monkeypatch):
    monkeypatch.setattr(execution, "execute", planted(execution.execute))
    results = swept([TASK], ["lora", "linear"], [0], [1e-3, 1e-2], profile="smoke", retries=0)
    ran = [(r.run.method, r.run.purpose, r.card is None) for r in results]
    assert ran == 2 * [("lora", "select", True)] + 2 * [("linear", "select", False)] + [("linear", "final", False)]
    out = capsys.readouterr().out
    assert f"no final runs of lora on {TASK}" in out and out.count("failed: lora on") == 4
    written = pd.read_csv(place / "results" / "smoke" / "vtab-1k" / "sweep.csv")
    assert written["state"].tolist() == ["failed", "failed", "done", "done", "done"]
    assert math.isnan(written["accuracy"][0]) and written["error"][0] == "RuntimeError: a planted failure"


def test_what_cannot_fit_is_refused_before_the_first_run(place, monkeypatch):
    monkeypatch.setattr("dtl_book.experiments.preflight.free_memory", lambda device: 1000)
    monkeypatch.setattr(execution, "execute", lambda *_, **__: pytest.fail("ran"))
    with pytest.raises(CannotFit, match="linear on shape_location does not fit cpu"):
        swept([TASK], ["linear"], [0], profile="smoke")
    assert not (place / "results").exists()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"tasks": ["nowhere"]}, "no folder for the task 'nowhere'"),
        ({"seeds": []}, "at least one"),
        ({"workers": -1}, "workers is -1"),
        ({"drop_path": [0.1]}, "none of linear takes a drop path"),
        ({"drop_path": [0.1, 1.0], "methods": ["dtl"]}, "a probability below 1"),
        ({"cluster": "127.0.0.1:1"}, "there is no Ray cluster at 127.0.0.1:1|Ray, which is not installed"),
        ({"methods": ["dtl++"]}, "no method is called"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_mistakes_are_told_before_a_run(change, message, place):
    with pytest.raises((ValueError, RuntimeError), match=message):
        swept(**{"tasks": [TASK], "methods": ["linear"], "seeds": [0], "profile": "smoke", **change})
    assert not (place / "results").exists()

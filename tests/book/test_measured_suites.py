"""Tests, notebooks and the rehearsal of the paper profile, each in processes that may fail, hang or be killed."""

import json
import os
import subprocess
import time
from pathlib import Path

import nbformat
import pytest
import torch

from dtl_book.measured import child, load_card, rehearsal, suites
from dtl_book.measured.rehearsal import paper_specs
from dtl_book.measured.rows import fill_card
from dtl_book.measured.run import MEASURE
from dtl_book.measured.suites import file_specs, gpu_tests, notebooks
from dtl_book.paths import CHECKOUT

CPU = torch.device("cpu")
TOY = "toy/vit"
GOOD = """
import pytest
gpu = pytest.mark.gpu
@gpu
def test_fine(): pass
@gpu
def test_bad(): assert 41 == 42, "a planted failure"
@gpu
@pytest.mark.skip
def test_skipped(): pass
def test_of_another_kind(): raise AssertionError
"""
HANGS = """
import os, pathlib, pytest, time
gpu = pytest.mark.gpu
@gpu
def test_long():
    pathlib.Path(__file__).with_suffix(".pid").write_text(str(os.getpid()))
    time.sleep(100)
"""


def files_of(folder, **sources):
    paths = []
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = gpu: x\n")
    for name, source in sources.items():
        paths.append(folder / f"test_{name}.py")
        paths[-1].write_text(source)
    return paths


def card_of(path, files=None, part="tests", seconds=600.0):
    specs = None if files is None else file_specs(files)
    fill_card(part, MEASURE[part], path, CPU, TOY, time.monotonic() + seconds, specs)
    return load_card(path)


def test_the_files_with_gpu_tests_are_found_by_their_mark():
    found = [path.relative_to(CHECKOUT).as_posix() for path in gpu_tests()]
    assert "tests/core/test_gpu.py" in found and "tests/core/test_plan.py" in found and len(found) < 10
    others = {path for path in (CHECKOUT / "tests").rglob("test_*.py") if path != Path(__file__).resolve()}
    assert {path for path in others if "pytest.mark.gpu" in path.read_text()} == set(gpu_tests())


def test_tests_are_counted_and_failures_quoted(tmp_path):
    path = tmp_path / "cards" / "tests.json"
    card = card_of(path, files_of(tmp_path, good=GOOD, broken="import nothing_of_this_name\n"))
    good, broken = card["rows"]
    assert {k: good[k] for k in ("status", "passed", "failed", "skipped")} == {
        "status": "failed", "passed": 1, "failed": 1, "skipped": 1,
    }  # fmt: skip
    (failure,) = good["failures"]
    assert failure["test"].endswith("test_bad") and "a planted failure" in failure["text"]
    assert broken["status"] == "failed" and "nothing_of_this_name" in broken["error"] and broken["passed"] == 0


def test_a_file_that_was_changed_is_run_again_and_one_that_passed_is_not(tmp_path, monkeypatch):
    path, ran = tmp_path / "cards" / "tests.json", []
    counts = {"passed": 1, "failed": 0, "skipped": 0, "seconds": 1, "failures": []}
    monkeypatch.setattr(suites, "run_file", lambda file, *_: ran.append(file.name) or {"status": "passed", **counts})
    files = files_of(tmp_path, one="1\n", two="2\n")
    card_of(path, files)
    files[1].write_text("3\n")
    card_of(path, files)
    assert ran == ["test_one.py", "test_two.py", "test_two.py"]


def test_a_test_that_hangs_is_stopped_with_the_budget(tmp_path, monkeypatch):
    (file,) = files_of(tmp_path, hangs=HANGS)
    pid = file.with_suffix(".pid")

    class EndsBudget(subprocess.Popen):
        """The budget is over as soon as the test runs."""

        over = False

        def wait(self, timeout=None):
            if self.over:
                return super().wait(timeout)
            end, self.over = time.monotonic() + 60, True
            while not (pid.exists() and pid.read_text()):
                assert time.monotonic() < end, "the test never runs"
                time.sleep(0.01)
            raise subprocess.TimeoutExpired("pytest", timeout)

    monkeypatch.setattr(child.subprocess, "Popen", EndsBudget)
    card = card_of(tmp_path / "cards" / "tests.json", [file])
    assert card["rows"] == [] and "stopped after" in card["not_run"][0]["reason"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_notebook_fails_with_its_text(tmp_path):
    cells = [nbformat.v4.new_code_cell(source) for source in ("print(6 * 7)", "raise KeyError('a planted failure')")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "some.ipynb")
    (row,) = card_of(tmp_path / "cards" / "notebooks.json", [tmp_path / "some.ipynb"], "notebooks")["rows"]
    assert (row["status"], row["passed"], row["failed"]) == ("failed", 1, 1)
    assert "a planted failure" in row["failures"][0]["text"]


def test_without_nbval_the_notebooks_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(suites, "find_spec", lambda name: None)
    card = card_of(tmp_path / "notebooks.json", part="notebooks")
    assert card["rows"] == [] and len(card["not_run"]) == len(notebooks(CPU)) == 6
    assert all("pip install nbval" in entry["reason"] for entry in card["not_run"])
    assert len(notebooks(torch.device("cuda"))) > 20


def test_away_from_a_checkout_there_are_neither(tmp_path, monkeypatch):
    monkeypatch.setattr(suites, "in_checkout", lambda: False)
    for part in ("tests", "notebooks"):
        card = card_of(tmp_path / f"{part}.json", part=part)
        (missing,) = card["not_run"]
        assert card["rows"] == [] and missing["name"] == part and "outside one" in missing["reason"]


def rehearsed(path, specs, seconds=600.0):
    fill_card("paper", MEASURE["paper"], path, CPU, TOY, time.monotonic() + seconds, specs)
    return load_card(path)


def test_a_run_is_killed_and_goes_on_and_the_others_follow(tmp_path, monkeypatch):
    for name in ("DATA", "RESULTS", "CACHE"):
        monkeypatch.setenv(f"DTL_{name}", str(tmp_path / "recorded"))
    before = {p: p.stat().st_mtime_ns for p in Path(CHECKOUT, "results").rglob("*.json")}
    wrong = {"name": "wrong", "benchmark": "vtab-1k", "task": "no_such_task", "method": "lora", "killed": False}
    few, domain = paper_specs()[4:]
    card = rehearsed(tmp_path / "paper.json", [paper_specs()[0], wrong, few, domain])
    killed, failed, augmented, carried = card["rows"]
    assert (killed["status"], killed["killed"], killed["resumed_from"], killed["epochs"]) == ("passed", True, 1, 2)
    assert killed["drop_path"] == 0.2 and killed["protocol"] == "authors" and killed["finite"]
    assert failed["status"] == "failed" and "no_such_task" in failed["error"]
    assert augmented["augmentation"] == "rand-m9-mstd0.5-inc1" and augmented["resumed_from"] == 0
    assert carried["targets"] == ["imagenet-rendition", "imagenet-sketch"]
    assert not (tmp_path / "recorded").exists(), "nothing of it lands among what is recorded"
    assert before == {p: p.stat().st_mtime_ns for p in Path(CHECKOUT, "results").rglob("*.json")}


def test_a_process_that_dies_costs_its_run_alone(tmp_path, monkeypatch):
    """A stand-in for the process of a run: it writes the row, or ends as if the kernel had ended it."""

    def run_python(arguments, device, deadline, **places):
        job = json.loads(arguments[-1])
        if job["spec"]["name"] == "two":
            return 9, "the last words\n"
        row = {"status": "passed", "epochs": 2, "precision": "fp32", "loss": 1.0, "seconds": 1, "resumed_from": 0}
        Path(job["out"]).write_text(json.dumps({**row, "value": job["spec"]["name"]}))
        return 0, ""

    monkeypatch.setattr(rehearsal, "run_python", run_python)
    specs = [{"name": name, "killed": False} for name in ("one", "two", "three")]
    late = rehearsed(tmp_path / "late.json", specs, seconds=-1)
    assert late["rows"] == [] and len(late["not_run"]) == 3
    card = rehearsed(tmp_path / "paper.json", specs)
    assert [row["status"] for row in card["rows"]] == ["passed", "failed", "passed"]
    assert "ended with status 9: the last words" in card["rows"][1]["error"] and card["rows"][2]["value"] == "three"

"""Executing notebooks: a failing one names its cell and the others still run; what is written is clean."""

from __future__ import annotations

import asyncio
import json
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from dtl_book.lab import note_run
from dtl_book.lab.run_log import trained_in
from dtl_book.notebooks.catalog import clean_notebook, list_notebooks, read_notebook, without_bars
from dtl_book.notebooks.run import NotebookClient, run_notebooks, select

BAR = 'import sys; print("\\r 50%|##   | 1/2 [00:01<00:01,  1.0it/s]", file=sys.stderr)'


def write(folder, name, *sources):
    cells = [new_markdown_cell(f"# {name[:2]} · Title of {name}\n\n*About 2 minutes*\n\n**Goal.** See `it` run.")]
    notebook = new_notebook(cells=cells + [new_code_cell(source) for source in sources])
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """Six notebooks, four of them broken, executed once."""
    folder = tmp_path_factory.mktemp("notebooks")
    write(
        folder,
        "01_good",
        BAR,
        "from dtl_book.lab import note_run\nnote_run('dtl', 'mnist', 0, 'test', 0.9512, 3.2)",
        "1 + 1",
    )
    write(folder, "02_fails", "ready = True", "rank = 0\nassert rank > 0, 'rank must be positive'", "print('never')")
    write(folder, "03_dies", "import os\nos._exit(1)")
    write(folder, "04_hangs", "import time\ntime.sleep(600)")
    (folder / "05_damaged.ipynb").write_text('{"cells": [')
    write(folder, "06_good", "import os", "print(os.environ['DTL_PROFILE'])")
    before = {path.name: path.read_bytes() for path in folder.glob("*.ipynb")}
    runs = run_notebooks(profile="smoke", folder=folder, out=folder / "out", in_place=True, timeout=60)
    return {"folder": folder, "runs": runs, "before": before}


def test_failures_name_their_cell_and_the_others_run(book):
    runs = book["runs"]
    assert {name: run["failed"] for name, run in runs.items()} == {
        "01_good": False,
        "02_fails": True,
        "03_dies": True,
        "04_hangs": True,
        "05_damaged": True,
        "06_good": False,
    }
    status = {name[:2]: run["status"] for name, run in runs.items()}
    assert re.fullmatch(r"ran in \d+ s", status["01"])
    assert status["02"] == "failed in cell [2] “rank = 0”: AssertionError: rank must be positive"
    assert status["03"].startswith("failed in cell [1] “import os”: the kernel died")
    assert status["04"] == "failed in cell [1] “import time”: took longer than 60 s"
    assert status["05"].startswith("failed: ") and "05_damaged.ipynb is not a notebook" in status["05"]


def test_index_and_pages(book):
    out = book["folder"] / "out"
    index = (out / "index.html").read_text()
    assert "4 of 6 notebooks failed" in index and "failed in cell [2]" in index
    assert 'href="06_good.html"' in index and "05_damaged.html" not in index
    assert "What was trained" in index and "<td>mnist</td>" in index and "<td>0.951</td>" in index
    assert "about 2 minutes" in index and "See it run." in index
    failed = (out / "02_fails.html").read_text()
    assert "This run failed in cell [2]" in failed and 'class="output traceback' in failed
    assert "run-note" not in index + (out / "01_good.html").read_text()
    assert not (out / "05_damaged.html").exists()
    assert read_notebook(out / "06_good.ipynb").cells[-1].outputs[0].text.strip() == "smoke"


def test_only_what_ran_is_written_back(book):
    now = {path.name: path.read_bytes() for path in book["folder"].glob("*.ipynb")}
    changed = {name for name in now if now[name] != book["before"][name]}
    assert changed == {"01_good.ipynb", "06_good.ipynb"}
    first = read_notebook(book["folder"] / "01_good.ipynb")
    assert first.cells[1].outputs == [], "the progress bar stayed"
    assert [cell.execution_count for cell in first.cells[1:]] == [1, 2, 3]
    assert dict(first.metadata.language_info) == {"name": "python"}
    assert all("execution" not in cell.metadata for cell in first.cells)


def test_what_this_run_trained(book, tmp_path, monkeypatch):
    noted = {"method": "dtl", "task": "mnist", "seed": 0, "split": "test", "accuracy": 0.9512, "seconds": 3.2}
    assert trained_in(book["folder"] / "out" / "trained").to_dict("records") == [noted]
    (tmp_path / "half.json").write_text('{"method": "dt')
    (tmp_path / "other.json").write_text("[1, 2]")
    (tmp_path / "short.json").write_text(json.dumps({"method": "lora"}))
    runs = trained_in(tmp_path)
    assert list(runs["method"]) == ["lora"] and runs["accuracy"].isna().all()
    assert trained_in(tmp_path / "none").empty
    monkeypatch.delenv("DTL_TRAINED", raising=False)
    note_run("dtl", "mnist", 0, "test", 0.5, 1.0)  # outside the runner: nothing is written, nothing fails


def test_select(book):
    infos = list_notebooks(folder=book["folder"])
    assert [info.number for info in select(infos, ["06", "notebooks/01_good.ipynb"])] == ["01", "06"]
    with pytest.raises(ValueError, match="no notebook is called '99'.*06_good"):
        select(infos, ["99"])
    with pytest.raises(ValueError, match="there are no notebooks in"):
        run_notebooks(profile="smoke", folder=book["folder"] / "empty")


def test_clean_notebook_keeps_outputs_and_drops_traces():
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "IntSlider(value=0)"}
    bar = {
        "application/vnd.jupyter.widget-view+json": {"model_id": "2"},
        "text/plain": "  0%|          | 0/3 [00:00<?, ?it/s]",
    }
    traces = {"execution": {"iopub.status.busy": "2026-01-01"}, "scrolled": True}
    cell = new_code_cell("x", metadata={"tags": ["nbval-skip"], **traces})
    cell.outputs = [
        new_output("stream", name="stdout", text="kept\n"),
        new_output(
            "stream",
            name="stderr",
            text="a warning\n\r 10%|#  | 1/10 [00:01<00:09, 1.0it/s]\r100%|###| 10/10 [00:09<00:00, 1.0it/s]\n",
        ),
        new_output("display_data", data=widget),
        new_output("display_data", data=bar),
    ]
    notebook = new_notebook(cells=[cell], metadata={"widgets": {"state": {}}, "toc": 1})
    clean_notebook(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.cells[0].metadata == {"tags": ["nbval-skip"]}
    kinds = [output.output_type for output in notebook.cells[0].outputs]
    assert kinds == ["stream", "stream", "display_data"]
    assert notebook.cells[0].outputs[1].text == "a warning\n"
    assert "Interactive in JupyterLab" in notebook.cells[0].outputs[2].data["text/plain"]
    nbformat.validate(notebook)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("train: 100%|█████| 31/31 [00:09<00:00,  3.4it/s, loss=0.12]\n", ""),
        ("7it [00:00, 12.3it/s]\n", ""),
        ("90.1MB [00:06, 15.0MB/s]\n", ""),
        ("loss 50% of [0:1] and more\n", "loss 50% of [0:1] and more\n"),
        ("one\rtwo\n", "two\n"),
    ],
)
def test_without_bars(text, kept):
    assert without_bars(text).strip("\n") == kept.strip("\n")


def test_ctrl_c_while_a_kernel_starts_stops_all(tmp_path, monkeypatch):
    def cancelled(*_, **__):  # what nbclient makes of it then
        raise asyncio.CancelledError

    write(tmp_path, "01_good", "1 + 1")
    monkeypatch.setattr(NotebookClient, "execute", cancelled)
    with pytest.raises(KeyboardInterrupt):
        run_notebooks(profile="smoke", folder=tmp_path, out=tmp_path / "out")

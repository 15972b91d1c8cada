"""The wheel as a reader away from the checkout gets it: the recorded cards are in it, and reading finds them there."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import dtl_core.paths
from dtl_book import paths
from dtl_book.claims import load_verdicts
from dtl_book.claims.trust import scores
from dtl_book.experiments import Run, best_setting, load_cards
from dtl_book.tables.figure1 import load_figure1
from dtl_book.tables.memory_forms import load_trade_rows, step_times

INSIDE = "dtl_book/resources/results/"
LOOK = """
import json, dtl_core
from dtl_book import paths
from dtl_book.experiments import load_cards
print(json.dumps([dtl_core.__file__, paths.in_checkout(), len(load_cards("laptop")), str(paths.results_dir())]))
"""


def recorded_files():
    """What git would keep of results/: the same as .gitignore says."""
    found = (path.relative_to(paths.CHECKOUT / "results") for path in (paths.CHECKOUT / "results").rglob("*.json"))
    kept = (p for p in found if p.parts[0] != "smoke" and p.parts[:2] != ("measured", "cpu"))
    return {p.as_posix() for p in kept if "failed" not in p.parts and p.name != "sweep.json"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel, built from a copy without isolation and so without the network."""
    pytest.importorskip("hatchling", reason="builds without isolation, so without the network")
    if shutil.which("git") is None:
        pytest.skip("needs git to know which files are the project's")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "--", "dtl_core", "dtl_book", "results", "pyproject.toml", "README.md", "LICENSE"],
        cwd=paths.CHECKOUT, capture_output=True, text=True,
    ).stdout.split("\n")  # fmt: skip
    if not any(names):
        pytest.skip("needs git to know which files are the project's")
    for name in filter(None, names):
        if (paths.CHECKOUT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((paths.CHECKOUT / name).read_bytes())
    stale = "build/lib/dtl_book/resources/results/laptop/gone.json"  # of an earlier build
    for name in ("results/laptop/failed/vtab-1k/mnist/dtl-seed9.json", "results/laptop/vtab-1k/sweep.json", stale):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("{}")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (path,) = folder.glob("dtl_workbook-*-py3-none-any.whl")
    return path


def test_it_holds_the_record_and_nothing_else_of_results(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    cards = {name.removeprefix(INSIDE) for name in names if name.startswith(INSIDE)}
    assert cards == recorded_files() and len(cards) > 100
    assert {"dtl_book/resources/setup_cell.py.txt", "dtl_core/resources/recipes.csv", "dtl_core/py.typed"} <= set(names)
    assert not [name for name in names if name.startswith(("tests", "notebooks", "results", "build"))]
    assert wheel.stat().st_size < 3e6, "a wheel is uploaded by hand to Colab: keep it small"


def test_it_leaves_torch_and_numpy_as_they_are(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        lines = archive.read(name).decode().split("\n")
    needs = [Requirement(line.removeprefix("Requires-Dist: ")) for line in lines if line.startswith("Requires-Dist: ")]
    kept = [need for need in needs if need.name in ("torch", "torchvision", "numpy")]
    assert {need.name for need in kept} == {"torch", "torchvision", "numpy"}
    assert all(spec.operator == ">=" for need in kept for spec in need.specifier), "a lower bound, no pin"


def test_away_from_the_checkout_the_cards_are_read_from_it(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    elsewhere = tmp_path / "content"
    elsewhere.mkdir()
    env = {k: v for k, v in os.environ.items() if not k.startswith("DTL_")} | {"PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run([sys.executable, "-c", LOOK], cwd=elsewhere, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    where, inside, cards, results = json.loads(done.stdout)
    assert Path(where).is_relative_to(tmp_path / "site") and not inside
    assert cards == len(load_cards("laptop", root=paths.CHECKOUT / "results")) > 0
    assert Path(results) == elsewhere / "results", "runs are written beside the notebook, never into the package"
    assert not (elsewhere / "results").exists()


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """As an installed package sees it: no checkout, the record in the package, an empty folder to work in."""
    monkeypatch.delenv("DTL_RESULTS", raising=False)
    for module in (paths, dtl_core.paths):
        monkeypatch.setattr(module, "in_checkout", lambda: False)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "results").symlink_to(paths.CHECKOUT / "results", target_is_directory=True)
    monkeypatch.setattr(paths, "RESOURCES", tmp_path / "package")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def test_an_own_card_stands_before_the_one_that_came_along(installed):
    came = load_cards("laptop")
    name = Path("laptop", "vtab-1k", "mnist", "dtl-seed0.json")
    mine = json.loads((paths.RESOURCES / "results" / name).read_text()) | {"accuracy": 0.123}
    (installed / "results" / name).parent.mkdir(parents=True)
    (installed / "results" / name).write_text(json.dumps(mine))
    cards = load_cards("laptop")
    assert len(cards) == len(came)
    (own, *rest), (_, *others) = (c.query("task == 'mnist' and method == 'dtl'")["accuracy"] for c in (cards, came))
    assert own == 0.123 and rest == others


def test_single_files_are_found_too(installed, monkeypatch, tmp_path):
    assert load_figure1()["rows"] and step_times()["rows"] and len(load_trade_rows())
    assert [row["id"] for row in load_verdicts()] == [f"C{i}" for i in range(1, 13)]
    assert len(scores("laptop", "vtab-1k", "mnist", "dtl").cards) == 3
    assert best_setting(Run("mnist", "dtl", profile="laptop")).lr in (0.001, 0.01)
    missing = paths.results_dir() / "planned" / "none.json"
    assert paths.recorded_path(missing) == missing, "where it would be written"
    outside = tmp_path / "figure.json"
    assert paths.recorded_path(outside) == outside
    monkeypatch.setenv("DTL_RESULTS", str(tmp_path / "mine"))
    assert load_cards("laptop").empty, "where DTL_RESULTS is set, nothing else is read"
    with pytest.raises(FileNotFoundError):
        load_figure1()

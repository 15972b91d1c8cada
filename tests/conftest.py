"""Shared by all tests: one thread, processes that can be killed, and GPU tests only where there is a GPU."""

import multiprocessing
import os
import shutil
import sys
from multiprocessing import forkserver
from pathlib import Path

import pytest
import torch
from stand_ins import kitti, link_tree
from toys import only_cpu

torch.set_num_threads(1)  # two loaded cores are slower with two threads than with one


BROWSER_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",  # what is asked from outside fails at once
]


@pytest.fixture(scope="module")
def browser():
    """The system's Chromium, driven by Playwright."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install -e '.[test]'"
    )
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium on this machine: .ci/run installs one where it can")
    with sync_api.sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=found, args=BROWSER_FLAGS)
        yield instance
        instance.close()


@pytest.fixture(autouse=True)
def figures_are_closed():
    """pyplot keeps every figure until it is closed."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session")
def axe():
    """The source of axe-core, as a Python package ships it."""
    package = pytest.importorskip("axe_playwright_python", reason="axe is not installed: pip install -e '.[test]'")
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch finds none here"))


@pytest.fixture(scope="module")
def processes():
    """Starts real processes that can be killed; what they import is imported once, in the server that forks them."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        pytest.skip("needs processes that are forked from a server and can be killed, and this system has none")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["victims"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "PYTHONPATH", os.pathsep.join(filter(None, [os.path.dirname(__file__), os.environ.get("PYTHONPATH")]))
        )
        forkserver.ensure_running()
    return context


@pytest.fixture(scope="session")
def smoke_data(tmp_path_factory):
    """A data folder with one task of the smoke profile, shape_location; nobody writes into it."""
    from dtl_book.standins import build_suite

    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DTL_DATA", str(folder))
        build_suite("smoke", tasks=("shape_location",))
    return folder


@pytest.fixture
def place(smoke_data, tmp_path, monkeypatch):
    """A folder of the test's own, with its own results and cache; the data are shared."""
    for name, value in {"DATA": smoke_data, "RESULTS": tmp_path / "results", "CACHE": tmp_path / "cache"}.items():
        monkeypatch.setenv(f"DTL_{name}", str(value))
    only_cpu(monkeypatch)
    return tmp_path


@pytest.fixture
def plain_pip(monkeypatch):
    """Pip without the settings of whoever runs the tests."""
    for name in [n for n in os.environ if n.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.fixture(scope="session")
def whole_vtab(tmp_path_factory):
    return kitti(tmp_path_factory.mktemp("whole") / "vtab-1k")


@pytest.fixture
def vtab_stand_in(whole_vtab, tmp_path):
    """A copy to plant faults in: replace its files (``stand_ins.put``), never write into them."""
    return link_tree(whole_vtab, tmp_path / "vtab-1k")

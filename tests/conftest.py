"""Shared by all tests: one thread, processes that can be killed, and GPU tests only where there is a GPU."""

import multiprocessing
import os
from multiprocessing import forkserver

import pytest
import torch

torch.set_num_threads(1)  # two loaded cores are slower with two threads than with one


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
    context.set_forkserver_preload(["toys"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "PYTHONPATH", os.pathsep.join(filter(None, [os.path.dirname(__file__), os.environ.get("PYTHONPATH")]))
        )
        forkserver.ensure_running()
    return context

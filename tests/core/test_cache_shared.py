"""The frozen-prefix cache between runs: two that start together write it once, and a killed writer keeps no one waiting."""

import time

import torch
from toys import ToyImages, toy_model
from victims import shared_cache_process

from dtl_core.training import PrefixCache

IMAGES = 24


def start(processes, folder, name, method="dtl", die_at=None):
    process = processes.Process(target=shared_cache_process, args=(str(folder), name, method, die_at))
    process.start()
    return process


def opened(folder, name):
    """The images that a process opened, in order."""
    path = folder / f"{name}.opened"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def said(folder, name):
    """What a process printed so far."""
    path = folder / f"{name}.said"
    return path.read_text() if path.exists() else ""


def wait_until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it never comes"
        time.sleep(0.005)


def test_two_that_start_together_write_once_and_both_read(processes, tmp_path):
    runs = {name: start(processes, tmp_path, name, method) for name, method in (("a", "dtl"), ("b", "dtl+"))}
    wait_until(lambda: all((tmp_path / f"{name}.ready").exists() for name in runs))
    (tmp_path / "go").touch()  # both look for the file at this moment, and there is none
    for process in runs.values():
        process.join(60)
        assert process.exitcode == 0
    seen = {name: opened(tmp_path, name) for name in runs}
    reader, writer = sorted(runs, key=lambda name: len(seen[name]))
    assert seen[writer] == [0, *range(IMAGES)], "one image is looked at for the size, then each is computed"
    assert seen[reader] == [0], "the other computes none"
    assert len(list((tmp_path / "prefix").glob("*.bin"))) == 1
    a, b = (torch.load(tmp_path / f"{name}.pt") for name in runs)
    expected = toy_model().prefix(ToyImages(IMAGES).images)
    for read in (a, b):
        torch.testing.assert_close(read["tokens"], expected.tokens, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(read["tap 3"], expected.taps[3], rtol=1e-5, atol=1e-6)
    assert torch.equal(a["tokens"], b["tokens"])


def test_a_writer_that_is_killed_blocks_no_one(processes, tmp_path):
    (tmp_path / "go").touch()
    doomed = start(processes, tmp_path, "doomed", die_at=17)
    wait_until(lambda: len(opened(tmp_path, "doomed")) > 3)  # it holds the lock and writes
    waiting = start(processes, tmp_path, "waiting")
    wait_until(lambda: "another run is writing it; waiting" in said(tmp_path, "waiting"))
    assert doomed.is_alive() and opened(tmp_path, "waiting") == [0]
    (tmp_path / "die").touch()
    doomed.join(60)
    waiting.join(60)
    assert (doomed.exitcode, waiting.exitcode) == (-9, 0)
    assert opened(tmp_path, "doomed")[-1] == 17 and opened(tmp_path, "waiting") == [0, *range(IMAGES)]
    assert "waiting" not in said(tmp_path, "doomed")
    features, labels = PrefixCache(toy_model(), ToyImages(IMAGES), root=tmp_path / "prefix", progress=False)[23]
    torch.testing.assert_close(features.tokens, toy_model().prefix(ToyImages(IMAGES).images[23:]).tokens)
    assert labels.tolist() == [3]

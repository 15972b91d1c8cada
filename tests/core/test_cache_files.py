"""The frozen-prefix cache on disk: shared where it may be, whole or not there, one writer, announced beforehand."""

import json
import os
import time
from dataclasses import replace

import pytest
import torch
from toys import ToyImages, ToyTransform, toy_model
from victims import cache_process, shared_cache_process

from dtl_core import DTL, DTLConfig, load_backbone
from dtl_core.training import PrefixCache

QUIET = dict(device="cpu", progress=False)
IMAGES = 24


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DTL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "prefix"


def stamp(path):
    return path.stat().st_ino, path.stat().st_mtime_ns


def test_dtl_and_dtl_plus_share_a_file_and_so_do_seeds(cache_folder):
    data = ToyImages(4)
    first = PrefixCache(toy_model("dtl"), data, **QUIET)
    before = stamp(first.path)
    for model in (toy_model("dtl+"), toy_model("dtl", seed=1)):
        again = PrefixCache(model, data, **QUIET)
        assert again.path == first.path and stamp(again.path) == before
    assert sorted(p.suffix for p in cache_folder.iterdir()) == [".bin", ".json", ".lock"]


def test_what_changes_the_features_changes_the_file(tmp_path):
    other_weights = load_backbone("toy/vit")
    other_weights.pos_embed.data += 0.1
    del other_weights.dtl_info
    touched = tmp_path / "image.png"
    touched.write_bytes(b"as it was unpacked")

    class WithFiles(ToyImages):
        samples = [(touched, 0)]

    class Cropped(ToyTransform):
        def __repr__(self):
            return "Cropped()"

    other_view = ToyImages(4)
    other_view.transform = Cropped(True)
    base = DTLConfig()
    keys = {
        "base": PrefixCache(toy_model(), ToyImages(4), **QUIET),
        "backbone": PrefixCache(DTL(other_weights, 4, base), ToyImages(4), **QUIET),
        "M": PrefixCache(DTL(load_backbone("toy/vit"), 4, replace(base, inject_from=5)), ToyImages(4), **QUIET),
        "taps": PrefixCache(DTL(load_backbone("toy/vit"), 4, replace(base, tap_from=2)), ToyImages(4), **QUIET),
        "linear": PrefixCache(toy_model("linear"), ToyImages(4), **QUIET),
        "readout": PrefixCache(toy_model("linear", readout="cls"), ToyImages(4), **QUIET),
        "data": PrefixCache(toy_model(), ToyImages(4, seed=1), **QUIET),
        "size": PrefixCache(toy_model(), ToyImages(5), **QUIET),
        "transform": PrefixCache(toy_model(), other_view, **QUIET),
        "dtype": PrefixCache(toy_model(), ToyImages(4), dtype=torch.bfloat16, **QUIET),
        "computed": PrefixCache(toy_model().double(), ToyImages(4), **QUIET),
        "files": PrefixCache(toy_model(), WithFiles(4), **QUIET),
    }
    touched.write_bytes(b"as it was unpacked another day")  # the same list, other pixels
    keys["other files"] = PrefixCache(toy_model(), WithFiles(4), **QUIET)
    paths = {name: cache.path for name, cache in keys.items()}
    assert len(set(paths.values())) == len(paths), paths


DAMAGES = {
    "a byte": lambda path, note: path.write_bytes(flipped(path.read_bytes(), 100)),
    "cut": lambda path, note: os.truncate(path, path.stat().st_size // 2),
    "longer": lambda path, note: path.write_bytes(path.read_bytes() + b"\0" * 8),
    "gone": lambda path, note: path.unlink(),
    "note cut": lambda path, note: os.truncate(note, note.stat().st_size // 2),
    "note gone": lambda path, note: note.unlink(),
    "note of something else": lambda path, note: note.write_text("null"),
    "labels": lambda path, note: note.write_text(json.dumps(json.loads(note.read_text()) | {"labels": [0] * 6})),
}


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_found_and_written_again(damage):
    model, data = toy_model(), ToyImages(6)
    path = PrefixCache(model, data, **QUIET).path
    note, whole = path.with_suffix(".json"), path.read_bytes()
    text = note.read_text()
    DAMAGES[damage](path, note)
    again = PrefixCache(model, data, **QUIET)
    assert path.read_bytes() == whole and note.read_text() == text
    assert again.labels.tolist() == [0, 1, 2, 3, 0, 1]


def test_killed_while_it_writes_nothing_half_is_left(processes, tmp_path):
    for images in (5, 23):
        process = processes.Process(target=cache_process, args=(str(tmp_path), images))
        process.start()
        process.join(60)
        assert process.exitcode == -9
        assert sorted(p.suffix for p in tmp_path.iterdir()) == [".lock", ".part"], (
            "no file of its own name, half or whole"
        )
    fresh = tmp_path / ".another.bin.x.part"
    fresh.write_bytes(b"someone is writing this now")
    model, data = toy_model(), ToyImages()
    cache = PrefixCache(model, data, root=tmp_path, **QUIET)
    torch.testing.assert_close(cache[23][0].tokens, model.prefix(data.images[23:]).tokens, rtol=1e-5, atol=1e-6)
    own = {cache.path.with_suffix(suffix).name for suffix in (".bin", ".json", ".lock")}
    assert {p.name for p in tmp_path.iterdir()} == own | {fresh.name}


def test_the_size_is_announced_before_it_is_written(cache_folder, capsys):
    said = []

    class Watch(ToyImages):
        def __getitem__(self, i):
            if i == 1:  # the first image is also looked at to plan the size
                said.append(capsys.readouterr().out)
                assert not list(cache_folder.glob("*.bin"))
            return super().__getitem__(i)

    model = toy_model()
    cache = PrefixCache(model, Watch(40), device="cpu")
    assert said == [f"prefix cache: 1020 KiB (40 images of 26,112 bytes) in {cache_folder}\n"]
    assert cache.path.stat().st_size == 40 * 26_112
    PrefixCache(model, Watch(40), device="cpu")
    assert capsys.readouterr().out == "", "nothing is announced where nothing is written"


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

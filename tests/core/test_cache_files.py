"""The frozen-prefix cache on disk: shared where it may be, whole or not there, announced before it is written."""

import json
import os
import time
from dataclasses import replace

import pytest
import torch
from toys import SHORT, ToyImages, toy_model
from victims import cache_process

from dtl_core import DTL, DTLConfig, load_backbone
from dtl_core.training import PrefixCache

ONE_EPOCH = replace(SHORT, epochs=1, warmup_epochs=0, cooldown_epochs=0)
QUIET = dict(device="cpu", progress=False)


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
        "transform": PrefixCache(toy_model(), ToyImages(4, deterministic=False), allow_inexact=True, **QUIET),
        "dtype": PrefixCache(toy_model(), ToyImages(4), dtype=torch.bfloat16, **QUIET),
        "computed": PrefixCache(toy_model().double(), ToyImages(4), **QUIET),
        "files": PrefixCache(toy_model(), WithFiles(4), **QUIET),
    }
    touched.write_bytes(b"as it was unpacked another day")  # the same list, other pixels
    keys["other files"] = PrefixCache(toy_model(), WithFiles(4), **QUIET)
    paths = {name: cache.path for name, cache in keys.items()}
    assert len(set(paths.values())) == len(paths), paths


@pytest.mark.parametrize(
    "damage", ["a byte", "cut", "longer", "gone", "note cut", "note gone", "note of something else", "labels"]
)
def test_a_damaged_file_is_found_and_written_again(damage):
    model, data = toy_model(), ToyImages(6)
    path = PrefixCache(model, data, **QUIET).path
    note, whole = path.with_suffix(".json"), path.read_bytes()
    text = note.read_text()
    if damage == "a byte":
        path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    elif damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "longer":
        path.write_bytes(whole + b"\0" * 8)
    elif damage == "gone":
        path.unlink()
    elif damage == "note cut":
        note.write_text(text[: len(text) // 2])
    elif damage == "note gone":
        note.unlink()
    elif damage == "note of something else":
        note.write_text("null")
    else:
        note.write_text(json.dumps(json.loads(text) | {"labels": [0] * 6}))
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
        left = next(tmp_path.glob(".*.part"))
        hours_ago = time.time() - 7200
        os.utime(left, (hours_ago, hours_ago))
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
    assert said == [f"prefix cache: 1 MiB (40 images of 26,112 bytes) in {cache_folder}\n"]
    assert cache.path.stat().st_size == 40 * 26_112
    PrefixCache(model, Watch(40), device="cpu")
    assert capsys.readouterr().out == "", "nothing is announced where nothing is written"

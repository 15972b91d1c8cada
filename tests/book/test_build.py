"""The built suites: layout, counts, same bytes from a seed, nothing in two splits, whole or not there."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from joblib import parallel_config

from dtl_book import paths
from dtl_book.standins import TASKS, build_suite, digits, typefaces
from dtl_book.standins import suites as module
from dtl_book.standins.digits import build_domain
from dtl_book.standins.seeded_folder import BUILT
from dtl_book.standins.suites import DRAWN, EVERYTHING, SIZES, Sizes, build_task
from dtl_book.standins.typefaces import build_typefaces
from dtl_core.data import DomainShift, FewShot, VTAB1k

TINY = Sizes(6, 4, 6, 32)


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """The whole smoke suite, built once; no fetched file is there."""
    data = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DTL_DATA", str(data))
        folders = build_suite("smoke")
    assert [p.name for p in data.iterdir()] == ["smoke"]
    return folders


def test_smoke_has_all_six_tasks_and_the_two_other_benchmarks(suite):
    assert tuple(suite) == EVERYTHING == (*TASKS, "typefaces", "digits")
    assert ("mnist", "elpv", *DRAWN) == TASKS
    smoke = suite["mnist"].parents[1]
    assert suite["typefaces"] == smoke / "few-shot/typefaces" and suite["digits"] == smoke / "domain"


@pytest.mark.parametrize("task", TASKS)
def test_layout_counts_and_labels(suite, task):
    root, sizes = suite[task].parent, SIZES["smoke"]
    lists = {s: VTAB1k(root, task, s) for s in ("train800", "val200", "train800val200", "test")}
    assert [len(d) for d in lists.values()] == [sizes.train, sizes.val, sizes.train + sizes.val, sizes.test]
    assert lists["train800val200"].samples == lists["train800"].samples + lists["val200"].samples
    classes = {"mnist": 10, "elpv": 4, "object_count": 8, "object_distance": 6}.get(task, 16)
    for data in lists.values():
        list(data)
        assert data.classes == classes == len(set(data.class_names))
        counts = np.bincount(data.targets, minlength=classes)
        assert data.split == "train800val200" or counts.max() - counts.min() <= 1
        assert data[0][0].size == (32, 32) and data.samples[0][0].suffix == ".png"


BUILDERS = {
    **{task: (build_task, task, TINY, True) for task in TASKS},
    **{domain: (build_domain, domain, digits.Sizes(10, 10, 16), True) for domain in digits.DOMAINS},
    "typefaces": (lambda _, *rest: build_typefaces(*rest[:3]), "", typefaces.Sizes(2, 1, 1, 16), True),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_same_bytes_from_the_seed(tmp_path, name):
    build, what, sizes, stand_in = BUILDERS[name]
    for place, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert build(what, tmp_path / place / name, sizes, seed, stand_in)
    one, two, other = (files(tmp_path / place / name) for place in "abc")
    assert one == two and json.loads(one[BUILT])["digest"] != json.loads(other[BUILT])["digest"]
    if name != "uci":  # its scans are drawn from few
        pictures = [{v for k, v in found.items() if k.endswith(".png")} for found in (one, other)]
        assert not pictures[0] & pictures[1]
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert not build(what, tmp_path / "a" / name, sizes, 0, stand_in), "it is there already"
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert build(what, tmp_path / "a" / name, sizes, 1, stand_in) and files(tmp_path / "a" / name) == other


def test_workers_do_not_change_the_images(tmp_path, monkeypatch):
    """The slow tasks are drawn by several workers in a full build. Threads here: they start at once."""
    monkeypatch.setattr(module, "PARALLEL_FROM", 10)
    monkeypatch.setattr(module.os, "cpu_count", lambda: 4)
    with parallel_config(backend="threading"):
        build_task("object_count", tmp_path / "several", TINY, 0, stand_in=False)
    monkeypatch.setattr(module, "SLOW", ())
    build_task("object_count", tmp_path / "one", TINY, 0, stand_in=False)
    assert files(tmp_path / "several") == files(tmp_path / "one")


def cut(folder):
    path = folder / "images/val/00001.png"
    path.write_bytes(path.read_bytes()[:50])


def edit(folder):
    path = folder / "test.txt"
    path.write_text(path.read_text().replace(" 1\n", " 2\n"))


@pytest.mark.parametrize(
    "damage",
    [cut, edit, lambda d: (d / "images/train/00003.png").unlink(), lambda d: (d / BUILT).write_text("{")],
    ids=["cut", "edited", "no image", "no record"],
)
def test_damage_is_found_and_mended(tmp_path, damage):
    target = tmp_path / "shape_orientation"
    build_task("shape_orientation", target, TINY, 0, stand_in=False)
    whole = files(target)
    damage(target)
    assert build_task("shape_orientation", target, TINY, 0, stand_in=False)
    assert files(target) == whole and len(list(tmp_path.iterdir())) == 2, "the task and its lock"


def test_kill_in_the_middle_leaves_no_half_task(tmp_path, processes):
    target = tmp_path / "object_count"
    process = processes.Process(target=build_task, args=("object_count", target, Sizes(300, 10, 10, 32), 0, False))
    process.start()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(tmp_path.glob(".object_count.part/images/train/0000*.png")):
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    assert list(tmp_path.glob(".object_count.part/images/train/*.png")) and not target.exists()
    build_task("object_count", target, TINY, 0, False)
    list(VTAB1k(tmp_path, "object_count", "test"))
    assert sorted(p.name for p in tmp_path.iterdir()) == [".object_count.lock", "object_count"]


def test_two_that_build_at_once_build_once(tmp_path):
    target = tmp_path / "object_count"
    with ThreadPoolExecutor(2) as pool:
        built = list(pool.map(lambda _: build_task("object_count", target, TINY, 0, False), range(2)))
    assert sorted(built) == [False, True]
    list(VTAB1k(tmp_path, "object_count", "test"))


def test_a_kill_while_the_old_folder_is_taken_away_loses_nothing(tmp_path):
    target, old = tmp_path / "object_count", tmp_path / ".object_count.old"
    build_task("object_count", target, TINY, 0, False)
    target.rename(old)  # here a run with another seed was killed
    (old / BUILT).unlink()
    assert build_task("object_count", target, TINY, 1, False) and not old.exists()
    list(VTAB1k(tmp_path, "object_count", "test"))


def test_a_folder_of_someone_else_is_not_touched(tmp_path, monkeypatch):
    monkeypatch.setenv("DTL_DATA", str(tmp_path))
    theirs = paths.vtab_dir("smoke") / "mnist"
    theirs.mkdir(parents=True)
    (theirs / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="mnist exists and was not built by `dtl data build`"):
        build_suite("smoke", ["mnist"])
    assert (theirs / "notes.txt").read_text() == "mine"


def test_the_same_picture_twice_is_refused(tmp_path, monkeypatch):
    def black(label, rng, size):
        return np.zeros((size, size, 3), np.uint8)

    monkeypatch.setitem(DRAWN, "shape_location", (black, ("a", "b")))
    with pytest.raises(RuntimeError, match="images/train/00001.png would hold the same pixels as images/train/00000"):
        build_task("shape_location", tmp_path / "shape_location", TINY, 0, stand_in=False)
    assert not (tmp_path / "shape_location").exists()


def test_a_log_is_not_filled_with_bars(tmp_path):
    command = [sys.executable, "-m", "dtl_core", "data", "build", "--profile", "smoke", "--tasks", "object_count"]
    bars = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"} | {"DTL_DATA": str(tmp_path)}
    done = subprocess.run(command, env=bars, cwd=paths.CHECKOUT, capture_output=True, text=True, check=True)
    assert "built in" in done.stdout and "build object_count:   0%" in done.stderr and done.stderr.count("\r") < 5


def test_wrong_names_say_what_there_is():
    with pytest.raises(ValueError, match="profile 'paper': choose laptop or smoke"):
        build_suite("paper")
    with pytest.raises(ValueError, match="no task is called cifar: choose from mnist, elpv"):
        build_suite("smoke", ["cifar"])


def test_the_laptop_suites_are_as_large_as_they_say():
    vtab, shots, domain = paths.vtab_dir("laptop"), paths.few_shot_dir("laptop"), paths.domain_dir("laptop")
    for folder in (*(vtab / task for task in TASKS), shots / "typefaces", *(domain / name for name in digits.DOMAINS)):
        if not (folder / BUILT).is_file():
            pytest.skip(f"the laptop suite was not built: run `dtl data fetch` and `dtl data build` ({folder})")
    for task in TASKS:
        sizes = [len(VTAB1k(vtab, task, s)) for s in ("train800", "val200", "train800val200", "test")]
        assert sizes == [800, 200, 1000, 1624 if task == "elpv" else 1000]
    assert [len(FewShot(shots, "typefaces", split)) for split in ("train", "val", "test")] == [352, 352, 1056]
    assert [len(DomainShift(domain, name, "test")) for name in digits.DOMAINS] == [1000] * 5
    assert [len(DomainShift(domain, "mnist", split)) for split in ("train", "val")] == [160, 200]

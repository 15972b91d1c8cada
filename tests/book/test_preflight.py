"""The pre-flight: what it says is so, it changes nothing, and what cannot fit is refused with what would."""

import os
import re
import sys
from dataclasses import replace

import pytest
import torch
from asked import prepare, run
from stand_ins import draw
from toys import timeless

from dtl_book import cli
from dtl_book.experiments import CannotFit, Pitfalls, Run, execution, profiles
from dtl_book.experiments import preflight as module
from dtl_book.experiments.preflight import preflight
from dtl_book.experiments.recipes import recipe_of
from dtl_core import DTLConfig
from dtl_core.memory import GIB, plan_training
from dtl_core.training import authors_table

TASK, CPU = "shape_location", torch.device("cpu")
MIB = 2**20


@pytest.fixture(autouse=True)
def both_profiles(smoke_data, place, monkeypatch):
    """The same folder for both profiles: a stand-in in the official layout; the archive was not seen."""
    (place / "data").mkdir()
    for profile in ("smoke", "paper"):
        (place / "data" / profile).symlink_to(smoke_data / "smoke")
    monkeypatch.setenv("DTL_DATA", str(place / "data"))
    toy = replace(profiles.PROFILES["paper"], backbone="toy/vit", image_size=32)
    monkeypatch.setitem(profiles.PROFILES, "paper", toy)


def room_for(monkeypatch, method, batch):
    """Leaves memory for a step of so many images, and for not one more."""
    classes = prepare(method, TASK, profile="smoke").data.train.classes
    peak = plan_training(method, "toy/vit", batch_size=batch, image_size=32, num_classes=classes).peak_bytes
    free = peak + int(module.RESERVE_GIB["cpu"] * GIB)
    monkeypatch.setattr(module, "free_memory", lambda device: free)
    return free


@pytest.mark.parametrize("method", ["linear", "lora", "dtl+"])
def test_it_says_what_the_run_will_be(method, monkeypatch):
    monkeypatch.setattr(module, "free_memory", lambda device: 3 * GIB)
    ready = prepare(method, TASK, profile="smoke", seed=1)
    told = preflight(ready, cached=method != "lora")
    plan = plan_training(
        method, "toy/vit", batch_size=8, image_size=32, num_classes=ready.data.train.classes,
        **({"config": DTLConfig(dwconv_kernel=3)} if method == "dtl+" else {}),
    )  # fmt: skip
    assert told.planned_bytes == plan.peak_bytes and told.free_bytes == 3 * GIB
    assert told.data == {"train800val200": (48, ready.data.train.digest), "test": (48, ready.data.test.digest)}
    assert told.backbone == ready.info
    assert min(told.speed.load, told.speed.step, told.speed.evaluate) > 0
    assert (told.speed.prefix > 0) is (method != "lora")
    told.refuse()  # does nothing
    text = told.text()
    stored = f"; the frozen prefix takes {module.format_bytes(sum(told.stored_bytes))} on disk"
    assert "\n" not in text and (stored in text) is (method != "lora")
    digests = [digest[:8] for digest in (ready.info.sha256, ready.data.train.digest, ready.data.test.digest)]
    assert all(part in text for part in ("toy/vit", *digests, "cpu, fp32"))
    assert f"{plan.peak_bytes / MIB:.0f} MiB (planned), 3.00 GiB are free" in text and "from 2 timed steps" in text


def test_for_the_paper_profile_it_says_all_of_it():
    ready = prepare("dtl", TASK, profile="paper")
    told = preflight(ready, cached=True)
    lines = told.text().split("\n")
    assert [line.split()[0] for line in lines] == "pre-flight: weights data data device memory disk time".split()
    assert lines[1].endswith(ready.info.sha256) and lines[2].endswith(ready.data.train.digest)
    assert lines[3].endswith(ready.data.test.digest) and "paper: ViT-B/16" in lines[0]
    assert told.batch_size == 32 and told.passes == 110, "the authors' batch, their cosine and its cool-down"


@pytest.mark.parametrize("profile, line", [("smoke", "\nhens: "), ("paper", "\nclasses  ")])
def test_it_shows_the_classes_of_ones_own_images(profile, line, place):
    for label in range(12):
        for i in range(3):
            draw(place / f"hens/hen {label:02d}/{i}.png", label, i + 3 * label)
    (place / "hens/hen 00").rename(place / "hens/a\x1b[31mhen")
    told = preflight(execution.prepare(Run(data=f"folder:{place}/hens", method="linear", profile=profile)), cached=True)
    shown = ", ".join(["'a\\x1b[31mhen' (3)", *(f"hen {i:02d} (3)" for i in range(1, 10)), "and 2 more"])
    assert f"{line}12 classes: {shown}; train 12, val 12, test 12 (val and test cut from the training" in told.text()


def test_the_disk_is_what_the_stored_prefix_takes(tmp_path, monkeypatch):
    ready = prepare("dtl", TASK, profile="smoke")
    told = preflight(ready, cached=True, timed=False)
    run("dtl", TASK, profile="smoke", epochs=1, prefixes=tmp_path, progress=False)
    assert sum(told.stored_bytes) == sum(f.stat().st_size for f in tmp_path.glob("*.bin")) > 0
    assert preflight(ready, cached=False, timed=False).stored_bytes == (0, 0)
    train, test = told.stored_bytes
    assert train == test, "as many images in both"
    monkeypatch.setattr(execution, "STORED_TEST_BYTES", test - 1)
    assert preflight(ready, cached=True, timed=False).stored_bytes == (train, 0)


def test_the_time_is_that_of_all_passes():
    ready = prepare("dtl", TASK, profile="smoke", batch_size=10, epochs=3)
    told = replace(preflight(ready, cached=True, timed=False), speed=module.Speed(1, 10, 100, 1000))
    stepped = 3 * 40  # of 48 images four batches of 10 are trained on
    assert told.seconds() == (48 + 48) * (1 + 10) + stepped * 100 + 48 * 1000
    uncached = replace(told, cached=False, speed=module.Speed(1, 0, 100, 1000))
    assert uncached.seconds() == (stepped + 48) * 1 + stepped * 100 + 48 * 1000
    assert told.seconds(test_images=148) - told.seconds() == 100 * (1 + 10 + 1000)
    assert replace(told, speed=None).seconds() is None and "not timed" in replace(told, speed=None).text()
    said = [module.format_seconds(s) for s in (4.4, 89, 90, 3600, 9000)]
    assert said == ["4 s", "89 s", "1.5 min", "60.0 min", "2.5 h"]


@pytest.mark.parametrize("method", ["dtl", "full"])
def test_it_changes_nothing_of_the_run(method, capsys):
    ready = prepare(method, TASK, profile="smoke")
    before = {n: v.clone() for n, v in ready.model.state_dict().items()}
    preflight(ready, cached=method == "dtl")
    assert all(torch.equal(v, before[n]) for n, v in ready.model.state_dict().items()) and ready.model.training
    assert all(p.grad is None for p in ready.model.parameters())
    quiet, _ = run(method, TASK, profile="smoke", progress=False)
    assert capsys.readouterr().out == "", "nothing is said where no progress is wanted"
    told, _ = run(method, TASK, profile="smoke", progress=True)
    assert capsys.readouterr().out.startswith("pre-flight: toy/vit")
    assert timeless(told) == timeless(quiet)


@pytest.mark.parametrize("method", ["lora", "dtl", "full"])
def test_what_cannot_fit_is_refused_with_what_would(method, monkeypatch):
    room_for(monkeypatch, method, 5)
    monkeypatch.setattr(module, "speed_of", lambda *_: pytest.fail("a step was taken that cannot fit"))
    told = preflight(prepare(method, TASK, profile="smoke"), cached=False)
    with pytest.raises(CannotFit, match=r"at most (\d+) would fit \(--batch-size \d+\)") as refused:
        told.refuse()
    largest = int(re.search(r"at most (\d+)", str(refused.value))[1])
    assert 5 <= largest < 8 and f"{method} on {TASK} does not fit cpu" in str(refused.value)
    for batch, fits in ((largest, True), (largest + 1, False)):
        told = preflight(prepare(method, TASK, profile="smoke", batch_size=batch), cached=False, timed=False)
        assert module.fits(told.planned_bytes, told.free_bytes, told.reserve_gib) is fits


def test_shared_memory_and_room_for_not_one_image_are_said(monkeypatch):
    room_for(monkeypatch, "dtl", 8)
    ready = prepare("dtl", TASK, profile="smoke")
    preflight(ready, cached=True).refuse()
    with pytest.raises(CannotFit, match="for each of the 2 runs that share it"):
        preflight(ready, cached=True, share=2).refuse()
    for free in (room_for(monkeypatch, "full", 1) - 10 * MIB, 1000):
        monkeypatch.setattr(module, "free_memory", lambda device, n=free: n)
        with pytest.raises(CannotFit, match="not even one image would"):
            preflight(prepare("full", TASK, profile="smoke"), cached=False).refuse()


def test_the_command_refuses_before_the_first_step(monkeypatch, capsys, tmp_path):
    room_for(monkeypatch, "dtl", 3)
    monkeypatch.setattr("dtl_core.paths.CHECKOUT", tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    words = ["train", "--task", TASK, "--profile", "smoke", "--method", "dtl", "--epochs", "1"]
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    out, err = capsys.readouterr()
    assert stop.value.code == 1 and err.startswith("dtl: dtl on shape_location does not fit cpu") and "not timed" in out
    assert not (tmp_path / "build").exists() and not (tmp_path / "cache").exists()
    cli.main([*words, "--batch-size", re.search(r"--batch-size (\d+)", err)[1]])
    assert (tmp_path / "build" / "runs").exists()


def test_free_memory(monkeypatch):
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None
    monkeypatch.setitem(sys.modules, "psutil", None)  # as where it is not installed
    assert module.free_memory(CPU) == whole
    monkeypatch.delitem(sys.modules, "psutil")
    psutil = pytest.importorskip("psutil")
    assert 0 < module.free_memory(CPU) < psutil.virtual_memory().total
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5 * GIB, 8 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1 * GIB)
    assert module.free_memory(torch.device("cuda")) == 7 * GIB, "what PyTorch keeps from earlier runs is free"
    assert module.fits(10**15, None, 1.0), "a device that does not tell is hoped for"


@pytest.mark.parametrize("method, kernel", [("dtl", 0), ("dtl+", 5)])
def test_a_swin_has_the_recipes_of_the_swin_scripts(method, kernel):
    other = Pitfalls(weights="swin_base_patch4_window7_224.ms_in22k")
    swin, vit = (recipe_of(Run("svhn", method, profile="paper", pitfalls=p)) for p in (other, Pitfalls()))
    assert swin.config == DTLConfig.paper("swin", plus=method == "dtl+") and swin.config.dwconv_kernel == kernel
    rows = authors_table().query("benchmark == 'vtab-1k' and dataset == 'svhn'")
    row = rows[rows.backbone.str.startswith("swin") & (rows.method.str.lower() == method)].iloc[0]
    assert (swin.lr, swin.drop_path) == (row.lr, row.drop_path) and swin != vit
    few = recipe_of(Run("oxford-pets", method, profile="paper", benchmark="few-shot", shots=4, pitfalls=other))
    assert few.config.inject_from == 14, "where the authors have no script, the paper's configuration stays"


def test_a_paper_task_has_its_recipe_under_both_of_its_names():
    rows = authors_table()
    rows = rows[(rows.benchmark == "vtab-1k") & rows.backbone.str.startswith("vit") & (rows.method == "DTL")]
    for folder, script in (("cifar", "cifar_100"), ("oxford_flowers102", "flowers102"), ("oxford_iiit_pet", "pets")):
        a, b = (recipe_of(Run(task, "dtl", profile="paper")) for task in (folder, script))
        row = rows[rows.dataset == script].iloc[0]
        assert a == b and (a.lr, a.drop_path) == (row.lr, row.drop_path)

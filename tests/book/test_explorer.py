"""The memory explorer says what plan_training says, and follows its reader."""

import asyncio
import re
import time
from dataclasses import fields, replace
from itertools import islice

import pytest
from bs4 import BeautifulSoup

from dtl_book.explorer import panel as explorer
from dtl_book.explorer.page import advice, answer, ranked
from dtl_book.explorer.panel import explore_memory
from dtl_book.explorer.setting import Setting, anatomy, changes, fit, plan
from dtl_core import DTLConfig
from dtl_core.memory import MIB, largest_batch, plan_training

TOY = {"backbone": "toy/vit", "image_size": 32, "batch_size": 8}


def planned(method, inject_from=None, **options):
    """The peak that plan_training gives for the explorer's first setting with these changes."""
    own = {}
    if method == "dtl":
        own = {"config": DTLConfig(inject_from=6 if inject_from is None else inject_from), "recompute": "side"}
    return plan_training(method, num_classes=100, **own, **{**TOY, **options}).peak_bytes


@pytest.mark.parametrize("method", ["dtl", "bitfit"])
def test_answer_says_what_is_planned(method):
    setting = Setting(method, **TOY)
    parts = list(answer(setting, gpu_gib=2.0))
    page = dict(parts)
    assert [part for part, _ in parts if part != "status"] == ["headline", "comparison", "batch", "advice"]
    peak = planned(method)
    assert f'data-bytes="{peak}">{peak / MIB:,.1f} MiB<' in page["headline"]
    assert "<strong>fits</strong>" in page["headline"]
    tight = dict(islice(answer(setting, gpu_gib=1.001), 2))
    assert "<strong>does not fit</strong>" in tight["headline"] and "missing" in tight["headline"]
    table = BeautifulSoup(page["comparison"], "html.parser").find("table").get_text(" ")
    for other in {"full", "lora", method}:
        assert f"{planned(other) / MIB:,.1f}" in table
    assert f"is {fit(setting, 2.0).largest:,} images" in page["batch"]
    images = BeautifulSoup(page["comparison"], "html.parser").find_all("img")
    assert images and all(len(image["alt"].split()) > 10 for image in images)
    said = [int(k) for text in (t for p, t in parts if p == "status") for k in re.findall(r"planning (\d+) of", text)]
    assert said == list(range(1, len(said) + 1)) and f"planning {len(said)} of {len(said)}" in str(parts)


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        (Setting("dtl", "toy/vit", image_size=33), "not a multiple of the patch"),
        (Setting("dtl", "toy/vit", image_size=32, inject_from=12), "blocks 0 to 11"),
        (Setting("vpt-deep", "toy/swin", image_size=64), "not for a SwinTransformer"),
        (Setting("dtl", "no_such_backbone"), "no_such_backbone"),
    ],
)
def test_what_cannot_be_planned_is_a_sentence(setting, reason):
    page = dict(answer(setting, gpu_gib=8.0))
    assert "This cannot be planned" in page["headline"] and reason in page["headline"]
    assert "Traceback" not in str(page) and not page["comparison"] and not page["advice"]


@pytest.mark.parametrize(
    ("setting", "gpu_gib"),
    [(Setting("dtl", **TOY), 1.05), (Setting("lora", **{**TOY, "batch_size": 33}), 1.01)],
    ids=["dtl", "lora"],
)
def test_fit_is_largest_batch(setting, gpu_gib):
    ours, theirs = fit(setting, gpu_gib), largest_batch(gpu_gib=gpu_gib, **setting.plain().arguments())
    assert (ours.largest, ours.peak_bytes) == (theirs.largest, theirs.peak_bytes)
    assert fit(setting, gpu_gib=1.00001).largest == 0
    with pytest.raises(ValueError, match="nothing left"):
        fit(setting, gpu_gib=1.0)


def test_changes_are_single_and_ranked():
    start = Setting("dtl", **TOY, inject_from=6, rank=2, attention="math", recompute="none")
    for label, (changed, price) in changes(start).items():
        assert sum(getattr(start, f.name) != getattr(changed, f.name) for f in fields(start)) == 1, label
        assert price
    for word in ("recompute the blocks", "bf16", "batch of 4", "checkpointing", "fused", "M = 11"):
        assert word in " ".join(changes(start))
    assert "DTL in place of the method" in changes(Setting("lora", **TOY))
    tight = replace(start, checkpointing=True, precision="bf16", recompute="blocks", inject_from=11, batch_size=1)
    assert list(changes(tight)) == ["fused attention"]
    assert "No single change is left" in advice(plan(tight), {}, 8.0)
    now = plan(start)
    frame = ranked(now, {label: (plan(s), price) for label, (s, price) in changes(start).items()}, gpu_gib=8)
    assert frame["saves MiB"].is_monotonic_decreasing
    assert (frame["peak MiB"] + frame["saves MiB"]).tolist() == pytest.approx([now.peak_bytes / MIB] * len(frame))


def shown_bytes(page):
    return int(re.search(r'data-bytes="(\d+)"', page.parts["headline"].value)[1])


@pytest.fixture
def main_answer(monkeypatch):
    """The page without what comes after its first sentence: each of these changes is one plan."""
    monkeypatch.setattr(explorer, "answer", lambda setting, gpu_gib: islice(answer(setting, gpu_gib), 2))


def test_widgets_follow_the_method_and_the_backbone(main_answer):
    page = explore_memory(**TOY)
    assert shown_bytes(page) == planned("dtl")
    page.M.value = 9
    assert shown_bytes(page) == planned("dtl", inject_from=9)
    page.method.value = "lora"
    assert shown_bytes(page) == planned("lora") and page.rank.value == 8
    page.rank.value = 2
    assert shown_bytes(page) == planned("lora", rank=2)
    assert [w.layout.display == "none" for w in (page.M, page.recompute, page.rank)] == [True, True, False]
    page.method.value, page.size.value = "dtl", 33
    assert "cannot be planned" in page.parts["headline"].value
    assert all(w.description for w in page.children[1].children)


def test_another_backbone_brings_its_own_M(main_answer):
    page = explore_memory(**{**TOY, "batch_size": 2})
    page.size.value = 224
    page.backbone.value = "swin_base_patch4_window7_224"
    depth, config, _ = anatomy("swin_base_patch4_window7_224")
    assert (depth, config.inject_from, config.rank) == (24, 14, 4)
    assert (page.M.min, page.M.value, page.M.max, page.rank.value) == (4, 14, 23, 4), "none before the first tap"
    expected = plan_training("dtl", page.backbone.value, batch_size=2, config=config, recompute="side").peak_bytes
    assert shown_bytes(page) == expected


def test_the_last_change_wins_and_the_earlier_ones_stop(monkeypatch):
    begun = []

    def slow(setting, gpu_gib):
        begun.append(setting.batch_size)
        for k in range(5):
            time.sleep(0.03)
            yield "headline", f"{setting.batch_size}, bit {k}"

    async def play():
        page = explore_memory(**TOY)
        shown = []
        page.parts["headline"].observe(lambda change: shown.append(change["new"]), names="value")
        for batch in (9, 10, 11):
            page.batch.value = batch
            while begun[-1:] != [batch]:
                await asyncio.sleep(0.005)
        await asyncio.wait_for(page._task, 10)
        return shown

    monkeypatch.setattr(explorer, "answer", slow)
    shown = asyncio.run(play())
    assert begun == [8, 9, 10, 11]
    assert "11, bit 4" in shown[-1] and not any("9, bit 4" in text or "10, bit 4" in text for text in shown)

"""Pictures and tables of planned memory: they show the plan's own bytes, and no colour stands alone."""

from collections import OrderedDict

import pytest
from matplotlib.colors import to_hex
from torch import nn

from dtl_book.figures.memory import (
    COLOURS,
    HATCHES,
    course,
    draw_memory,
    draw_profile,
    memory_sentence,
    memory_table,
    profile_sentence,
)
from dtl_core.baselines import METHODS
from dtl_core.memory import GIB, KINDS, MIB, plan_step, plan_training

TOY = {"backbone": "toy/vit", "image_size": 32, "batch_size": 4}


@pytest.fixture(scope="module")
def plans():
    return {name: plan_training(name, **TOY) for name in METHODS}


@pytest.mark.parametrize("method", METHODS)
def test_course_of_every_method(plans, method):
    stretches = course(plans[method])
    assert max(s.bytes for s in stretches) == plans[method].peak_bytes and stretches[-1].place == "step"
    places = [s.place for s in stretches if s.phase == "forward"]
    assert places == ["embed", *map(str, range(12)), "head", "loss"]
    crossed = [int(s.place) for s in stretches if s.phase == "backward" and s.place.isdigit()]
    last = {"linear": 12, "lst": 12, "res-tuning-bypass": 12, "dtl": 7, "dtl+": 7}.get(
        method, 0
    )  # DTL: the blocks after M
    assert crossed == list(range(11, last - 1, -1))
    said = profile_sentence(plans[method])
    assert f"from block 11 to block {last}" in said if crossed else "enters no block" in said


def test_bars_are_the_bytes_by_kind(plans):
    chosen = {"Full": plans["full"], "DTL": plans["dtl"]}
    ax = draw_memory(chosen).axes[0]
    widths = [bar.get_width() for container in ax.containers for bar in container]
    assert widths == pytest.approx([n / MIB for plan in chosen.values() for n in plan.by_kind.values()])
    looks = {(to_hex(bar.get_facecolor()), bar.get_hatch() or "") for c in ax.containers for bar in c}
    assert len({colour for colour, _ in looks}) == len({hatch for _, hatch in looks}) == len(KINDS)
    assert (COLOURS["activations"].lower(), HATCHES["activations"]) in looks
    assert [t.get_text() for t in ax.get_yticklabels()] == ["Full", "DTL"]


def test_the_gpu_is_marked_where_it_is_near(plans):
    near, far = draw_memory({"Full": plans["full"]}, gpu_gib=0.006), draw_memory({"Full": plans["full"]}, gpu_gib=80)
    assert plans["full"].peak_bytes / GIB < 0.01
    assert [list(line.get_xdata()) for line in near.axes[0].lines] == [[0.006 * 1024] * 2], "6.1 MiB on an axis of MiB"
    assert len(far.axes[0].lines) == 0
    with pytest.raises(ValueError, match="at least one plan"):
        draw_memory({})


def test_profile_tells_the_directions_apart_without_colour(plans):
    plan = plans["lora"]
    lines = {line.get_label(): line for line in draw_profile(plan).axes[0].lines}
    there, back = (next(v for k, v in lines.items() if k.startswith(name)) for name in ("forward", "backward"))
    assert there.get_marker() != back.get_marker() and there.get_linestyle() != back.get_linestyle()
    assert list(there.get_ydata()) == [s.bytes / MIB for s in course(plan) if s.phase == "forward"]
    assert list(back.get_xdata()) == sorted(back.get_xdata(), reverse=True), "backward runs from right to left"


def test_table_and_sentence(plans):
    chosen = {"Full fine-tuning": plans["full"], "DTL": plans["dtl"]}
    frame, dtl, full = memory_table(chosen), plans["dtl"], plans["full"]
    assert frame.loc["DTL"].to_dict() == {
        "trained parameters": dtl.parameters, "peak MiB": dtl.peak_bytes / MIB, "static MiB": dtl.static_bytes / MIB,
        "held for backward MiB": dtl.saved_bytes / MIB, "of full": dtl.peak_bytes / full.peak_bytes,
    }  # fmt: skip
    assert frame.loc["Full fine-tuning", "of full"] == 1
    assert "of full" not in memory_table({"DTL": dtl})
    share = dtl.peak_bytes / full.peak_bytes
    assert f"DTL {dtl.peak_bytes / MIB:,.0f} MiB, {share:.0%} of full" in memory_sentence(chosen)
    assert f"{dtl.peak_bytes / MIB:,.0f} MiB" in profile_sentence(dtl)


def test_a_step_of_any_module_has_its_profile():
    def make():
        block = lambda: nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)  # noqa: E731
        return nn.Sequential(OrderedDict(first=nn.Linear(8, 16), blocks=nn.Sequential(block(), block())))

    plan = plan_step(make, ((2, 4, 8),))
    assert "in first, " in profile_sentence(plan) and "backward goes from blocks.1 to first" in profile_sentence(plan)
    labels = [label.get_text() for label in draw_profile(plan).axes[0].get_xticklabels()]
    assert labels == ["step", "first", "blocks.0", "blocks.1", "loss"]

"""Pictures of what autograd keeps: that they show the plans' numbers, all of them, and nothing lies outside."""

import pandas as pd
import pytest

from dtl_book.figures.saved_tensors import draw_held_by_block, draw_parts, draw_place, held_by_block
from dtl_book.lab.plots import METHOD_STYLES
from dtl_core.memory import MIB, plan_training

TOY = {"backbone": "toy/vit", "batch_size": 4, "image_size": 32, "num_classes": 4}


@pytest.fixture(scope="module")
def plans():
    return {method: plan_training(method, **TOY) for method in ("full", "lora", "dtl")}


def inside(fig):
    """Whether every text of the figure lies on it."""
    fig.canvas.draw()
    width, height = fig.canvas.get_width_height()
    boxes = [text.get_window_extent() for ax in fig.axes for text in ax.texts if text.get_text()]
    return all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height for box in boxes)


def test_held_by_block_is_the_plans_account(plans):
    frame = held_by_block(plans)
    assert list(frame.index) == ["embed", *(f"block {i}" for i in range(12)), "side network", "after the blocks"]
    for method, plan in plans.items():
        column = frame[METHOD_STYLES[method][0]]
        assert column.sum() == sum(plan.saved_by_block.values()) == plan.saved_bytes
        assert column["block 7"] == plan.saved_by_block["block 7"] > 0
    assert frame.loc["block 6", "DTL"] == 0 < frame.loc["block 5", "DTL"]
    assert frame.loc["side network", "LoRA"] == 0 < frame.loc["side network", "DTL"]
    with pytest.raises(ValueError, match="vpt-deep.*between blocks"):
        held_by_block({"vpt-deep": plan_training("vpt-deep", **TOY)})


def test_lines_by_block(plans):
    fig = draw_held_by_block(plans)
    (ax,) = fig.axes
    frame = held_by_block(plans) / MIB
    lines = {line.get_label(): line for line in ax.get_lines() if not line.get_label().startswith("_")}
    assert set(lines) == {"Full fine-tuning", "LoRA", "DTL"}
    for label, line in lines.items():
        assert list(line.get_ydata()) == pytest.approx(list(frame[label].iloc[:13]))
    assert len({line.get_marker() for line in lines.values()}) == 3
    (alone,) = [line for line in ax.get_lines() if line.get_label().startswith("_")]  # of the side network: DTL's only
    assert list(alone.get_xdata()) == [13] and alone.get_ydata()[0] == pytest.approx(frame.loc["side network", "DTL"])


def test_parts_are_stacked_and_told_apart_without_colour():
    frame = pd.DataFrame({"a": {"one": 4.0, "two": 6.0}, "b": {"one": 0.0, "two": 3.0}})
    fig = draw_parts(frame, "tensors")
    (ax,) = fig.axes
    bars = [(patch.get_x(), patch.get_width()) for patch in ax.patches]
    assert bars == [(0, 4), (0, 0), (4, 6), (0, 3)]
    assert len({patch.get_hatch() for patch in ax.patches}) == 2
    assert [text.get_text() for text in ax.texts] == ["4", "6", "3", "10", "3"] and inside(fig)
    with pytest.raises(ValueError, match="9"):
        draw_parts(pd.DataFrame({"a": range(9)}), "tensors")


def test_place_shows_every_plan_with_its_label(plans):
    named = {"Full fine-tuning": plans["full"], "last 3 blocks": plans["lora"], "a bias in block 0": plans["dtl"]}
    fig = draw_place(named)
    (ax,) = fig.axes
    points = {text.get_text(): line for text, line in zip(ax.texts, ax.get_lines(), strict=True)}
    for label, plan in named.items():
        x, y = points[label].get_data()
        assert (x[0], y[0]) == (plan.parameters, pytest.approx(plan.saved_bytes / MIB))
    assert len({line.get_marker() for line in ax.get_lines()}) == 3 and inside(fig)

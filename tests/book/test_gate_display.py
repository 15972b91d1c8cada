"""The pictures and tables of notebook 05: the corner of the gate in numbers, trainings as lines, what a step holds."""

import pytest
import torch
from figures import text_of

from dtl_book.figures import gate
from dtl_core import DTLConfig
from dtl_core.csn import swish
from dtl_core.memory import plan_training


@pytest.mark.parametrize("beta", [0.5, 10.0, 100.0])
def test_slope_is_autograds(beta):
    h = torch.linspace(-6 / beta, 6 / beta, 101, dtype=torch.float64, requires_grad=True)
    swish(h, beta).sum().backward()
    torch.testing.assert_close(gate.slope(h.detach(), beta), h.grad)


@pytest.mark.parametrize("beta", [1.0, 31.6, 100.0])
def test_the_corner_in_numbers(beta):
    """Every row of the table is found again on a fine grid, by autograd's slope."""
    h = torch.linspace(-8 / beta, 8 / beta, 160_001, dtype=torch.float64, requires_grad=True)
    y = swish(h, beta)
    (slope,) = torch.autograd.grad(y.sum(), h)
    facts, fine = gate.corner_facts(beta).set_index("what"), 1e-3 / beta
    at, value = facts["at h"], facts["value"]
    gap = h.relu() - y
    for row, curve, found in (
        ("deepest point of the dip", y, y.argmin()),
        ("ReLU − swish, at most", gap, gap[80_000:].argmax() + 80_000),
        ("largest slope", slope, slope.argmax()),
        ("smallest slope", slope, slope.argmin()),
    ):
        assert at[row] == pytest.approx(h[found].item(), abs=fine), row
        assert value[row] == pytest.approx(curve[found].item(), rel=1e-6), row
    assert value["slope there"] == pytest.approx(0, abs=1e-12)
    assert (value["slope at 0"], value["second derivative at 0"]) == (0.5, beta / 2)


def test_the_corner_is_where_the_slope_lies_between_0_and_1():
    u = torch.linspace(-9, 9, 20_001, dtype=torch.float64)
    slope = gate.slope(u, 1.0)
    assert torch.equal((slope > 0) & (slope < 1), u.abs() < gate.CORNER)


@pytest.mark.parametrize("beta", [10.0, 1000.0])
def test_the_corner_is_drawn(beta):
    figure = gate.draw_corner(beta)
    above, below = figure.axes
    for ax in (above, below):
        shade = ax.patches[0].get_extents().transformed(ax.transData.inverted())
        assert shade.x1 == pytest.approx(gate.CORNER / beta) == -shade.x0
        assert ax.get_xlim() == pytest.approx((-gate.REACH, gate.REACH)), "the same axes for every beta"
    curve = above.lines[1]
    expected = swish(torch.as_tensor(curve.get_xdata(), dtype=torch.float64), beta)
    torch.testing.assert_close(torch.as_tensor(curve.get_ydata(), dtype=torch.float64), expected)
    assert f"{beta:.4g}" in text_of(figure)


def test_steps_are_drawn_with_a_marker_for_each_line():
    lines = {"swish": [0.0, 0.1, 0.3], "ReLU": [0.0, 0.0, 0.0]}
    figure = gate.draw_steps(lines, "norm of up")
    drawn = figure.axes[0].lines
    assert [list(line.get_ydata()) for line in drawn] == list(lines.values())
    assert len({line.get_marker() for line in drawn}) == 2, "a colour never stands alone"
    words = text_of(figure)
    assert "swish" in words and "ReLU" in words and "norm of up" in words


@pytest.mark.parametrize("m", [2, 6])
def test_what_a_step_holds(m):
    setting = {"batch_size": 8, "image_size": 32, "num_classes": 4, "config": DTLConfig(inject_from=m)}
    plans = {mode: plan_training("dtl", "toy/vit", recompute=mode, **setting) for mode in ("none", "side")}
    held = gate.held_by_part(plans)
    assert (held.drop("all").sum() == held.loc["all"]).all()
    assert held.loc["all"].to_dict() == {mode: plan.saved_bytes for mode, plan in plans.items()}
    one = 8 * 17 * 48 * 4  # a tensor of the tokens' shape: 51 whole blocks of 512 bytes
    assert held.loc["sigmoid(βh)"].to_dict() == {"none": (12 - m) * one, "side": 0}
    codes = -(-8 * 17 * 2 * 4 // 512) * 512
    assert held.loc["h, or its codes", "side"] == 12 * codes
    assert held.loc["h, or its codes", "none"] > (12 - m) * one
    figure = gate.draw_held(held)
    bars = figure.axes[0].patches
    assert sum(bar.get_width() for bar in bars) == pytest.approx(held.loc["all"].sum() / 2**20)
    assert len({bar.get_hatch() for bar in bars}) == 4 and all(part in text_of(figure) for part in gate.PARTS)

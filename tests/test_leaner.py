"""The tables of the leaner DTL in the README say what is planned here and what the card of the step times holds."""

import json

import pytest

from dtl_core.evidence import leaner
from dtl_core.memory import plan_training
from dtl_core.paths import project_dir

ROOT = project_dir() / "results"


def shown(marks):
    text = (project_dir() / "README.md").read_text()
    return text.split(marks[0])[1].split(marks[1])[0].strip()


def test_the_readme_holds_what_is_planned():
    assert shown(leaner.MEMORY_MARKS) == leaner.memory_markdown(), "dtl results --write"


def test_the_readme_holds_the_recorded_step_times():
    assert shown(leaner.TIME_MARKS) == leaner.time_markdown(ROOT), "dtl results --write"


def test_the_recorded_step_times_meet_their_targets():
    """Lean by default is not slower than plain; the stored prefix and bf16 are as fast as was asked of them."""
    card = json.loads((ROOT / "benchmarks" / "step-time.json").read_text())
    rows = {r["kind"]: r for r in card["rows"]}
    assert rows["DTL side"]["to_plain"] <= 1
    assert rows["DTL side, cached prefix"]["to_plain"] <= 0.64 and rows["DTL side, cached prefix"]["to_lora"] <= 0.40
    assert rows["DTL side, bf16, cached prefix"]["to_plain"] <= 0.40 or not card["bf16_instructions"]


@pytest.mark.parametrize("precision, taps", [("fp32", 12 * 32 * 197 * 768 * 4), ("bf16", 12 * 32 * 197 * 768 * 2)])
def test_the_floor_lies_below_the_leanest(precision, taps):
    plan = plan_training("dtl", leaner.BACKBONE, recompute="blocks", precision=precision, **leaner.SETTING)
    floor = leaner.floor_bytes(plan)
    assert floor - plan.static_bytes == taps <= plan.saved_bytes
    assert floor < plan.peak_bytes < 1.2 * floor


def test_nothing_recorded_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"benchmarks/step_time\.py"):
        leaner.time_markdown(tmp_path)

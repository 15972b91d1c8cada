"""Time against memory: RESULTS.md, the picture and its sentence say what is planned here and what the card of times holds."""

import json

import pandas as pd
import pytest
from matplotlib.colors import to_hex

from dtl_book.figures.trade import draw_trade, save_trade
from dtl_book.lab.plots import METHOD_STYLES
from dtl_book.paths import project_dir
from dtl_book.tables import memory_forms as leaner
from dtl_core.files import DamagedFile
from dtl_core.memory import MIB, plan_training

ROOT = project_dir() / "results"


@pytest.fixture(scope="module")
def frame():
    return leaner.time_against_memory(ROOT)


def test_every_rival_has_the_favours_of_dtl(frame):
    """Checkpointing and a bf16 backbone for each; only what has a frozen prefix can be cached."""
    forms = {key: rows for key, rows in frame.groupby("key")}
    for key in ("lora", "bitfit", "adaptformer"):
        assert set(zip(forms[key].form, forms[key].precision, strict=True)) == {
            (f, p) for f in ("plain", "checkpointing") for p in leaner.PRECISIONS
        }
    assert set(forms["full"].precision) == {"fp32"} and len(forms["full"]) == 2
    assert len(forms["dtl"]) == 10 and frame.form.str.contains("cached").sum() == 4
    lora = forms["lora"].set_index(["form", "precision"])
    here = plan_training("lora", leaner.BACKBONE, checkpointing=True, precision="bf16", **leaner.SETTING)
    assert lora.MiB["checkpointing", "bf16"] == here.peak_bytes / MIB
    rows = {r["kind"]: r for r in json.loads((ROOT / "benchmarks" / "step-time.json").read_text())["rows"]}
    assert lora.time["checkpointing", "bf16"] == rows["LoRA, bf16, checkpointing"]["to_plain"]


def test_the_recorded_step_times_meet_their_targets():
    """Lean by default is not slower than plain; the stored prefix and bf16 are as fast as was asked of them."""
    card = json.loads((ROOT / "benchmarks" / "step-time.json").read_text())
    rows = {r["kind"]: r for r in card["rows"]}
    assert rows["DTL side"]["to_plain"] <= 1
    assert rows["DTL side, cached prefix"]["to_plain"] <= 0.64 and rows["DTL side, cached prefix"]["to_lora"] <= 0.40
    assert rows["DTL side, bf16, cached prefix"]["to_plain"] <= 0.40 or not card["bf16_instructions"]


def test_the_sentence_names_the_forms_that_are_compared(frame):
    sentence, by = leaner.trade_sentence(frame), frame.set_index(["key", "form", "precision"])
    for place in [
        ("lora", "checkpointing", "fp32"),
        ("dtl", "plain (the authors')", "fp32"),
        ("dtl", "blocks recomputed", "fp32"),
        ("dtl", "blocks recomputed, cached prefix", "bf16"),
    ]:
        row = by.loc[place]
        assert f"{row.MiB:,.0f} MiB at {row.time:.2f}" in sentence


def test_the_picture_has_a_point_for_each_form(frame, tmp_path):
    figure = draw_trade(frame)
    for ax, precision in zip(figure.axes, leaner.PRECISIONS, strict=True):
        rows = frame[frame.precision == precision]
        points = {to_hex(c.get_facecolor()[0]): c.get_offsets() for c in ax.collections}
        assert sum(map(len, points.values())) == len(rows)
        lora = rows[rows.key == "lora"]
        assert points[METHOD_STYLES["lora"][1].lower()].tolist() == lora[["time", "MiB"]].to_numpy().tolist()
    assert save_trade(frame, tmp_path / "picture.png").stat().st_size < 150_000


@pytest.mark.parametrize("precision, taps", [("fp32", 12 * 32 * 197 * 768 * 4), ("bf16", 12 * 32 * 197 * 768 * 2)])
def test_the_floor_lies_below_the_leanest(precision, taps):
    plan = plan_training("dtl", leaner.BACKBONE, recompute="blocks", precision=precision, **leaner.SETTING)
    floor = leaner.floor_bytes(plan)
    assert floor - plan.static_bytes == taps <= plan.saved_bytes
    assert floor < plan.peak_bytes < 1.2 * floor


def test_the_recorded_rows_are_what_is_planned_now(frame, tmp_path):
    recorded = leaner.load_trade_rows(ROOT)
    pd.testing.assert_frame_equal(recorded, frame, rtol=0.005)  # another version of timm may plan a few bytes more
    assert leaner.trade_sentence(recorded) == leaner.trade_sentence(frame)
    path = leaner.save_trade_rows(frame, tmp_path)
    pd.testing.assert_frame_equal(leaner.load_trade_rows(tmp_path), frame)
    path.write_text("[{}]")
    with pytest.raises(DamagedFile, match="(?s)time-memory.json is damaged .*dtl results --write"):
        leaner.load_trade_rows(tmp_path)


def test_nothing_recorded_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="dtl results --write"):
        leaner.load_trade_rows(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"benchmarks/step_time\.py"):
        leaner.trade_markdown(tmp_path)

"""The rebuilt Figure 1: its card is what the planner says, and table and picture are made from the card."""

import copy
import json

import pytest

from dtl_book.paths import project_dir
from dtl_book.tables import figure1 as f
from dtl_core.files import DamagedFile
from dtl_core.memory import GIB, plan_training


@pytest.fixture(scope="module")
def card():
    return f.load_figure1(project_dir() / "results")


@pytest.mark.parametrize("label", ["LoRA", "DTL", "DTL+", "LST"])
def test_the_card_is_what_is_planned_now(card, label):
    """Another version of timm or torch may plan other bytes; a few per mille are let through, and no more."""
    row = next(r for r in card["rows"] if r["method"] == label)
    for name, setting in f.SETTINGS.items():
        plan = plan_training(f.NAMES[label], f.BACKBONE, **setting, **f.figure_options(f.NAMES[label]))
        assert row[name] == pytest.approx(plan.peak_bytes, rel=0.005)
        assert row["parameters"] == plan.parameters


def test_what_is_off_was_tried_to_be_explained(card):
    frame = f.figure1_frame(card)
    assert list(frame.index) == list(f.NAMES)
    off = set(frame.index[frame["off"].abs() > f.CLOSE])
    assert off == {t["method"] for t in card["tries"]} and len(card["tries"]) >= 2 * len(off)
    assert frame.loc["DTL", "off"] == pytest.approx(0, abs=0.02)
    assert frame.loc["Full", "of full, read"] == frame.loc["Full", "of full, planned"] == 1


def test_the_page_is_made_from_the_card(card, tmp_path):
    text = (project_dir() / "RESULTS.md").read_text()
    assert f"\n{f.figure1_markdown(card)}\n".join(f.MARKS["figure 1"]) in text, "dtl figure1 --write"
    other = copy.deepcopy(card)
    other["rows"][0]["paper"] = 5 * GIB
    page = tmp_path / "RESULTS.md"
    page.write_text(text)
    f.write_figure1(other, page)
    assert "| 5.00 | +6.2% |" in page.read_text() and "| 5.00 |" not in text
    page.write_text("no marks")
    with pytest.raises(ValueError, match="has no place for the table"):
        f.write_figure1(card, page)


def test_a_missing_or_damaged_card_is_named(card, tmp_path):
    path = f.save_figure1(card, tmp_path)
    assert f.load_figure1(tmp_path) == card
    for text in (json.dumps(card)[:100], json.dumps({**card, "tries": [1]}), "[]", "{}"):
        path.write_text(text)
        with pytest.raises(DamagedFile, match="is damaged .*dtl figure1 --write"):
            f.load_figure1(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="dtl figure1 --write"):
        f.load_figure1(tmp_path)


def test_the_picture_has_every_method(card, tmp_path):
    from dtl_book.figures.figure1_memory import draw_figure1_memory, save_picture

    figure = draw_figure1_memory(card)
    assert {t.get_text() for t in figure.axes[0].get_yticklabels()} == set(f.NAMES)
    assert save_picture(card, tmp_path / "p.png").stat().st_size > 5000

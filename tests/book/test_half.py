"""The frozen backbone in bf16: recorded beside the runs in fp32, and never among them."""

import json

import pytest

from dtl_book.experiments import load_cards, settings
from dtl_book.experiments.grids import bf16_logits_path
from dtl_book.paths import project_dir
from dtl_book.sweep import record, recording
from dtl_book.tables import results_markdown
from dtl_book.tables.changed_runs import bf16_markdown


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Two seeds of DTL on one task of the smoke profile, in fp32 and in bf16."""
    root = tmp_path_factory.mktemp("half")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DTL_RESULTS", str(root / "results"))
        patch.setenv("DTL_CACHE", str(root / "cache"))
        patch.setenv("DTL_DATA", str(root / "data"))
        patch.setattr(settings, "SEEDS", (0, 1))
        from dtl_book.standins import build_suite

        build_suite("smoke", tasks=("mnist",))
        record("smoke", ("dtl",), ("mnist",), parts=("vtab-1k", "bf16"))
    return root / "results"


def test_the_cards_in_bf16_stand_beside_those_in_fp32(recorded):
    fp32, bf16 = (load_cards(folder, root=recorded) for folder in ("smoke", "smoke-bf16"))
    assert len(fp32) == len(bf16) == 2
    assert set(fp32["backbone_dtype"]) == {"float32"} and set(bf16["backbone_dtype"]) == {"bfloat16"}
    assert set(bf16["cache"]) == {"bfloat16"} and set(bf16["lr"]) == set(fp32["lr"])
    assert set(bf16["backbone_sha256"]) == set(fp32["backbone_sha256"]), "the weights before the cast"
    assert "(bf16)" not in results_markdown("smoke", root=recorded)


def test_the_table_says_what_the_logits_do(recorded):
    note = json.loads(bf16_logits_path("smoke", "mnist", recorded).read_text())
    assert 0 < note["relative_difference"] < 0.1
    text = bf16_markdown("smoke", root=recorded)
    assert f"| {note['relative_difference']:.2%} | {note['same_answer']:.1%} of {note['images']} |" in text
    assert text.splitlines()[2].startswith("| mnist | ") and text.count("(2 of 3 seeds)") == 2


def test_what_is_recorded_is_not_run_again(recorded, monkeypatch):
    monkeypatch.setenv("DTL_RESULTS", str(recorded))
    monkeypatch.setattr(settings, "SEEDS", (0, 1))
    monkeypatch.setattr(recording, "execute", lambda *_, **__: pytest.fail("ran again"))
    record("smoke", tasks=("mnist",), parts=("bf16",))


def test_nothing_recorded_is_said(tmp_path):
    assert "Nothing is recorded in bf16" in bf16_markdown("laptop", root=tmp_path)


def test_the_committed_logits_are_of_val200():
    notes = list((project_dir() / "results" / "laptop-bf16" / "logits").glob("*.json"))
    assert notes and all(json.loads(note.read_text())["images"] == 200 for note in notes)

"""The table of recorded results: made from cards alone, honest about what is missing, and the same as in the README."""

import json
from dataclasses import MISSING, asdict, fields, replace

import pytest

from dtl_core.evidence import RunCard, readme_table, results_table, save_card, write_readme_table
from dtl_core.evidence.cards import card_path
from dtl_core.evidence.results import MARKS
from dtl_core.paths import CHECKOUT

CARD = RunCard(
    method="dtl", profile="laptop", benchmark="vtab-1k", task="mnist", purpose="final", train_split="train800val200",
    test_split="test", seed=0, lr=1e-3, readout="mean", recipe={}, backbone="b", backbone_sha256="0", image_size=[98, 98],
    data_digest={}, classes=10, parameters=30, parameters_without_head=20, accuracy=0.9, balanced_accuracy=0.9, loss=1.0,
    epochs=[], seconds=60.0, cache_seconds=0.0, peak_bytes=None, cache=None, cache_inexact="", device="cpu", threads=1,
    precision="fp32",
)  # fmt: skip


def put(root, **changes):
    card = replace(CARD, **changes)
    lr = card.lr if card.purpose == "select" else None
    save_card(card, card_path(card.profile, card.benchmark, card.task, card.method, card.seed, lr, root=root))


def test_mean_and_spread_of_final_runs_only(tmp_path):
    for seed, accuracy in enumerate((0.90, 0.92, 0.94)):
        put(tmp_path, seed=seed, accuracy=accuracy)
    put(tmp_path, purpose="select", accuracy=0.1)
    row = results_table("laptop", root=tmp_path).iloc[0]
    assert row["mean"] == pytest.approx(92) and row["spread"] == pytest.approx(2) and row["seeds"] == 3


def test_what_is_missing_is_said(tmp_path):
    assert "Nothing is recorded" in readme_table("laptop", root=tmp_path)
    put(tmp_path, seed=0)
    put(tmp_path, seed=1)
    lines = readme_table("laptop", root=tmp_path).split("\n")
    dtl = next(line for line in lines if line.startswith("| DTL |"))
    assert "90.0 (2 of 3 seeds)" in dtl and dtl.count("not run") == 5 and dtl.endswith("| – |")
    assert next(line for line in lines if line.startswith("| LoRA")).count("not run") == 6


def test_last_column_is_the_mean_of_the_group_means(tmp_path):
    accuracies = {
        "mnist": 0.9,
        "elpv": 0.6,
        "shape_location": 0.1,
        "shape_orientation": 0.2,
        "object_count": 0.3,
        "object_distance": 0.4,
    }
    for task, accuracy in accuracies.items():
        for seed in range(3):
            put(tmp_path, task=task, seed=seed, accuracy=accuracy)
    dtl = next(line for line in readme_table("laptop", root=tmp_path).split("\n") if line.startswith("| DTL |"))
    assert dtl.endswith(f"| {(90 + 60 + 25) / 3:.1f} |")


def test_the_readme_needs_its_marks(tmp_path):
    (tmp_path / "README.md").write_text("no place here")
    with pytest.raises(ValueError, match="no place for the table"):
        write_readme_table("laptop", tmp_path / "README.md")


def test_the_readme_holds_the_table_of_the_committed_cards():
    text = (CHECKOUT / "README.md").read_text()
    assert (
        text.split(MARKS[0])[1].split(MARKS[1])[0].strip() == readme_table("laptop", root=CHECKOUT / "results").strip()
    ), "the cards have changed: run `dtl results --write`"


def test_committed_cards_are_of_one_setting():
    """One backbone, one list per task and draw, one number of epochs for all methods: else they must not share a table."""
    found = (CHECKOUT / "results" / "laptop").rglob("*.json")
    cards = [json.loads(p.read_text()) for p in found if p.name != "sweep.json" and "failed" not in p.parts]
    later = {f.name for f in fields(RunCard) if f.default is not MISSING or f.default_factory is not MISSING}
    assert all(asdict(CARD).keys() - later <= card.keys() <= asdict(CARD).keys() for card in cards)
    assert all(card.get("backbone_dtype", "float32") == "float32" for card in cards)
    for task in {(c["benchmark"], c["task"], c.get("shots")) for c in cards}:
        mine = [c for c in cards if (c["benchmark"], c["task"], c.get("shots")) == task]
        facts = {
            (c["backbone_sha256"], tuple(c["image_size"]), len(c["epochs"]), c["precision"], c["readout"]) for c in mine
        }
        assert len(facts) == 1, task
        for split in {name for c in mine for name in c["data_digest"]}:
            assert len({c["data_digest"][split] for c in mine if split in c["data_digest"]}) <= 1, (task, split)

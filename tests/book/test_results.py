"""The table of recorded results: made from cards alone, honest about what is missing; and the page with all the tables."""

import json
from dataclasses import MISSING, asdict, fields

import pytest
from run_cards import CARD, put

from dtl_book.experiments import COMPARED, RunCard
from dtl_book.paths import CHECKOUT
from dtl_book.tables import results_markdown, results_table
from dtl_book.tables.benchmarks import groups_of, not_whole
from dtl_book.tables.results_page import MARKS, write_results


def put_all(root, method, accuracies=None, seeds=(0, 1, 2), profile="laptop"):
    for task in (task for tasks in groups_of(profile).values() for task in tasks):
        for seed in seeds:
            put(root, profile=profile, task=task, method=method, seed=seed, accuracy=(accuracies or {}).get(task, 0.5))


def test_mean_and_spread_of_final_runs_only(tmp_path):
    for seed, accuracy in enumerate((0.90, 0.92, 0.94)):
        put(tmp_path, seed=seed, accuracy=accuracy)
    put(tmp_path, purpose="select", accuracy=0.1)
    row = results_table("laptop", root=tmp_path).iloc[0]
    assert row["mean"] == pytest.approx(92) and row["spread"] == pytest.approx(2) and row["seeds"] == 3


def test_what_is_missing_is_said(tmp_path):
    assert "Nothing is recorded" in results_markdown("laptop", root=tmp_path)
    put(tmp_path, seed=0)
    put(tmp_path, seed=1)
    text = results_markdown("laptop", root=tmp_path)
    assert "No method is recorded in full" in text and "DTL (2 of 18 runs)" in text and "| DTL |" not in text
    for method in COMPARED[:-1]:
        put_all(tmp_path, method)
    put_all(tmp_path, "dtl+", seeds=(0, 1))
    put(tmp_path, method="dtl+", task="clock", seed=2)  # no task of the suite
    put(tmp_path, method="dtl+", seed=7)  # no seed of the table
    text = results_markdown("laptop", root=tmp_path)
    assert "Not whole yet: DTL+ (12 of 18 runs)." in text and "| DTL+ |" not in text
    put_all(tmp_path, "dtl+")
    text = results_markdown("laptop", root=tmp_path)
    names = ["method", "Linear probe", "BitFit", "AdaptFormer", "LoRA (r = 8)", "DTL", "DTL+"]
    assert [line.split(" | ")[0][2:] for line in text.split("\n") if line.startswith("| ")] == names
    assert "Not whole" not in text and not_whole("laptop", root=tmp_path) == ""


def test_the_paper_profile_has_the_official_19_under_their_folders(tmp_path):
    groups = groups_of("paper")
    assert {g: len(tasks) for g, tasks in groups.items()} == {"natural": 7, "specialized": 4, "structured": 8}
    put_all(tmp_path, "dtl", {task: 0.9 for task in groups["specialized"]}, profile="paper")
    put(tmp_path, profile="paper", task="cifar").unlink()  # and the same run under the task's other name
    put(tmp_path, profile="paper", task="cifar_100", accuracy=0.5)
    for seed in (0, 1, 2):
        put(tmp_path, profile="paper", task="svhn", seed=seed, accuracy=0.5, parameters_without_head=1200)
    head, _, dtl, *_ = results_markdown("paper", root=tmp_path).split("\n")
    assert head.endswith("| mean of groups | mean of 19 tasks |") and " cifar | " in head
    assert dtl.endswith(f"| {(50 + 90 + 50) / 3:.1f} ± 0.0 | {(15 * 50 + 4 * 90) / 19:.1f} ± 0.0 |")
    assert dtl.startswith("| DTL | 20 to 1,200 |"), "a kernel by task"
    put(tmp_path, profile="paper", task="cifar")
    with pytest.raises(ValueError, match="dtl, seed 0 is recorded twice, as the task cifar and as cifar_100"):
        results_markdown("paper", root=tmp_path)


def test_the_note_says_what_was_chosen_and_from_what(tmp_path):
    put_all(tmp_path, "dtl")
    assert "5 epochs, batch 32, fp32, CPU; protocol: clean." in results_markdown("laptop", root=tmp_path)
    for lr in (1e-3, 1e-2):
        put(tmp_path, purpose="select", lr=lr)
    text = results_markdown("laptop", root=tmp_path)
    assert "protocol: clean (learning rate of 0.001 and 0.01, chosen per task and method on val200)" in text


def test_committed_cards_are_of_one_setting():
    """One backbone, one list per task and draw, one number of epochs for all methods: else they must not share a table."""
    found = (CHECKOUT / "results" / "laptop").rglob("*.json")
    cards = [json.loads(p.read_text()) for p in found if p.name != "sweep.json" and "failed" not in p.parts]
    later = {f.name for f in fields(RunCard) if f.default is not MISSING or f.default_factory is not MISSING}
    assert all(asdict(CARD).keys() - later <= card.keys() <= asdict(CARD).keys() for card in cards)
    assert all(card.get("backbone_dtype", "float32") == "float32" for card in cards)
    for task in {(c["benchmark"], c["task"], c.get("shots")) for c in cards}:
        mine = [c for c in cards if (c["benchmark"], c["task"], c.get("shots")) == task]
        # a pitfall's run differs in what it switches, and in nothing else
        facts = {(c["backbone_sha256"], tuple(c["image_size"]), len(c["epochs"]), c["precision"]) for c in mine}
        assert len(facts) == 1, task
        assert {c["readout"] for c in mine if "readout" not in c.get("switches", {})} == {"mean"}, task
        for split in {name for c in mine for name in c["data_digest"]}:
            assert len({c["data_digest"][split] for c in mine if split in c["data_digest"]}) <= 1, (task, split)


def test_the_page_holds_every_table_of_what_is_recorded(tmp_path):
    """All are emptied, one gets foreign text: they are as they were, and nothing else has moved."""
    spoiled = whole = (CHECKOUT / "RESULTS.md").read_text(encoding="utf-8")
    for name, (begin, end) in MARKS.items():
        if name != "figure 1":  # which another command writes
            start, stop = spoiled.index(begin) + len(begin), spoiled.index(end)
            spoiled = spoiled[:start] + ("\nnot a table\n" if name == "results" else "\n") + spoiled[stop:]
    page = tmp_path / "RESULTS.md"
    page.write_text(spoiled, encoding="utf-8")
    assert write_results(page=page) == page
    assert page.read_text(encoding="utf-8") == whole, "the record has changed: run `dtl results --write`"
    page.write_text(whole.replace(MARKS["results"][1], ""), encoding="utf-8")
    with pytest.raises(ValueError, match="(?s)RESULTS.md has no place for the table"):
        write_results(page=page)

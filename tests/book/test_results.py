"""The table of recorded results: made from cards alone, honest about what is missing, and the same as in RESULTS.md."""

import json
from dataclasses import MISSING, asdict, fields, replace

import pandas as pd
import pytest

from dtl_book.experiments import COMPARED, RunCard, save_card
from dtl_book.experiments.cards import card_path
from dtl_book.paths import CHECKOUT
from dtl_book.standins import TASKS
from dtl_book.tables import few_shot, results_markdown, results_page, results_table
from dtl_book.tables.marks import put_between
from dtl_book.tables.results import MARKS, both_means, groups_of, means_by_seed, not_whole

CARD = RunCard(
    method="dtl", profile="laptop", benchmark="vtab-1k", task="mnist", purpose="final", train_split="train800val200",
    test_split="test", seed=0, lr=1e-3, readout="mean", recipe={"batch_size": 32, "drop_path": 0.0}, backbone="b", backbone_sha256="0", image_size=[98, 98],
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


def put_all(root, method, accuracies=None, seeds=(0, 1, 2), profile="laptop"):
    for task in (task for tasks in groups_of(profile).values() for task in tasks):
        for seed in seeds:
            put(root, profile=profile, task=task, method=method, seed=seed, accuracy=(accuracies or {}).get(task, 0.5))


def test_what_is_missing_is_said(tmp_path):
    assert "Nothing is recorded" in results_markdown("laptop", root=tmp_path)
    put(tmp_path, seed=0)
    put(tmp_path, seed=1)
    text = results_markdown("laptop", root=tmp_path)
    assert "No method is recorded in full" in text and "DTL (2 of 18 runs)" in text and "| DTL |" not in text
    put_all(tmp_path, "linear")
    text = results_markdown("laptop", root=tmp_path)
    rows = [line.split(" | ")[0] for line in text.split("\n") if line.startswith("| ")]
    assert rows == ["| method", "| Linear probe"]
    wanted = "BitFit (0 of 18 runs), AdaptFormer (0 of 18 runs), LoRA (r = 8) (0 of 18 runs), DTL (2 of 18 runs), DTL+"
    assert f"Not whole yet: {wanted}" in text


def test_a_method_is_in_as_soon_as_it_is_whole(tmp_path):
    for method in COMPARED[:-1]:
        put_all(tmp_path, method)
    put_all(tmp_path, "dtl+", seeds=(0, 1))
    put(tmp_path, method="dtl+", task="clock", seed=2)  # no task of the suite
    put(tmp_path, method="dtl+", seed=7)  # no seed of the table
    assert "Not whole yet: DTL+ (12 of 18 runs)." in results_markdown("laptop", root=tmp_path)
    put_all(tmp_path, "dtl+")
    text = results_markdown("laptop", root=tmp_path)
    names = ["method", "Linear probe", "BitFit", "AdaptFormer", "LoRA (r = 8)", "DTL", "DTL+"]
    assert [line.split(" | ")[0][2:] for line in text.split("\n") if line.startswith("| ")] == names
    assert "Not whole" not in text and not_whole("laptop", root=tmp_path) == ""


ACCURACIES = dict(zip(TASKS, (0.9, 0.6, 0.1, 0.2, 0.3, 0.4), strict=True))


def test_both_means_stand_under_their_own_names(tmp_path):
    put_all(tmp_path, "dtl", ACCURACIES)
    head, _, dtl, *_ = results_markdown("laptop", root=tmp_path).split("\n")
    assert head.endswith("| mean of groups | mean of 6 tasks |")
    assert dtl.endswith(f"| {(90 + 60 + 25) / 3:.1f} ± 0.0 | {250 / 6:.1f} ± 0.0 |")
    (means,) = means_by_seed("laptop", root=tmp_path).values()
    assert means.iloc[0].round(6).tolist() == [90, 60, 25, round(175 / 3, 6), round(250 / 6, 6)]


def test_the_paper_profile_has_the_official_19_under_their_folders(tmp_path):
    groups = groups_of("paper")
    assert {g: len(tasks) for g, tasks in groups.items()} == {"natural": 7, "specialized": 4, "structured": 8}
    put_all(tmp_path, "dtl", {task: 0.9 for task in groups["specialized"]}, profile="paper")
    path = card_path("paper", "vtab-1k", "cifar", "dtl", 0, root=tmp_path)
    path.unlink()  # and the same run under the task's other name
    put(tmp_path, profile="paper", task="cifar_100", accuracy=0.5)
    head, _, dtl, *_ = results_markdown("paper", root=tmp_path).split("\n")
    assert head.endswith("| mean of groups | mean of 19 tasks |") and " cifar | " in head
    assert dtl.endswith(f"| {(50 + 90 + 50) / 3:.1f} ± 0.0 | {(15 * 50 + 4 * 90) / 19:.1f} ± 0.0 |")


def test_a_run_under_both_names_of_its_task_is_named(tmp_path):
    for task in ("cifar", "cifar_100"):
        put(tmp_path, profile="paper", task=task)
    with pytest.raises(ValueError, match="dtl, seed 0 is recorded twice, as the task cifar and as cifar_100"):
        results_markdown("paper", root=tmp_path)


def test_a_missing_task_has_no_mean():
    scores = pd.DataFrame([ACCURACIES, ACCURACIES])
    scores.loc[1, "elpv"] = float("nan")
    means = both_means(scores, groups_of("laptop"))
    assert means.loc[0].notna().all()
    assert (
        means.loc[1, ["specialized", "mean of groups", "mean of 6 tasks"]].isna().all()
        and means.loc[1, "natural"] == 0.9
    )


def test_the_note_says_what_was_chosen_and_from_what(tmp_path):
    put_all(tmp_path, "dtl")
    assert "protocol: clean." in results_markdown("laptop", root=tmp_path)
    for lr in (1e-3, 1e-2):
        put(tmp_path, purpose="select", lr=lr)
    text = results_markdown("laptop", root=tmp_path)
    assert "protocol: clean (learning rate of 0.001 and 0.01, chosen per task and method on val200)" in text


def test_the_page_needs_its_marks(tmp_path):
    (tmp_path / "RESULTS.md").write_text("no place here")
    with pytest.raises(ValueError, match="no place for the table"):
        put_between(MARKS, "a table", tmp_path / "RESULTS.md")


def test_the_page_holds_the_table_of_the_committed_cards():
    text = (CHECKOUT / "RESULTS.md").read_text()
    assert (
        text.split(MARKS[0])[1].split(MARKS[1])[0].strip()
        == results_markdown("laptop", root=CHECKOUT / "results").strip()
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
        # a pitfall's run differs in what it switches, and in nothing else
        facts = {(c["backbone_sha256"], tuple(c["image_size"]), len(c["epochs"]), c["precision"]) for c in mine}
        assert len(facts) == 1, task
        assert {c["readout"] for c in mine if "readout" not in c.get("switches", {})} == {"mean"}, task
        for split in {name for c in mine for name in c["data_digest"]}:
            assert len({c["data_digest"][split] for c in mine if split in c["data_digest"]}) <= 1, (task, split)


def test_every_table_of_the_page_is_written_between_its_marks(tmp_path):
    """One is emptied and another gets foreign text: both are as they were, and nothing else has moved."""
    whole = (CHECKOUT / "RESULTS.md").read_text(encoding="utf-8")
    spoiled = whole
    for begin, end in (few_shot.MARKS, MARKS):
        start, stop = spoiled.index(begin) + len(begin), spoiled.index(end)
        spoiled = spoiled[:start] + ("\nnot a table\n" if begin == MARKS[0] else "\n") + spoiled[stop:]
    assert spoiled != whole
    (tmp_path / "RESULTS.md").write_text(spoiled, encoding="utf-8")
    assert results_page.write_results(page=tmp_path / "RESULTS.md") == tmp_path / "RESULTS.md"
    assert (tmp_path / "RESULTS.md").read_text(encoding="utf-8") == whole
    (tmp_path / "RESULTS.md").write_text(whole.replace(MARKS[1], ""), encoding="utf-8")
    with pytest.raises(ValueError, match="RESULTS.md"):
        results_page.write_results(page=tmp_path / "RESULTS.md")

"""The tables and pictures of few-shot results, from made-up cards: none, some, all; and those of a built set."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import product

import numpy as np
import pytest

from dtl_book.experiments import COMPARED, RunCard, card_path, load_card, save_card
from dtl_book.experiments.profiles import get_profile
from dtl_book.figures import few_shot
from dtl_book.lab import DataMissing
from dtl_book.paths import project_dir
from dtl_book.standins.typefaces import SIZES, build_typefaces
from dtl_book.tables import few_shot as tables
from dtl_book.tables.few_shot import few_shot_cells, few_shot_markdown, few_shot_table
from dtl_core.data.augment import AUTHORS, LETTERS, train_transform
from dtl_core.data.fewshot import SEEDS, SHOTS


def write(root, methods=COMPARED, shots=SHOTS, seeds=SEEDS, name="typefaces"):
    """Cards whose accuracy is 0.3 + 0.05 for each step along the methods + 0.02 for each doubling + 0.01 for each seed."""
    empty = dict.fromkeys(f.name for f in fields(RunCard))
    for method in methods:
        step = COMPARED.index(method)
        facts = {**empty, "method": method, "task": name, "classes": 22, "lr": 0.01, "seconds": 60.0, "purpose": "final",
                 "parameters_without_head": 1000 * step, "protocol": "clean", "precision": "fp32", "device": "cpu",
                 "epochs": [{}] * 5, "recipe": {"augmentation": "none", "batch_size": 32, "drop_path": 0.0}}  # fmt: skip
        for n in shots:
            for seed in seeds:
                value = 0.3 + 0.05 * step + 0.02 * SHOTS.index(n) + 0.01 * seed
                card = RunCard(**{**facts, "shots": n, "seed": seed, "accuracy": value})
                save_card(card, card_path("laptop", "few-shot", name, method, seed, root=root, shots=n))
    chosen = RunCard(**{**facts, "purpose": "select", "shots": 4, "seed": 0, "accuracy": 1.0})  # must not be counted
    save_card(chosen, card_path("laptop", "few-shot", name, method, 0, 0.01, root=root, shots=4))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("few-shot")
    build_typefaces(root / "typefaces", SIZES["smoke"], 0)
    return few_shot.Source("smoke", root, "typefaces")


def test_no_card(tmp_path):
    assert few_shot_table(root=tmp_path).empty
    text = few_shot_markdown(root=tmp_path)
    assert "not run" in text and "ViT-S/14" in text and "|" not in text
    cells = few_shot_cells(few_shot_table(root=tmp_path), "typefaces")
    assert (cells.filter(like="shot") == "not run").all(axis=None) and len(cells) == 6
    assert (tables.tried_cells(root=tmp_path).filter(like="shot") == "–").all(axis=None)
    figure, sentence = few_shot.draw_curves(root=tmp_path)
    assert [t.get_text() for t in figure.axes[0].texts] == ["not run"]
    assert "0 of 90" in sentence and "Not run: Linear probe, BitFit" in sentence
    assert few_shot.paired_table("linear", root=tmp_path)["difference"].isna().all()


def test_table_of_all_cards(tmp_path):
    write(tmp_path)
    table = few_shot_table(root=tmp_path)
    assert len(table) == len(COMPARED) * len(SHOTS) and (table["seeds"] == 3).all()
    row = table[(table["method"] == "dtl") & (table["shots"] == 4)].iloc[0]
    assert np.isclose(row["mean"], 100 * (0.3 + 0.2 + 0.04 + 0.01)) and np.isclose(row["spread"], 1.0)
    assert row["lr"] == 0.01 and row["parameters_without_head"] == 4000
    assert few_shot.recorded_status(root=tmp_path) == "All 90 final runs are recorded."
    paired = few_shot.paired_table("linear", root=tmp_path)
    assert np.allclose(paired["difference"], 20.0) and np.allclose(paired["difference ±"], 0.0)


def test_markdown(tmp_path):
    write(tmp_path, methods=("linear", "dtl"))
    write(tmp_path, methods=("lora",), shots=(1, 2), seeds=(0, 1))
    lines = few_shot_markdown(root=tmp_path).splitlines()
    assert lines[2] == "| method | parameters | 1 shot | 2 shots | 4 shots | 8 shots | 16 shots | lr |"
    named = {line.split("|")[1].strip(): line for line in lines if line.startswith("| ")}
    assert list(named) == ["method", "Linear probe", "BitFit", "AdaptFormer", "LoRA (r = 8)", "DTL", "DTL+"]
    assert named["DTL"].startswith("| DTL | 4,000 | 51.0 ± 1.0 | 53.0 ± 1.0 |") and named["DTL"].endswith("| 0.01 |")
    assert "45.5 (2 of 3 seeds) | 47.5 (2 of 3 seeds) | not run | not run | not run |" in named["LoRA (r = 8)"]
    assert named["BitFit"].count("not run") == len(SHOTS)
    assert "34 final runs" in lines[-1] and "34 minutes" in lines[-1] and "ViT-S/14" in lines[-1]
    assert "5 epochs, batch 32, fp32, CPU; protocol: clean; augmentation: none" in lines[-1]
    assert "1,000 training images" not in lines[-1]  # those are VTAB-1K's


def test_several_learning_rates_are_told_with_their_shots(tmp_path):
    write(tmp_path, methods=("dtl",))
    rates = {1: 0.01, 2: 0.001, 4: 0.01, 8: 0.001, 16: 0.001}
    for (shots, lr), seed in product(rates.items(), SEEDS):
        path = card_path("laptop", "few-shot", "typefaces", "dtl", seed, root=tmp_path, shots=shots)
        save_card(replace(load_card(path), lr=lr, epochs=[{}] * (100 // shots)), path)
    path = card_path("laptop", "few-shot", "typefaces", "dtl", 0, 0.001, root=tmp_path, shots=4)
    save_card(replace(load_card(path.with_name(path.name.replace("0.001", "0.01"))), lr=0.001, accuracy=0.5), path)
    lines = few_shot_markdown(root=tmp_path).splitlines()
    assert next(line for line in lines if line.startswith("| DTL |")).endswith("| 0.01 (1, 4), 0.001 (2, 8, 16) |")
    assert "6 to 100 epochs" in lines[-1]
    seen = tables.tried_cells(root=tmp_path).set_index("method")
    assert seen.loc["DTL", "4 shots"] == "50.0 / 100.0" and (seen.drop("DTL") == "– / –").all(axis=None)
    assert "learning rate of 0.001 and 0.01, chosen per method and number of shots on the validation list" in lines[-1]


def test_a_table_for_each_set(tmp_path):
    write(tmp_path, methods=("dtl",))
    write(tmp_path, methods=("dtl",), shots=(1,), name="oxford-pets")
    text = few_shot_markdown(root=tmp_path)
    assert text.index("**oxford-pets**") < text.index("**typefaces**") and text.count("| DTL |") == 2


def test_curves(tmp_path):
    write(tmp_path, methods=("linear", "dtl"))
    write(tmp_path, methods=("lora",), shots=(1, 2), seeds=(0,))
    figure, sentence = few_shot.draw_curves(root=tmp_path)
    (ax,) = figure.axes
    labels = ax.get_legend_handles_labels()[1]
    assert set(labels) == {"Linear probe", "DTL", "LoRA", "guessing"}
    assert ax.get_xscale() == "log" and [t.get_text() for t in ax.get_xticklabels()] == ["1", "2", "4", "8", "16"]
    assert ax.get_ylim() == (0, 70), "the highest mean with its spread is 60, and a bar does not touch the frame"
    hollow = [line.get_ydata() for line in ax.lines if line.get_markerfacecolor() == "white" and len(line.get_xdata())]
    assert [np.isfinite(y).sum() for y in hollow] == [2]  # LoRA's two cells with one seed
    assert "LoRA (r = 8) (2 of 15 runs)" in sentence and "Not run: BitFit, AdaptFormer, DTL+." in sentence
    assert "Setting: laptop: packaged ViT-S/14" in sentence


def test_lists_and_contact_sheet(source):
    rows = few_shot.lists_table(source)
    assert rows["shots"].tolist() == list(SHOTS) and (rows["lines"] == 4 * rows["shots"]).all()
    assert (rows["different images"] == rows["lines"]).all() and (rows["in all three drawings"] == 0).all()
    figure, sentence = few_shot.contact_sheet(source, classes=3, each=2)
    assert len(figure.axes) == 3 * 6 and all(ax.images for ax in figure.axes)
    assert sentence.startswith("3 of the 4 classes of typefaces")


def test_views(source):
    image = source.open("train")[0][0]
    views = {name: train_transform(32, (0.5,) * 3, (0.5,) * 3, name) for name in (AUTHORS, LETTERS)}
    figure = few_shot.draw_views(image, views, each=4)
    pictures = [ax.images[0].get_array() for ax in figure.axes if ax.images]
    assert len(pictures) == 1 + 2 * 4 and all(0 <= p.min() <= p.max() <= 1 for p in pictures[1:])
    assert not np.array_equal(pictures[1], pictures[2])


def test_absent_official_sets_are_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DTL_DATA", str(tmp_path))
    with pytest.raises(DataMissing, match="data build`"):
        few_shot.find_set(get_profile("paper"))
    build_typefaces(tmp_path / "laptop" / "few-shot" / "typefaces", SIZES["smoke"], 0)
    found = few_shot.find_set(get_profile("paper"))
    assert (found.profile, found.task, found.official) == ("laptop", "typefaces", False)
    assert "No few-shot set of the profile paper is here" in capsys.readouterr().out
    (tmp_path / "paper/few-shot/few-shot_split/oxford-pets/annotations").mkdir(parents=True)
    found = few_shot.find_set(get_profile("paper"))
    assert (found.profile, found.task, found.official) == ("paper", "oxford-pets", True)


def test_the_page_holds_the_table_of_the_committed_cards():
    text = (project_dir() / "RESULTS.md").read_text()
    shown = text.split(tables.MARKS[0])[1].split(tables.MARKS[1])[0].strip()
    assert shown == tables.few_shot_markdown("laptop", project_dir() / "results"), "dtl results --write"

"""The tables and pictures of few-shot results, from made-up cards: none, some, all; and those of a built set."""

import itertools

import numpy as np
import pytest
from figures import texts
from run_cards import put

from dtl_book.experiments import COMPARED
from dtl_book.experiments.profiles import get_profile
from dtl_book.figures import few_shot
from dtl_book.lab import DataMissing
from dtl_book.standins.typefaces import SIZES, build_typefaces
from dtl_book.tables.benchmarks import few_shot_markdown, few_shot_table, tried_cells
from dtl_core.data.fewshot import SEEDS, SHOTS


def write(root, methods=COMPARED, shots=SHOTS, seeds=SEEDS, name="typefaces", rates=None):
    """Cards whose accuracy is 0.3 + 0.05 for each step along the methods + 0.02 for each doubling + 0.01 for each seed."""
    for method in methods:
        step = COMPARED.index(method)
        facts = dict(benchmark="few-shot", method=method, task=name, parameters_without_head=1000 * step)
        for n, seed in itertools.product(shots, seeds):
            value = 0.3 + 0.05 * step + 0.02 * SHOTS.index(n) + 0.01 * seed
            lr = (rates or {}).get(n, 0.01)
            put(root, shots=n, seed=seed, accuracy=value, lr=lr, epochs=[{}] * (100 // n), **facts)
        put(root, purpose="select", shots=4, accuracy=1.0, **facts)  # must not be counted


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("few-shot")
    build_typefaces(root / "typefaces", SIZES["smoke"], 0)
    return few_shot.Source("smoke", root, "typefaces")


def test_no_card(tmp_path):
    assert few_shot_table(root=tmp_path).empty
    text = few_shot_markdown(root=tmp_path)
    assert "not run" in text and "ViT-S/14" in text and "|" not in text
    figure, sentence = few_shot.draw_curves(root=tmp_path)
    assert texts(figure) == ["not run"] and "0 of 90" in sentence and "Not run: Linear probe, BitFit" in sentence


def test_some_cards(tmp_path):
    write(tmp_path, methods=("linear", "dtl"))
    row = few_shot_table(root=tmp_path).set_index(["method", "shots"]).loc[("dtl", 4)]
    assert (
        np.isclose(row["mean"], 100 * (0.3 + 0.2 + 0.04 + 0.01))
        and np.isclose(row["spread"], 1.0)
        and row["seeds"] == 3
    )
    paired = few_shot.paired_table("linear", root=tmp_path)
    assert np.allclose(paired["difference"], 20.0) and np.allclose(paired["difference ±"], 0.0)
    write(tmp_path, methods=("lora",), shots=(1, 2), seeds=(0, 1))
    write(tmp_path, methods=("dtl",), shots=(1,), name="oxford-pets")
    text = few_shot_markdown(root=tmp_path)
    assert text.index("**oxford-pets**") < text.index("**typefaces**") and text.count("| DTL |") == 2
    lines = text[text.index("**typefaces**") :].splitlines()
    named = {line.split("|")[1].strip(): line for line in lines if line.startswith("| ")}
    assert named["DTL"].startswith("| DTL | 4,000 | 51.0 ± 1.0 | 53.0 ± 1.0 |") and named["DTL"].endswith("| 0.01 |")
    assert "45.5 (2 of 3 seeds) | 47.5 (2 of 3 seeds) | not run | not run | not run |" in named["LoRA (r = 8)"]
    assert named["BitFit"].count("not run") == len(SHOTS)
    assert "37 final runs" in lines[-1] and "37 minutes" in lines[-1] and "ViT-S/14" in lines[-1]
    assert "6 to 100 epochs, batch 32, fp32, CPU; protocol: clean; augmentation: none" in lines[-1]
    assert "1,000 training images" not in lines[-1]  # those are VTAB-1K's

    figure, sentence = few_shot.draw_curves(root=tmp_path)
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert [n for line in hollow if (n := np.isfinite(line.get_ydata()).sum())] == [2], (
        "LoRA's two cells with two seeds"
    )
    assert "LoRA (r = 8) (4 of 15 runs)" in sentence and "Not run: BitFit, AdaptFormer, DTL+." in sentence
    assert "Setting: laptop: packaged ViT-S/14" in sentence


def test_several_learning_rates_are_told_with_their_shots(tmp_path):
    write(tmp_path, methods=("dtl",), rates={2: 0.001, 8: 0.001, 16: 0.001})
    put(tmp_path, benchmark="few-shot", task="typefaces", purpose="select", shots=4, lr=0.001, accuracy=0.5)
    lines = few_shot_markdown(root=tmp_path).splitlines()
    assert next(line for line in lines if line.startswith("| DTL |")).endswith("| 0.01 (1, 4), 0.001 (2, 8, 16) |")
    seen = tried_cells(root=tmp_path).set_index("method")
    assert seen.loc["DTL", "4 shots"] == "50.0 / 100.0" and (seen.drop("DTL") == "– / –").all(axis=None)
    assert "learning rate of 0.001 and 0.01, chosen per method and number of shots on the validation list" in lines[-1]


def test_lists_and_contact_sheet(source):
    rows = few_shot.lists_table(source)
    assert rows["shots"].tolist() == list(SHOTS) and (rows["lines"] == 4 * rows["shots"]).all()
    assert (rows["different images"] == rows["lines"]).all() and (rows["in all three drawings"] == 0).all()
    figure, sentence = few_shot.contact_sheet(source, classes=3, each=2)
    assert all(ax.images for ax in figure.axes) and sentence.startswith("3 of the 4 classes of typefaces")


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

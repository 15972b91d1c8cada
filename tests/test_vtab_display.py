"""The tables and pictures of notebook 09, with no card, some cards and all of them."""

from __future__ import annotations

import itertools
from dataclasses import fields

import matplotlib.pyplot as plt
import numpy as np
import pytest

from dtl_core.display import vtab, vtab_cards, vtab_plots
from dtl_core.display.versus import versus
from dtl_core.evidence import LEARNING_RATES, METHODS, SEEDS, TASKS, RunCard, card_path, save_card

PAIRS = list(itertools.product(METHODS, TASKS))


def write(root, pairs, seeds=SEEDS):
    """Cards whose accuracy is 0.5 + 0.1 for each step along METHODS + 0.01 for each seed."""
    empty = dict.fromkeys(f.name for f in fields(RunCard))
    for method, task in pairs:
        facts = {**empty, "method": method, "task": task, "classes": 4, "lr": 0.01, "seconds": 1.0, "parameters_without_head": 1,
                 "epochs": [{"epoch": e, "loss": 2.0 / e} for e in (1, 2)]}  # fmt: skip
        for seed in seeds:
            value = 0.5 + 0.1 * METHODS.index(method) + 0.01 * seed
            card = RunCard(
                **{**facts, "purpose": "final", "seed": seed, "accuracy": value, "balanced_accuracy": value - 0.2}
            )
            save_card(card, card_path("laptop", "vtab-1k", task, method, seed, root=root))
        for lr, value in zip(LEARNING_RATES, (0.70, 0.75), strict=True):
            card = RunCard(**{**facts, "purpose": "select", "seed": SEEDS[0], "lr": lr, "accuracy": value})
            save_card(card, card_path("laptop", "vtab-1k", task, method, SEEDS[0], lr, root=root))


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_no_card(tmp_path):
    assert "None of the 72" in vtab_cards.recorded_status(root=tmp_path)
    table = vtab_cards.recorded_table(root=tmp_path)
    assert (table[list(vtab_cards.LABELS.values())].iloc[:-1] == "not run").all(axis=None)
    assert (table.iloc[-1, 2:] == "–").all() and vtab_cards.group_means(root=tmp_path) == {}
    assert (vtab_cards.rates_table(root=tmp_path).iloc[:, 1:] == "not run").all(axis=None)
    assert (vtab_cards.balanced_table("elpv", root=tmp_path)["accuracy"] == "not run").all()
    assert texts(vtab_plots.draw_recorded(root=tmp_path)) == ["not run"] * len(TASKS)
    assert texts(vtab_plots.draw_learning("mnist", root=tmp_path)) == ["not run: Linear probe, LoRA, DTL, DTL+"]
    frames = {"lora": versus("lora", "dtl", root=tmp_path)}
    assert texts(vtab_plots.draw_differences(frames)) == ["not run"] * len(TASKS)


def test_some_cards(tmp_path):
    write(tmp_path, [pair for pair in PAIRS if pair not in (("lora", "mnist"), ("dtl", "elpv"))])
    write(tmp_path, [("dtl", "elpv")], seeds=SEEDS[:1])
    status = vtab_cards.recorded_status(root=tmp_path)
    assert "67 of 72" in status and status.endswith("Without all 3 seeds: LoRA on mnist; DTL on elpv.")
    table = vtab_cards.recorded_table(root=tmp_path).set_index("task")
    assert table.loc["mnist", "LoRA"] == "not run" and table.loc["elpv", "DTL"] == "70.0 (1 of 3 seeds)"
    assert table.loc["mnist", "DTL"] == "71.0 ± 1.0"
    assert table.loc["mean of groups"].tolist()[1:] == ["51.0 ± 1.0", "–", "–", "81.0 ± 1.0"]
    assert texts(vtab_plots.draw_recorded(root=tmp_path)) == ["not run: LoRA"]
    assert texts(vtab_plots.draw_learning("mnist", root=tmp_path)) == ["not run: LoRA"]


def test_all_cards(tmp_path):
    write(tmp_path, PAIRS)
    assert vtab_cards.recorded_status(root=tmp_path) == "All 72 final runs are recorded."
    assert (vtab_cards.rates_table(root=tmp_path)["DTL"] == "0.01 (+5.0)").all()
    row = vtab_cards.balanced_table("elpv", root=tmp_path).set_index("method").loc["DTL"]
    assert row.tolist() == [3, "71.0 ± 1.0", "51.0 ± 1.0"]
    assert texts(vtab_plots.draw_recorded(root=tmp_path)) == []
    figure = vtab_plots.draw_differences({"lora": versus("lora", "dtl", root=tmp_path)})
    assert texts(figure) == [] and figure.axes[0].get_xlim()[1] > 10


def test_the_two_means_of_the_literature():
    means, rows = vtab.literature_means().set_index("method"), vtab.literature_rows().set_index("method")
    assert np.allclose(means["mean of groups"], rows.loc[means.index, "mean_of_groups"], atol=0.01)
    assert np.allclose(means["mean of 19"], rows.loc[means.index, "mean_of_19"], atol=0.01)
    assert means.index[0] == "DTL" and f"{means.loc['DTL', 'mean of groups']:.2f}" == "76.76"


def test_benchmark_table_marks_what_was_not_counted():
    tasks = vtab.benchmark_table()
    assert len(tasks) == 19 and (tasks["test size from"] == "recall").sum() == 11

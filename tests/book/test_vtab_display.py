"""The tables and pictures of notebook 10, with no card, some cards and all of them."""

import itertools

import numpy as np
import pytest
from figures import texts
from run_cards import RECIPE, put

from dtl_book.experiments import COMPARED, LEARNING_RATES, SEEDS
from dtl_book.experiments.profiles import get_profile
from dtl_book.figures import vtab, vtab_cards, vtab_plots
from dtl_book.lab import DataMissing
from dtl_book.standins import TASKS
from dtl_book.tables.benchmarks import groups_of
from dtl_core.training import Recipe

PAIRS = list(itertools.product(COMPARED, TASKS))


def write(root, pairs, seeds=SEEDS, drop_paths=(None,), profile="laptop"):
    """Cards whose accuracy is 0.3 + 0.1 for each step along COMPARED + 0.01 for each seed."""
    for method, task in pairs:
        facts = dict(profile=profile, method=method, task=task, epochs=[{"epoch": e, "loss": 2.0 / e} for e in (1, 2)])
        for seed in seeds:
            value = 0.3 + 0.1 * COMPARED.index(method) + 0.01 * seed
            put(root, seed=seed, accuracy=value, balanced_accuracy=value - 0.2, **facts)
        for drop in drop_paths:
            for lr, value in zip(LEARNING_RATES, (0.70, 0.75 + (drop or 0) / 10), strict=True):
                recipe = {**RECIPE, "drop_path": drop or 0.0}
                put(root, drop_path=drop, purpose="select", lr=lr, accuracy=value, recipe=recipe, **facts)


def test_no_card_and_no_method_whole(tmp_path):
    assert "None of the 108" in vtab_cards.recorded_status(root=tmp_path)
    table = vtab_cards.recorded_table(root=tmp_path)
    assert (table[list(vtab_cards.LABELS.values())].iloc[:-2] == "not run").all(axis=None)
    assert (vtab_cards.rates_table(root=tmp_path).iloc[:, 1:] == "not run").all(axis=None)
    assert (vtab_cards.balanced_table("elpv", root=tmp_path)["accuracy"] == "not run").all()
    assert texts(vtab_plots.draw_recorded(root=tmp_path)) == ["not run"] * len(TASKS)
    assert texts(vtab_plots.draw_learning("mnist", root=tmp_path))[0].startswith("not run: Linear probe, BitFit, ")
    differences = vtab_cards.differences_table(root=tmp_path)
    assert (differences.iloc[:, 1:] == "not run").all(axis=None) and differences.shape == (6, 6)

    missing = [(method, "mnist") for method in COMPARED if method != "dtl"] + [("dtl", "elpv")]
    write(tmp_path, [pair for pair in PAIRS if pair not in missing])
    write(tmp_path, [("dtl", "elpv")], seeds=SEEDS[:1])
    status = vtab_cards.recorded_status(root=tmp_path)
    assert status.startswith("Not whole yet: Linear probe (15 of 18 runs)") and "DTL (16 of 18 runs)" in status
    table = vtab_cards.recorded_table(root=tmp_path).set_index("task")
    assert table.loc["mnist", "LoRA"] == "not run" and table.loc["elpv", "DTL"] == "70.0 (1 of 3 seeds)"
    assert table.loc["mnist", "DTL"] == "71.0 ± 1.0" and table.loc["mean of 6 tasks", "DTL"] == "–"
    differences = vtab_cards.differences_table(root=tmp_path).set_index("task")["less LoRA"]
    assert differences[["mnist", "elpv"]].tolist() == ["not run", "+10.0 (1 of 3 seeds)"]
    assert texts(vtab_plots.draw_recorded(root=tmp_path)) == ["not run: Linear probe, BitFit, AdaptFormer, LoRA, DTL+"]


def test_methods_that_are_whole_are_shown_and_the_others_named(tmp_path):
    whole = ("linear", "lora", "dtl", "dtl+")
    write(tmp_path, [pair for pair in PAIRS if pair[0] in whole or pair[1] == "mnist"])
    write(tmp_path, [("dtl", "clock")], seeds=(0,))  # no task of the suite
    assert vtab_cards.recorded_status(root=tmp_path) == (
        "All 18 final runs of Linear probe, LoRA, DTL, DTL+ are recorded. "
        "Not whole yet: BitFit (3 of 18 runs), AdaptFormer (3 of 18 runs)."
    )
    table = vtab_cards.recorded_table(root=tmp_path).set_index("task")
    assert table.columns.tolist() == ["Linear probe", "LoRA", "DTL", "DTL+"]
    for name in ("mean of groups", "mean of 6 tasks"):
        assert table.loc[name].tolist() == ["31.0 ± 1.0", "61.0 ± 1.0", "71.0 ± 1.0", "81.0 ± 1.0"]
    assert texts(vtab_plots.draw_recorded(root=tmp_path)) == []
    write(tmp_path, PAIRS, drop_paths=(None, 0.1))
    assert vtab_cards.recorded_status(root=tmp_path).endswith("AdaptFormer, LoRA, DTL, DTL+ are recorded.")
    assert (vtab_cards.rates_table(root=tmp_path)["DTL"] == "0.01, drop path 0.1 (+1.0)").all()
    row = vtab_cards.balanced_table("elpv", root=tmp_path).set_index("method").loc["DTL"]
    assert row.tolist() == [3, "71.0 ± 1.0", "51.0 ± 1.0"]
    differences = vtab_cards.differences_table(root=tmp_path).iloc[0].tolist()
    assert differences == ["mnist", "+40.0 ± 0.0", "+30.0 ± 0.0", "+20.0 ± 0.0", "+10.0 ± 0.0", "-10.0 ± 0.0"]


def test_whose_cards_are_shown(tmp_path, capsys):
    laptop, paper = get_profile("laptop"), get_profile("paper")
    assert vtab_cards.recorded_profile(laptop, tmp_path) is laptop and capsys.readouterr().out == ""
    assert vtab_cards.recorded_profile(paper, tmp_path) is laptop
    said = capsys.readouterr().out
    assert "No final run of the profile paper is recorded here" in said and laptop.setting in said
    tasks = [task for names in groups_of("paper").values() for task in names]
    write(tmp_path, [("dtl", task) for task in tasks], seeds=(0,), profile="paper")
    assert len(vtab_plots.draw_recorded("paper", tmp_path).axes[0].get_yticklabels()) == 19
    assert vtab_cards.recorded_profile(paper, tmp_path) is paper and capsys.readouterr().out == ""


def test_an_absent_official_folder_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DTL_DATA", str(tmp_path))
    with pytest.raises(DataMissing, match="data fetch"):
        vtab.find_suite(get_profile("paper"))
    assert "The official VTAB-1K is not here" in capsys.readouterr().out
    (tmp_path / "paper/vtab-1k/dtd").mkdir(parents=True)
    (tmp_path / "paper/vtab-1k/dtd/train800.txt").touch()
    found = vtab.find_suite(get_profile("paper"))
    assert (found.profile.name, found.root) == ("paper", tmp_path / "paper/vtab-1k") and not capsys.readouterr().out


def test_the_two_means_of_the_literature():
    means, rows = vtab.literature_means().set_index("method"), vtab.literature_rows().set_index("method")
    assert np.allclose(means["mean of groups"], rows.loc[means.index, "mean_of_groups"], atol=0.01)
    assert np.allclose(means["mean of 19"], rows.loc[means.index, "mean_of_19"], atol=0.01)
    assert means.index[0] == "DTL" and f"{means.loc['DTL', 'mean of groups']:.2f}" == "76.76"


def test_the_settings_of_the_authors_are_their_recipes():
    rows = vtab.authors_settings().set_index("task")
    assert rows.index.tolist() == vtab.benchmark_table()["task"].tolist()
    for task, row in rows.iterrows():
        for method in ("DTL", "DTL+"):
            recipe = Recipe.authors(backbone="vit", benchmark="vtab-1k", task=task, method=method)
            told = tuple(float(value) for value in row[f"{method}: lr, drop path"].split(", "))
            assert told == (recipe.lr, recipe.drop_path)
        assert row["kernel"] == recipe.config.dwconv_kernel

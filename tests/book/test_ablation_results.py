"""The tables and pictures of the ablations, from made-up cards: none, some, all; and the memory that is planned beside them."""

import math
from dataclasses import asdict

import numpy as np
import pytest
from figures import texts
from run_cards import CONFIG, RECIPE, put

from dtl_book.experiments import SEEDS
from dtl_book.experiments.grids import BASE, TASK, VALUES, variants
from dtl_book.experiments.profiles import get_profile
from dtl_book.figures import ablations as display
from dtl_book.lab import DataMissing
from dtl_book.tables import changed_runs as recorded
from dtl_core.memory import plan_training


def write(root, names=("paper", *variants()), seeds=SEEDS, task=TASK, **changes):
    """The paper's values 0.9; another value 0.9 - 0.01 for its place among the variants; all higher by 0.01 a seed."""
    for name in names:
        config, step, place = BASE, 0, {}
        if name != "paper":
            config, step, place = variants()[name], 1 + list(variants()).index(name), {"benchmark": "ablations"}
        for seed in seeds:
            put(root, f"-{name}" if place else "", task=task, seed=seed, accuracy=0.9 - 0.01 * step + 0.01 * seed,
                parameters_without_head=9216 * config.rank, recipe={**RECIPE, "config": asdict(config)}, **place, **changes)  # fmt: skip


def test_no_card(tmp_path):
    table = recorded.ablation_table(root=tmp_path)
    assert len(table) == sum(map(len, VALUES.values())) and (table["seeds"] == 0).all() and table["mean"].isna().all()
    text = recorded.ablation_markdown(root=tmp_path)
    assert text.count("| not run |") == len(table) and "0 of 39" in text and "0 of 3" in text and "ViT-S/14" in text
    figure, sentence = display.draw_ablation(root=tmp_path)
    assert texts(figure) == ["not run"] * len(table) and "0 of 39" in sentence
    assert (display.difference_table(root=tmp_path)["less the paper's value"] == "not run").all()
    assert display.recorded_settings(tmp_path) == [("laptop", TASK)]


def test_all_cards(tmp_path):
    write(tmp_path)
    write(tmp_path, names=("M0",), seeds=(7,), purpose="select")  # none of these four may be counted
    write(tmp_path, names=("paper",), seeds=(8,), method="lora")
    write(tmp_path, names=("M2",), seeds=(0,), task="another")
    both = {**RECIPE, "config": {**CONFIG, "rank": 4, "inject_from": 4}}  # two changes are no ablation
    put(tmp_path, "-both", benchmark="ablations", task=TASK, seed=1, recipe=both)
    table = recorded.ablation_table(root=tmp_path).set_index(["varied", "value"])
    assert (table["seeds"] == 3).all() and np.allclose(table["spread"], 1.0) and (table["lr"] == 0.01).all()
    for varied in VALUES:  # the benchmark's own cards stand among the values of each quantity
        assert np.isclose(table.loc[(varied, float(getattr(BASE, varied))), "mean"], 91.0)
    assert np.isclose(table.loc[("inject_from", 0.0), "mean"], 90.0)
    assert np.isclose(table.loc[("beta", math.inf), "mean"], 91.0 - 1 - list(variants()).index("betainf"))
    assert table.loc[("rank", 8.0), "parameters"] == 4 * table.loc[("rank", 2.0), "parameters"]
    paired = recorded.paired_with_paper(root=tmp_path)
    assert np.allclose(paired["difference"], -np.arange(1, 14)) and np.allclose(paired["difference ±"], 0)
    assert display.difference_table(root=tmp_path).loc[0].tolist() == ["M = 0", "-1.0 ± 0.0", "3 of 3", "3 of 3"]


def test_some_cards(tmp_path):
    write(tmp_path, names=("M4", "betainf"), seeds=(1,))
    write(tmp_path, names=("k3",))
    write(tmp_path, names=("paper",), seeds=(0, 1))
    cells = recorded.ablation_cells(root=tmp_path).set_index("varied").iloc[:, 0]
    ran = cells[cells != "not run"]
    assert len(ran) == 4 + 3 and ran["beta = ∞ (ReLU)"].endswith("(1 of 3 seeds)")
    assert ran["M = 4"] == "88.0 (1 of 3 seeds)" and ran["k = 0 (as in the paper)"] == "90.5 (2 of 3 seeds)"
    assert ran["k = 3"].endswith(" ± 1.0")
    status = recorded.ablation_status(root=tmp_path)
    assert status == "5 of 39 runs with another value and 2 of 3 with the paper's are recorded."
    paired = display.difference_table(root=tmp_path).set_index("varied")
    assert paired.loc["M = 4"].tolist() == ["-3.0", "1 of 3", "1 of 1"]  # seed 1 alone is in both
    figure, _ = display.draw_ablation(root=tmp_path)
    assert len(texts(figure)) == len(cells) - len(ran)
    left = figure.axes[0]
    (hollow,) = [line for line in left.lines if line.get_markerfacecolor() == "white"]
    assert list(hollow.get_xdata()) == [2, 3], "M = 4 and M = 6"


def test_planned_memory_is_the_papers_network():
    plans = recorded.planned_memory(progress=False).set_index(["varied", "value"])
    own = plan_training("dtl", "vit_base_patch16_224", recompute="none", batch_size=32, num_classes=100)
    for varied in VALUES:
        row = plans.loc[(varied, float(getattr(BASE, varied)))]
        assert row["plain"] == own.peak_bytes and row["parameters"] == own.parameters == 36_864
    m = plans.loc["inject_from"]
    assert (m["plain"].diff().dropna() < 0).all() and (m["default"].diff().dropna() < 0).all()
    assert (m["default"] < m["plain"]).all() and m["parameters"].nunique() == 1
    assert plans.loc["rank", "parameters"].tolist() == [2 * 12 * r * 768 for r in VALUES["rank"]]
    assert plans.loc["dwconv_kernel", "parameters"].tolist() == [36_864 + k * k * 768 for k in VALUES["dwconv_kernel"]]


def test_every_setting_with_cards_can_be_chosen(tmp_path, capsys):
    write(tmp_path, names=("M4",), task="dsprites_loc", profile="paper")
    assert display.recorded_settings(tmp_path) == [("paper", "dsprites_loc"), ("laptop", TASK)]
    assert display.recorded_for("paper", tmp_path) == ("paper", "dsprites_loc") and not capsys.readouterr().out
    assert display.recorded_for("smoke", tmp_path) == ("laptop", TASK)
    assert "No ablation of the profile smoke is recorded" in capsys.readouterr().out
    text = recorded.ablation_markdown("paper", tmp_path)
    assert "ViT-B/16 (ImageNet-21k) at 224 px" in text and "dsprites_loc" in text and TASK not in text


def test_the_widget_draws_what_the_static_call_draws(tmp_path):
    from IPython.core.interactiveshell import InteractiveShell

    write(tmp_path, names=("paper", "k3"))
    write(tmp_path, names=("r8",), seeds=(0,), task="mnist")
    shell = InteractiveShell.instance()  # without a shell nothing is displayed
    try:
        box = display.explore_ablations(tmp_path)
        quantity, where, page = box.children
        assert [value for _, value in where.options] == [("laptop", "mnist"), ("laptop", TASK)]
        assert "M = 0" in page.value and "k = 3" not in page.value
        quantity.value, where.value = "dwconv_kernel", ("laptop", TASK)
        assert "k = 3" in page.value and "79.0\u00a0±\u00a01.0" in page.value and "M = 0" not in page.value
        _, sentence = display.draw_ablation(["dwconv_kernel"], root=tmp_path)
        assert sentence.replace("'", "&#x27;") in page.value
        quantity.value, where.value = "rank", ("laptop", "mnist")
        assert "r = 8" in page.value and "(1 of 3 seeds)" in page.value
    finally:
        shell.clear_instance()


def test_the_task_of_a_profile(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DTL_DATA", str(tmp_path))
    with pytest.raises(DataMissing, match="data fetch"):  # neither the official folder nor the laptop's weights
        display.find_task(get_profile("paper"))
    assert "No VTAB-1K folder of the profile paper is here" in capsys.readouterr().out
    found = display.find_task(get_profile("smoke"))
    assert (found.profile.name, found.task) == ("smoke", TASK) and len(found.open("train800val200"))
    official = tmp_path / "paper" / "vtab-1k"
    official.mkdir(parents=True)
    with pytest.raises(DataMissing, match="dtl data check vtab"):
        display.find_task(get_profile("paper"))
    for name in ("clevr_count", "dsprites_loc"):
        (official / name).mkdir()
        (official / name / "train800val200.txt").write_text("")
    found = display.find_task(get_profile("paper"))
    assert (found.profile.name, found.task) == ("paper", "dsprites_loc")

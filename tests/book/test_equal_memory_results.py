"""The tables at equal memory, from made-up cards: none, some, all."""

import numpy as np
import pytest
from run_cards import put

from dtl_book.experiments import SEEDS
from dtl_book.experiments.equal_memory import ALONG, FEW_SHOT, GROUP, METHODS, SIX, TASKS, WHOLE
from dtl_book.tables import equal_memory as tables


def write(root, labels=METHODS, seeds=SEEDS, **changes):
    """DTL 0.9, each further method 0.01 lower; every seed higher by 0.01, every task by 0.001."""
    for step, label in enumerate(labels):
        method = next(m for m in ("res-tuning-bypass", *label.split("-late")) if label.startswith(m)).split("-taps")[0]
        method = method.split("-whole")[0].split("-M")[0]
        variant = label[len(method) + 1 :]
        for seed in seeds:
            for place, task in enumerate(changes.get("tasks", TASKS)):
                score = 0.9 - 0.01 * step + 0.01 * seed + 0.001 * place
                other = {k: v for k, v in changes.items() if k != "tasks"}
                put(root, f"-{variant}" if variant else "", benchmark=GROUP, task=task, method=method, seed=seed,
                    accuracy=score, run={"variant": variant}, **other)  # fmt: skip


def test_no_card(tmp_path):
    assert tables.equal_memory_markdown(root=tmp_path).startswith("*No final run is recorded")
    assert "0 of 132 final runs" in tables.status(root=tmp_path)


def test_all_cards(tmp_path):
    write(tmp_path)
    write(tmp_path, labels=("dtl",), seeds=(7,))  # not one of the seeds
    table = tables.accuracy_table(root=tmp_path).set_index("method")
    assert table.loc["DTL", "mnist"] == "91.0 ± 1.0" and table.loc["DTL+", "mnist"] == "90.0 ± 1.0"
    assert table.loc["DTL", tables.OF_TASKS] == f"{91 + 0.15:.1f} ± 1.0"
    assert table.loc["LoRA (r = 2)", "parameters"] == "30,720" and table.loc["DTL", "parameters"] == "36,864"
    rows = tables.paired(tables.final_runs(root=tmp_path)).set_index(["label", "task"])
    place = list(METHODS).index("lora-late")
    assert (
        np.isclose(rows.loc[("lora-late", "mnist"), "mean"], place) and rows.loc[("lora-late", "mnist"), "ahead"] == 3
    )
    assert np.allclose(rows["spread"], 0) and (rows["seeds"] == 3).all()
    won = tables.paired_table(root=tmp_path).set_index("DTL less")
    assert won.loc["LoRA (r = 8)", "mnist"] == f"+{place}.0 ± 0.0" and won.loc["LoRA (r = 8)", "seeds won"] == "3 of 3"
    assert "All 132 final runs" in tables.status(root=tmp_path)


def test_some_cards(tmp_path):
    write(tmp_path, labels=("dtl",), tasks=TASKS[:2])
    write(tmp_path, labels=("lora-late",), tasks=TASKS[:1], seeds=(1,))
    table = tables.accuracy_table(root=tmp_path).set_index("method")
    assert table.loc["DTL", tables.OF_TASKS] == tables.NOTHING, "no mean over two of four tasks"
    assert table.loc["LoRA (r = 8)", TASKS[0]] == "91.0 (1 of 3 seeds)"
    won = tables.paired_table(root=tmp_path).set_index("DTL less")
    text = tables.equal_memory_markdown(root=tmp_path)
    assert "7 of 132 final runs" in text and text.count("not run") > len(METHODS) * len(TASKS)
    assert won.loc["LoRA (r = 8)", TASKS[0]].endswith("(1 of 3 seeds)") and won.loc["BitFit", TASKS[0]] == "not run"


def test_along_m_with_few_shots_and_over_all_blocks(tmp_path):
    task, values = ALONG
    write(tmp_path, labels=[f"dtl-M{m}" for m in values], tasks=(task,))
    write(tmp_path, labels=("dtl",), tasks=(task,))
    along = tables.along_table(root=tmp_path).set_index("method")
    assert list(along.columns) == [f"M = {m}" for m in sorted((*values, 6))]
    assert along.loc["DTL", "M = 4"] == "90.0 ± 1.0" and along.loc["DTL", "M = 6"] == "91.0 ± 1.0"
    assert along.loc["LoRA of the blocks after M", "M = 4"] == "not run"
    for shots in FEW_SHOT[1]:
        write(tmp_path, labels=SIX, tasks=FEW_SHOT[:1], shots=shots)
    few = tables.few_shot_table(root=tmp_path).set_index("method")
    assert few.loc["DTL", "4 shots"] == "91.0 ± 1.0" and "not run" not in few.to_numpy()
    write(tmp_path, labels=[f"{m}-whole" for m in WHOLE])
    assert "not run" not in tables.whole_table(root=tmp_path).to_numpy()


@pytest.mark.parametrize("label", METHODS)
def test_every_method_has_a_name_and_a_plan_from_the_stored_prefix(label):
    parameters, peak = tables.planned_peak(label)
    dtl = tables.planned_peak("dtl")
    assert label in tables.NAMES and peak < 2**31 and (peak > dtl[1]) == (label in MORE)
    assert parameters == 0 if label.startswith("linear") else parameters > 0


MORE = {"dtl+", "lora-late", "lora-late-r2", "full-late"}  # than DTL keeps, which is what "equal" is about

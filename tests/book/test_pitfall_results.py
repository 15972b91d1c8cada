"""The table and picture of the pitfalls, from made-up cards: none, some, all; and pairs that are none."""

import numpy as np
import pytest
import run_cards
from figures import texts
from PIL import Image

from dtl_book.experiments import SEEDS
from dtl_book.experiments.grids import PITFALL_METHODS, PITFALL_VARIANTS, pitfall_applies, pitfall_tasks
from dtl_book.figures import vtab_pitfalls
from dtl_book.sweep import measure_pitfalls
from dtl_book.tables.changed_runs import pitfalls_cells, pitfalls_markdown, pitfalls_table

COSTS = {"half": 0.04, "jpeg75": 0.01, "jpeg30": 0.08, "cls": -0.02}
TASKS = pitfall_tasks("laptop")


def put(root, task, method, seed, accuracy, variant="", **changes):
    facts = dict(task=task, method=method, seed=seed, accuracy=accuracy, recipe={"lr": 0.01, "seed": seed})
    if variant:
        facts |= {"benchmark": "pitfalls", "switches": PITFALL_VARIANTS[variant].active()}
    run_cards.put(root, f"-{variant}" if variant else "", **facts | changes)


def write(root, seeds=SEEDS, variants=tuple(PITFALL_VARIANTS)):
    """Runs at 0.8 + 0.01 for each seed, and with each pitfall what it costs less; on seed 2 half a point more."""
    for task in TASKS:
        for method in PITFALL_METHODS:
            for seed in SEEDS:
                put(root, task, method, seed, 0.8 + 0.01 * seed)
            for variant in (v for v in variants if pitfall_applies(method, v)):
                for seed in seeds:
                    put(root, task, method, seed, 0.8 + 0.01 * seed - COSTS[variant] - 0.005 * (seed == 2), variant)


def test_no_card_and_some_cards(tmp_path):
    assert "not run" in pitfalls_markdown(root=tmp_path) and "|" not in pitfalls_markdown(root=tmp_path)
    assert pitfalls_table(root=tmp_path)["difference"].isna().all()
    cells = pitfalls_cells(root=tmp_path).set_index("pitfall").to_numpy().ravel().tolist()
    assert cells.count("not run") == 14 and cells.count("–") == 2
    write(tmp_path, seeds=())
    assert "not run" in pitfalls_markdown(root=tmp_path), "runs without a pitfall are no pair"
    write(tmp_path, seeds=(0, 1), variants=("half",))
    cells = pitfalls_cells(root=tmp_path)
    assert cells.iloc[0, 1] == "-4.0 (2 of 3 seeds)" and (cells.iloc[1:3, 1:] == "not run").all(axis=None)
    figure, sentence = vtab_pitfalls.draw_pitfalls(root=tmp_path)
    assert texts(figure) == ["not run"] * 6 and "8 of 42 pairs" in sentence


def test_differences_are_paired_by_seed(tmp_path):
    write(tmp_path)
    table = pitfalls_table(root=tmp_path).set_index(["pitfall", "task", "method"])
    assert len(table) == 14 and (table["seeds"] == 3).all()
    row = table.loc[("jpeg30", "mnist", "dtl")]
    pairs = np.array([-8.0, -8.0, -8.5])
    assert np.isclose(row["difference"], pairs.mean()) and np.isclose(row["spread"], pairs.std(ddof=1))
    assert np.isclose(row["without"], 81.0) and np.isclose(row["with"], 81.0 + pairs.mean())
    lines = pitfalls_markdown(root=tmp_path).split("\n")
    assert lines[0] == "| pitfall | mnist, Linear probe | mnist, DTL | elpv, Linear probe | elpv, DTL |"
    assert "| -8.2 ± 0.3 | -8.2 ± 0.3 | -8.2 ± 0.3 | -8.2 ± 0.3 |" in lines[4]
    assert lines[5].endswith("| +1.8 ± 0.3 | – | +1.8 ± 0.3 | – |"), "a gain is shown as one"
    assert "All 42 pairs are recorded." in lines[-1] and "ViT-S/14" in lines[-1]
    figure, sentence = vtab_pitfalls.draw_pitfalls(root=tmp_path)
    assert [ax.get_title() for ax in figure.axes] == list(TASKS) and texts(figure) == []


@pytest.mark.parametrize(
    "change",
    [{"recipe": {"lr": 0.001, "seed": 0}}, {"backbone_sha256": "c"}, {"seed": 5}, {"switches": {"jpeg": 60}}],
    ids=str,
)
def test_another_run_is_no_partner(change, tmp_path):
    put(tmp_path, "mnist", "dtl", 0, 0.8)
    put(tmp_path, "mnist", "dtl", variant="half", **{"seed": 0, "accuracy": 0.7} | change)
    assert (pitfalls_table(root=tmp_path)["seeds"] == 0).all()


def test_the_recorded_runs_are_the_rows_of_the_table(tmp_path, monkeypatch):
    monkeypatch.setenv("DTL_RESULTS", str(tmp_path))
    runs = []
    monkeypatch.setattr("dtl_book.sweep.recording.sweep_runs", lambda found, *_, **__: runs.extend(found))
    measure_pitfalls("laptop", lr=0.01)
    rows = {(r.task, r.method, r.pitfall) for r in pitfalls_table(root=tmp_path).itertuples()}
    assert {(r.task, r.method, r.variant) for r in runs} == rows and len(runs) == 3 * len(rows)
    assert all(r.pitfalls == PITFALL_VARIANTS[r.variant] for r in runs)
    assert runs[0].card().parent == tmp_path / "laptop" / "pitfalls" / "mnist"


def test_what_jpeg_loses_is_drawn():
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    figure, rows = vtab_pitfalls.draw_jpeg(Image.fromarray(pixels), (75, 30))
    pictures = [ax.images[0].get_array() for ax in figure.axes]
    assert len(pictures) == 5 and np.array_equal(pictures[0], pixels)
    assert rows["quality"].tolist() == [75, 30] and (rows["mean error (of 255)"].diff().dropna() > 0).all()
    error = np.abs(np.asarray(pictures[1], float) - pixels).mean()
    assert np.isclose(rows["mean error (of 255)"].iloc[0], error)

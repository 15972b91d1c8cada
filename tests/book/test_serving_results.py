"""RESULTS.md and the pictures of the server say what the recorded card holds."""

import json

import pytest
from serve import images_of, task_of, toy

from dtl_book.figures import serving as pictures
from dtl_book.paths import project_dir
from dtl_book.tables import serving
from dtl_core.serving import MultiTask

ROOT = project_dir() / "results"


def made_up(root, tasks=(1, 2, 19)):
    """A card whose ratios are made of the number of tasks."""
    rows = []
    for kind in (serving.SERVER, serving.KNOWN, serving.SEPARATE, serving.LORA, serving.FULL):
        for t in tasks:
            times = dict(
                seconds=1.0, ratio=0.3 + t / 100, low=0.2, high=0.9, cpu_ratio=0.44, cpu_low=0.43, cpu_high=0.45
            )
            count = {serving.KNOWN: None, serving.SERVER: 7 + 5 * t}.get(kind, 12 * t)
            size = 2**20 * (300 * t if kind == serving.FULL else 300 + t)
            counts = dict(multiply_adds=count, weight_bytes=size, peak_bytes=2**21)
            rows.append({"kind": kind, "tasks": t, **times, **counts})
    card = {
        "setting": {"backbone": "a_vit", "image_size": 224, "batch_size": 1, "classes": 10, "chunk": 16, "threads": 2, "rounds": 3, "tasks": list(tasks)},
        "rows": rows, "chunks": [{"chunk": 1, "cpu_ratio": 1.2}, {"chunk": 16, "cpu_ratio": 1.0}], "where": {"prefix": 0.1, "suffix": 0.85, "beside": 0.05}, "blocks": 12, "inject_from": 6,
        "wait_policy": "passive", "versions": {"torch": "9", "peft": "8"},
    }  # fmt: skip
    (root / "benchmarks").mkdir(parents=True)
    (root / "benchmarks" / "serving.json").write_text(json.dumps(card))
    return card


def test_the_recorded_card_meets_its_targets():
    """Half of the time of separate models with 19 tasks, a fifteenth of the weights of full copies; counted as planned."""
    table = serving.serving_table(serving.serving_card(ROOT)).set_index(["kind", "tasks"])
    mine, copies, separate = (table.loc[(kind, 19)] for kind in (serving.SERVER, serving.FULL, serving.SEPARATE))
    assert mine["ratio"] <= 0.50 and mine["weight_bytes"] <= copies["weight_bytes"] / 15
    assert mine["multiply_adds"] / separate["multiply_adds"] == pytest.approx(mine["arithmetic"], rel=0.01)


def test_the_arithmetic():
    assert serving.by_arithmetic(serving.SERVER, 19) == pytest.approx((7 + 5 * 19) / (12 * 19))
    assert serving.by_arithmetic(serving.SERVER, 1) == serving.by_arithmetic(serving.LORA, 5) == 1
    assert serving.by_arithmetic(serving.KNOWN, 3) == pytest.approx(5 / 12)


def test_tables_and_pictures_of_a_card(tmp_path):
    made_up(tmp_path)
    text = serving.serving_markdown(tmp_path)
    assert "| 19 | 0.447 | 0.447 | 0.49 (0.20 to 0.90) | 0.44 |" in text and "| 319 | 1/17.9 | 2 |" in text
    assert "one image" in text and "85 % in blocks 7 to 11" in text and "3 rounds" in text
    assert "1.20 in chunks of 1, 1.00 in chunks of 16" in text
    figure, sentence = pictures.draw_latency(tmp_path)
    assert "takes 0.49 of the time and 0.44 of the CPU time; 0.447 by arithmetic" in sentence
    for ax, last in zip(figure.axes, (0.49, 0.44), strict=True):
        lines = {line.get_label(): line.get_ydata() for line in ax.get_lines()}
        assert list(lines["MultiTask, by arithmetic"]) == pytest.approx([1, 17 / 24, 102 / 228])
        assert ax.containers[0][0].get_ydata()[-1] == pytest.approx(last)
    table = pictures.latency_table(tmp_path)
    assert table["time"].tolist() == pytest.approx([0.49] * 5) and table["weights (MiB)"].tolist() == [319] * 4 + [5700]
    assert table["MACs (G)"].isna().tolist() == [False, True, False, False, False]


def test_nothing_recorded_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"benchmarks/serving\.py"):
        serving.serving_markdown(tmp_path)
    figure, sentence = pictures.draw_latency(tmp_path)
    assert [t.get_text() for t in figure.axes[0].texts] == ["not run"] and "Nothing is recorded" in sentence
    assert pictures.latency_table(tmp_path).empty and pictures.latency_note(tmp_path) == "Nothing is recorded."


def test_rows_through_the_blocks():
    backbone = toy("toy/vit")
    server = MultiTask(backbone, {str(i): task_of(backbone, (2, 0, 6, 0), seed=i) for i in range(3)})
    images = images_of(backbone, 2)
    rows = pictures.rows_through_blocks(backbone, lambda: server.predict(images))
    assert rows == [2] * 7 + [6] * 5 and not backbone.blocks[0]._forward_pre_hooks
    figure = pictures.draw_rows({"together": rows, "one by one": [6] * 12})
    assert [bar.get_height() for bar in figure.axes[0].containers[0]] == rows
    swin = toy("toy/swin")
    server = MultiTask(swin, {"a": task_of(swin, (2, 4, 14, 0))})
    assert pictures.rows_through_blocks(swin, lambda: server.predict(images_of(swin, 1))) == [1] * 24

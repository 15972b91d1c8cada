"""Memory and time of steps, measured on the CPU and the toys: rows, ratios, what fails and what is not reached."""

import time

import pytest
import torch

from dtl_book.measured import load_card, memory, timing
from dtl_book.measured.memory import memory_specs, summarize
from dtl_book.measured.rows import fill_card
from dtl_book.measured.timing import COMPILED, KINDS, PLAIN, make_step, time_specs
from dtl_core import load_backbone

CPU = torch.device("cpu")
TOY = "toy/vit"
SOME = ("figure 1, today's: DTL, fp32", "figure 1, today's: LoRA, amp", "recomputing: LoRA, checkpointing, bf16")


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch):
    monkeypatch.setattr(timing, "ROUNDS", (3, 5))


def chosen(names):
    return [spec for spec in memory_specs(TOY) if spec["name"] in names]


def measured(path, specs, seconds=600.0):
    return fill_card("memory", memory.MEMORY, path, CPU, TOY, time.monotonic() + seconds, specs)


def timed(path, kinds, seconds=600.0):
    specs = [spec for spec in time_specs(CPU) if spec["kind"] in kinds]
    return fill_card("time", timing.TIME, path, CPU, TOY, time.monotonic() + seconds, specs)


@pytest.mark.parametrize("backbone", ["vit_base_patch16_224", TOY])
def test_the_rows_are_in_order_of_worth_and_each_is_one(backbone):
    specs = memory_specs(backbone)
    assert len({spec["name"] for spec in specs}) == len(specs) > 80
    groups = list(dict.fromkeys(spec["group"] for spec in specs))
    assert groups[0] == "figure 1, paper's setting" and groups[-1] == "batch" and len(groups) == 7
    sizes = {(s["setting"]["backbone"], s["setting"]["image_size"]) for s in specs}
    toys, real = {(TOY, 32), ("toy/swin", 64)}, {(backbone, 224), ("swin_base_patch4_window7_224", 224)}
    assert sizes == (toys if backbone == TOY else real)
    first = specs[0]["setting"]
    assert (first["precision"], first["attention"], first["keep_gradients"]) == ("amp", "math", True)
    assert {s["setting"]["config"]["inject_from"] for s in specs if "config" in s["setting"]} == {0, 2, 4, 6, 8, 10}


def test_a_step_is_measured_beside_its_plan(tmp_path, capsys):
    path = tmp_path / "memory.json"
    measured(path, chosen(SOME))
    card = load_card(path)
    fused, half = card["rows"]
    assert fused["planned_bytes"] == fused["allocated_bytes"] and fused["ratio"] == fused["ratio_without_left"] == 1
    assert sum(fused["planned_by_kind"].values()) == fused["planned_bytes"] and fused["reserved_bytes"] is None
    assert half["ratio"] == pytest.approx(1, abs=0.01) and half["setting"]["precision"] == "bf16"
    assert [n["name"] for n in card["not_run"]] == [SOME[1]] and "is CUDA's" in card["not_run"][0]["reason"]
    assert card["summary"]["figure 1, today's"] == {
        "rows": 1, "median": 0, "worst": 0, "worst_row": SOME[0], "median_without_left": 0, "worst_without_left": 0,
    }  # fmt: skip
    assert "(+0.00%)" in capsys.readouterr().out


def test_a_row_with_another_first_injection_is_the_config_that_it_says(tmp_path):
    specs = [s for s in memory_specs(TOY) if s["name"].startswith("first injection: DTL, M = 2")]
    specs[0]["setting"] |= {"precision": "fp32", "attention": "fused"}
    (row,) = measured(tmp_path / "memory.json", specs)["rows"]
    assert row["ratio"] == 1 and row["setting"]["config"]["inject_from"] == 2


def test_the_summary_has_the_worst_of_each_group():
    rows = [
        {"name": n, "group": g, "status": "measured", "ratio": r, "ratio_without_left": 1.0}
        for n, g, r in (("a", "x", 1.02), ("b", "x", 0.9), ("c", "x", 1.0), ("d", "y", 1.5))
    ]
    found = summarize([*rows, {"name": "e", "group": "y", "status": "failed"}])
    assert (found["x"]["median"], found["x"]["worst"], found["x"]["worst_row"]) == (0.02, 0.1, "b")
    assert (found["all"]["rows"], found["all"]["worst_row"], found["y"]["rows"]) == (4, "d", 1)


def test_kinds_are_timed_side_by_side(tmp_path):
    path = tmp_path / "time.json"
    timed(path, (PLAIN, "DTL side, cached prefix", "DTL blocks, bf16", "full, checkpointing"))
    rows = {row["kind"]: row for row in load_card(path)["rows"]}
    assert len(rows) == 4
    for kind, row in rows.items():
        assert row["status"] == "measured" and 3 <= row["rounds"] <= 5 and row["seconds"] > 0, kind
        assert row["to_plain_low"] <= row["to_plain"] <= row["to_plain_high"]
        assert row["images_per_second"] == pytest.approx(32 / row["seconds"], rel=0.01)
    assert len({row["rounds"] for row in rows.values()}) == 1
    assert rows[PLAIN]["to_plain"] == rows[PLAIN]["to_plain_low"] == 1


def test_a_kind_that_fails_is_left_out_of_the_rounds(tmp_path, monkeypatch):
    real = timing._model

    def breaks(kind, shape):
        if kind["method"] == "bitfit":
            raise RuntimeError("a planted failure")
        if kind["method"] == "full":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return real(kind, shape)

    monkeypatch.setattr(timing, "_model", breaks)
    card = timed(tmp_path / "time.json", (PLAIN, "BitFit", "full", "LoRA (ours)"))
    assert {row["kind"]: row["status"] for row in card["rows"]} == {
        PLAIN: "measured", "LoRA (ours)": "measured", "BitFit": "failed", "full": "out of memory",
    }  # fmt: skip
    monkeypatch.setattr(timing, "_model", real)
    made, kinds = [], (PLAIN, "BitFit", "full", "LoRA (ours)")
    monkeypatch.setattr(timing, "_model", lambda kind, shape: made.append(kind["method"]) or real(kind, shape))
    card = timed(tmp_path / "time.json", kinds)
    assert made == ["dtl", "bitfit"], "what is missing, beside the plain DTL"
    assert [row["kind"] for row in card["rows"] if row["status"] == "measured"] == [PLAIN, "LoRA (ours)", "BitFit"]
    monkeypatch.setattr(timing, "_model", lambda *_: 1 / 0)
    card = timed(tmp_path / "other.json", (PLAIN, "BitFit"))
    assert [row["status"] for row in card["rows"]] == ["failed", "failed"]
    assert "which all are compared with" in card["rows"][1]["error"], "without the plain DTL there is no ratio"


def test_models_that_do_not_fit_together_are_timed_in_groups(tmp_path, monkeypatch):
    shape = load_backbone(TOY)
    size = sum(p.numel() * p.element_size() for p in shape.parameters())
    monkeypatch.setattr(timing, "_room", lambda *_: 3.5 * size)
    kinds = (PLAIN, "DTL side", "BitFit", "full", COMPILED)
    specs = [spec for spec in time_specs(CPU) if spec["kind"] in kinds]
    groups = timing._groups(specs, shape, CPU)
    assert [[spec["kind"] for spec in group] for group in groups] == [
        [PLAIN, "DTL side"], ["BitFit"], ["full"], [COMPILED],
    ]  # fmt: skip
    card = timed(tmp_path / "time.json", kinds[:3])
    assert [row["status"] for row in card["rows"]] == ["measured"] * 3


def test_without_peft_or_seconds_the_rows_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "find_spec", lambda name: None)
    card = timed(tmp_path / "time.json", (PLAIN, "LoRA (peft)"))
    assert [row["kind"] for row in card["rows"]] == [PLAIN]
    assert card["not_run"] == [{"name": "fp32: LoRA (peft)", "reason": "peft is not installed: pip install peft"}]
    card = timed(tmp_path / "short.json", (PLAIN, "BitFit", COMPILED), seconds=0.2)
    assert card["rows"] == [] and len(card["not_run"]) == 3
    assert {n["reason"].split(" for ")[0] for n in card["not_run"]} == {"the budget has no room", "the budget was over"}


@pytest.mark.parametrize("precision", ["amp", "amp-bf16"])
@pytest.mark.parametrize("kind", [PLAIN, "DTL side, bf16, cached prefix", "LoRA (ours), checkpointing", "full"])
def test_a_step_under_autocast_trains(kind, precision):
    """CUDA's branch on the CPU, which has an autocast and a gradient scaler, too."""
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)
    made, real = [], timing._model
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "_model", lambda *a: made.append(real(*a)) or made[-1])
        step = make_step(KINDS[kind], load_backbone(TOY), images, labels, precision)
    before = made[0].head.weight.detach().clone()
    for _ in range(3):
        step()
    assert torch.isfinite(made[0].head.weight).all() and not torch.equal(before, made[0].head.weight)
    assert all(p.grad is None for p in made[0].parameters())


def test_cuda_has_both_autocasts_and_compiled_kinds_come_last():
    specs = time_specs(torch.device("cuda"))
    assert {spec["precision"] for spec in specs} == {"amp", "amp-bf16"} and len(specs) == 2 * len(KINDS)
    assert [spec["kind"] for spec in specs[-2:]] == [COMPILED, COMPILED]

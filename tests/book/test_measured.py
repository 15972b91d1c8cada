"""What needs a GPU, measured by one command: the cards, how rows are kept and lost, budgets, and the search for a peak."""

import json
import math
import time
from dataclasses import asdict

import pytest
import torch

from dtl_book import cli
from dtl_book.measured import cards, load_card, measured_dir, measured_peak, memory_cards, rows, save_card, slug
from dtl_book.measured import run as run_module
from dtl_book.measured.cards import PARTS, code_digests, plan_setting
from dtl_core import DTLConfig
from dtl_core.files import DamagedFile

CPU = torch.device("cpu")
SPECS = [{"name": name} for name in ("a", "b", "c", "d")]


def filled(path, work, specs=SPECS, seconds=600.0, backbone="toy/vit", refused=()):
    """A card of rows that ``work`` makes of their specs."""
    part = rows.Part(
        specs=lambda device, backbone: SPECS,
        rows=lambda specs, device, backbone, deadline: (rows.attempt(work, s) for s in rows.in_budget(specs, deadline)),
        describe=lambda row: row["status"],
        refuse=lambda spec, device: "CUDA's" if spec["name"] in refused else "",
    )
    return rows.fill_card("memory", part, path, CPU, backbone, time.monotonic() + seconds, specs)


def fine(spec):
    return {"status": "measured", "value": ord(spec["name"])}


def test_a_card_says_what_it_was_measured_with(tmp_path):
    path = tmp_path / "cpu" / "memory.json"
    filled(path, fine)
    card = load_card(path)
    assert path.read_text() == json.dumps(card, indent=1, sort_keys=True) + "\n"
    assert [row["name"] for row in card["rows"]] == list("abcd") and card["not_run"] == []
    assert (card["part"], card["device"], card["device_type"], card["cuda"]) == ("memory", "cpu", "cpu", None)
    assert card["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0] and card["versions"]["python"]
    names = ("dtl", "csn", "blocks", "backbones", "memory/plan", "baselines/lora")
    assert {f"dtl_core/{n}.py" for n in names} <= card["code"].keys()
    assert "dtl_core/training/loop.py" in code_digests("paper") and "dtl_core/training/loop.py" not in card["code"]


def test_a_number_that_is_not_finite_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        save_card({"rows": [math.nan]}, tmp_path / "card.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["half", "[1, 2]", "fields", "row", ""])
def test_a_damaged_card_is_named(damage, tmp_path):
    path = tmp_path / "memory.json"
    filled(path, fine)
    whole = path.read_text()
    card = json.loads(whole)
    spoilt = {
        "half": whole[: len(whole) // 2],
        "fields": json.dumps({k: v for k, v in card.items() if k != "code"}),
        "row": json.dumps({**card, "rows": [{"name": "a"}]}),
    }
    path.write_text(spoilt.get(damage, damage))
    with pytest.raises(DamagedFile, match="delete it and run `dtl measure memory` again") as error:
        load_card(path)
    assert str(path) in str(error.value)
    with pytest.raises(DamagedFile):
        filled(path, fine)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="there is no card .*memory.json: `dtl measure`"):
        load_card(path)


def test_what_is_known_is_not_done_again(tmp_path, capsys):
    path, done = tmp_path / "memory.json", []

    def noted(spec):
        done.append(spec["name"])
        return fine(spec)

    filled(path, noted, SPECS[:2])
    first = load_card(path)
    assert capsys.readouterr().out == "a: measured\nb: measured\n"
    card = filled(path, noted)
    assert done == list("abcd") and [row["name"] for row in card["rows"]] == list("abcd")
    assert load_card(path)["created"] == first["created"] and card["rows"][0] == first["rows"][0]
    assert capsys.readouterr().out == "c: measured\nd: measured\n"
    filled(path, noted, [{"name": "a", "digest": "new"}])
    assert done[4:] == ["a"], "a row of another setting is another row"


@pytest.mark.parametrize(
    "name, value",
    [("code", {"dtl.py": "0"}), ("device", "NVIDIA X"), ("versions", {"torch": "1"}), ("backbone", "toy/swin")],
)
def test_rows_of_other_code_versions_devices_or_backbones_do_not_count(name, value, tmp_path):
    path = tmp_path / "memory.json"
    filled(path, fine)
    assert len(filled(path, fine, seconds=-1)["rows"]) == 4
    save_card({**load_card(path), name: value}, path)
    assert filled(path, fine, seconds=-1)["rows"] == []


def test_a_row_that_fails_or_does_not_fit_is_noted_and_the_rest_go_on(tmp_path, capsys):
    path, tries = tmp_path / "memory.json", []

    def breaks(spec):
        tries.append(spec["name"])
        if spec["name"] == "a":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        if spec["name"] == "c" and tries.count("c") == 1:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling")
        if spec["name"] == "b" and tries.count("b") == 1:
            raise KeyError("a planted failure")
        return fine(spec)

    card = filled(path, breaks)
    assert [row["status"] for row in card["rows"]] == ["out of memory", "failed", "out of memory", "measured"]
    assert card["rows"][1]["error"] == "KeyError: 'a planted failure'" and "9 GiB" in card["rows"][0]["error"]
    assert "b: failed" in capsys.readouterr().out
    card = filled(path, breaks)
    assert tries == ["a", "b", "c", "d", "b"], "what failed is tried again, what does not fit is not"
    assert [row["status"] for row in card["rows"]] == ["out of memory", "measured", "out of memory", "measured"]


def test_what_the_budget_does_not_reach_is_named(tmp_path):
    path = tmp_path / "memory.json"

    def slow(spec):
        time.sleep(0.3)
        return fine(spec)

    filled(path, slow, [{"name": "z"}, *SPECS], seconds=0.5, refused=["z"])
    card = load_card(path)
    assert [row["name"] for row in card["rows"]] == ["a"], "a second one would end too late"
    reasons = {"z": "CUDA's", **dict.fromkeys("bcd", "the budget was over")}
    assert card["not_run"] == [{"name": name, "reason": reason} for name, reason in reasons.items()]
    card = filled(path, fine, seconds=-1)
    assert [row["name"] for row in card["rows"]] == ["a"] and len(card["not_run"]) == 3
    card = filled(path, lambda spec: {"status": "not run", "reason": "no room"} if spec["name"] == "b" else fine(spec))
    assert [row["name"] for row in card["rows"]] == list("acd")
    assert load_card(path)["not_run"] == [{"name": "b", "reason": "no room"}]


@pytest.mark.parametrize("part", [*PARTS, "all"])
def test_without_a_cuda_device_it_says_so_and_ends_with_2(part, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stop:
        cli.main(["measure", part, "--out", str(tmp_path / "cards")])
    said = capsys.readouterr().out.splitlines()
    assert stop.value.code == 2 and not (tmp_path / "cards").exists()
    assert [line.split(":")[0] for line in said] == (list(PARTS) if part == "all" else [part])
    assert all("torch finds no CUDA device here" in line and "--device cpu" in line for line in said)


def test_parts_run_in_order_of_worth_within_the_minutes(tmp_path, monkeypatch, capsys):
    ends = {}

    def fill_card(name, part, path, device, backbone, deadline):
        ends[name] = deadline - start
        assert part is run_module.MEASURE[name] and path == tmp_path / "cpu" / f"{name}.json"
        assert backbone == "toy/vit" and device == CPU
        if name == "memory":
            raise RuntimeError("a planted failure")
        failed = [{"name": "x", "status": "failed"}] if name == "time" else []
        return {"rows": failed, "not_run": [{"name": "y", "reason": "the budget was over"}]}

    monkeypatch.setattr(run_module, "fill_card", fill_card)
    words = ["--device", "cpu", "--backbone", "toy/vit", "--minutes", "2", "--out", str(tmp_path)]
    start = time.monotonic()
    with pytest.raises(SystemExit) as stop:
        cli.main(["measure", "all", *words])
    assert stop.value.code == 1, "a row failed"
    assert list(ends) == list(PARTS) and sorted(ends.values()) == list(ends.values())
    assert ends["paper"] == pytest.approx(120, abs=5)
    said = capsys.readouterr().out
    assert "memory: failed, a planted failure" in said and "time: 1 rows, 1 failed, 1 not run" in said
    cli.main(["measure", "tests", *words])
    assert ends["tests"] == pytest.approx(120, abs=5), "alone it has all the minutes"


ASKED = {"precision": "amp", "config": DTLConfig(inject_from=4)}


def cuda_card(root, device="NVIDIA H200", updated="2026-01-01T00:00:00Z", status="measured", gib=1, **changes):
    row = {"name": "r", "status": status, "method": "dtl", "allocated_bytes": gib}
    row["setting"] = plan_setting("dtl", ASKED)
    card = {
        "part": "memory", "device": device, "device_type": "cuda", "versions": {"torch": "2.11.0"}, "backbone": "x",
        "code": code_digests(), "rows": [row], "not_run": [], "created": updated, "updated": updated, **changes,
    }  # fmt: skip
    return save_card(card, measured_dir(root) / slug(device) / "memory.json")


def test_a_measured_peak_is_found_by_its_setting(tmp_path, monkeypatch):
    cuda_card(tmp_path)
    monkeypatch.setenv("DTL_RESULTS", str(tmp_path))
    row = measured_peak("DTL", ASKED)
    assert row["allocated_bytes"] == 1 and row["device"] == "NVIDIA H200" and row["versions"] == {"torch": "2.11.0"}
    same = {**ASKED, "config": asdict(ASKED["config"]), "image_size": (224, 224), "recompute": "side", "batch_size": 32}
    assert measured_peak("dtl", same) == row, "defaults may be written out"
    for other in ({"batch_size": 8}, {"recompute": "none"}, {"config": DTLConfig()}, {"precision": "fp32"}):
        assert measured_peak("dtl", {**ASKED, **other}) is None
    assert measured_peak("dtl+", ASKED) is None


@pytest.mark.parametrize(
    "changes",
    [{"code": {**code_digests(), "dtl_core/dtl.py": "0" * 12}}, {"device_type": "cpu"}, {"status": "failed"}],
    ids=str,
)
def test_other_code_a_cpu_and_a_failure_do_not_count(changes, tmp_path):
    cuda_card(tmp_path, **changes)
    assert measured_peak("dtl", ASKED, memory_cards(tmp_path)) is None


def test_the_newest_card_counts(tmp_path):
    cuda_card(tmp_path, "NVIDIA A", "2026-01-02T00:00:00Z", gib=2)
    cuda_card(tmp_path, "NVIDIA B", "2026-01-03T00:00:00Z", gib=3)
    cuda_card(tmp_path, "NVIDIA C", "2026-01-01T00:00:00Z", gib=4)
    cuda_card(tmp_path, "cpu", "2026-01-09T00:00:00Z", device_type="cpu")
    assert [card["device"] for card in memory_cards(tmp_path)] == ["NVIDIA B", "NVIDIA A", "NVIDIA C"]
    assert measured_peak("dtl", ASKED, memory_cards(tmp_path))["allocated_bytes"] == 3


def test_the_loader_reads_what_came_with_the_package(tmp_path, monkeypatch):
    brought, own = tmp_path / "brought", tmp_path / "own"
    cuda_card(brought, "NVIDIA A", gib=1)
    cuda_card(brought, "NVIDIA B", gib=1)
    cuda_card(own, "NVIDIA B", gib=2)
    monkeypatch.setattr(cards, "results_roots", lambda: [brought, own])
    assert {c["device"]: c["rows"][0]["allocated_bytes"] for c in memory_cards()} == {"NVIDIA A": 1, "NVIDIA B": 2}

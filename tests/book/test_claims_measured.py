"""Claims of memory where a GPU's card is at hand: the measured bytes decide, the planned ones stand beside them."""

import pytest
from run_cards import find

from dtl_book.claims.accuracy import C4, C5, C6, C7
from dtl_book.claims.costs import C1, C3, PLANNED, planned
from dtl_book.measured.cards import code_digests, measured_dir, plan_setting, save_card
from dtl_book.tables.figure1 import NAMES, SETTINGS, figure_options
from dtl_core.dtl import DTLConfig
from dtl_core.memory import GIB


def row(name, method, gib, **more):
    setting = plan_setting(method, {**SETTINGS["paper"], **more})
    return {"name": name, "method": method, "setting": setting, "status": "measured", "allocated_bytes": int(gib * GIB)}


def write_card(root, rows, code=None, device_type="cuda", device="NVIDIA Made-Up"):
    card = dict(
        part="memory", device=device, device_type=device_type, versions={"torch": "2.9.1"}, backbone="vit_base_patch16_224",
        code=code or code_digests("memory"), rows=rows, not_run=[], created="2026-01-02T03:04:05Z",
        updated="2026-01-02T03:04:05Z",
    )  # fmt: skip
    return save_card(card, measured_dir(root) / "made-up" / "memory.json")


def figure_rows(**gib):
    return [row(label, NAMES[label], n, **figure_options(NAMES[label])) for label, n in gib.items()]


def read(root, about="DTL needs"):
    return find(C3, about, root)


def shares(root):
    return find(C1, "55 to 65 %", root)


def test_a_measured_peak_decides_and_the_plan_stands_beside_it(tmp_path):
    assert read(tmp_path).numbers.startswith("DTL 1.61 GiB planned, 1.61 GB read")
    write_card(tmp_path, figure_rows(DTL=1.62))
    found = read(tmp_path)
    assert (found.verdict, found.numbers) == ("supported", "DTL 1.62 GiB measured, 1.61 planned, 1.61 GB read (+0.6%)")
    assert found.setting.startswith("measured on NVIDIA Made-Up, torch 2.9.1: ViT-B/16, batch 32")
    assert "not measured" not in found.setting
    write_card(tmp_path, figure_rows(DTL=1.75))
    assert read(tmp_path).verdict == "not supported"


@pytest.mark.parametrize(
    "other", [dict(code={"dtl.py": "0"}), dict(device_type="cpu", device="cpu")], ids=["older code", "a CPU"]
)
def test_a_card_of_other_code_or_of_a_cpu_decides_nothing(tmp_path, other):
    write_card(tmp_path, figure_rows(DTL=9.0), **other)
    assert read(tmp_path).setting.startswith(PLANNED)


def test_a_share_is_measured_or_planned_as_a_whole(tmp_path):
    some = [*figure_rows(BitFit=2.9, AdaptFormer=2.8), row("LoRA", "lora", 3.0)]
    write_card(tmp_path, some)
    assert shares(tmp_path).setting == PLANNED
    write_card(tmp_path, [*some, *figure_rows(Full=4.7)])
    found = shares(tmp_path)
    assert found.verdict == "supported" and found.numbers.startswith(
        "of full fine-tuning: LoRA 64% (read: 64%), BitFit 62%"
    )
    write_card(tmp_path, [*some, *figure_rows(Full=4.0)])
    assert shares(tmp_path).verdict == "not supported"


def test_both_settings_of_the_shares_are_shown(tmp_path):
    """Gradients freed, and LoRA with two updates, lie beyond the range; they decide nothing and are not hidden."""
    numbers, methods = shares(tmp_path).numbers, ("LoRA", "BitFit", "Full")
    kept, freed = planned(methods), planned(methods, keep_gradients=False)
    assert f"query and value each: {kept['LoRA'] / kept['Full']:.0%}" in numbers and kept["LoRA"] / kept["Full"] > 0.65
    assert f"BitFit {freed['BitFit'] / freed['Full']:.0%}" in numbers


def test_lst_can_be_supported_alone(tmp_path):
    assert read(tmp_path, "LST").verdict == "not run"
    write_card(tmp_path, figure_rows(LST=2.7))
    assert read(tmp_path, "LST").verdict == "supported"


def test_measured_parts_of_c4_to_c7(tmp_path):
    others = {label: 3.0 for label in NAMES if label not in ("DTL", "DTL+")}
    parts = ((C4, "least memory"), (C5, "memory falls"), (C6, "10 % more"), (C7, "less memory"))

    def found(dtl, plus, last):
        by_m = {0: 3.0, 2: 2.6, 4: 2.2, 6: 1.8, 8: 1.4, 10: last}
        curve = [
            row(f"M {m}", "dtl", gib, recompute="none", config=DTLConfig(inject_from=m)) for m, gib in by_m.items()
        ]
        write_card(tmp_path, [*figure_rows(**others, **{"DTL": dtl, "DTL+": plus}), *curve])
        return [find(claim, about, tmp_path) for claim, about in parts]

    for one in found(1.6, 1.7, 1.0):
        assert one.verdict == "supported" and "measured on" in one.setting and "planned" in one.numbers
    assert [one.verdict for one in found(3.1, 3.5, 5.0)] == ["not supported"] * 4

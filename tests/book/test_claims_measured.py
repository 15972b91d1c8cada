"""Claims of memory where a GPU's card is at hand: the measured bytes decide, the planned ones stand beside them."""

import pytest
from claim_cards import CLAIMS, part

from dtl_book.claims import find
from dtl_book.claims.memory import M_TRIED, PLANNED, config_at, planned_row
from dtl_book.measured.cards import code_digests, measured_dir, plan_setting, save_card
from dtl_book.tables.figure1 import NAMES, SETTINGS, figure_options
from dtl_core.memory import GIB

READ = part("C3", "DTL needs what was read")
SHARES = part("C1", "55 to 65 %")
LST = part("C3", "LST")


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


def test_a_measured_peak_decides_and_the_plan_stands_beside_it(tmp_path):
    assert find(READ, tmp_path).numbers.startswith("DTL 1.61 GiB planned, 1.61 GB read")
    write_card(tmp_path, figure_rows(DTL=1.62))
    found = find(READ, tmp_path)
    assert (found.verdict, found.numbers) == ("supported", "DTL 1.62 GiB measured, 1.61 planned, 1.61 GB read (+0.6%)")
    assert found.setting.startswith("measured on NVIDIA Made-Up, torch 2.9.1: ViT-B/16, batch 32")
    assert "not measured" not in found.setting
    write_card(tmp_path, figure_rows(DTL=1.75))
    assert find(READ, tmp_path).verdict == "not supported"


@pytest.mark.parametrize(
    "other", [dict(code={"dtl.py": "0"}), dict(device_type="cpu", device="cpu")], ids=["older code", "a CPU"]
)
def test_a_card_of_other_code_or_of_a_cpu_decides_nothing(tmp_path, other):
    write_card(tmp_path, figure_rows(DTL=9.0), **other)
    assert find(READ, tmp_path).setting.startswith(PLANNED)


def test_a_share_is_measured_or_planned_as_a_whole(tmp_path):
    some = [*figure_rows(BitFit=2.9, AdaptFormer=2.8), row("LoRA", "lora", 3.0)]
    write_card(tmp_path, some)
    assert find(SHARES, tmp_path).setting == PLANNED
    write_card(tmp_path, [*some, *figure_rows(Full=4.7)])
    found = find(SHARES, tmp_path)
    assert found.verdict == "supported" and found.numbers.startswith(
        "of full fine-tuning: LoRA 64% (read: 64%), BitFit 62%"
    )
    write_card(tmp_path, [*some, *figure_rows(Full=4.0)])
    assert find(SHARES, tmp_path).verdict == "not supported"


def test_both_settings_of_the_shares_are_shown(tmp_path):
    """Gradients freed, and LoRA with two updates, lie beyond the range; they decide nothing and are not hidden."""
    numbers = find(SHARES, tmp_path).numbers
    full, lora = planned_row("Full"), planned_row("LoRA")
    assert f"query and value each: {lora[0] / full[0]:.0%}" in numbers and lora[0] / full[0] > 0.65
    assert f"BitFit {planned_row('BitFit', kept=False)[0] / planned_row('Full', kept=False)[0]:.0%}" in numbers


def test_a_miss_of_lst_says_nothing_of_the_paper(tmp_path):
    assert find(LST, tmp_path).verdict == "not run"
    write_card(tmp_path, figure_rows(LST=2.7))
    assert find(LST, tmp_path).verdict == "supported"
    assert CLAIMS["C3"].parts[-1] == LST and not any(p.options.get("inferred") for p in CLAIMS["C3"].parts[:-1])


def test_measured_parts_of_c4_to_c7(tmp_path):
    others = {label: 3.0 for label in NAMES if label not in ("DTL", "DTL+")}
    by_m = {m: 3.0 - 0.2 * m for m in M_TRIED}
    curve = lambda by_m: [row(f"M {m}", "dtl", g, recompute="none", config=vars(config_at(m))) for m, g in by_m.items()]  # noqa: E731
    write_card(tmp_path, [*figure_rows(**others, **{"DTL": 1.6, "DTL+": 1.7}), *curve(by_m)])
    parts = [part("C4", "least memory"), part("C5", "memory falls"), part("C6", "10 % more"), part("C7", "less memory")]
    for p in parts:
        found = find(p, tmp_path)
        assert found.verdict == "supported" and "measured on" in found.setting and "planned" in found.numbers, p.about
    write_card(tmp_path, [*figure_rows(**others, **{"DTL": 3.1, "DTL+": 3.5}), *curve({**by_m, 10: 5.0})])
    assert [find(p, tmp_path).verdict for p in parts] == ["not supported"] * 4

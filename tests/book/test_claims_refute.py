"""Every check can refute: with a tolerance that cannot be met, or cards that stand against the claim."""

from dataclasses import replace

import pytest
from claim_cards import CLAIMS, make_card, part, write

from dtl_book.claims import find
from dtl_book.claims.accuracy import few_shot_sets
from dtl_book.claims.verdicts import COMPUTED, RECORDED
from dtl_book.experiments import SEEDS, card_path, save_card
from dtl_book.experiments.grids import ABLATIONS as GROUP
from dtl_book.experiments.grids import BASE, OFFICIAL, VALUES


@pytest.mark.parametrize(
    "check, options",
    [
        ("golden", {"kind": "vit", "tolerance": -1.0}),
        ("golden", {"kind": "swin", "tolerance": -1.0}),
        ("fewest_parameters", {"method": "LoRA"}),
        ("least_memory", {"method": "LoRA"}),
        ("memory_ratio", {"method": "DTL+", "to": "DTL", "high": 1.0}),
        ("memory_read", {"method": "DTL+", "tolerance": 0.001}),
        ("memory_shares", {"methods": ["LoRA"], "low": 0.9, "high": 1.0}),
        ("parameter_shares", {"methods": ["LoRA"], "high": 1e-4}),
        ("parameters_below", {"method": "DTL+", "high": 50_000}),
        ("side_parameters", {"method": "DTL+", "number": "side-dtl-vit"}),
    ],
)
def test_a_computed_check_refutes(check, options):
    assert {**COMPUTED, **RECORDED}[check](**options).verdict == "not supported"


@pytest.mark.parametrize("behind, verdict", [((), "supported"), ((4,), "not supported")])
def test_few_shot_in_the_papers_setting_has_to_lead_at_every_number_of_shots(tmp_path, behind, verdict):
    p = part("C7", "ahead at every")
    for method in (*p.options["methods"], *p.options["rivals"]):
        for name in few_shot_sets("paper"):
            for shots in (1, 2, 4, 8, 16):
                level = 0.5 if method.startswith("dtl") and shots not in behind else 0.4 + 0.01 * (method == "lora")
                for seed in SEEDS:
                    write(tmp_path, make_card(method, name, seed, level, "paper", "few-shot", shots))
    assert find(p, tmp_path).verdict == verdict


@pytest.mark.parametrize("near, verdict", [(3, "supported"), (2, "not supported")])
def test_accuracy_over_m_in_the_papers_setting(tmp_path, near, verdict):
    """On the paper's own task: of six values of M so many are within a point of the best."""
    p = next(p for p in CLAIMS["C5"].parts if p.check == "accuracy_by_m")
    for i, m in enumerate(VALUES["inject_from"][::-1]):
        for seed in SEEDS:
            card = make_card("dtl", OFFICIAL, seed, 0.9 if i < near else 0.8)
            if m == BASE.inject_from:
                write(tmp_path, card)
                continue
            card = replace(card, recipe={**card.recipe, "config": {**card.recipe["config"], "inject_from": m}})
            save_card(card, card_path("paper", GROUP, OFFICIAL, f"dtl-M{m}", seed, root=tmp_path))
    found = find(p, tmp_path)
    assert found.verdict == verdict and f"{near} of 6 within 1" in found.numbers

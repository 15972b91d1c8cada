"""Every check that is computed can refute: with a tolerance that cannot be met, or against another number."""

import pytest
from run_cards import find

from dtl_book.claims import accuracy, costs, identities
from dtl_book.claims.accuracy import C6
from dtl_book.claims.costs import C1, C2, C3, fewest_parameters, least_memory
from dtl_book.claims.identities import C9, C11, C12


@pytest.mark.parametrize(
    "claim, about, tolerances",
    [
        (C1, "55 to 65 %", {"low": 0.9, "high": 1.0}),
        (C1, "under 1 %", {"most": 1e-4}),
        (C3, "DTL+ needs", {"tolerance": 0.001}),
        (C6, "more memory", {"times": 1.0}),
        (C6, "0.06 M", {"most": 50_000}),
        (C9, "our logits", {"tolerance": -1.0}),
        (C11, "our logits", {"tolerance": -1.0}),
    ],
)
def test_a_tolerance_that_cannot_be_met(claim, about, tolerances):
    assert find(claim, about, **tolerances).verdict == "not supported"


def test_a_rival_with_less():
    assert fewest_parameters("LoRA").verdict == least_memory(None, "LoRA", ["DTL"]).verdict == "not supported"


@pytest.mark.parametrize(
    "claim, about", [(C2, "DTL trains"), (C2, "DTL+ trains"), (C9, "DTL on Swin-B"), (C12, "distance")]
)
def test_another_number(claim, about, monkeypatch):
    for module in (costs, accuracy, identities):
        monkeypatch.setattr(module, "paper_number", lambda name: (12.0, 0.0, "nobody"))
    assert find(claim, about).verdict == "not supported"


def test_a_miss_of_lst_says_nothing_of_the_paper(tmp_path):
    assert [found.verdict for found in C3(tmp_path, tolerance=0.0)] == ["not supported"] * 4 + ["not run"]

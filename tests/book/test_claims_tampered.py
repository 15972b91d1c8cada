"""Claims against cards that were tampered with or made by other code, and checks that are computed: all can refute."""

from dataclasses import asdict, replace

import pytest
from run_cards import find, make_card, write, write_vtab

from dtl_book.claims import accuracy, costs, identities
from dtl_book.claims.accuracy import C4, C5, C6
from dtl_book.claims.costs import C1, C2, C3, fewest_parameters, least_memory
from dtl_book.claims.identities import C9, C11, C12
from dtl_book.experiments import SEEDS, RunCard, card_path, save_card
from dtl_book.experiments.code_digests import code_of
from dtl_core.files import DamagedFile

TAMPERED = {
    "a missing seed": (None, "no card of seed 1"),
    "another backbone": (dict(backbone="vit_base_patch16_224.augreg_in21k"), "backbone is vit_base"),
    "other weights under the name": (dict(backbone_sha256="cd"), "differ in backbone_sha256"),
    "a wrong split": (dict(train_split="train800"), "lists train800 and test"),
    "a NaN": (dict(accuracy=float("nan")), "accuracy is nan"),
    "a loss that is no number": (dict(loss=float("inf")), "loss is inf"),
    "an impossible accuracy": (dict(accuracy=76.0), "outside 0 to 1"),
    "a switch": (dict(switches={"jpeg": 75}), "switched: jpeg"),
    "a selection run": (dict(purpose="select"), "purpose is select"),
    "another seed inside": (dict(seed=7), "seed is 7"),
    "another method inside": (dict(method="dtl+"), "method is dtl+"),
    "smaller images": (dict(image_size=[98, 98]), "images of"),
    "frozen weights in bf16": (dict(backbone_dtype="bfloat16"), "backbone_dtype is bfloat16"),
    "a form of its own": (dict(run={"first_block": 7, "rank": None}), "a form of its own: first_block"),
    "another protocol": (dict(protocol="clean"), "differ in protocol"),
}


def reaches(root):
    return find(C4, "DTL reaches", root)


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_card_changes_the_verdict(tmp_path, name):
    task = write_vtab(tmp_path, ["dtl"], levels=[0.768])[3]
    assert reaches(tmp_path).verdict == "supported"
    change, reason = TAMPERED[name]
    path = card_path("paper", "vtab-1k", task, "dtl", 1, root=tmp_path)
    path.unlink()
    if change is not None:
        card = make_card("dtl", task, 1, 0.768)
        save_card(RunCard(**{**asdict(card), **change}), path)
    found = reaches(tmp_path)
    assert found.verdict == "not run" and reason in found.numbers and task in found.numbers


def test_another_config_may_not_speak(tmp_path):
    for m in (0, 2, 4, 6, 8, 10):
        for seed in SEEDS:
            card = make_card("dtl", "shape_location", seed, 0.9 if m else 0.7, "laptop")
            config = {**card.recipe["config"], "inject_from": m}
            name = "vtab-1k/shape_location/dtl" if m == 6 else f"ablations/shape_location/dtl-M{m}"
            path = tmp_path / "laptop" / f"{name}-seed{seed}.json"
            save_card(replace(card, recipe={**card.recipe, "config": config}), path)
    found = find(C5, "half of the values", tmp_path)
    assert found.verdict == "different setting" and "5 of 6 within 1" in found.numbers
    save_card(replace(card, seed=2, recipe={**card.recipe, "config": {**config, "inject_from": 4}}), path)
    assert "inject_from is 4" in find(C5, "half of the values", tmp_path).numbers
    save_card(replace(card, recipe={**card.recipe, "config": {**config, "rank": 8}}), path)
    found = find(C5, "half of the values", tmp_path)
    assert found.verdict == "not run" and "rank is 8" in found.numbers


def test_a_damaged_card_is_named(tmp_path):
    task = write_vtab(tmp_path, ["dtl"], levels=[0.768])[0]
    path = card_path("paper", "vtab-1k", task, "dtl", 1, root=tmp_path)
    path.write_text(path.read_text()[:100])
    with pytest.raises(DamagedFile, match="dtl-seed1.json is no whole run card"):
        reaches(tmp_path)


def test_stale_evidence_says_so(tmp_path):
    task = write_vtab(tmp_path, ["dtl"], levels=[0.768])[0]
    write(tmp_path, make_card("dtl", task, 0, 0.768, code={**code_of("dtl", views=False), "csn.py": "0" * 12}))
    found = reaches(tmp_path)
    assert found.verdict == "supported" and found.stale == ("the code has changed since: csn.py",)
    recipe = {**make_card("dtl", task, 0, 0.7).recipe, "epochs": 50}
    write(tmp_path, make_card("dtl", task, 0, 0.768, recipe=recipe))
    assert "epochs 50, now 100" in reaches(tmp_path).stale[0]
    write(tmp_path, make_card("dtl", task, 0, 0.768, code={}))
    assert "do not name the code" in reaches(tmp_path).stale[0]


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

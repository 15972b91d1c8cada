"""The ablations: one value at a time, ReLU among them, each run with its own card and none in another's place."""

import math
import re

import pandas as pd
import pytest
import torch

from dtl_book.experiments import card_path, load_card
from dtl_book.experiments.grids import variants
from dtl_book.sweep import ablate, measure_pitfalls, recording
from dtl_core import DTL, DTLConfig, load_backbone
from dtl_core.csn import swish
from dtl_core.data.vtab import official_tasks


def test_each_variant_differs_in_one_value():
    found = variants()
    assert len(found) == 5 + 3 + 3 + 2 and {"M0", "M10", "r1", "r8", "beta1", "betainf", "k3", "k5"} <= found.keys()
    for beta in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="beta is"):
            DTLConfig(beta=beta)
    for config in found.values():
        assert sum(getattr(config, f) != getattr(DTLConfig(), f) for f in DTLConfig.__dataclass_fields__) == 1


@pytest.mark.parametrize("recompute", ["none", "side"])
def test_beta_of_infinity_is_relu_and_never_starts(recompute):
    h = torch.linspace(-2, 2, 9)
    assert torch.equal(swish(h, math.inf), h.relu())
    torch.manual_seed(0)
    images = torch.randn(2, 3, 32, 32)
    gradients = {}
    for beta in (100.0, math.inf):
        model = DTL(load_backbone("toy/vit"), 3, DTLConfig(beta=beta), recompute=recompute)
        model(images).square().sum().backward()
        gradients[beta] = max(m.up.grad.abs().max().item() for m in model.csn.maps.values())
        torch.nn.init.normal_(model.csn.maps["0"].up)
        with torch.no_grad():
            assert torch.isfinite(model(images)).all()
    assert gradients[100.0] > 0 == gradients[math.inf], "ReLU has slope 0 at h = 0, where the side state starts"


def test_they_are_recorded_beside_the_benchmark(place):
    results = ablate("smoke", seeds=(0,), lr=1e-2)
    assert len(results) == 13 and all(r.card for r in results)
    folder = place / "results" / "smoke" / "ablations" / "shape_location"
    assert {p.stem for p in folder.glob("*.json")} == {f"dtl-{v}-seed0" for v in variants()}
    for variant, config in variants().items():
        card = load_card(card_path("smoke", "ablations", "shape_location", f"dtl-{variant}", 0))
        assert card.recipe["config"] == vars(config) and card.method == "dtl" and card.lr == 1e-2
    params = {v: load_card(folder / f"dtl-{v}-seed0.json").parameters_without_head for v in ("r1", "r4", "k3", "beta1")}
    assert params["r4"] == 4 * params["r1"] and params["k3"] > params["beta1"] == 2 * params["r1"]
    assert len(pd.read_csv(folder.parent / "sweep.csv")) == 13
    for path in folder.parent.rglob("*.json"):
        assert not {"Infinity", "NaN"} & set(re.findall(r"[A-Za-z]+", path.read_text())), f"{path.name}: strict JSON"
    again = ablate("smoke", seeds=(0,), lr=1e-2)
    assert all(r.tries == 0 for r in again), "what is recorded is left alone"
    with pytest.raises(FileNotFoundError):
        ablate("smoke", seeds=(1,))


def test_pitfalls_are_recorded_beside_the_benchmark(place):
    results = measure_pitfalls("smoke", ("shape_location",), (0,), lr=1e-2)
    folder = place / "results" / "smoke" / "pitfalls" / "shape_location"
    cards = {p.stem: load_card(p) for p in folder.glob("*.json")}
    turned = {"half": {"normalisation": "half"}, "jpeg75": {"jpeg": 75}, "jpeg30": {"jpeg": 30}}
    expected = {f"{m}-{v}-seed0": s for m in ("linear", "dtl") for v, s in turned.items()}
    assert {k: c.switches for k, c in cards.items()} == expected | {"linear-cls-seed0": {"readout": "cls"}}
    assert cards["linear-cls-seed0"].readout == "cls" and len(results) == 7


def test_the_paper_profile_takes_official_tasks(monkeypatch):
    planned = []
    monkeypatch.setattr(recording, "sweep_runs", lambda runs, *_, **__: planned.append({r.task for r in runs}))
    ablate("paper", lr=1e-3)
    measure_pitfalls("paper", lr=1e-3)
    assert planned == [{"dsprites_loc"}, {"svhn", "cifar"}]
    assert all(task in official_tasks() for tasks in planned for task in tasks)

"""The claims and their verdicts: what decides, what only shows, and what is recorded."""

import json
from dataclasses import fields

import pytest
import torch
from run_cards import find, make_card, write, write_vtab

from dtl_book import claims
from dtl_book.claims import VERDICTS, Finding, Judged, load_claims, load_verdicts
from dtl_book.claims.accuracy import C4, C5, C6, C7, C8
from dtl_book.claims.golden import golden_case
from dtl_book.claims.identities import C10
from dtl_book.experiments import COMPARED, SEEDS, card_path, save_card
from dtl_book.experiments.code_digests import serving_code
from dtl_book.paths import project_dir
from dtl_core.data.fewshot import SETS, SHOTS
from dtl_core.files import DamagedFile

FIGURE_RIVALS = ("full", "bitfit", "vpt-deep", "lst", "adaptformer", "lora", "noah", "fact", "ssf")


def test_every_claim_is_whole():
    assert [claim.id for claim in load_claims()] == [f"C{i}" for i in range(1, 13)]
    for claim in load_claims():
        assert all(getattr(claim, f.name) for f in fields(claims.Claim) if f.name != "context")
        assert all("(" in fact for fact in claim.context), "a fact of others has its source"
        for part in claim.parts:
            assert part.command or part.about == "accuracy on VTAB-1K with Swin-B", "what makes its evidence again"
        for number in claim.notebooks:
            assert list((project_dir() / "notebooks").glob(f"{number}_*.ipynb")), f"{claim.id} names notebook {number}"


def test_the_papers_numbers_have_a_source_and_the_unknown_stay_empty():
    assert claims.paper_number("side-dtl-vit") == (36864, 0, "authors' code")
    with pytest.raises(ValueError, match="few-shot.*not known"):
        claims.paper_number("few-shot")


def test_the_papers_setting_decides(tmp_path):
    found = find(C4, "DTL reaches", tmp_path)
    assert found.verdict == "not run" and "paper: no run is recorded; laptop: no run is recorded" in found.numbers
    write_vtab(tmp_path, ["dtl", "dtl+"])
    found = find(C4, "DTL reaches", tmp_path)
    assert found.verdict == "supported" and "DTL 76.8 ± 0.1, 76.69 by Fig. 1" in found.numbers
    assert found.setting.startswith("paper") and found.date == "2026-01-02" and found.stale == ()
    assert find(C6, "more accurate", tmp_path).verdict == "supported"
    write_vtab(tmp_path, ["dtl", "dtl+"], levels=(0.76, 0.75))
    assert find(C4, "DTL reaches", tmp_path).verdict == "not supported"
    assert find(C6, "more accurate", tmp_path).verdict == "not supported"


def test_best_wants_every_rival(tmp_path):
    write_vtab(tmp_path, ["dtl", *FIGURE_RIVALS[:-1]], levels=[0.77] + [0.7] * 8)
    assert find(C4, "other methods", tmp_path).verdict == "not run"
    write_vtab(tmp_path, FIGURE_RIVALS[-1:], levels=[0.7])
    assert find(C4, "other methods", tmp_path).verdict == "supported"
    write_vtab(tmp_path, FIGURE_RIVALS[-1:], levels=[0.78])
    found = find(C4, "other methods", tmp_path)
    assert found.verdict == "not supported" and "(-1.0 points)" in found.numbers


@pytest.mark.parametrize("levels", [(0.99, 0.999), (0.5, 0.4)], ids=["better", "worse"])
def test_a_stand_in_decides_nothing(tmp_path, levels):
    write_vtab(tmp_path, ["dtl", "dtl+"], "laptop", levels)
    reaches, better = find(C4, "DTL reaches", tmp_path), find(C6, "more accurate", tmp_path)
    for found in (reaches, better):
        assert found.verdict == "different setting" and found.setting.startswith("laptop")
    assert "76.69" not in reaches.numbers, "no number of the paper beside a stand-in's"


@pytest.mark.parametrize("profile, verdict", [("laptop", "different setting"), ("paper", "supported")])
def test_few_shot_has_to_lead_at_every_number_of_shots(tmp_path, profile, verdict):
    def record(*shots, dtl):
        for n, method in ((n, m) for n in shots for m in COMPARED):
            for name in SETS if profile == "paper" else ("typefaces",):
                level = dtl if method.startswith("dtl") else 0.4 + 0.01 * (method == "lora")
                for seed in SEEDS:
                    write(tmp_path, make_card(method, name, seed, level, profile, "few-shot", n))

    record(*SHOTS, dtl=0.5)
    found = find(C7, "ahead at every", tmp_path)
    assert found.verdict == verdict and "16 shots: DTL 50.0 ± 0.0" in found.numbers
    if profile == "paper":
        record(4, dtl=0.4)
        assert find(C7, "ahead at every", tmp_path).verdict == "not supported"


def test_a_rival_that_is_not_whole_is_left_out_on_the_stand_in_by_name(tmp_path):
    write_vtab(tmp_path, ["dtl", "linear"], "laptop", (0.8, 0.7))
    found = find(C4, "other methods", tmp_path)
    assert found.verdict == "different setting"
    assert "without BitFit, AdaptFormer, LoRA (r = 8) (not whole)" in found.numbers


@pytest.mark.parametrize("level, verdict", [(0.30, "supported"), (0.28, "not supported")])
def test_domains(tmp_path, level, verdict):
    names = ("imagenetv2", "imagenet-sketch", "imagenet-a", "imagenet-rendition")
    for method, seed in ((m, s) for m in COMPARED for s in SEEDS):
        scores = {n: {"accuracy": level if method.startswith("dtl") else 0.305} for n in names}
        write(tmp_path, make_card(method, "imagenet", seed, 0.7, benchmark="domain", shots=16, targets=scores))
    assert find(C8, "behind", tmp_path).verdict == verdict
    del scores["imagenet-a"]
    write(tmp_path, make_card("dtl", "imagenet", 0, 0.7, benchmark="domain", shots=16, targets=scores))
    found = find(C8, "behind", tmp_path)
    assert found.verdict == "not run" and "not tested on imagenet-adversarial" in found.numbers


@pytest.mark.parametrize("near, verdict", [(3, "supported"), (2, "not supported")])
def test_accuracy_over_m(tmp_path, near, verdict):
    """On the paper's own task: of six values of M so many are within a point of the best."""
    for i, m in enumerate((10, 8, 6, 4, 2, 0)):
        for seed in SEEDS:
            card = make_card("dtl", "dsprites_loc", seed, 0.9 if i < near else 0.8)
            card.recipe["config"]["inject_from"] = m
            group, name = ("vtab-1k", "dtl") if m == 6 else ("ablations", f"dtl-M{m}")
            save_card(card, card_path("paper", group, "dsprites_loc", name, seed, root=tmp_path))
    found = find(C5, "half of the values", tmp_path)
    assert found.verdict == verdict and f"{near} of 6 within 1" in found.numbers


def test_a_claim_takes_the_least_favourable_of_its_parts():
    claim, findings = load_claims()[3], {v: Finding(v, "", "", "") for v in VERDICTS}
    for i, worst in enumerate(VERDICTS):
        assert Judged(claim, tuple(findings[v] for v in VERDICTS[i:])).verdict == worst
    mixed = Judged(claim, tuple(findings[v] for v in ("supported", "not run", "supported")))
    assert mixed.summary == "2 of 3 parts supported, 1 not run"
    with pytest.raises(ValueError, match="no verdict"):
        Finding("proved", "", "", "")
    with pytest.raises(ValueError, match="C13"):
        claims.judge(("C13",))


def test_what_is_recorded_is_what_is_found(tmp_path):
    """The recorded verdicts and the table of RESULTS.md against the cards and the code as they are now."""
    path = claims.save_claims(claims.judge(progress=False), tmp_path / "claims.json")
    for now, row in zip(load_verdicts(path), load_verdicts(), strict=True):
        for part in (*now["parts"], *row["parts"]):
            del part["date"]  # today's, of what was computed just now
        assert now == row, "dtl claims --write"
    assert claims.claims_markdown() in (project_dir() / "RESULTS.md").read_text(), "dtl claims --write"
    path.write_text("{")
    with pytest.raises(DamagedFile, match="dtl claims --write"):
        load_verdicts(path)


def test_what_is_stale_is_said_once_below_the_table(tmp_path):
    rows = load_verdicts()[:1]
    first, second = rows[0]["parts"]
    first["stale"], second["stale"] = ["the code has changed"], ["the code has changed", "so have the data"]
    (tmp_path / "claims.json").write_text(json.dumps({"claims": rows}))
    table = claims.claims_markdown(tmp_path / "claims.json")
    assert "<sup>1</sup><br>" in table and "<sup>1</sup><sup>2</sup> |" in table
    assert table.endswith("\n\n<sup>1</sup> The code has changed. <sup>2</sup> So have the data.")


def test_what_serving_saves(tmp_path):
    def found(about="less time"):
        return find(C10, about, tmp_path)

    assert found().verdict == found("multiply-adds").verdict == "not run"
    rows = [
        {"kind": kind, "tasks": n, "ratio": ratio, "low": 0.5, "high": 1.2, "multiply_adds": adds}
        for kind, ratio, adds in (("MultiTask", 1.1, 40), ("separate DTL models", 1.0, 100))
        for n in (1, 19)
    ]
    setting = {"backbone": "vit", "image_size": 8, "batch_size": 1}
    facts = {"rows": rows, "setting": setting, "created": "2026-01-02T"}
    path = tmp_path / "benchmarks" / "serving.json"
    path.parent.mkdir()
    path.write_text(json.dumps(facts))
    assert found("multiply-adds").verdict == "supported" and "0.400" in found("multiply-adds").numbers
    assert (found().verdict, found().date) == ("not supported", "2026-01-02")
    assert found().stale == ("cards do not name the code that made them",)
    path.write_text(json.dumps({**facts, "code": serving_code()}))
    assert found().stale == ()
    path.write_text(json.dumps({**facts, "code": {**serving_code(), "serving/path.py": "0"}}))
    assert found().stale == ("the code has changed since: serving/path.py",)
    path.write_text("{}")
    with pytest.raises(DamagedFile, match="benchmarks/serving.py"):
        found()


@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_golden_case_has_the_authors_gradients(kind, plus):
    case = golden_case(kind, plus)
    loss = torch.nn.functional.cross_entropy(case.model(case.images), case.labels)
    loss.backward()
    assert loss.item() == pytest.approx(case.loss, abs=1e-9)
    trained = {n: p.grad.norm().item() for n, p in case.model.named_parameters() if p.requires_grad}
    assert trained == pytest.approx(case.gradients, rel=1e-7)
    ours = sum(p.numel() for p in case.model.csn.parameters())
    assert ours == case.side_parameters_with_gradient
    assert case.side_parameters - ours == (1_200 if kind == "swin" and plus else 0)

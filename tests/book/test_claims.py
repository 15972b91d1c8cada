"""The claims and their verdicts: what decides, what only shows, and what is recorded."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from claim_cards import BEST, BETTER, CLAIMS, REACHES, make_card, part, write, write_vtab

from dtl_book.claims import VERDICTS, Finding, claims_markdown, find, load_verdicts, save_claims
from dtl_book.claims.claim import paper_number
from dtl_book.claims.verdicts import COMPUTED, RECORDED, Judged, judge
from dtl_book.experiments import SEEDS
from dtl_book.experiments.code import serving_code
from dtl_book.paths import project_dir
from dtl_core.files import DamagedFile


def test_every_claim_is_whole():
    assert list(CLAIMS) == [f"C{i}" for i in range(1, 13)]
    checks = {**COMPUTED, **RECORDED}
    for claim in CLAIMS.values():
        assert all(getattr(claim, f.name) for f in fields(claim) if f.name != "context")
        assert all("(" in fact for fact in claim.context), "a fact of others has its source"
        for p in claim.parts:
            assert p.check in checks, "a part names a check that there is"
            assert p.command or p.check == "never_run", "a part says what makes its evidence again"
        for number in claim.notebooks:
            assert list((project_dir() / "notebooks").glob(f"{number}_*.ipynb")), f"{claim.id} names notebook {number}"


def test_the_papers_numbers_have_a_source_and_the_unknown_stay_empty():
    assert paper_number("side-dtl-vit") == (36864, 0, "authors' code")
    with pytest.raises(ValueError, match="few-shot.*not known"):
        paper_number("few-shot")


def test_no_card_is_not_run(tmp_path):
    found = find(REACHES, tmp_path)
    assert found.verdict == "not run" and "paper: no run is recorded; laptop: no run is recorded" in found.numbers


def test_the_papers_setting_decides(tmp_path):
    write_vtab(tmp_path, ["dtl", "dtl+"])
    found = find(REACHES, tmp_path)
    assert found.verdict == "supported" and "DTL 76.8 ± 0.1, 76.69 by Fig. 1" in found.numbers
    assert found.setting.startswith("paper") and found.date == "2026-01-02" and found.stale == ()
    assert find(BETTER, tmp_path).verdict == "supported"
    write_vtab(tmp_path, ["dtl", "dtl+"], levels=(0.76, 0.75))
    assert find(REACHES, tmp_path).verdict == "not supported"
    assert find(BETTER, tmp_path).verdict == "not supported"


def test_best_wants_every_rival(tmp_path):
    rivals = BEST.options["rivals"]
    write_vtab(tmp_path, ["dtl", *rivals[:-1]], levels=[0.77] + [0.7] * (len(rivals) - 1))
    assert find(BEST, tmp_path).verdict == "not run"
    write_vtab(tmp_path, rivals[-1:], levels=[0.7])
    assert find(BEST, tmp_path).verdict == "supported"
    write_vtab(tmp_path, rivals[-1:], levels=[0.78])
    found = find(BEST, tmp_path)
    assert found.verdict == "not supported" and "(-1.0 points)" in found.numbers


@pytest.mark.parametrize("levels", [(0.99, 0.999), (0.5, 0.4)])
def test_a_stand_in_decides_nothing(tmp_path, levels):
    write_vtab(tmp_path, ["dtl", "dtl+"], "laptop", levels)
    for p in (REACHES, BETTER):
        found = find(p, tmp_path)
        assert found.verdict == "different setting" and found.setting.startswith("laptop")
    assert "76.69" not in find(REACHES, tmp_path).numbers, "no number of the paper beside a stand-in's"


def test_few_shot(tmp_path):
    p = part("C7", "ahead at every")
    for method in (*p.options["methods"], *p.options["rivals"]):
        for shots in (1, 2, 4, 8, 16):
            for seed in SEEDS:
                level = 0.5 if method == "dtl" else 0.4
                write(tmp_path, make_card(method, "typefaces", seed, level, "laptop", "few-shot", shots))
    found = find(p, tmp_path)
    assert found.verdict == "different setting" and "16 shots: DTL 50.0 ± 0.0" in found.numbers


@pytest.mark.parametrize("level, verdict", [(0.30, "supported"), (0.28, "not supported")])
def test_domains(tmp_path, level, verdict):
    p, names = part("C8", "behind"), ("imagenetv2", "imagenet-sketch", "imagenet-a", "imagenet-rendition")
    for method in (*p.options["methods"], *p.options["rivals"]):
        for seed in SEEDS:
            scores = {n: {"accuracy": level if method.startswith("dtl") else 0.305} for n in names}
            write(tmp_path, make_card(method, "imagenet", seed, 0.7, benchmark="domain", shots=16, targets=scores))
    assert find(p, tmp_path).verdict == verdict
    del scores["imagenet-a"]
    write(tmp_path, make_card("dtl", "imagenet", 0, 0.7, benchmark="domain", shots=16, targets=scores))
    found = find(p, tmp_path)
    assert found.verdict == "not run" and "not tested on imagenet-adversarial" in found.numbers


def test_a_claim_takes_the_least_favourable_of_its_parts():
    findings = {v: Finding(v, "", "", "") for v in VERDICTS}
    for i, worst in enumerate(VERDICTS):
        assert Judged(CLAIMS["C4"], tuple(findings[v] for v in VERDICTS[i:])).verdict == worst
    mixed = Judged(CLAIMS["C4"], tuple(findings[v] for v in ("supported", "not run", "supported")))
    assert mixed.summary == "2 of 3 parts supported, 1 not run"
    with pytest.raises(ValueError, match="no verdict"):
        Finding("proved", "", "", "")


def test_what_is_recorded_is_what_is_found(tmp_path):
    """The recorded verdicts and the table of RESULTS.md against the cards and the code as they are now."""
    judged = judge(progress=False)
    recorded = {row["id"]: row for row in load_verdicts()}
    for j in judged:
        row, again = recorded[j.claim.id], "dtl claims --write"
        assert (row["text"], row["verdict"]) == (j.claim.text, j.verdict), again
        assert [p["verdict"] for p in row["parts"]] == [f.verdict for f in j.findings], again
        assert [p["numbers"] for p in row["parts"]] == [f.numbers for f in j.findings], again
        assert [p["stale"] for p in row["parts"]] == [list(f.stale) for f in j.findings], again
    assert claims_markdown() in (project_dir() / "RESULTS.md").read_text(), "dtl claims --write"
    path = save_claims(judged, tmp_path / "claims.json")
    assert json.loads(path.read_text())["claims"][0]["id"] == "C1"
    path.write_text("{")
    with pytest.raises(DamagedFile, match="dtl claims --write"):
        load_verdicts(path)


def test_what_is_stale_is_said_once_below_the_table(tmp_path):
    body = json.loads(save_claims(judge(("C1",), progress=False), tmp_path / "claims.json").read_text())
    first, second = body["claims"][0]["parts"]
    first["stale"], second["stale"] = ["the code has changed"], ["the code has changed", "so have the data"]
    (tmp_path / "claims.json").write_text(json.dumps(body))
    table = claims_markdown(tmp_path / "claims.json")
    assert "<sup>1</sup><br>" in table and "<sup>1</sup><sup>2</sup> |" in table
    assert table.endswith("\n\n<sup>1</sup> The code has changed. <sup>2</sup> So have the data.")


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="C13"):
        judge(("C13",))


def test_what_serving_saves(tmp_path):
    multiply, time = part("C10", "multiply-adds"), part("C10", "less time")
    assert find(multiply, tmp_path).verdict == find(time, tmp_path).verdict == "not run"
    rows = [
        {"kind": kind, "tasks": n, "ratio": ratio, "low": 0.5, "high": 1.2, "multiply_adds": adds}
        for kind, ratio, adds in (("MultiTask", 1.1, 40), ("separate DTL models", 1.0, 100))
        for n in (1, 19)
    ]
    setting = {"backbone": "vit", "image_size": 8, "batch_size": 1}
    path = tmp_path / "benchmarks" / "serving.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"rows": rows, "setting": setting, "created": "2026-01-02T"}))
    assert find(multiply, tmp_path).verdict == "supported" and "0.400" in find(multiply, tmp_path).numbers
    assert find(time, tmp_path).verdict == "not supported" and find(time, tmp_path).date == "2026-01-02"
    assert find(time, tmp_path).stale == ("cards do not name the code that made them",)
    facts = {"rows": rows, "setting": setting, "created": "2026-01-02T"}
    path.write_text(json.dumps({**facts, "code": serving_code()}))
    assert find(time, tmp_path).stale == ()
    path.write_text(json.dumps({**facts, "code": {**serving_code(), "serving/path.py": "0"}}))
    assert find(time, tmp_path).stale == ("the code has changed since: serving/path.py",)
    path.write_text("{}")
    with pytest.raises(DamagedFile, match="benchmarks/serving.py"):
        find(time, tmp_path)

"""The claims and their verdicts: what decides, what only shows, and what happens when a card is tampered with."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace

import pytest

from dtl_core.evidence import SEEDS, RunCard, card_path, save_card
from dtl_core.evidence.claims import VERDICTS, Finding, claims_markdown, find, load_claims, load_verdicts, save_claims
from dtl_core.evidence.claims.claim import paper_number
from dtl_core.evidence.claims.trust import lists_of
from dtl_core.evidence.claims.verdicts import COMPUTED, RECORDED, Judged, judge
from dtl_core.evidence.code import code_of, serving_code
from dtl_core.evidence.recipes import profile_recipe
from dtl_core.evidence.results import groups_of
from dtl_core.files import DamagedFile
from dtl_core.paths import project_dir
from dtl_core.profiles import get_profile

CLAIMS = {c.id: c for c in load_claims()}


def part(claim, about):
    return next(p for p in CLAIMS[claim].parts if about in p.about)


REACHES, BETTER, BEST = part("C4", "DTL reaches"), part("C6", "more accurate"), part("C4", "other methods")


def make_card(method, task, seed, accuracy, profile="paper", benchmark="vtab-1k", shots=None, **other):
    """A card of a final run as this code would write it."""
    chosen = get_profile(profile)
    recipe = profile_recipe(chosen, method, task, None, seed, benchmark=benchmark, shots=shots)
    if profile != "paper":  # there the config comes with the backbone
        recipe = replace(recipe, config=replace(recipe.config, dwconv_kernel=3 if method == "dtl+" else 0))
    lists = lists_of(benchmark, seed, shots)
    facts = dict.fromkeys(f.name for f in fields(RunCard)) | dict(
        method=method, profile=profile, benchmark=benchmark, task=task, purpose="final", seed=seed, lr=recipe.lr,
        recipe=asdict(recipe), backbone=chosen.backbone, backbone_sha256="ab", image_size=[chosen.image_size] * 2,
        train_split=lists[0], test_split=lists[1], accuracy=accuracy, loss=0.5, protocol=chosen.protocol, shots=shots,
        backbone_dtype="float32", targets={}, switches={}, code=code_of(method), created="2026-01-02T03:04:05Z",
        precision="fp16", parameters_without_head=1,
    )  # fmt: skip
    return RunCard(**{**facts, **other})


def write(root, card):
    shots = card.shots if card.benchmark == "few-shot" else None  # a domain's card does not name them
    return save_card(
        card, card_path(card.profile, card.benchmark, card.task, card.method, card.seed, root=root, shots=shots)
    )


def write_vtab(root, methods, profile="paper", levels=(0.768, 0.778)):
    tasks = [t for group in groups_of(profile).values() for t in group]
    for method, level in zip(methods, levels, strict=True):
        for task in tasks:
            for seed in SEEDS:
                write(root, make_card(method, task, seed, level + 0.001 * (seed - 1), profile))
    return tasks


def test_every_claim_is_whole():
    assert list(CLAIMS) == [f"C{i}" for i in range(1, 13)]
    checks = {**COMPUTED, **RECORDED}
    for claim in CLAIMS.values():
        assert claim.parts and all(getattr(claim, f.name) for f in fields(claim))
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
    "another protocol": (dict(protocol="clean"), "differ in protocol"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_card_changes_the_verdict(tmp_path, name):
    task = write_vtab(tmp_path, ["dtl"], levels=[0.768])[3]
    assert find(REACHES, tmp_path).verdict == "supported"
    change, reason = TAMPERED[name]
    path = card_path("paper", "vtab-1k", task, "dtl", 1, root=tmp_path)
    path.unlink()
    if change is not None:
        card = make_card("dtl", task, 1, 0.768)
        save_card(RunCard(**{**asdict(card), **change}), path)
    found = find(REACHES, tmp_path)
    assert found.verdict == "not run" and reason in found.numbers and task in found.numbers


def test_another_config_may_not_speak(tmp_path):
    p = part("C5", "half of the values")
    for m in (0, 2, 4, 6, 8, 10):
        for seed in SEEDS:
            card = make_card("dtl", "shape_location", seed, 0.9 if m else 0.7, "laptop")
            config = {**card.recipe["config"], "inject_from": m}
            name = "vtab-1k/shape_location/dtl" if m == 6 else f"ablations/shape_location/dtl-M{m}"
            path = tmp_path / "laptop" / f"{name}-seed{seed}.json"
            save_card(replace(card, recipe={**card.recipe, "config": config}), path)
    found = find(p, tmp_path)
    assert found.verdict == "different setting" and "5 of 6 within 1" in found.numbers
    save_card(replace(card, seed=2, recipe={**card.recipe, "config": {**config, "inject_from": 4}}), path)
    assert "inject_from is 4" in find(p, tmp_path).numbers
    save_card(replace(card, recipe={**card.recipe, "config": {**config, "rank": 8}}), path)
    assert "rank is 8" in find(p, tmp_path).numbers and find(p, tmp_path).verdict == "not run"


def test_a_damaged_card_is_named(tmp_path):
    task = write_vtab(tmp_path, ["dtl"], levels=[0.768])[0]
    path = card_path("paper", "vtab-1k", task, "dtl", 1, root=tmp_path)
    path.write_text(path.read_text()[:100])
    with pytest.raises(DamagedFile, match="dtl-seed1.json is no whole run card"):
        find(REACHES, tmp_path)


def test_stale_evidence_says_so(tmp_path):
    task = write_vtab(tmp_path, ["dtl"], levels=[0.768])[0]
    write(tmp_path, make_card("dtl", task, 0, 0.768, code={**code_of("dtl"), "csn.py": "0" * 12}))
    found = find(REACHES, tmp_path)
    assert found.verdict == "supported" and found.stale == ("the code has changed since: csn.py",)
    recipe = {**make_card("dtl", task, 0, 0.7).recipe, "epochs": 50}
    write(tmp_path, make_card("dtl", task, 0, 0.768, recipe=recipe))
    assert "epochs 50, now 100" in find(REACHES, tmp_path).stale[0]
    write(tmp_path, make_card("dtl", task, 0, 0.768, code={}))
    assert "do not name the code" in find(REACHES, tmp_path).stale[0]


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
    """The recorded verdicts and the README's table against the cards and the code as they are now."""
    judged = judge(progress=False)
    recorded = {row["id"]: row for row in load_verdicts()}
    for j in judged:
        row, again = recorded[j.claim.id], "dtl claims --write"
        assert (row["text"], row["verdict"]) == (j.claim.text, j.verdict), again
        assert [p["verdict"] for p in row["parts"]] == [f.verdict for f in j.findings], again
        assert [p["numbers"] for p in row["parts"]] == [f.numbers for f in j.findings], again
        assert [p["stale"] for p in row["parts"]] == [list(f.stale) for f in j.findings], again
    assert claims_markdown() in (project_dir() / "README.md").read_text(), "dtl claims --write"
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

"""`dtl data check` as a person types it: the table, the JSON, the exit code, and the facts that the report rests on."""

import json

import pytest
from stand_ins import jpeg, put

from dtl_book import cli
from dtl_book.check import check
from dtl_book.check.report import table
from dtl_core.data.fewshot import SETS
from dtl_core.data.vtab import official_tasks

FIRST = "kitti/images/test/000000 a.jpg"


@pytest.fixture
def root(vtab_stand_in):
    return vtab_stand_in


def test_source_formats_cover_the_19_tasks():
    rows = table("image_formats.csv")
    assert {row["folder"] for row in rows} == {row["folder"] for row in official_tasks().values()} and len(rows) == 19
    assert {row["folder"].split("_")[0] for row in rows if row["lossless"] == "yes"} == {
        "cifar", "svhn", "patch", "clevr", "kitti", "dsprites", "smallnorb"
    }  # fmt: skip
    assert all(row["source"] != "not verified here" for row in rows if row["lossless"] == "yes")


def test_counts_cover_the_five_sets_and_the_five_domains():
    rows = table("list_sets.csv")
    domains = {"imagenet": "1000", "imagenetv2": "1000", "imagenet-sketch": "1000", "imagenet-adversarial": "200", "imagenet-rendition": "200"}  # fmt: skip
    assert [row["folder"] for row in rows if row["benchmark"] == "fewshot"] == list(SETS)
    assert {row["folder"]: row["classes"] for row in rows if row["benchmark"] == "domain"} == domains
    assert all(row["test_n"].isdigit() and row["test_n_source"] for row in rows)


def test_report_names_what_jpeg_costs_and_where_that_is_said(root):
    report = check("vtab", root, ["kitti"], progress=False)
    assert "issue" not in report.to_text() and report.to_dict()["jpeg_costs"] == []
    put(root / FIRST, jpeg(root / FIRST))
    report = check("vtab", root, ["kitti"], progress=False)
    for words in ("visinf/adapter_plus issue 3", "ZhangYuanhan-AI/NOAH issue 28", "nothing of it was measured"):
        assert words in report.to_text()
    assert {row["folder"] for row in report.to_dict()["jpeg_costs"]} == {"cifar"}


def run(*words):
    with pytest.raises(SystemExit) as end:
        cli.main(["data", "check", *map(str, words)])
    return end.value.code


def test_command_ends_with_one_where_results_would_not_compare(root, tmp_path, capsys):
    words = ("vtab", "--root", root, "--only", "kitti")
    assert run(*words) == 0
    (root / "kitti/classes.txt").write_text("a\n")  # names are free where the task is official
    assert run("vtab", "--root", root) == 0 and "18 warnings" in capsys.readouterr().out
    (root / FIRST).unlink()
    assert run(*words, "--json", tmp_path / "out" / "report.json") == 1
    out = capsys.readouterr().out
    assert "missing_image" in out and "would not be comparable" in out
    saved = json.loads((tmp_path / "out/report.json").read_text())
    assert saved["comparable"] is False and (saved["error"], saved["warning"], saved["note"]) == (1, 0, 0)
    assert saved["findings"][0] == {
        "severity": "error", "kind": "missing_image", "where": "kitti/test.txt", "count": 1, "message": saved["findings"][0]["message"],
    }  # fmt: skip
    frame = check("vtab", root, ["kitti"], progress=False).to_frame()
    assert frame[["kind", "count"]].values.tolist() == [["missing_image", 1]]
    assert run(*words, "--json", "-") == 1 and json.loads(capsys.readouterr().out)["images"] == 1711


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("vtab", "--root", "nowhere"), "nowhere is no folder"),
        (("vtab", "--root", "."), "Is the benchmark one folder further down"),
        (("fewshot", "--root", "."), "holds no fewshot list; it has vtab-1k"),
        (("vtab", "--root", "vtab-1k", "--only", "kitti", "mine"), "not all of kitti, mine"),
    ],
)
def test_nothing_to_check_is_told_without_a_traceback(root, monkeypatch, words, said, capsys):
    monkeypatch.chdir(root.parent)
    assert run(*words) == 1
    error = capsys.readouterr().err
    assert error.startswith("dtl: ") and said in error

"""The checker on VTAB-1K: a folder that is right, and one planted fault after the other."""

import io
import re

import numpy as np
import pytest
from PIL import Image
from stand_ins import KITTI_TEST, draw, edit, jpeg, link_tree, put

from dtl_book.check import KINDS, SEVERITIES, check
from dtl_book.check.lists import read_tolerantly
from dtl_book.standins import build_suite
from dtl_core.data import VTAB1k
from dtl_core.data.lists import read_list
from dtl_core.data.vtab import official_tasks

FIRST = "kitti/images/test/000000 a.jpg"


def look(root, only=("kitti",)):
    return check("vtab", root, only, progress=False)


def noise(suffix):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(file, suffix)
    return file.getvalue()


@pytest.fixture
def root(vtab_stand_in):
    return vtab_stand_in


def test_a_whole_folder_has_no_finding(root):
    report = look(root)
    assert report.findings == [] and report.comparable
    assert (report.sets, report.lists, report.images) == (["kitti"], 4, 1000 + KITTI_TEST)
    assert "Nothing found that stands against comparing results" in report.to_text()
    list(VTAB1k(root, "kitti", "test"))  # what the checker passes, the reader reads


def as_jpeg(root):
    for i in range(5):
        path = root / f"kitti/images/train800/{i:06d} a.jpg"
        put(path, jpeg(path))


def as_jpeg_under_another_name(root):
    put(root / "kitti/images/test/odd.png", jpeg(root / FIRST))
    edit(root / "kitti/test.txt", lambda lines: ["images/test/odd.png 0", *lines[1:]])


def rename(root):
    (root / "kitti").rename(root / "cifar_100")


# a plant: what is done to the folder, and the one finding that it must give: severity, kind, where, count, words
PLANTS = {
    "a line of another form": (
        lambda r: edit(r / "kitti/val200.txt", lambda x: [*x, "no label"]),
        ("error", "bad_line", "kitti/val200.txt", 1, "line 201: 'no label'"),
    ),
    "a byte that is no text": (
        lambda r: put(r / "kitti/val200.txt", (r / "kitti/val200.txt").read_bytes() + b"\xff.png 1\n"),
        ("error", "bad_line", "kitti/val200.txt", 1, "line 201"),
    ),
    "two labels": (
        lambda r: edit(r / "kitti/train800.txt", lambda x: [*x[:-1], x[0][:-1] + "3"]),
        ("error", "two_labels", "kitti/train800.txt", 1, r"000000 a.jpg has the labels \[0, 3\]"),
    ),
    "a label too high": (
        lambda r: edit(r / "kitti/test.txt", lambda x: [x[0][:-1] + "4", *x[1:]]),
        ("error", "label_out_of_range", "kitti/test.txt", 1, "labels run from 0 to 3, but line 1: 4"),
    ),
    "a label below zero": (
        lambda r: edit(r / "kitti/test.txt", lambda x: [x[0][:-1] + "-1", *x[1:]]),
        ("error", "label_out_of_range", "kitti/test.txt", 1, "line 1: -1"),
    ),
    "a training image too few": (
        lambda r: edit(r / "kitti/train800.txt", lambda x: x[:-1]),
        ("error", "wrong_count", "kitti/train800.txt", 1, "799 lines, 800 expected"),
    ),
    "a test image too few, of a recalled size": (
        lambda r: edit(r / "kitti/test.txt", lambda x: x[:-1]),
        ("warning", "wrong_count", "kitti/test.txt", 1, r"710 lines, 711 expected; TFDS catalogue \(recall\)"),
    ),
    "a class that is never tested": (
        lambda r: edit(r / "kitti/test.txt", lambda x: [line[:-1] + "0" if line[-1] == "3" else line for line in x]),
        ("warning", "wrong_class_count", "kitti/test.txt", 1, "3 classes have images, 4 expected; none for 3"),
    ),
    "a class that is never trained": (
        lambda r: edit(r / "kitti/val200.txt", lambda x: [line[:-1] + "0" if line[-1] == "2" else line for line in x]),
        ("note", "wrong_class_count", "kitti/val200.txt", 1, "none for 2"),
    ),
    "a missing image": (
        lambda r: (r / FIRST).unlink(),
        ("error", "missing_image", "kitti/test.txt", 1, "not there: .*000000 a.jpg"),
    ),
    "a file that is no image": (
        lambda r: put(r / FIRST, "<html>not found</html>"),
        ("error", "unreadable_image", "kitti/test.txt", 1, "cannot identify"),
    ),
    "a folder in the place of an image": (
        lambda r: ((r / FIRST).unlink(), (r / FIRST).mkdir()),
        ("error", "unreadable_image", "kitti/test.txt", 1, "directory"),
    ),
    "half a PNG": (
        lambda r: put(r / FIRST, noise("PNG")[:5000]),
        ("error", "truncated_image", "kitti/test.txt", 1, "cut short"),
    ),
    "an empty file": (
        lambda r: put(r / FIRST, b""),
        ("error", "truncated_image", "kitti/test.txt", 1, "0 bytes"),
    ),
    "an image of training in test": (
        lambda r: put(r / FIRST, (r / "kitti/images/val200/000007 a.jpg").read_bytes()),
        ("error", "same_image", "kitti/test.txt", 1, "000000 a.jpg is .*val200/000007 a.jpg"),
    ),
    "the same pixels in another format": (
        lambda r: Image.open(r / "kitti/images/train800/000003 a.jpg").save(r / "kitti/x.bmp")
        or edit(r / "kitti/test.txt", lambda x: ["x.bmp 0", *x[1:]]),
        ("error", "same_image", "kitti/test.txt", 1, "x.bmp is train800.txt: images/train800/000003 a.jpg"),
    ),
    "an image of training in validation": (
        lambda r: put(r / "kitti/images/val200/000000 a.jpg", (r / "kitti/images/train800/000000 a.jpg").read_bytes()),
        ("warning", "same_image", "kitti/val200.txt", 1, "pixels of one of training"),
    ),
    "JPEG": (as_jpeg, ("error", "lossy_jpeg", "kitti", 5, "5 of 1,711 images are JPEG by content")),
    "JPEG named png": (as_jpeg_under_another_name, ("error", "lossy_jpeg", "kitti", 1, r"named .png")),
    "a list too few": (
        lambda r: (r / "kitti/val200.txt").unlink(),
        ("error", "missing_list", "kitti", 1, "val200.txt is missing"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTS)
def test_planted_fault_is_the_only_finding(root, name):
    plant, (severity, kind, where, count, words) = PLANTS[name]
    plant(root)
    report = look(root)
    (finding,) = report.findings
    assert (finding.severity, finding.kind, finding.where, finding.count) == (severity, kind, where, count)
    assert re.search(words, finding.message)
    assert report.comparable == (severity != "error")


@pytest.mark.parametrize(
    "line", ["a b.png 3", " a.png  3 ", "a.png -1", "a.png 3.0", "a.png", "7", "", "a.png three", "a\tb.png 2"]
)
def test_lines_are_read_as_the_readers_read_them(tmp_path, line):
    (tmp_path / "good.txt").write_text(f"{line}\nx.png 1\n")
    (tmp_path / "bad.txt").write_text(f"{line}\nx.png 1\nbad\n")  # the bad line makes the checker read by itself
    entries, bad = read_tolerantly(tmp_path / "bad.txt")
    try:
        assert entries == read_list(tmp_path / "good.txt")[1] and len(bad) == 1
    except ValueError:
        assert entries == [(2, "x.png", 1)] and len(bad) == 2


def test_repeated_line(root):
    edit(root / "kitti/test.txt", lambda lines: [lines[1], *lines[1:]])
    (finding,) = look(root).findings
    assert (finding.severity, finding.kind, finding.count) == ("error", "repeated_line", 1)
    assert "images/test/000001 a.jpg 1 (lines 1, 2)" in finding.message


def test_empty_list(root):
    put(root / "kitti/test.txt", "\n")
    assert {(f.kind, f.severity) for f in look(root).findings} == {
        ("missing_list", "error"),
        ("wrong_count", "warning"),
    }


def test_few_twins_in_a_large_test_are_a_warning(root):
    for i in range(2000):
        draw(root / f"kitti/more/{i}.png", 100_000 + i)
    edit(root / "kitti/test.txt", lambda x: [*x, *(f"more/{i}.png 0" for i in range(2000))])
    put(root / FIRST, (root / "kitti/images/train800/000000 a.jpg").read_bytes())
    (twin,) = [f for f in look(root).findings if f.kind == "same_image"]
    assert twin.severity == "warning" and "by up to 0.037 points" in twin.message
    put(root / "kitti/images/test/000001 a.jpg", (root / "kitti/images/train800/000001 a.jpg").read_bytes())
    put(root / "kitti/images/test/000002 a.jpg", (root / "kitti/images/train800/000002 a.jpg").read_bytes())
    (twin,) = [f for f in look(root).findings if f.kind == "same_image"]
    assert twin.severity == "error" and twin.count == 3  # 3 of 2,711 is more than a tenth of a point


def test_other_names_are_accepted_and_noted(root):
    rename(root)
    (note,) = [f for f in look(root, ()).findings if f.kind == "other_name"]
    assert (note.severity, note.where) == ("note", "cifar_100") and "is cifar in the archive" in note.message
    assert look(root, ("cifar",)).sets == look(root, ("cifar_100",)).sets == ["cifar_100"]
    link_tree(root / "cifar_100", root / "cifar")
    (two,) = [f for f in look(root, ("cifar",)).findings if f.kind == "other_name"]
    assert two.severity == "warning" and "there is also cifar_100" in two.message


def test_three_tasks_have_two_names():
    rows = {row["folder"]: row for row in official_tasks().values()}.values()
    assert sum(row["folder"] != row["script_name"] for row in rows) == 3


def test_missing_tasks_are_named(root):
    findings = look(root, ()).findings
    assert {f.kind for f in findings} == {"missing_set"} and len(findings) == 18
    assert all(f.severity == "warning" for f in findings)


def test_suite_of_our_own_has_no_official_counts(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DTL_DATA", str(tmp_path))
    suite = build_suite("smoke", tasks=["mnist", "shape_location"])["mnist"].parent
    report = check("vtab", suite, progress=False)
    assert [(f.severity, f.kind) for f in report.findings] == [("note", "unlisted_set")] * 2 and report.lists == 8
    image = suite / "mnist/images/test/00000.png"
    put(image, jpeg(image))
    edit(suite / "mnist/test.txt", lambda lines: lines[:-1])
    kinds = {f.kind for f in check("vtab", suite, ["mnist"], progress=False).findings if f.severity == "error"}
    assert kinds == {"lossy_jpeg", "wrong_count"}


def test_kinds_and_severities_are_those_that_are_documented(root):
    planted = {kind for _, (_, kind, *_) in PLANTS.values()}
    elsewhere = {
        "repeated_line",
        "other_name",
        "missing_set",
        "unlisted_set",
        "other_layout",
    }  # the tests beside this one
    assert planted | elsewhere == set(KINDS)
    assert {severity for _, (severity, *_) in PLANTS.values()} == set(SEVERITIES)

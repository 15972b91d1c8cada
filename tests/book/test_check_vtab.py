"""The checker on VTAB-1K: a folder that is right, and one planted fault after the other."""

import re

import pytest
from PIL import Image
from stand_ins import KITTI_TEST, draw, edit, jpeg, link_tree, put

from dtl_book.check import check
from dtl_book.check.lists import read_tolerantly
from dtl_book.standins import build_suite
from dtl_core.data import VTAB1k
from dtl_core.data.lists import read_list


def look(root, only=("kitti",)):
    return check("vtab", root, only, progress=False)


@pytest.fixture
def root(vtab_stand_in):
    return vtab_stand_in


def test_a_whole_folder_has_no_finding(root):
    report = look(root)
    assert report.findings == [] and report.comparable
    assert (report.sets, report.lists, report.images) == (["kitti"], 4, 1000 + KITTI_TEST)
    assert "Nothing found that stands against comparing results" in report.to_text()
    list(VTAB1k(root, "kitti", "test"))  # what the checker passes, the reader reads


def lines(change):
    return lambda path: edit(path, change)


def as_image(source):
    """A plant: the image becomes another one of the folder."""
    return lambda path: put(path, (path.parents[2] / "images" / source).read_bytes())


def as_jpeg(folder):
    for i in range(5):
        path = folder / f"train800/{i:06d} a.jpg"
        put(path, jpeg(path))


def as_jpeg_under_another_name(path):
    put(path.parent / "images/test/odd.png", jpeg(path.parent / "images/test/000000 a.jpg"))
    edit(path, lambda x: ["images/test/odd.png 0", *x[1:]])


def as_bitmap(path):
    Image.open(path.parent / "images/train800/000003 a.jpg").save(path.parent / "x.bmp")
    edit(path, lambda x: ["x.bmp 0", *x[1:]])


TEST, VAL, TRAIN, IMAGE = "test.txt", "val200.txt", "train800.txt", "images/test/000000 a.jpg"
# which file of the task, what is done to it, and the one finding that it must give: severity and kind, words, file
PLANTS = {
    "another form": (VAL, lines(lambda x: [*x, "no label"]), "error bad_line", "line 201: 'no label'", VAL),
    "no text": (VAL, lambda p: put(p, p.read_bytes() + b"\xff.png 1\n"), "error bad_line", "line 201", VAL),
    "repeated": (TEST, lines(lambda x: [x[1], *x[1:]]), "error repeated_line", r"000001 a.jpg 1 \(lines 1, 2\)", TEST),
    "two labels": (TRAIN, lines(lambda x: [*x[:-1], x[0][:-1] + "3"]), "error two_labels", r"has the labels \[0, 3\]", TRAIN),
    "high label": (TEST, lines(lambda x: [x[0][:-1] + "4", *x[1:]]), "error label_out_of_range", "from 0 to 3, but line 1: 4", TEST),
    "low label": (TEST, lines(lambda x: [x[0][:-1] + "-1", *x[1:]]), "error label_out_of_range", "line 1: -1", TEST),
    "one too few": (TRAIN, lines(lambda x: x[:-1]), "error wrong_count", "799 lines, 800 expected", TRAIN),
    "of a recalled size": (TEST, lines(lambda x: x[:-1]), "warning wrong_count", r"710 lines, 711 expected; TFDS catalogue \(recall\)", TEST),
    "untested class": (TEST, lines(lambda x: [y.replace(" 3", " 0") for y in x]), "warning wrong_class_count", "4 expected; none for 3", TEST),
    "untrained class": (VAL, lines(lambda x: [y.replace(" 2", " 0") for y in x]), "note wrong_class_count", "none for 2", VAL),
    "no list": (VAL, lambda p: p.unlink(), "error missing_list", "val200.txt is missing", ""),
    "no image": (IMAGE, lambda p: p.unlink(), "error missing_image", "not there: .*000000 a.jpg", TEST),
    "a page": (IMAGE, lambda p: put(p, "<html>not found</html>"), "error unreadable_image", "cannot identify", TEST),
    "a folder": (IMAGE, lambda p: (p.unlink(), p.mkdir()), "error unreadable_image", "directory", TEST),
    "half a PNG": (IMAGE, lambda p: put(p, p.read_bytes()[:700]), "error truncated_image", "cut short", TEST),
    "empty": (IMAGE, lambda p: put(p, b""), "error truncated_image", "0 bytes", TEST),
    "trained in test": (IMAGE, as_image("val200/000007 a.jpg"), "error same_image", "000000 a.jpg is .*val200/000007 a.jpg", TEST),
    "as a bitmap": (TEST, as_bitmap, "error same_image", "x.bmp is train800.txt: images/train800/000003 a.jpg", TEST),
    "trained in validation": ("images/val200/000000 a.jpg", as_image("train800/000000 a.jpg"), "warning same_image", "pixels of one of training", VAL),
    "JPEG": ("images", as_jpeg, "error lossy_jpeg", "5 of 1,711 images are JPEG by content", ""),
    "JPEG named png": (TEST, as_jpeg_under_another_name, "error lossy_jpeg", "named .png", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTS)
def test_planted_fault_is_the_only_finding(root, name):
    file, plant, of_kind, words, where = PLANTS[name]
    plant(root / "kitti" / file)
    report = look(root)
    (finding,) = report.findings
    assert (f"{finding.severity} {finding.kind}", finding.where) == (of_kind, f"kitti/{where}".rstrip("/"))
    assert re.search(words, finding.message)
    assert report.comparable == (finding.severity != "error")


@pytest.mark.parametrize(
    "line",
    ["a b.png 3", " a.png  3 ", "a.png -1", "a.png 3.0", "a.png", "7", "", "a.png three", "a\tb.png 2", "\ufeffa.png 2",
     "images\\a.png 2", "../a.png 2", "images/../../a.png 2", "images/../a.png 2", "a.png ²", "a.png --1"],
)  # fmt: skip
def test_lines_are_read_as_the_readers_read_them(tmp_path, line):
    put(tmp_path / "good.txt", f"{line}\nx.png 1\n")
    put(tmp_path / "bad.txt", f"{line}\nx.png 1\nbad\n")  # the bad line makes the checker read by itself
    entries, bad = read_tolerantly(tmp_path / "bad.txt")
    try:
        assert entries == read_list(tmp_path / "good.txt")[1] and len(bad) == 1
    except ValueError:
        assert entries == [(2, "x.png", 1)] and len(bad) == 2


def test_empty_list(root):
    put(root / "kitti/test.txt", "\n")
    found = {(f.kind, f.severity) for f in look(root).findings}
    assert found == {("missing_list", "error"), ("wrong_count", "warning")}


def test_few_twins_in_a_large_test_are_a_warning(root):
    for i in range(2000):
        draw(root / f"kitti/more/{i}.png", 0, 100_000 + i)
    edit(root / "kitti/test.txt", lambda x: [*x, *(f"more/{i}.png 0" for i in range(2000))])

    def plant(*numbers):
        for i in numbers:
            as_image(f"train800/00000{i} a.jpg")(root / f"kitti/images/test/00000{i} a.jpg")

    plant(0)
    (twin,) = [f for f in look(root).findings if f.kind == "same_image"]
    assert twin.severity == "warning" and "by up to 0.037 points" in twin.message
    plant(1, 2)
    (twin,) = [f for f in look(root).findings if f.kind == "same_image"]
    assert twin.severity == "error" and twin.count == 3  # 3 of 2,711 is more than a tenth of a point


def test_other_names_are_accepted_and_noted(root):
    missing = look(root, ()).findings
    assert {(f.kind, f.severity) for f in missing} == {("missing_set", "warning")} and len(missing) == 18
    (root / "kitti").rename(root / "cifar_100")
    (note,) = [f for f in look(root, ()).findings if f.kind == "other_name"]
    assert (note.severity, note.where) == ("note", "cifar_100") and "is cifar in the archive" in note.message
    assert look(root, ("cifar",)).sets == look(root, ("cifar_100",)).sets == ["cifar_100"]
    link_tree(root / "cifar_100", root / "cifar")
    (two,) = [f for f in look(root, ("cifar",)).findings if f.kind == "other_name"]
    assert two.severity == "warning" and "there is also cifar_100" in two.message


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


@pytest.mark.parametrize("shift, unused", [(lambda y: y + 1, 0), (lambda y: 4000 * y, 1)])
def test_a_gap_in_the_labels_of_a_task_of_ones_own_is_an_error(root, shift, unused):
    root.joinpath("kitti").rename(root / "mine")
    for path in (root / "mine").glob("*.txt"):
        edit(path, lambda lines: [f"{line.rpartition(' ')[0]} {shift(int(line.rpartition(' ')[2]))}" for line in lines])
    (found,) = [f for f in look(root, ("mine",)).findings if f.severity == "error"]
    assert found.kind == "label_out_of_range" and f"no image has {unused}: number them from 0" in found.message

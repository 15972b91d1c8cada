"""The checker on the few-shot and the domain layouts, with small tables in the place of the official counts."""

from pathlib import Path

import pytest
from official import TARGET_PATHS, domains, few_shot_set
from stand_ins import edit, jpeg, put

from dtl_book.check import check, folders, images

FEWSHOT = {"benchmark": "fewshot", "folder": "oxford-pets", "other_names": "oxford_pets", "labels": "3", "classes": "3",
           "test_n": "6", "test_n_source": "here"}  # fmt: skip
DOMAINS = [
    {"benchmark": "domain", "folder": name, "other_names": "", "labels": "6", "classes": str(classes),
     "test_n": str(2 * classes), "test_n_source": "from mind (recall)" if name == "imagenetv2" else "here"}
    for name, classes in (("imagenet", 6), *((target, 5) for target in TARGET_PATHS))
]  # fmt: skip


@pytest.fixture(autouse=True)
def small_tables(monkeypatch):
    monkeypatch.setattr(folders, "table", lambda _: [FEWSHOT, *DOMAINS])


def pets(root, folder="oxford-pets", lists="oxford-pets", below=""):
    """A few-shot set of three classes: 48 images to draw shots from, 6 to validate, 6 to test."""
    few_shot_set(root / folder / below, root / lists / "annotations")
    return root


def imagenet(root):
    return domains(root, labels=tuple(range(6)))


def lines(change):
    return lambda path: edit(path, change)


def as_image(source):
    """A plant: the image becomes another one of its set."""
    return lambda path: put(path, (path.parents[source.count("/") // 2] / source).read_bytes())


def look(benchmark, root):
    return check(benchmark, root, progress=False)


def found(report):
    return [(f.severity, f.kind, f.where, f.count) for f in report.findings]


def test_whole_few_shot_folder_has_no_finding(tmp_path, monkeypatch):
    opened, real = [], images.inspect
    monkeypatch.setattr(images, "inspect", lambda path: opened.append(path) or real(path))
    report = look("fewshot", pets(tmp_path))
    assert report.findings == [] and report.lists == 17 and report.images == 3 * (16 + 2 + 2)
    assert len(opened) == len(set(opened)) == report.images, "an image that many lists share is opened once"


def test_lists_may_lie_in_a_folder_of_their_own_and_images_one_deeper(tmp_path):
    pets(tmp_path, lists="few-shot_split/oxford-pets", below="images")
    (tmp_path / "few-shot_split/imagenet/annotations").mkdir(parents=True)  # NOAH's lists, copied as a whole
    report = look("fewshot", tmp_path)
    assert found(report) == [("note", "other_layout", "oxford-pets", 1)] * 2 and report.images == 60
    places = [f.message.split("from ")[1] for f in report.findings]
    assert places == ["few-shot_split/oxford-pets/annotations", "oxford-pets/images"]
    report = look("fewshot", pets(tmp_path / "b", folder="oxford_pets", lists="oxford_pets"))
    assert found(report) == [("note", "other_name", "oxford_pets", 1)]


def test_pets_list_that_holds_every_image_twice_is_a_warning(tmp_path):
    path = pets(tmp_path) / "oxford-pets/annotations/train_meta.list.num_shot_1.seed_2"
    edit(path, lambda lines: [line for line in lines for _ in range(2)])
    report = look("fewshot", tmp_path)
    assert found(report) == [("warning", "repeated_line", f"oxford-pets/{path.name}", 3)] and report.comparable
    assert "as in the field's own 1-shot list of Oxford Pets" in report.findings[0].message
    edit(path, lambda lines: lines[1:])  # no longer every line
    assert found(look("fewshot", tmp_path)) == [("error", "repeated_line", f"oxford-pets/{path.name}", 2)]


TRAIN = "annotations/train_meta.list.num_shot_4.seed_1"
VAL, TEST = "annotations/val_meta.list", "annotations/test_meta.list"
PLANTS = {  # which file of the set, what is done to it, and what must be found: severity and kind, words, file
    "one too few": (TRAIN, lines(lambda x: x[:-1]), "error wrong_class_count", "4 images a class expected, but label 2 has 3", TRAIN),
    "one twice": (TRAIN, lines(lambda x: [x[1], *x[1:]]), "error wrong_class_count", "label 0 has 3", TRAIN),
    "a class too few": (VAL, lines(lambda x: x[:4]), "warning wrong_class_count", "none for 2", VAL),
    "another count": (TEST, lines(lambda x: x[1:]), "error wrong_count", "5 lines, 6 expected; here", TEST),
    "a list too few": (TRAIN, lambda p: p.unlink(), "error missing_list", "num_shot_4.seed_1 is missing", ""),
    "trained in test": ("test 0_0.jpg", as_image("train 1_4.jpg"), "error same_image", "test 0_0.jpg is train_meta.list.num_shot_", TEST),
    "validated in test": ("test 0_0.jpg", as_image("val 1_1.jpg"), "warning same_image", "pixels of one of validation", TEST),
    "one path in both": (TEST, lines(lambda x: ["val 0_0.jpg 0", *x[1:]]), "warning same_image", "val 0_0.jpg is val_meta.list: val 0_0.jpg", TEST),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTS)
def test_planted_fault_in_a_few_shot_set(tmp_path, name):
    file, plant, of_kind, words, where = PLANTS[name]
    plant(pets(tmp_path) / "oxford-pets" / file)
    report = look("fewshot", tmp_path)
    (hit,) = [f for f in report.findings if f.kind == of_kind.split()[1]]
    assert (f"{hit.severity} {hit.kind}", hit.where) == (of_kind, f"oxford-pets/{Path(where).name}".rstrip("/"))
    assert words in hit.message and report.comparable == (hit.severity != "error")
    assert {f.kind for f in report.findings} - {hit.kind} <= {"repeated_line"}


def test_few_shot_set_of_ones_own(tmp_path):
    pets(tmp_path, folder="faces", lists="faces")
    (tmp_path / "faces/annotations/val_meta.list").unlink()
    report = look("fewshot", tmp_path)
    assert found(report) == [("warning", "missing_list", "faces", 1), ("note", "unlisted_set", "faces", 1)]


def test_missing_few_shot_set_is_named_beside_another_official_one(tmp_path, monkeypatch):
    second = FEWSHOT | {"folder": "food101", "other_names": "food-101"}
    monkeypatch.setattr(folders, "table", lambda _: [FEWSHOT, second])
    assert found(look("fewshot", pets(tmp_path))) == [("warning", "missing_set", "food101", 1)]


def test_whole_domain_folder_has_no_finding(tmp_path):
    report = look("domain", imagenet(tmp_path))
    assert report.findings == [] and report.sets[0] == "imagenet"
    assert (report.lists, report.images) == (9, 6 * (16 + 2 + 2) + 4 * 10)


def no_training(lists):
    for path in lists.glob("train_meta*"):
        path.unlink()


V2, ADVERSARIAL = "imagenetv2/annotations/val_meta.list", "imagenet-adversarial/annotations/val_meta.list"
DOMAIN_PLANTS = {
    "nothing to train on": ("imagenet/annotations", no_training, "error missing_list", "there is nothing to train on", "imagenet"),
    "a target without a list": (V2, lambda p: p.unlink(), "error missing_list", "val_meta.list is missing", "imagenetv2"),
    "a target without a folder": ("imagenetv2", lambda p: p.rename(p.parent / "x"), "warning missing_set", "no folder with lists", "imagenetv2"),
    "a count that is recalled": (V2, lines(lambda x: x[1:]), "warning wrong_count", "9 lines, 10 expected", V2),
    "a count that is known": (ADVERSARIAL, lines(lambda x: x[1:]), "error wrong_count", "9 lines, 10 expected", ADVERSARIAL),
    "labels from 0": (ADVERSARIAL, lines(lambda x: [y[:-1] + str(int(y[-1]) - 1) for y in x]), "error label_out_of_range",
                      "must be those of ImageNet's 6 classes", ADVERSARIAL),
    "a label too high": (ADVERSARIAL, lines(lambda x: [x[0][:-1] + "6", *x[1:]]), "error label_out_of_range", "labels run from 0 to 5", ADVERSARIAL),
    "trained in a target": ("imagenet-adversarial", lambda p: put(
        next(p.rglob("*.jpg")), (p.parent / "imagenet/images/train/n00000003/n00000003_7.JPEG").read_bytes()
    ), "error same_image", "is train_meta.list.num_shot_16.seed_", ADVERSARIAL),
    "trained in its own test": ("imagenet/images/val/ILSVRC2012_val_00000000.JPEG", as_image("train/n00000003/n00000003_7.JPEG"),
                                "error same_image", "n00000003_7.JPEG", "imagenet/annotations/val_meta.list"),
}  # fmt: skip


@pytest.mark.parametrize("name", DOMAIN_PLANTS)
def test_planted_fault_in_a_domain(tmp_path, name):
    file, plant, of_kind, words, where = DOMAIN_PLANTS[name]
    plant(imagenet(tmp_path) / file)
    report = look("domain", tmp_path)
    hit = next(f for f in report.findings if f.kind == of_kind.split()[1])
    assert (f"{hit.severity} {hit.kind}", hit.where) == (of_kind, where.replace("annotations/", ""))
    assert words in hit.message and report.comparable == (hit.severity != "error")


def test_domains_of_ones_own_take_their_classes_from_the_source(tmp_path):
    for folder in imagenet(tmp_path).iterdir():
        folder.rename(tmp_path / f"my {folder.name}")
    report, targets = look("domain", tmp_path), {f"my {name}" for name in TARGET_PATHS}
    assert {f.where for f in report.findings if f.kind == "unlisted_set"} == {"my imagenet", *targets}
    few = {f.where for f in report.findings if f.severity == "warning"}
    assert few == {f"{name}/val_meta.list" for name in targets}, "five of six classes"
    path = tmp_path / "my imagenetv2/annotations/val_meta.list"
    edit(path, lambda lines: [lines[0][:-1] + "6", *lines[1:]])
    assert ("error", "label_out_of_range", "my imagenetv2/val_meta.list", 1) in found(look("domain", tmp_path))


def test_unofficial_validation_list_is_held_against_training(tmp_path):
    path = imagenet(tmp_path) / "imagenet/annotations/unofficial_val_list_4_shot16seed0"
    edit(path, lambda x: ["n00000000/n00000000_3.JPEG 0", *x[1:]])
    assert found(look("domain", tmp_path)) == [("warning", "same_image", f"imagenet/{path.name}", 1)]


def test_jpeg_in_a_set_that_was_built_here(tmp_path):
    pets(tmp_path, folder="faces", lists="faces")
    path = tmp_path / "faces/test 1_1.jpg"
    put(path, jpeg(path))
    assert {f[1] for f in found(look("fewshot", tmp_path))} == {"unlisted_set"}  # nothing says what it was made from
    put(tmp_path / "faces/built.json", "{}")
    assert ("error", "lossy_jpeg", "faces", 1) in found(look("fewshot", tmp_path))

"""The checker on the few-shot and the domain layouts, with small tables in the place of the official counts."""

import pytest
from stand_ins import DOMAINS, FEWSHOT, domains, draw, edit, jpeg, pets, put

from dtl_book.check import check, folders, images
from dtl_book.check.report import table


@pytest.fixture(autouse=True)
def small_tables(monkeypatch):
    monkeypatch.setattr(folders, "table", lambda _: [FEWSHOT, *DOMAINS])


def look(benchmark, root):
    return check(benchmark, root, progress=False)


def found(report):
    return [(f.severity, f.kind, f.where, f.count) for f in report.findings]


def test_whole_few_shot_folder_has_no_finding(tmp_path):
    report = look("fewshot", pets(tmp_path))
    assert report.findings == [] and report.lists == 17 and report.images == 3 * (18 + 2 + 3)


def test_lists_may_lie_in_a_folder_of_their_own_and_images_one_deeper(tmp_path):
    pets(tmp_path, lists="few-shot_split/oxford-pets", below="images")
    (tmp_path / "few-shot_split/imagenet/annotations").mkdir(parents=True)  # NOAH's lists, copied as a whole
    report = look("fewshot", tmp_path)
    assert found(report) == [("note", "other_layout", "oxford-pets", 1)] * 2 and report.images == 69
    assert [f.message.split("from ")[1] for f in report.findings] == [
        "few-shot_split/oxford-pets/annotations",
        "oxford-pets/images",
    ]


def test_another_name_is_noted(tmp_path):
    report = look("fewshot", pets(tmp_path, folder="oxford_pets", lists="oxford_pets"))
    assert found(report) == [("note", "other_name", "oxford_pets", 1)]


def test_pets_list_that_holds_every_image_twice_is_a_warning(tmp_path):
    path = pets(tmp_path) / "oxford-pets/annotations/train_meta.list.num_shot_1.seed_2"
    edit(path, lambda lines: [line for line in lines for _ in range(2)])
    report = look("fewshot", tmp_path)
    assert found(report) == [("warning", "repeated_line", f"oxford-pets/{path.name}", 3)] and report.comparable
    assert "as in the field's own 1-shot list of Oxford Pets" in report.findings[0].message
    edit(path, lambda lines: lines[1:])  # no longer every line
    assert found(look("fewshot", tmp_path)) == [("error", "repeated_line", f"oxford-pets/{path.name}", 2)]


def test_same_doubles_in_another_set_are_an_error(tmp_path):
    pets(tmp_path, folder="cats", lists="cats")
    edit(tmp_path / "cats/annotations/train_meta.list.num_shot_1.seed_0", lambda lines: [*lines, *lines])
    assert [f for f in found(look("fewshot", tmp_path)) if f[0] == "error"] == [
        ("error", "repeated_line", "cats/train_meta.list.num_shot_1.seed_0", 3)
    ]


PLANTS = {
    "a shot too few": (
        lambda a: edit(a / "train_meta.list.num_shot_4.seed_1", lambda lines: lines[:-1]),
        ("error", "wrong_class_count", "train_meta.list.num_shot_4.seed_1", "4 images a class expected, but label 2 has 3"),
    ),
    "a shot twice": (
        lambda a: edit(a / "train_meta.list.num_shot_2.seed_0", lambda lines: [lines[1], *lines[1:]]),
        ("error", "wrong_class_count", "train_meta.list.num_shot_2.seed_0", "label 0 has 1"),
    ),
    "a test image too few": (
        lambda a: edit(a / "test_meta.list", lambda lines: lines[1:]),
        ("error", "wrong_count", "test_meta.list", "8 lines, 9 expected; here"),
    ),
    "a class without validation": (
        lambda a: edit(a / "val_meta.list", lambda lines: lines[:4]),
        ("warning", "wrong_class_count", "val_meta.list", "none for 2"),
    ),
    "a label too high": (
        lambda a: edit(a / "test_meta.list", lambda lines: [*lines[:-1], lines[-1][:-1] + "3"]),
        ("error", "label_out_of_range", "test_meta.list", "labels run from 0 to 2"),
    ),
    "a list too few": (
        lambda a: (a / "train_meta.list.num_shot_8.seed_0").unlink(),
        ("error", "missing_list", None, "num_shot_8.seed_0 is missing"),
    ),
    "a training image in test": (
        lambda a: put(a.parent / "test 0_0.jpg", (a.parent / "train 1_4.jpg").read_bytes()),
        ("error", "same_image", "test_meta.list", "test 0_0.jpg is train_meta.list.num_shot_"),
    ),
    "a validation image in test": (
        lambda a: put(a.parent / "test 0_0.jpg", (a.parent / "val 1_1.jpg").read_bytes()),
        ("warning", "same_image", "test_meta.list", "pixels of one of validation"),
    ),
    "a path out of validation in test": (
        lambda a: edit(a / "test_meta.list", lambda lines: ["val 0_0.jpg 0", *lines[1:]]),
        ("warning", "same_image", "test_meta.list", "val 0_0.jpg is val_meta.list: val 0_0.jpg"),
    ),
    "a missing image": (
        lambda a: (a.parent / "val 0_0.jpg").unlink(),
        ("error", "missing_image", "val_meta.list", "val 0_0.jpg"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTS)
def test_planted_fault_in_a_few_shot_set(tmp_path, name):
    plant, (severity, kind, where, words) = PLANTS[name]
    plant(pets(tmp_path) / "oxford-pets/annotations")
    report = look("fewshot", tmp_path)
    (hit,) = [f for f in report.findings if f.kind == kind]
    assert (hit.severity, hit.where) == (severity, f"oxford-pets/{where}" if where else "oxford-pets")
    assert words in hit.message and report.comparable == (severity != "error")
    assert {f.kind for f in report.findings} - {kind} <= {"repeated_line"}


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
    report = look("domain", domains(tmp_path))
    assert report.findings == [] and report.sets[0] == "imagenet" and (report.lists, report.images) == (4, 3 * 12 + 96)


DOMAIN_PLANTS = {
    "a shot too few": (
        lambda r: edit(r / "imagenet/annotations/train_meta.list.num_shot_16.seed_0", lambda lines: lines[1:]),
        ("error", "wrong_class_count", "imagenet/train_meta.list.num_shot_16.seed_0", "label 0 has 15"),
    ),
    "nothing to train on": (
        lambda r: (r / "imagenet/annotations/train_meta.list.num_shot_16.seed_0").unlink(),
        ("error", "missing_list", "imagenet", "there is nothing to train on"),
    ),
    "a target without a list": (
        lambda r: (r / "imagenetv2/annotations/val_meta.list").unlink(),
        ("error", "missing_list", "imagenetv2", "val_meta.list is missing"),
    ),
    "a target without a folder": (
        lambda r: (r / "imagenetv2").rename(r / "elsewhere"),
        ("warning", "missing_set", "imagenetv2", "no folder with lists"),
    ),
    "a count that is recalled": (
        lambda r: edit(r / "imagenetv2/annotations/val_meta.list", lambda lines: lines[1:]),
        ("warning", "wrong_count", "imagenetv2/val_meta.list", "11 lines, 12 expected"),
    ),
    "a count that is known": (
        lambda r: edit(r / "imagenet-adversarial/annotations/val_meta.list", lambda lines: lines[1:]),
        ("error", "wrong_count", "imagenet-adversarial/val_meta.list", "11 lines, 12 expected"),
    ),
    "labels that count the few classes from 0": (
        lambda r: edit(r / "imagenet-adversarial/annotations/val_meta.list", lambda x: [li[:-1] + str("14".index(li[-1])) for li in x]),
        ("error", "label_out_of_range", "imagenet-adversarial/val_meta.list", "must be those of ImageNet's 6 classes"),
    ),
    "a label too high": (
        lambda r: edit(r / "imagenet-adversarial/annotations/val_meta.list", lambda lines: [lines[0][:-1] + "6", *lines[1:-1], lines[-1]]),
        ("error", "label_out_of_range", "imagenet-adversarial/val_meta.list", "labels run from 0 to 5"),
    ),
    "an image of the source in a target": (
        lambda r: put(r / "imagenetv2/n0/0.000_soap dispenser _ 0.JPEG", (r / "imagenet/images/train/n3/n3_7.JPEG").read_bytes()),
        ("error", "same_image", "imagenetv2/val_meta.list", "is train_meta.list.num_shot_16.seed_0: n3/n3_7.JPEG"),
    ),
    "an image of the source in its own test": (
        lambda r: put(r / "imagenet/images/val/n0/0.000_soap dispenser _ 0.JPEG", (r / "imagenet/images/train/n3/n3_7.JPEG").read_bytes()),
        ("error", "same_image", "imagenet/val_meta.list", "n3/n3_7.JPEG"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DOMAIN_PLANTS)
def test_planted_fault_in_a_domain(tmp_path, name):
    plant, (severity, kind, where, words) = DOMAIN_PLANTS[name]
    plant(domains(tmp_path))
    report = look("domain", tmp_path)
    hit = next(f for f in report.findings if f.kind == kind)
    assert (hit.severity, hit.where) == (severity, where) and words in hit.message
    assert report.comparable == (severity != "error")


def test_domains_of_ones_own_take_their_classes_from_the_source(tmp_path):
    for folder in domains(tmp_path).iterdir():
        folder.rename(tmp_path / f"my {folder.name}")
    report = look("domain", tmp_path)
    notes = {f.where for f in report.findings if f.kind == "unlisted_set"}
    assert notes == {"my imagenet", "my imagenetv2", "my imagenet-adversarial"}
    assert [f.where for f in report.findings if f.severity == "warning"] == [
        "my imagenet-adversarial/val_meta.list"
    ]  # two of six classes
    path = tmp_path / "my imagenetv2/annotations/val_meta.list"
    edit(path, lambda lines: [lines[0][:-1] + "6", *lines[1:]])
    assert ("error", "label_out_of_range", "my imagenetv2/val_meta.list", 1) in found(look("domain", tmp_path))


def test_unofficial_validation_list_is_held_against_training(tmp_path):
    lists = domains(tmp_path) / "imagenet/annotations"
    put(lists / "unofficial_val_list_4_shot16seed0", "n0/n0_3.JPEG 0\nn1/spare.JPEG 1\n")
    draw(tmp_path / "imagenet/images/train/n1/spare.JPEG", 5000)
    assert found(look("domain", tmp_path)) == [
        ("warning", "same_image", "imagenet/unofficial_val_list_4_shot16seed0", 1)
    ]


def test_jpeg_in_a_set_that_was_built_here(tmp_path):
    pets(tmp_path, folder="faces", lists="faces")
    path = tmp_path / "faces/test 1_1.jpg"
    put(path, jpeg(path))
    assert {f[1] for f in found(look("fewshot", tmp_path))} == {"unlisted_set"}  # nothing says what it was made from
    put(tmp_path / "faces/built.json", "{}")
    assert ("error", "lossy_jpeg", "faces", 1) in found(look("fewshot", tmp_path))


def test_official_table_names_five_sets_and_five_domains(monkeypatch):
    rows = table("list_sets.csv")
    assert [row["folder"] for row in rows if row["benchmark"] == "fewshot"] == [
        "fgvc-aircraft", "food101", "oxford-flowers102", "oxford-pets", "standford-cars"
    ]  # fmt: skip
    assert {row["folder"]: row["classes"] for row in rows if row["benchmark"] == "domain"} == {
        "imagenet": "1000", "imagenetv2": "1000", "imagenet-sketch": "1000", "imagenet-adversarial": "200", "imagenet-rendition": "200",
    }  # fmt: skip
    assert all(row["test_n"].isdigit() and row["test_n_source"] for row in rows)


def test_image_that_many_lists_share_is_opened_once(tmp_path, monkeypatch):
    opened, real = [], images.inspect
    monkeypatch.setattr(images, "inspect", lambda path: opened.append(path) or real(path))
    report = look("fewshot", pets(tmp_path))
    assert len(opened) == len(set(opened)) == report.images == 69

"""Finds the few-shot sets and the domains, and holds their lists against what the benchmarks should be."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from .lists import ImageSet, ListFile, check_classes, check_count, check_lines, check_shots, class_count, subfolders
from .report import table

SHOTS, SPLIT_SEEDS = (1, 2, 4, 8, 16), (0, 1, 2)
SHOT_LIST = re.compile(r"train_meta\.list\.num_shot_([0-9]+)\.seed_([0-9]+)")
# where images lie in the folder of a set: the authors' archive, NOAH, and archives as their makers pack them
IMAGES = ("", "images", "jpg", "data/images")
TRAIN_IMAGES, TEST_IMAGES = ("images/train", "train", ""), ("", "images/val", "val", "images")
UNOFFICIAL_VAL = "unofficial_val_list_4_shot16seed0"  # NOAH's, out of ImageNet's training images
PETS_TWICE = "Every line stands twice, as in the field's own 1-shot list of Oxford Pets: an epoch is twice as long."


def fewshot_sets(root: Path, only: Collection[str] = ()) -> list[ImageSet]:
    """The sets of a few-shot folder; lists lie in ``<set>/annotations`` or ``few-shot_split/<set>/annotations``."""
    sets = []
    for row, folder, lists in _listed(root, "fewshot", only):
        s = _listed_set(row, folder)
        if lists is None:
            s.add("warning", "missing_set", 1, "no folder with lists for this set: the mean needs all five")
            sets.append(s)
            continue
        if lists.parent.parent != root:
            s.add("note", "other_layout", 1, f"lists are read from {lists.relative_to(root)}")
        wanted = [f"train_meta.list.num_shot_{k}.seed_{i}" for k in SHOTS for i in SPLIT_SEEDS]
        for name in [*wanted, "val_meta.list", "test_meta.list"]:
            role = name.split("_meta")[0]
            lst = _read(s, lists / name, role, [folder / each for each in IMAGES], "error" if row else "warning")
            if lst and role == "train":
                twice = PETS_TWICE if row and row["folder"] == "oxford-pets" and ".num_shot_1." in name else ""
                check_lines(s, lst, twice)
                check_shots(s, lst, int(SHOT_LIST.fullmatch(name)[1]))
            elif lst:
                check_lines(s, lst)
                check_classes(s, lst, "warning")
                if row and role == "test":
                    check_count(s, lst, int(row["test_n"]), row["test_n_source"])
        for base in sorted({lst.base for lst in s.lists} - {folder}):
            s.add("note", "other_layout", 1, f"images are read from {base.relative_to(root)}")
        sets.append(s)
    return sets


def domain_sets(root: Path, only: Collection[str] = ()) -> list[ImageSet]:
    """The source, with its 16-shot lists, and the targets of a domain-generalization folder; the source comes first."""
    found = _listed(root, "domain", only)
    found.sort(key=lambda each: not (each[2] and any(each[2].glob("train_meta.list.num_shot_16.*"))))
    sets: list[ImageSet] = []
    for position, (row, folder, lists) in enumerate(found):
        s = _listed_set(row, folder)
        sets.append(s)
        if lists is None:
            s.add("warning", "missing_set", 1, "no folder with lists for this domain")
            continue
        shots = sorted(p for p in lists.glob("train_meta.list.num_shot_*") if SHOT_LIST.fullmatch(p.name))
        trained_on = row["folder"] == "imagenet" if row else position == 0
        if trained_on and not any(".num_shot_16." in p.name for p in shots):
            message = f"{lists} has no train_meta.list.num_shot_16.seed_*: there is nothing to train on"
            s.add("error", "missing_list", 1, message)
        for path in shots:
            lst = _read(s, path, "train", [folder / each for each in TRAIN_IMAGES], "error")
            if s.labels is None:
                s.labels = max((y for _, _, y in lst.entries), default=-1) + 1
            check_lines(s, lst)
            check_shots(s, lst, int(SHOT_LIST.fullmatch(path.name)[1]))
        if s.labels is None and sets[0].labels is not None:
            s.labels = sets[0].labels
        if (lists / UNOFFICIAL_VAL).is_file():
            check_lines(s, _read(s, lists / UNOFFICIAL_VAL, "val", [folder / each for each in TRAIN_IMAGES], "error"))
        lst = _read(s, lists / "val_meta.list", "test", [folder / each for each in TEST_IMAGES], "error")
        if lst:
            check_lines(s, lst)
            _check_domain_classes(s, lst, row)
    return sets


def _check_domain_classes(s: ImageSet, lst: ListFile, row: dict[str, str] | None) -> None:
    """Counts of a test list. A list that numbers its 200 classes from 0 is in range and wrong all the same."""
    if row is None:
        check_classes(s, lst, "warning")
        return
    check_count(s, lst, int(row["test_n"]), row["test_n_source"])
    classes = int(row["classes"])
    check_classes(s, lst, "warning", classes)
    if classes < int(row["labels"]) and lst.entries and max(y for _, _, y in lst.entries) < classes:
        message = f"labels end below {classes}: they must be those of ImageNet's {row['labels']} classes"
        s.add("error", "label_out_of_range", len(lst.entries), message, lst)


def _read(s: ImageSet, path: Path, role: str, bases: list[Path], severity: str) -> ListFile | None:
    """Reads a list into a set, or notes that it is missing."""
    if not path.is_file():
        s.add(severity, "missing_list", 1, f"{path} is missing: take it from data/ of ZhangYuanhan-AI/NOAH")
        return None
    lst = ListFile.read(path, role, bases)
    s.lists.append(lst)
    return lst


def _listed_set(row: dict[str, str] | None, folder: Path) -> ImageSet:
    """An empty set for a row of ``list_sets.csv``, or for a folder that has none."""
    s = ImageSet(folder.name, labels=int(row["labels"]) if row else None)
    if row is None:
        s.add("note", "unlisted_set", 1, "not one of the benchmark's own sets: there are no official counts to check")
        s.labels = class_count(folder)
    elif folder.name != row["folder"]:
        s.add("note", "other_name", 1, f"{folder.name} is {row['folder']} in the field's lists")
    if (folder / "built.json").is_file() or (folder.parent / "built.json").is_file():
        s.lossless = "built as PNG by `dtl data build`"
    return s


def _listed(root: Path, benchmark: str, only: Collection[str]) -> list[tuple[dict[str, str] | None, Path, Path | None]]:
    """(row of the table or None, image folder, annotations or None), official sets first."""
    rows = [row for row in table("list_sets.csv") if row["benchmark"] == benchmark]
    elsewhere = {row["folder"] for row in table("list_sets.csv") if row["benchmark"] != benchmark}
    folders = [p for base in (root / "few-shot_split", root) for p in subfolders(base)]
    lists = {p.name: p / "annotations" for p in folders if (p / "annotations").is_dir()}
    found, used = [], set()
    for row in rows:
        names = [row["folder"], *row["other_names"].split()]
        name = next((n for n in names if n in lists), None)
        used.update(names)
        if not only or set(names) & set(only):
            found.append((row, root / (name or row["folder"]), lists.get(name)))
    # NOAH's few-shot lists, copied as a whole, hold those of ImageNet too
    rest = [name for name in lists if name not in used | (elsewhere - set(only)) and (not only or name in only)]
    others = [(None, root / name, lists[name]) for name in rest]
    if not any(lists for _, _, lists in found) and not only:
        return others  # none of the official sets: a suite of its own
    return found + others

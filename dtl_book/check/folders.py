"""Find the sets of a benchmark's folder and compare their lists with what the benchmark should be."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path

from dtl_core.data.domain import VAL_LIST
from dtl_core.data.fewshot import SEEDS, SHOTS, list_name
from dtl_core.data.lists import read_text
from dtl_core.data.vtab import SPLITS, official_tasks

from .lists import ImageSet, ListFile, check_classes, check_count, check_lines, check_numbers, check_shots
from .report import table

ROLES = {"train800": "train", "val200": "val", "train800val200": "trainval", "test": "test"}
SIZES = {"train800": 800, "val200": 200, "train800val200": 1000}
BUILT_PARTS = {"train800": ("train",), "val200": ("val",), "train800val200": ("train", "val"), "test": ("test",)}
SHOT_LIST = re.compile(r"train_meta\.list\.num_shot_([0-9]+)\.seed_([0-9]+)")
# where images are in the folder of a set: the authors' archive, NOAH, and archives as their makers pack them
IMAGES = ("", "images", "jpg", "data/images")
TRAIN_IMAGES, TEST_IMAGES = ("images/train", "train", ""), ("", "images/val", "val", "images")
PETS_TWICE = "Every line stands twice, as in the field's own 1-shot list of Oxford Pets: an epoch is twice as long."


def vtab_sets(root: Path, only: Collection[str] = ()) -> list[ImageSet]:
    """Return the task folders of a VTAB-1K folder, in the official order and then by name."""
    tasks = official_tasks()
    rows = {row["folder"]: row for row in tasks.values()}
    formats = {row["folder"]: row for row in table("image_formats.csv")}
    folders = {p.name: p for p in _subfolders(root) if any((p / name).is_file() for name in SPLITS.values())}
    known = [folder for folder in rows if folder in folders or rows[folder]["script_name"] in folders]
    strange = [name for name in folders if name not in tasks]
    asked = {tasks[name]["folder"] if name in tasks else name for name in only}
    sets = [_vtab_set(folders, rows[name], formats[name]) for name in known if name in (asked or known)]
    sets += [_other_task(folders[name]) for name in strange if name in (asked or strange)]
    if known or (asked & set(rows)):  # a folder without one official task is a suite of its own
        missing = [name for name in rows if name not in known and name in (asked or rows)]
        sets += [_missing(name, f"for this task: the means need all {len(rows)}") for name in missing]
    return sets


def _vtab_set(folders: dict[str, Path], row: dict[str, str], release: dict[str, str]) -> ImageSet:
    names = [n for n in (row["folder"], row["script_name"]) if n in folders]
    s = ImageSet(names[0], labels=int(row["classes"]))
    if len(set(names)) > 1:
        message = f"there is also {names[1]}: which one is read depends on the name that is asked for"
        s.add("warning", "other_name", 2, message)
    elif names[0] != row["folder"]:
        s.add("note", "other_name", 1, f"{names[0]} is {row['folder']} in the archive: both names are read")
    if release["lossless"] == "yes":
        s.lossless = f"{release['release']}: {release['source']}"
    _read_vtab_lists(s, folders[names[0]])
    for lst in s.lists:
        split = lst.path.stem
        wanted, source = (int(row["test_n"]), row["test_n_source"]) if split == "test" else (SIZES[split], "")
        check_count(s, lst, wanted, source)
    return s


def _other_task(folder: Path) -> ImageSet:
    """Return a task that is not one of the 19: of a suite that was built here, or the user's own."""
    s = _unlisted(folder, "the 19 tasks")
    _read_vtab_lists(s, folder)
    check_numbers(s)
    try:  # how many images `dtl data build` put into each split, where it built the folder
        counts = json.loads((folder / "built.json").read_text())["counts"]
        wanted = {split: sum(counts[part] for part in parts) for split, parts in BUILT_PARTS.items()}
    except (OSError, ValueError, KeyError, TypeError):
        return s
    for lst in s.lists:
        check_count(s, lst, wanted[lst.path.stem], "built.json")
    return s


def _read_vtab_lists(s: ImageSet, folder: Path) -> None:
    for split, name in SPLITS.items():
        if not (folder / name).is_file():
            s.add("error", "missing_list", 1, f"{folder / name} is missing: unpack the archive again")
            continue
        lst = s.read(folder / name, ROLES[split], [folder])
        check_lines(s, lst)
        check_classes(s, lst, "warning" if split == "test" else "note")


def fewshot_sets(root: Path, only: Collection[str] = ()) -> list[ImageSet]:
    """Return the sets of a few-shot folder; lists are in ``<set>/annotations`` or ``few-shot_split/<set>/annotations``."""
    sets = []
    for row, folder, lists in _listed(root, "fewshot", only):
        if lists is None:
            sets.append(_missing(folder.name, "for this set: the mean needs all five"))
            continue
        s = _listed_set(row, folder)
        if lists.parent.parent != root:
            s.add("note", "other_layout", 1, f"lists are read from {lists.relative_to(root)}")
        wanted = [("train", list_name("train", shots, seed)) for shots in SHOTS for seed in SEEDS]
        for role, name in [*wanted, ("val", "val_meta.list"), ("test", "test_meta.list")]:
            lst = _read(s, lists / name, role, [folder / each for each in IMAGES], "error" if row else "warning")
            if lst and role == "train":
                twice = PETS_TWICE if row and row["folder"] == "oxford-pets" and ".num_shot_1." in name else ""
                check_lines(s, lst, twice)
                check_shots(s, lst, int(SHOT_LIST.fullmatch(name)[1]))
            elif lst:
                check_lines(s, lst)
                check_classes(s, lst)
                if row and role == "test":
                    check_count(s, lst, int(row["test_n"]), row["test_n_source"])
        check_numbers(s)
        for base in sorted({lst.base for lst in s.lists} - {folder}):
            s.add("note", "other_layout", 1, f"images are read from {base.relative_to(root)}")
        sets.append(s)
    return sets


def domain_sets(root: Path, only: Collection[str] = ()) -> list[ImageSet]:
    """Return the source, with its 16-shot lists, and the targets of a domain-generalization folder; the source comes first."""
    found = _listed(root, "domain", only)
    found.sort(key=lambda each: not (each[2] and any(each[2].glob("train_meta.list.num_shot_16.*"))))
    sets: list[ImageSet] = []
    for position, (row, folder, lists) in enumerate(found):
        if lists is None:
            sets.append(_missing(folder.name, "for this domain", labels=int(row["labels"])))
            continue
        s = _listed_set(row, folder)
        sets.append(s)
        train_images = [folder / each for each in TRAIN_IMAGES]
        shots = sorted(p for p in lists.glob("train_meta.list.num_shot_*") if SHOT_LIST.fullmatch(p.name))
        trained_on = row["folder"] == "imagenet" if row else position == 0
        if trained_on and not any(".num_shot_16." in p.name for p in shots):
            message = f"{lists} has no train_meta.list.num_shot_16.seed_*: there is nothing to train on"
            s.add("error", "missing_list", 1, message)
        for path in shots:
            lst = s.read(path, "train", train_images)
            if s.labels is None:
                check_numbers(s)
                s.labels = max((y for _, _, y in lst.entries), default=-1) + 1
            check_lines(s, lst)
            check_shots(s, lst, int(SHOT_LIST.fullmatch(path.name)[1]))
        if s.labels is None:
            s.labels = sets[0].labels
        if (lists / VAL_LIST).is_file():
            check_lines(s, s.read(lists / VAL_LIST, "val", train_images))
        lst = _read(s, lists / "val_meta.list", "test", [folder / each for each in TEST_IMAGES], "error")
        if lst:
            check_lines(s, lst)
            _check_domain_classes(s, lst, row)
    return sets


def _check_domain_classes(s: ImageSet, lst: ListFile, row: dict[str, str] | None) -> None:
    """Check the counts of a test list. One that numbers its 200 classes from 0 is in range and wrong all the same."""
    if row is None:
        check_classes(s, lst)
        return
    check_count(s, lst, int(row["test_n"]), row["test_n_source"])
    classes = int(row["classes"])
    check_classes(s, lst, wanted=classes)
    if classes < int(row["labels"]) and lst.entries and max(y for _, _, y in lst.entries) < classes:
        message = f"labels end below {classes}: they must be those of ImageNet's {row['labels']} classes"
        s.add("error", "label_out_of_range", len(lst.entries), message, lst)


def _read(s: ImageSet, path: Path, role: str, bases: list[Path], severity: str) -> ListFile | None:
    """Read a list into a set, or note that it is missing."""
    if path.is_file():
        return s.read(path, role, bases)
    s.add(severity, "missing_list", 1, f"{path} is missing: take it from data/ of ZhangYuanhan-AI/NOAH")
    return None


def _listed_set(row: dict[str, str] | None, folder: Path) -> ImageSet:
    """Return an empty set for a row of ``list_sets.csv``, or for a folder that has none."""
    if row is None:
        return _unlisted(folder, "the benchmark's own sets")
    s = ImageSet(folder.name, labels=int(row["labels"]), lossless=_built_here(folder))
    if folder.name != row["folder"]:
        s.add("note", "other_name", 1, f"{folder.name} is {row['folder']} in the field's lists")
    return s


def _unlisted(folder: Path, of: str) -> ImageSet:
    """Return an empty set for a folder that is not one of the benchmark's; ``classes.txt`` may count its classes."""
    names = folder / "classes.txt"
    labels = len(read_text(names).rstrip().splitlines()) if names.is_file() else None
    s = ImageSet(folder.name, labels=labels, lossless=_built_here(folder))
    s.add("note", "unlisted_set", 1, f"not one of {of}: there are no official counts to check")
    return s


def _missing(name: str, why: str, labels: int | None = None) -> ImageSet:
    s = ImageSet(name, labels=labels)
    s.add("warning", "missing_set", 1, f"no folder with lists {why}")
    return s


def _built_here(folder: Path) -> str:
    built = any((place / "built.json").is_file() for place in (folder, folder.parent))
    return "built as PNG by `dtl data build`" if built else ""


def _subfolders(folder: Path) -> list[Path]:
    """Return the visible folders in a folder, by name; none where there is no such folder."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")) if folder.is_dir() else []


def _listed(root: Path, benchmark: str, only: Collection[str]) -> list[tuple[dict[str, str] | None, Path, Path | None]]:
    """Return (row of the table or None, image folder, annotations or None), official sets first."""
    rows = [row for row in table("list_sets.csv") if row["benchmark"] == benchmark]
    elsewhere = {row["folder"] for row in table("list_sets.csv") if row["benchmark"] != benchmark}
    folders = [p for base in (root / "few-shot_split", root) for p in _subfolders(base)]
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

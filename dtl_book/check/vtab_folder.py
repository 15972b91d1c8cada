"""Finds the tasks of a VTAB-1K folder and holds their lists against what the benchmark should be."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from dtl_core.data.vtab import SPLITS, official_tasks

from .lists import ImageSet, ListFile, check_classes, check_count, check_lines, class_count, subfolders
from .report import table

ROLES = {"train800": "train", "val200": "val", "train800val200": "trainval", "test": "test"}
SIZES = {"train800": 800, "val200": 200, "train800val200": 1000}


def vtab_sets(root: Path, only: Collection[str] = ()) -> list[ImageSet]:
    """The task folders of a VTAB-1K folder, in the official order and then by name."""
    rows = {row["folder"]: row for row in official_tasks().values()}
    formats = {row["folder"]: row for row in table("image_formats.csv")}
    folders = {p.name: p for p in subfolders(root) if any((p / name).is_file() for name in SPLITS.values())}
    known = [folder for folder in rows if folder in folders or rows[folder]["script_name"] in folders]
    strange = [name for name in folders if name not in official_tasks()]
    asked = {official_tasks().get(name, {"folder": name})["folder"] for name in only}
    sets = [_vtab_set(folders, rows[f], formats[f]) for f in known if f in (asked or known)]
    sets += [_other_task(folders[name]) for name in strange if name in (asked or strange)]
    if known or (asked & set(rows)):  # a folder without one official task is a suite of its own
        for folder in rows:
            if folder not in known and folder in (asked or rows):
                s = ImageSet(folder)
                s.add(
                    "warning", "missing_set", 1, f"no folder with lists for this task: the means need all {len(rows)}"
                )
                sets.append(s)
    return sets


def _vtab_set(folders: dict[str, Path], row: dict[str, str], release: dict[str, str]) -> ImageSet:
    """One of the 19 tasks."""
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
    """A task that is not one of the 19: one of the suites built here, or the user's own."""
    s = ImageSet(folder.name)
    s.add("note", "unlisted_set", 1, "not one of the 19 tasks: there are no official counts to check")
    s.labels = class_count(folder)
    if (folder / "built.json").is_file():
        s.lossless = "built as PNG by `dtl data build`"
    _read_vtab_lists(s, folder)
    for lst in s.lists:
        wanted = _built_count(folder, lst.path.stem)
        if wanted is not None:
            check_count(s, lst, wanted, "built.json")
    return s


def _built_count(folder: Path, split: str) -> int | None:
    """How many images `dtl data build` put into a split; None where it did not build the folder."""
    parts = {"train800": ("train",), "val200": ("val",), "train800val200": ("train", "val"), "test": ("test",)}
    try:
        counts = json.loads((folder / "built.json").read_text())["counts"]
        return sum(counts[part] for part in parts[split])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read_vtab_lists(s: ImageSet, folder: Path) -> None:
    for split, name in SPLITS.items():
        if not (folder / name).is_file():
            s.add("error", "missing_list", 1, f"{folder / name} is missing: unpack the archive again")
            continue
        lst = ListFile.read(folder / name, ROLES[split], [folder])
        s.lists.append(lst)
        check_lines(s, lst)
        check_classes(s, lst, "warning" if split == "test" else "note")

"""Findings about list files: their lines, labels and counts. No image is opened here."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dtl_core.data.lists import leaves, unused_label

from .report import Finding, listed

Entry = tuple[int, str, int]  # line number, relative path, label


@dataclass
class ListFile:
    """A list of a set, as far as it can be read."""

    name: str  # for the report, e.g. test.txt
    path: Path
    role: str  # train, val, trainval or test
    base: Path  # the folder that its paths start from
    entries: list[Entry] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)  # one phrase per malformed line


@dataclass
class ImageSet:
    """A task or data set: a folder with its lists."""

    name: str
    lists: list[ListFile] = field(default_factory=list)
    labels: int | None = None  # how many labels there are; None where unknown
    lossless: str = ""  # why JPEG would be a fault here; empty where it would not
    findings: list[Finding] = field(default_factory=list)  # what was found before any image was opened

    def add(self, severity: str, kind: str, count: int, message: str, lst: ListFile | None = None) -> None:
        """Note a finding of this set, or of one of its lists."""
        where = f"{self.name}/{lst.name}" if lst else self.name
        self.findings.append(Finding(severity, kind, where, count, message))

    def read(self, path: Path, role: str, bases: Iterable[Path]) -> ListFile:
        """Read a list into the set. Of several ``bases``, take the one that holds most of its first images."""
        entries, bad = read_tolerantly(path)
        first = [name for _, name, _ in entries[:20]]
        base = max(bases, key=lambda base: sum((base / name).exists() for name in first))
        self.lists.append(ListFile(path.name, path, role, base, entries, bad))
        return self.lists[-1]


def read_tolerantly(path: Path) -> tuple[list[Entry], list[str]]:
    """Return the entries of a list, and a phrase for each line that is not one. Bytes that are not text make no entry.

    As in training, the mark before a text from Windows is passed over, and its slashes are turned.
    """
    entries, bad = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1):
        found = re.fullmatch(r"([^\ufffd]*\S) +(-?[0-9]+)", line.strip())
        name = found[1].replace("\\", "/") if found else ""
        if found and not leaves(name):
            entries.append((number, name, int(found[2])))
        elif line.strip():
            bad.append(f"line {number}: {line.strip()[:60]!r}")
    return entries, bad


def check_lines(s: ImageSet, lst: ListFile, known_doubles: str = "") -> None:
    """Find malformed and repeated lines, contradictory and impossible labels.

    ``known_doubles`` says why the field's own copy of this list has every line twice; empty where it does not.
    """
    if lst.bad:
        message = f"not '<relative path> <label>' in UTF-8, or out of the folder: {listed(lst.bad)}"
        s.add("error", "bad_line", len(lst.bad), message, lst)
    if not lst.entries:
        s.add("error", "missing_list", 1, f"{lst.path} holds no image: take the list from its source again", lst)
        return
    lines: dict[tuple[str, int], list[int]] = defaultdict(list)
    by_path: dict[str, set[int]] = defaultdict(set)
    for number, name, label in lst.entries:
        lines[name, label].append(number)
        by_path[name].add(label)
    doubles = {entry: numbers for entry, numbers in lines.items() if len(numbers) > 1}
    if doubles:
        examples = listed([f"{n} {y} (lines {', '.join(map(str, at))})" for (n, y), at in doubles.items()])
        if known_doubles and all(len(numbers) == 2 for numbers in lines.values()):
            s.add("warning", "repeated_line", len(doubles), f"{known_doubles} {examples}", lst)
        else:
            s.add("error", "repeated_line", len(doubles), f"{examples}. Take the list from its source again", lst)
    clashes = [f"{name} has the labels {sorted(labels)}" for name, labels in by_path.items() if len(labels) > 1]
    if clashes:
        s.add("error", "two_labels", len(clashes), listed(clashes), lst)
    top = float("inf") if s.labels is None else s.labels - 1
    outside = [f"line {n}: {y}" for n, _, y in lst.entries if not 0 <= y <= top]
    if outside:
        may = f"labels run from 0 to {top}" if s.labels is not None else "labels begin at 0"
        s.add("error", "label_out_of_range", len(outside), f"{may}, but {listed(outside)}. A list of another set?", lst)


def check_numbers(s: ImageSet) -> None:
    """Find a gap in the labels of a set whose classes nobody has counted: training refuses it."""
    labels = {label for lst in s.lists for _, _, label in lst.entries if label >= 0}
    unused = unused_label(labels) if s.labels is None else None
    if unused is not None:
        how = "number them from 0 without a gap, or write classes.txt"
        message = f"labels go up to {max(labels)}, and no image has {unused}: {how}"
        s.add("error", "label_out_of_range", 1, message)


def check_count(s: ImageSet, lst: ListFile, wanted: int, source: str = "") -> None:
    """Compare the length of a split with what is wanted. A size that is only recalled gives a warning, any other an error."""
    if len(lst.entries) != wanted:
        severity = "warning" if source.endswith("(recall)") else "error"
        message = f"{len(lst.entries):,} lines, {wanted:,} expected" + (f"; {source}" if source else "")
        s.add(severity, "wrong_count", abs(len(lst.entries) - wanted), message, lst)


def check_shots(s: ImageSet, lst: ListFile, shots: int) -> None:
    """Find classes whose number of different images is not the one in the list's name."""
    images = Counter(label for _, label in {(name, label) for _, name, label in lst.entries})
    wrong = [f"label {y} has {images[y]}" for y in range(s.labels or max(images, default=-1) + 1) if images[y] != shots]
    if lst.entries and wrong:
        s.add("error", "wrong_class_count", len(wrong), f"{shots} images a class expected, but {listed(wrong)}", lst)


def check_classes(s: ImageSet, lst: ListFile, severity: str = "warning", wanted: int | None = None) -> None:
    """Find classes without an image. ``wanted`` is given where only that many of the labels are in use."""
    seen = {label for _, _, label in lst.entries}
    wanted = wanted or s.labels
    if not lst.entries or wanted is None or len(seen) >= wanted:
        return
    message = f"{len(seen)} classes have images, {wanted} expected"
    if wanted == s.labels:
        message += "; none for " + listed([str(label) for label in sorted(set(range(wanted)) - seen)], 8)
    s.add(severity, "wrong_class_count", wanted - len(seen), message, lst)

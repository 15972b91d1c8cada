"""What a check found: findings with a severity, as a table and as JSON."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd

from .. import paths
from ..json_files import write_json

SEVERITIES = ("error", "warning", "note")

KINDS = {
    "missing_set": "a task or data set of the benchmark has no folder",
    "other_name": "a folder under another of its names",
    "other_layout": "lists or images in another place that the field uses",
    "unlisted_set": "a set that is not one of the benchmark's: no official counts to hold it against",
    "missing_list": "a list file is missing or empty",
    "bad_line": "a line is not '<relative path> <label>'",
    "repeated_line": "the same line twice in a list",
    "two_labels": "the same path with two labels in a list",
    "label_out_of_range": "a label that the set does not have",
    "wrong_count": "a split has another number of images than it should",
    "wrong_class_count": "a class has another number of images than it should, or none",
    "missing_image": "a listed image is not there",
    "unreadable_image": "a file that cannot be read as an image",
    "truncated_image": "an image file that is cut short",
    "same_image": "the same pixels in two splits",
    "lossy_jpeg": "JPEG, where the source was released without loss",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was found."""

    severity: str  # error: a result would not be comparable; warning: look at it; note: good to know
    kind: str  # a key of KINDS
    where: str  # the set, or "set/list"
    count: int  # the number of images, lines or classes concerned
    message: str  # what is wrong, with examples, and what to do


@dataclass
class Report:
    """Outcome of ``check``."""

    benchmark: str
    root: str
    sets: list[str] = field(default_factory=list)  # names of the folders that were checked
    # how many list files and different image files were read
    lists: int = 0
    images: int = 0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)  # errors first, then in the order of the folders

    @property
    def comparable(self) -> bool:
        """Whether there is no error."""
        return not self.count("error")

    def count(self, severity: str) -> int:
        return sum(f.severity == severity for f in self.findings)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per finding."""
        return pd.DataFrame([asdict(f) for f in self.findings], columns=list(Finding.__dataclass_fields__))

    def to_dict(self) -> dict:
        """Return the report as JSON-compatible values, with what JPEG costs where it was found."""
        counts = {severity: self.count(severity) for severity in SEVERITIES}
        body = asdict(self)
        findings = body.pop("findings")
        return {**body, "comparable": self.comparable, **counts, "findings": findings, "jpeg_costs": self._jpeg_costs()}

    def save(self, path: str | Path) -> Path:
        """Write the report as JSON, whole or not at all."""
        return write_json(path, self.to_dict(), ensure_ascii=False)

    def to_text(self) -> str:
        """Return a table for people, what JPEG costs where it was found, and the outcome in one sentence."""
        lines = []
        if self.findings:
            heads = ("", "where", "finding", "count", "what")
            rows = [heads, *((f.severity, f.where, f.kind, f"{f.count:,}", f.message) for f in self.findings)]
            widths = [max(len(row[i]) for row in rows) for i in range(4)]
            lines = ["  ".join([*(row[i].ljust(widths[i]) for i in range(4)), row[4]]) for row in rows] + [""]
        if costs := self._jpeg_costs():
            lines += [
                "What lossy JPEG costs, as the field's issue threads report it (nothing of it was measured here):",
                *(f"  {row['folder']}: {row['reported']} ({row['source']})" for row in costs),
                "  other tasks: no number was found.",
                "",
            ]
        numbers = {"set": len(self.sets), "list": self.lists, "image": self.images}
        read, found = (
            ", ".join(f"{n:,} {noun}{'' if n == 1 else 's'}" for noun, n in counted.items())
            for counted in (numbers, {severity: self.count(severity) for severity in SEVERITIES})
        )
        outcome = (
            "Nothing found that stands against comparing results."
            if self.comparable
            else "A result from this folder would not be comparable with one from the data as it should be."
        )
        return "\n".join(
            [*lines, f"{self.benchmark} in {self.root}: {read} read in {self.seconds:.1f} s; {found}", outcome]
        )

    def _jpeg_costs(self) -> list[dict[str, str]]:
        return table("jpeg_costs.csv") if any(f.kind == "lossy_jpeg" for f in self.findings) else []


def table(name: str) -> list[dict[str, str]]:
    """Return the rows of one of the package's CSV files."""
    with open(paths.RESOURCES / name, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def listed(items: list[str], shown: int = 3) -> str:
    """Return the first items, and how many more there are."""
    return "; ".join(items[:shown]) + (f"; and {len(items) - shown:,} more" if len(items) > shown else "")

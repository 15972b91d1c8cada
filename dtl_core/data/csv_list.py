"""A reader for a table of one's own images: a CSV file with the columns ``path``, ``label`` and perhaps ``split``."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from .lists import BadDataset, read_text
from .own import SPLIT_NAMES, Found, OwnImages, plain_name

COLUMNS = "path,label or path,label,split"


class CsvTask(OwnImages):
    """One split of the images that a CSV file names, a row each.

    The first line names the columns ``path``, ``label`` and, if wanted, ``split``; others are ignored. They are divided
    by comma, semicolon, tab or ``|``. Paths are relative to the file, with either slash. Labels are names. Splits are
    ``train``, ``val`` (``valid``, ``validation``) and ``test``. Unreadable images are left out, with a warning that
    names the first 20.

    Arguments, attributes and errors are as in ``OwnImages``; ``root`` is the file and ``task`` its name without suffix.
    ``BadDataset`` is also raised for a row that cannot be understood, and for an image with two labels or splits.
    """

    def _find(self, root: str | Path) -> Found:
        file = Path(root).expanduser()
        self.root, self.task = file.parent, plain_name(file.with_suffix(""))
        if not file.is_file():
            raise FileNotFoundError(f"{file} is no file: give a CSV file with the columns {COLUMNS}")
        rows = _rows(file, self.root)
        if not rows:
            raise BadDataset(f"{file} names no image below its first line")
        seen = tqdm(rows.items(), desc=f"look for {self.task}", unit="image", leave=False, delay=2)
        missing = [(number, path) for path, (number, _, _) in seen if not path.is_file()]
        if missing:
            number, path = missing[0]
            raise FileNotFoundError(
                f"{file}, line {number}: {path} is missing ({len(missing)} of {len(rows)} images are). Paths are relative "
                f"to {self.root}"
            )
        good = self._readable(rows, file)
        found: Found = {}
        for label, split in sorted({(label, split) for _, label, split in rows.values()}):
            found.setdefault(split, {})[label] = []
        for path, (_, label, split) in sorted(rows.items()):
            if path in good:
                found[split][label].append(path)
        return found


def _rows(file: Path, folder: Path) -> dict[Path, tuple[int, str, str]]:
    """Return line number, label and split of each image, in the order of the file."""
    text = read_text(file)
    first = text.partition("\n")[0]
    heads = {mark: [name.strip().lower() for name in next(csv.reader([first], delimiter=mark), [])] for mark in ",;\t|"}
    mark = next((mark for mark, names in heads.items() if {"path", "label"} <= set(names)), None)
    if mark is None:
        raise BadDataset(f"{file}: the first line is {first[:80]!r}, and should name the columns {COLUMNS}")
    names = heads[mark]
    rows: dict[Path, tuple[int, str, str]] = {}
    read = csv.reader(io.StringIO(text), delimiter=mark)
    next(read)
    for row in _cells(read, file):
        cells = dict(zip(names, (cell.strip() for cell in row), strict=False))
        if not any(cells.values()):
            continue
        where, name, label = f"{file}, line {read.line_num}", cells["path"], cells.get("label", "")
        split = SPLIT_NAMES.get(cells.get("split", "").lower()) if "split" in names else "train"
        if not name or not label or len(row) > len(names):
            raise BadDataset(f"{where}: expected {len(names)} cells with a path and a label, found {row}")
        if split is None:
            raise BadDataset(f"{where}: the split is {cells.get('split', '')!r}: write train, val or test")
        path = folder / name
        if "\\" in name and not path.is_file():
            path = folder / name.replace("\\", "/")
        at, *said = rows.setdefault(path, (read.line_num, label, split))
        if said != [label, split]:
            raise BadDataset(f"{where}: {name} is {label} ({split}), and in line {at} {said[0]} ({said[1]})")
    return rows


def _cells(read: Any, file: Path) -> Iterator[list[str]]:
    try:
        yield from read
    except csv.Error as error:
        raise BadDataset(f"{file}, line {read.line_num}: {error}. Is a quotation mark left open?") from None

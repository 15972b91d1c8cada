"""A reader for folders of one's own images: a folder a class, or ``train``, ``val`` and ``test`` with one each."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image
from tqdm.auto import tqdm

from .lists import BadDataset
from .own import SPLIT_NAMES, Found, OwnImages, plain_name


class ImageFolderTask(OwnImages):
    """One split of a folder with a sub-folder per class, or with such a folder for each split.

    Splits are called ``train``, ``val`` (``valid``, ``validation``) and ``test``. What looks like splits is never read
    as classes. Images may be at any depth inside a class's folder, also behind links. Other files and names that begin
    with a dot are ignored. Unreadable images are left out, with a warning that names the first 20.

    Arguments, attributes and errors are as in ``OwnImages``; ``root`` is the folder and ``task`` its name.
    """

    def _find(self, root: str | Path) -> Found:
        self.root = Path(root).expanduser()
        self.task = plain_name(self.root)
        if not self.root.is_dir():
            raise FileNotFoundError(f"{self.root} is no folder: give one that holds a sub-folder for each class")
        paths = list(
            tqdm(images_below(self.root), desc=f"look into {self.root.name}", unit="image", leave=False, delay=1)
        )
        splits = _splits(self.root, paths)
        homes = {part: self.root / name for name, part in splits.items()} or {"train": self.root}
        found: Found = {part: {name: [] for name in _folders(home)} for part, home in homes.items()}
        good = self._readable(paths, self.root)
        for path in paths:
            first, *rest = path.relative_to(self.root).parts
            part, name = (splits.get(first, ""), rest[0] if rest else "") if splits else ("train", first)
            if path in good and name in found.get(part, ()):
                found[part][name].append(path)
        return found


def images_below(folder: str | Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """Yield the images at any depth, sorted. A link to a folder is followed, unless it leads to one ``above``."""
    known, here = Image.registered_extensions(), os.path.realpath(folder)
    if here in above:
        return
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        if entry.is_dir():
            yield from images_below(entry.path, (*above, here))
        elif os.path.splitext(entry.name)[1].lower() in known and entry.is_file():
            yield Path(entry.path)


def _splits(root: Path, paths: list[Path]) -> dict[str, str]:
    """Return the split of each folder that is one; none where the folders are classes.

    Raises:
        BadDataset: the splits are not where they belong, or have no folder per class.
    """
    below: dict[Path, set[str]] = defaultdict(set)  # folder -> names of those in it that hold images
    for folder in {path.parent for path in paths}:
        while folder != root:
            below[folder.parent].add(folder.name)
            folder = folder.parent
    misplaced = [folder for folder in below if folder != root and _look_like_splits(below[folder])]
    classes = _folders(root)
    splits = {name: SPLIT_NAMES[name.lower()] for name in classes if name.lower() in SPLIT_NAMES}
    others = sorted(below[root] - splits.keys())
    if _look_like_splits(below[root]) or any(len(below[root / name]) > 1 for name in splits):
        if others:
            raise BadDataset(
                f"{root} has {', '.join(splits)}, as for splits, beside {', '.join(others)}: move these away if they are "
                f"no splits, or rename {', '.join(splits)} if they are classes"
            )
        if twice := [name for name in splits if list(splits.values()).count(splits[name]) > 1]:
            raise BadDataset(f"{root}: {', '.join(twice)} name one split: put their images into one")
        if bare := [name for name in splits if not below[root / name]]:
            raise BadDataset(
                f"{root}: {', '.join(bare)} has no folder of images for each class: sort its images, or move it away"
            )
        return splits
    if misplaced:
        place = min(misplaced, key=lambda folder: (len(folder.parts), folder))
        inside = sorted(below[place])
        if any(below[place / name] for name in inside):
            raise BadDataset(f"{root} is too high: {place} holds {', '.join(inside)}. Give that folder")
        raise BadDataset(
            f"{place} holds {', '.join(inside)}: put the classes into the splits ({inside[0]}/{place.name}), not "
            "the splits into the classes"
        )
    if len(classes) < 2:
        deeper = [folder for folder in sorted(below) if folder != root and len(below[folder]) > 1]
        hint = f", or give {deeper[0]}" if deeper else ""
        raise BadDataset(
            f"{root} has {len(classes)} sub-folders: put the images of each class into one, two at least{hint}"
        )
    return {}


def _look_like_splits(names: Iterable[str]) -> bool:
    """Return whether two splits are among the names, or nothing but one. A train is also a vehicle."""
    known = [SPLIT_NAMES.get(name.lower()) for name in names]
    return len(set(known) - {None}) > 1 or (None not in known and len(known) > 0)


def _folders(folder: Path) -> list[str]:
    """Return the names of the visible sub-folders, sorted."""
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != "." and p.name != "__MACOSX")
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise BadDataset(f"{folder}: the folder {ascii(name)} names a class, and is no UTF-8: rename it") from None
    return names

"""The data of a run: the images for training and testing, and those on which an epoch is chosen."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from torch.utils.data import Dataset

from dtl_core.backbones import BackboneInfo
from dtl_core.data import DomainShift, FewShot, VTAB1k, eval_transform, open_images
from dtl_core.data.augment import CropTransform, train_transform

from ..paths import domain_dir, few_shot_dir, vtab_dir
from .profiles import Profile
from .recipes import augmentation_of, is_official
from .run import Run

SOURCES = {"paper": "imagenet"}  # what a domain run trains on; the built suites have mnist
VTAB_SPLITS = {"final": ("train800val200", "test"), "select": ("train800", "val200")}
OWN_SPLITS = {"final": ("trainval", "test"), "select": ("train", "val")}


@dataclass(frozen=True)
class RunData:
    """The data sets of a run."""

    train: Dataset
    test: Dataset
    # further test sets by name: the domains to which a source is transferred
    targets: dict[str, Dataset] = field(default_factory=dict)
    validation: Dataset | None = None  # for choosing the epoch to keep; None where the last one is kept
    shots: int | None = None  # images a class, where the benchmark has shots

    @property
    def names(self) -> tuple[str, str]:
        """Names of the lists for training and testing: the file's, where a benchmark has lists, else the split's."""
        plain = self.shots is None
        return tuple(d.split if plain else d.list_path.name for d in (self.train, self.test))


def source_of(profile: Profile) -> str:
    return SOURCES.get(profile.name, "mnist")


def open_data(run: Run, info: BackboneInfo) -> RunData:
    """Open the data sets of a run, with the transforms of its backbone.

    A domain run on the source is tested on all domains. One on another domain trains on the source and is tested on that
    domain alone, as the authors' runs are.
    """
    size, normal = info.image_size, (info.mean, info.std)
    learn = train_transform(size, *normal, augmentation_of(run))
    # the official photographs are cropped; of a letter a crop would lose the rim
    look = CropTransform(size, *normal) if is_official(run) else eval_transform(size, *normal)
    if run.data:
        drawn, splits = {"per_class": run.per_class, "seed": run.seed}, OWN_SPLITS[run.purpose]
        train, test = (open_images(run.data, *way, **drawn) for way in zip(splits, (learn, look), strict=True))
        data = RunData(train, test)
    elif run.benchmark == "vtab-1k":
        root, splits = vtab_dir(run.profile), VTAB_SPLITS[run.purpose]
        train, test = (VTAB1k(root, run.task, *way) for way in zip(splits, (learn, look), strict=True))
        data = RunData(train, test)
    elif run.benchmark == "few-shot":
        root, drawn = few_shot_dir(run.profile), {"shots": run.shots, "seed": run.seed}
        train = FewShot(root, run.task, "train", learn, **drawn)
        test = FewShot(root, run.task, "test" if run.purpose == "final" else "val", look, **drawn)
        chosen = (run.protocol or run.sizes.protocol) == "authors" and run.purpose == "final"
        validation = FewShot(root, run.task, "val", look) if chosen else None
        data = RunData(train, test, {}, validation, run.shots)
    elif run.benchmark == "domain":
        root, source, drawn = domain_dir(run.profile), source_of(run.sizes), {"shots": 16, "seed": run.seed}
        train, targets = DomainShift(root, source, "train", learn, **drawn), {}
        if run.purpose == "select":
            test = DomainShift(root, source, "val", look, **drawn)
        else:
            test = DomainShift(root, run.task, "test", look)
            if run.task == source:
                targets = {name: DomainShift(root, name, "test", look) for name in domains_in(root, source)}
        data = RunData(train, test, targets, None, 16)
    else:
        raise ValueError(
            f"no benchmark is called {run.benchmark!r}: choose vtab-1k, few-shot or domain, or give --data"
        )
    for images in filter(None, (data.train, data.test, data.validation, *data.targets.values())):
        run.pitfalls.applied(images)
    return data


def domains_in(root: Path, source: str) -> list[str]:
    """Return the folders of a benchmark that can be tested on, except the source."""
    return sorted(p.parent.parent.name for p in root.glob("*/annotations/val_meta.list") if p.parts[-3] != source)

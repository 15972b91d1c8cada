"""What a run reads: the images it trains on, those it is tested on, and those an epoch is chosen on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch.utils.data import Dataset

from dtl_core.backbones import BackboneInfo
from dtl_core.data import DomainShift, FewShot, ImageFolderTask, VTAB1k, eval_transform
from dtl_core.data.augment import AUTHORS, LETTERS, CropTransform, train_transform
from dtl_core.data.domain import official_domain
from dtl_core.data.fewshot import official_set

from ..paths import domain_dir, few_shot_dir, vtab_dir
from .profiles import Profile

Benchmark = Literal["vtab-1k", "few-shot", "domain", "folder"]
SOURCES = {"paper": "imagenet"}  # what a domain run trains on; the built suites have mnist
VTAB_SPLITS = {"final": ("train800val200", "test"), "select": ("train800", "val200")}


@dataclass(frozen=True)
class RunData:
    """The data sets of a run.

    Attributes:
        train: training images.
        test: what the run's accuracy is taken on.
        targets: further test sets by name: the domains that a source is carried over to.
        validation: what the epoch to keep is chosen on; None where the last one is kept.
        shots: images a class, where the benchmark has shots.
    """

    train: Dataset
    test: Dataset
    targets: dict[str, Dataset] = field(default_factory=dict)
    validation: Dataset | None = None
    shots: int | None = None

    @property
    def names(self) -> tuple[str, str]:
        """Of the lists for training and testing: the file's, where a benchmark has lists, else the split's."""
        plain = self.shots is None
        return tuple(d.split if plain else d.list_path.name for d in (self.train, self.test))


def source_of(profile: Profile) -> str:
    """The source domain of a profile."""
    return SOURCES.get(profile.name, "mnist")


def is_official(benchmark: Benchmark, task: str) -> bool:
    """Whether this is one of the photographic sets of the official few-shot and domain benchmarks."""
    name = {"few-shot": official_set, "domain": official_domain}.get(benchmark)
    return name is not None and name(task) is not None


def takes_views(benchmark: Benchmark, task: str, augmentation: str) -> bool:
    """Whether images of a run go through ``data.augment``: random views for training, or the centre crop of photographs."""
    return augmentation != "none" or is_official(benchmark, task)


def open_images(
    profile: Profile,
    benchmark: Benchmark,
    task: str,
    info: BackboneInfo,
    *,
    purpose: str = "final",
    splits: tuple[str | None, str | None] = (None, None),
    shots: int | None = None,
    seed: int = 0,
    augmentation: str = "none",
    choose_epoch: bool = False,
    folder: str | Path | None = None,
) -> RunData:
    """Opens the data sets of a run, with the transforms of its backbone.

    Args:
        profile: whose data.
        benchmark: which of the layouts on disk; "folder" is a folder of the user's own.
        task: a task of VTAB-1K, a few-shot set, a domain. A run on the source domain is tested on all domains, a run
            on another trains on the source and is tested on that domain alone, as the authors' runs are.
        info: image size and normalisation.
        purpose: "final": trained on all training images, tested on the test list; "select": tested on validation images.
        splits: other lists for training and testing than the purpose's (VTAB-1K and folders).
        shots: images a class; 16 if None, where the benchmark has shots.
        seed: which drawing of the shots.
        augmentation: of the training images, see ``augment.train_transform``. On letters and digits that of the authors
            becomes the form that keeps the class.
        choose_epoch: also open validation images for choosing an epoch.
        folder: the user's folder.

    Raises:
        FileNotFoundError, BadDataset: see the readers.
        ValueError: an unknown benchmark, or shots where there are none.
    """
    official = is_official(benchmark, task)
    if augmentation == AUTHORS and benchmark in ("few-shot", "domain") and not official:
        augmentation = LETTERS  # flips and turns would make other letters
    size, normal = info.image_size, (info.mean, info.std)
    learn = train_transform(size, *normal, augmentation)
    # the official photographs are cropped; of a letter a crop would lose the rim
    look = CropTransform(size, *normal) if official else eval_transform(size, *normal)
    if benchmark in ("vtab-1k", "folder"):
        if shots is not None:
            raise ValueError(f"shots={shots}: {benchmark} has none")
        names = [given or usual for given, usual in zip(splits, VTAB_SPLITS[purpose], strict=True)]
        if benchmark == "folder":
            train, test = (ImageFolderTask(folder, n, t) for n, t in zip(names, (learn, look), strict=True))
        else:
            root = vtab_dir(profile.name)
            train, test = (VTAB1k(root, task, n, t) for n, t in zip(names, (learn, look), strict=True))
        return RunData(train, test)
    drawn = {"shots": shots or 16, "seed": seed}
    tested = "test" if purpose == "final" else "val"
    if benchmark == "few-shot":
        root = few_shot_dir(profile.name)
        train, test = FewShot(root, task, "train", learn, **drawn), FewShot(root, task, tested, look, **drawn)
        return RunData(train, test, {}, FewShot(root, task, "val", look) if choose_epoch else None, drawn["shots"])
    if benchmark == "domain":
        root, source = domain_dir(profile.name), source_of(profile)
        train, targets = DomainShift(root, source, "train", learn, **drawn), {}
        if tested == "val":
            test = DomainShift(root, source, "val", look, **drawn)
        else:
            test = DomainShift(root, task, "test", look)
            if task == source:
                targets = {name: DomainShift(root, name, "test", look) for name in domains_in(root, source)}
        return RunData(train, test, targets, None, drawn["shots"])
    raise ValueError(f"no benchmark is called {benchmark!r}: choose vtab-1k, few-shot, domain or folder")


def domains_in(root: Path, source: str) -> list[str]:
    """The folders of a benchmark that can be tested on, but for the source."""
    return sorted(p.parent.parent.name for p in root.glob("*/annotations/val_meta.list") if p.parts[-3] != source)

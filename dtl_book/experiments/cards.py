"""Run cards: one JSON file per run, written whole, with everything needed to interpret its result."""

from __future__ import annotations

import json
import math
import platform
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from dtl_core.files import DamagedFile

from ..json_files import write_json
from ..paths import results_roots


@dataclass(frozen=True)
class RunCard:
    """The record of one run."""

    method: str  # a key of baselines.METHODS
    # laptop and paper accuracies are never mixed
    profile: str
    benchmark: str
    task: str
    # "final": refitted on all training images, tested once; "select": a setting that is tried, scored on val200
    purpose: str
    train_split: str  # list files
    test_split: str
    seed: int
    lr: float
    readout: str
    recipe: dict  # the whole recipe, the method's config included
    backbone: str
    backbone_sha256: str
    image_size: list[int]
    data_digest: dict[str, str]  # of the training list and of the test list
    classes: int
    parameters: int  # trained ones, the head included; without it parameters_without_head
    parameters_without_head: int
    # on the test split, in [0, 1]; balanced is the mean over classes
    accuracy: float
    balanced_accuracy: float
    loss: float
    epochs: list[dict]  # a row per epoch
    seconds: float  # of training, without the prefix cache; cache_seconds is what this run spent on the cache
    cache_seconds: float
    peak_bytes: int | None  # CUDA's; None where it was not measured
    cache: str | None  # type on disk of the prefix cache, or None; cache_inexact says why it was not exact
    cache_inexact: str
    device: str
    threads: int
    precision: str
    backbone_dtype: str = "float32"  # of the frozen weights and the tokens
    protocol: str = "clean"  # "authors" or "clean", see Profile
    shots: int | None = None  # training images a class, where the benchmark has shots
    kept_epoch: int | None = None  # whose parameters were tested: the last, or the best on validation images
    # accuracies on further test sets by name, for a run on the source of domain generalization
    targets: dict[str, dict] = field(default_factory=dict)
    # accuracy over only the classes that occur, where these are not all (ImageNet-A, -R)
    accuracy_within: float | None = None
    switches: dict = field(default_factory=dict)  # pitfalls that were switched on, see Pitfalls
    # digests of the files that the run used, see code_of; empty on older cards
    code: dict[str, str] = field(default_factory=dict)
    run: dict = field(default_factory=dict)  # the Run that was asked for; empty on older cards
    versions: dict[str, str] = field(
        default_factory=lambda: {p: version(p) for p in ("torch", "torchvision", "timm", "numpy")}
    )
    machine: str = field(
        default_factory=lambda: f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    )
    created: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))


# strict JSON has no word for these, and a gate of ReLU has beta = infinity
NOT_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def _to_json(value: object) -> object:
    """Replace numbers that are not finite by their names, however deep."""
    if isinstance(value, dict):
        return {key: _to_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(inner) for inner in value]
    return str(float(value)) if isinstance(value, float) and not math.isfinite(value) else value


def _from_json(value: object) -> object:
    """Turn the names of such numbers into numbers again, however deep."""
    if isinstance(value, dict):
        return {key: _from_json(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_from_json(inner) for inner in value]
    return NOT_FINITE.get(value, value) if isinstance(value, str) else value


def save_card(card: RunCard, path: Path) -> Path:
    """Write a card as strict JSON, whole or not at all. A number that is not finite becomes "inf", "-inf" or "nan"."""
    return write_json(path, _to_json(asdict(card)), allow_nan=False)


def load_card(path: str | Path) -> RunCard:
    """Read a card. Names of numbers that are not finite become numbers again; the Infinity of older cards is read too.

    Raises:
        DamagedFile: the file is not a complete card.
        FileNotFoundError: there is no such card.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no run card {path}: record the run first (dtl record)")
    try:
        texts = {f.name for f in fields(RunCard) if f.type in ("str", "dict[str, str]")}  # a task may be called "nan"
        found = json.loads(Path(path).read_text())
        return RunCard(**{k: v if k in texts else _from_json(v) for k, v in dict(found).items()})
    except (ValueError, TypeError) as error:
        raise DamagedFile(f"{path} is no whole run card ({error}): delete it and record the run again") from error


def load_cards(
    profile: str, benchmark: str = "vtab-1k", purpose: str = "final", root: Path | None = None
) -> pd.DataFrame:
    """Return the cards of a profile as a table: a row per run, a column per field of ``RunCard``.

    They are read below ``root`` alone, or below all of ``paths.results_roots()`` if None.
    """
    found = {}
    for place in [root] if root else results_roots():
        found |= {p.relative_to(place).as_posix(): p for p in (place / profile / benchmark).glob("*/*.json")}
    cards = [asdict(load_card(found[name])) for name in sorted(found)]
    columns = [field.name for field in fields(RunCard)]  # also where there is no card
    return pd.DataFrame([card for card in cards if card["purpose"] == purpose], columns=columns)

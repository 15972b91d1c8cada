"""Which runs are recorded beside the benchmarks: DTL's ablations, common pitfalls, a frozen backbone in bf16."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path

from dtl_core.dtl import DTLConfig

from ..paths import results_dir
from .pitfalls import Pitfalls
from .run import bf16_folder

ABLATIONS, BASE = "ablations", DTLConfig()  # folder of the cards; the paper's own values are DTL's in VTAB-1K
TASK = "shape_location"  # where DTL gains most on a linear probe among the laptop's tasks that are drawn from a seed
OFFICIAL = "dsprites_loc"  # what it is drawn after: the task of the paper profile
VALUES = {
    "inject_from": (0, 2, 4, 6, 8, 10),
    "rank": (1, 2, 4, 8),
    "beta": (1.0, 10.0, 100.0, math.inf),  # infinity is ReLU
    "dwconv_kernel": (0, 3, 5),
}
LETTERS = {"inject_from": "M", "rank": "r", "beta": "beta", "dwconv_kernel": "k"}

PITFALLS = "pitfalls"  # folder of the cards; the runs without a switch are those of VTAB-1K
PITFALL_METHODS = ("linear", "dtl")
PITFALL_VARIANTS = {
    "half": Pitfalls(normalisation="half"),  # the packaged ViT wants ImageNet's
    "jpeg75": Pitfalls(jpeg=75),
    "jpeg30": Pitfalls(jpeg=30),
    "cls": Pitfalls(readout="cls"),
}

BF16_TASKS = ("mnist", "shape_location")


def variants() -> dict[str, DTLConfig]:
    """Return the configurations that differ from the paper's in one value, by name: "M4", "r8", "beta10", "k3"."""
    return {
        f"{LETTERS[name]}{value:g}": replace(BASE, **{name: value})
        for name, values in VALUES.items()
        for value in values
        if value != getattr(BASE, name)
    }


def asked_of(config: DTLConfig) -> dict[str, float]:
    """Return the fields of a ``Run`` that ask for what a configuration has and the paper's has not."""
    own = {name: value for name, value in asdict(config).items() if value != getattr(BASE, name)}
    return {"kernel" if name == "dwconv_kernel" else name: value for name, value in own.items()}


def task_of(profile: str) -> str:
    """Return a profile's task for the ablations."""
    return OFFICIAL if profile == "paper" else TASK


def pitfall_tasks(profile: str) -> tuple[str, ...]:
    """Return a profile's two tasks for the pitfalls."""
    if profile == "paper":
        # released without loss, and JPEG in the common archive, as the field reports
        return ("svhn", "cifar")
    return ("mnist", "elpv")  # the laptop's real pictures


def pitfall_applies(method: str, pitfall: str) -> bool:
    """Return whether a method has a run with this one of ``PITFALL_VARIANTS``: DTL reads the mean and nothing else."""
    return not (method.startswith("dtl") and PITFALL_VARIANTS[pitfall].readout == "cls")


def bf16_logits_path(profile: str, task: str, root: Path | None = None) -> Path:
    """Return the file that says how far a trained model's logits move when its backbone is cast to bf16."""
    return (root or results_dir()) / bf16_folder(profile) / "logits" / f"{task}.json"

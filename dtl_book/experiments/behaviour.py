"""What the recorded code computes, as numbers: tidying the code leaves evidence current, a change of numbers makes it stale.

A card lists digests of the files that made it. A digest changes with every line, so it cannot distinguish a tidied file
from one that computes something else. ``results/behaviour.json`` therefore records, under an id, the numbers of small
runs on a toy backbone in double precision, and all digests under which the code gave these numbers. A card is current
while its digests belong to an id whose numbers today's code still gives.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

from dtl_core.backbones import load_backbone
from dtl_core.baselines import build
from dtl_core.data.augment import LETTERS, CropTransform, train_transform
from dtl_core.data.transforms import eval_transform
from dtl_core.dtl import DTL, DTLConfig
from dtl_core.files import DamagedFile
from dtl_core.serving import MultiTask
from dtl_core.training import Recipe, evaluate, fit, seed_everything

from ..json_files import write_json
from ..paths import recorded_path, results_dir

# those of which runs are recorded
METHODS = ("linear", "bitfit", "adaptformer", "lora", "full", "res-tuning-bypass", "dtl", "dtl+")
SERVING, VIEWS, LATE = "serving", "views", "late"  # LATE: a rival of the last blocks alone
CASES = (*METHODS, SERVING, VIEWS, LATE)
TOLERANCE = 1e-8  # relative: torch's versions differ in the last bits
RECIPE = Recipe(
    lr=3e-3, batch_size=4, epochs=3, warmup_epochs=1, warmup_lr=1e-4, cooldown_epochs=1, precision="fp32", seed=5
)
CLASSES, MEAN, STD = 4, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


class DrawnImages(Dataset):
    """Twelve blotches from a seed, through a run's transform, in double precision. The tint is the class."""

    def __init__(self, transform):
        draw = np.random.Generator(np.random.PCG64(0)).integers(0, 120, (12, 40, 36, 3))
        self.labels = np.arange(12) % CLASSES
        for image, label in zip(draw, self.labels, strict=True):
            image[..., label % 3] += 30 * (1 + label)
        images = [Image.fromarray(a.astype(np.uint8)) for a in draw]
        self.images = torch.stack([transform(image) for image in images]).double()
        self.digest = "drawn"

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.images[i], int(self.labels[i])


@cache
def numbers_of(case: str) -> tuple[float, ...]:
    """Compute the numbers of one of ``CASES``; all of them take some seconds.

    A method gives the losses of a short ``fit``, what ``evaluate`` says of it and the logits of two images; serving the
    logits of two tasks; views the means of augmented and of cropped images.
    """
    with torch.random.fork_rng(devices=[]):
        if case == VIEWS:
            seed_everything(1)
            views = [train_transform(32, MEAN, STD, LETTERS), CropTransform(32, MEAN, STD)]
            return tuple(float(x) for view in views for x in DrawnImages(view).images.mean(dim=(1, 2, 3)))
        images = DrawnImages(eval_transform(32, MEAN, STD))
        if case == SERVING:
            return _serving(images)
        return _training("lora", images, first_block=7) if case == LATE else _training(case, images)


def _backbone() -> nn.Module:
    """Return the toy with weights that do not depend on how a version of timm draws them."""
    backbone = load_backbone("toy/vit")
    for i, (name, p) in enumerate(sorted(backbone.named_parameters())):
        _draw(p, seed=i, around=1.0 if "norm" in name and name.endswith("weight") else 0.0)
    return backbone


@torch.no_grad()
def _draw(p: nn.Parameter, seed: int, around: float = 0.0) -> None:
    draw = np.random.Generator(np.random.PCG64(seed))
    p.copy_(torch.from_numpy(around + 0.15 * draw.standard_normal(tuple(p.shape))))


def _training(method: str, images: DrawnImages, **options) -> tuple[float, ...]:
    seed_everything(0)
    model = build(method, _backbone(), CLASSES, inplace=True, **options).double()
    _draw(model.head.weight, seed=999)  # torch's versions draw a truncated normal differently
    record = fit(model, images, RECIPE, device="cpu", progress=False)
    score = evaluate(model, images, device="cpu", progress=False)
    with torch.no_grad():
        logits = model(images.images[:2]).flatten().tolist()
    return (*record.history["loss"], *record.history["accuracy"], score.accuracy, score.balanced_accuracy, *logits)


def _serving(images: DrawnImages) -> tuple[float, ...]:
    backbone, models = _backbone().double(), {}
    for seed, plus in enumerate((False, True)):
        config = DTLConfig.for_backbone(backbone, plus=plus)
        models[f"task {seed}"] = DTL(backbone, CLASSES, config).double()
        for i, p in enumerate(models[f"task {seed}"].trainable_parameters()):
            _draw(p, seed=1000 * (seed + 1) + i)
    answers = MultiTask(backbone, models).predict(images.images[:2])
    return tuple(x for task in models for x in answers[task].flatten().tolist())


def same_numbers(one, other) -> bool:
    """Return whether two lists of numbers agree to ``TOLERANCE``."""
    return len(one) == len(other) and np.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE)


def behaviour_path(root: Path | None = None) -> Path:
    return (root or results_dir()) / "behaviour.json"


def load_behaviours(path: Path | None = None) -> dict[str, dict]:
    """Return the recorded behaviours by id: numbers by case, and the digests by file under which they were computed."""
    path = path or recorded_path(behaviour_path())
    if not path.is_file():
        return {}
    return _read(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _read(path: Path, _written: int) -> dict[str, dict]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {key: {**b, "numbers": dict(b["numbers"]), "code": dict(b["code"])} for key, b in record.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFile(f"{path} is damaged ({error!r}): take it from the repository again") from error


def behaves_as(case: str, code: dict[str, str], now: dict[str, str]) -> bool:
    """Return whether today's code (digests ``now``) computes the same numbers in a case as the code of a card."""
    older = {name: digest for name, digest in code.items() if now.get(name) != digest}
    return any(
        case in behaviour["numbers"]
        and all(digest in behaviour["code"].get(name, ()) for name, digest in older.items())
        and same_numbers(behaviour["numbers"][case], numbers_of(case))
        for behaviour in load_behaviours().values()
    )


def record_behaviour(code: dict[str, str], path: Path | None = None) -> Path | None:
    """Add today's digests to the id whose numbers today's code gives, or to a new id where it gives others.

    Return the file, or None where there was nothing to add.
    """
    path = path or behaviour_path()
    behaviours, here = load_behaviours(path), {case: numbers_of(case) for case in CASES}
    same = [k for k, b in behaviours.items() if all(same_numbers(n, here.get(c, ())) for c, n in b["numbers"].items())]
    key = same[-1] if same else str(len(behaviours) + 1)
    known = behaviours.setdefault(
        key,
        {
            "created": datetime.now(UTC).strftime("%Y-%m-%d"),
            "versions": {n: version(n) for n in ("torch", "torchvision", "timm", "pillow")},
            "numbers": {c: list(v) for c, v in here.items()},
            "code": {},
        },
    )
    added = {n: d for n, d in code.items() if d not in known["code"].get(n, ())}
    cases = {c: list(v) for c, v in here.items() if c not in known["numbers"]}
    if not added and not cases:
        return None
    known["numbers"] |= cases
    known["code"] = {
        n: [*known["code"].get(n, ()), *([d] if n in added else [])]
        for n, d in sorted({**known["code"], **code}.items())
    }
    return write_json(path, behaviours)

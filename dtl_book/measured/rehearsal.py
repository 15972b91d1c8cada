"""A rehearsal of the paper profile: its recipes, precision and code on a few stand-in images. Its numbers do not count.

The stand-ins have the official layouts and lie in a temporary folder, with the results and the checkpoints; the weights
are random. Each run has a process of its own. The first is killed after its first epoch and continues from there.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from .child import last_lines, run_python
from .memory import image_size
from .rows import Part, attempt, in_budget
from .stand_ins import write_stand_ins

EPOCHS = 2
RUNS = (  # the authors' recipes: clevr_count has drop path, caltech101 none, so that its prefix is stored
    ("vtab-1k", "clevr_count", "dtl+"),
    ("vtab-1k", "clevr_count", "lora"),
    ("vtab-1k", "caltech101", "dtl+"),
    ("vtab-1k", "caltech101", "lora"),
    ("few-shot", "oxford-pets", "dtl+"),
    ("domain", "imagenet", "dtl+"),
)


def paper_specs() -> list[dict]:
    """Return the rows: {"name", "benchmark", "task", "method", "killed"}."""
    names = ("benchmark", "task", "method")
    specs = [{"name": "{}: {}, {}".format(*run), **dict(zip(names, run, strict=True))} for run in RUNS]
    return [{**spec, "killed": spec is specs[0]} for spec in specs]


def rehearse(specs: list[dict], device: torch.device, backbone: str, deadline: float) -> Iterator[dict]:
    """Yield the rest of each row: whether a run works from its data to its card, not how accurate it is."""
    with tempfile.TemporaryDirectory(prefix="dtl-rehearsal-") as folder:
        write_stand_ins(Path(folder, "data", "paper"))
        for spec in in_budget(specs, deadline):
            yield _rehearse_one(spec, Path(folder), device, backbone, deadline)


def _rehearse_one(spec: dict, folder: Path, device: torch.device, backbone: str, deadline: float) -> dict:
    out, resumed = folder / "row.json", []
    places = {f"DTL_{name}": str(folder / name.lower()) for name in ("DATA", "RESULTS", "CACHE")}
    while True:
        job = {"spec": spec, "backbone": backbone, "device": device.type, "out": str(out), "resumed": resumed}
        command = ["-m", "dtl_book.measured.rehearsal", json.dumps(job)]
        status, output = run_python(command, device, deadline, **places)
        if out.exists():
            row = json.loads(out.read_text(encoding="utf-8"))
            out.unlink()
            return row
        if status is None:
            return {"status": "not run", "reason": "stopped when the budget was over"}
        was_killed = spec["killed"] and not resumed and status == -signal.SIGKILL
        resumed = checkpointed_epochs(folder / "cache" / "runs") if was_killed else []
        if not resumed:
            error = f"its process ended with status {status}: {last_lines(output)}"
            return {"status": "failed", "error": error}


def checkpointed_epochs(folder: Path) -> list[dict]:
    """Return the rows of the epochs in the one checkpoint of a folder; none where there is no checkpoint."""
    from safetensors import safe_open

    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            return json.loads(file.metadata()["rows"])
    return []


def describe_row(row: dict) -> str:
    went_on = f", killed, and resumed after epoch {row['resumed_from']}" if row["resumed_from"] else ""
    return (
        f"passed, {row['epochs']} epochs in {row['precision']}, loss {row['loss']:.3f}, {row['seconds']:.0f} s{went_on}"
    )


PAPER = Part(specs=lambda device, backbone: paper_specs(), rows=rehearse, describe=describe_row)


# ---------------------------------------------------------------- in the process of a run


def main(job: dict) -> None:
    """Run a job and write its row."""
    _use_random_weights(job["backbone"], job["device"])
    row = attempt(_run, job["spec"], job["resumed"])
    Path(job["out"]).write_text(json.dumps(row), encoding="utf-8")


def _use_random_weights(backbone: str, device: str) -> None:
    """Give the paper profile of this process fixed random weights, and a schedule without a cool-down."""
    from ..experiments import execution
    from ..experiments.profiles import PROFILES

    load, recipe_of = execution.load_backbone, execution.recipe_of
    PROFILES["paper"] = replace(PROFILES["paper"], backbone=backbone, image_size=image_size(backbone))

    def load_random(name: str, image_size: int | None = None, pretrained: bool = True):
        return load(name, image_size=image_size, pretrained=False)

    def short(*arguments, **options):
        return replace(recipe_of(*arguments, **options), warmup_epochs=1, cooldown_epochs=0)

    execution.load_backbone, execution.recipe_of = load_random, short
    if device == "cpu":
        torch.backends.mps.is_available = lambda: False


def _run(spec: dict, resumed: list[dict]) -> dict:
    """Take one run from its data to its card; kill it after its first epoch where that is asked for.

    ``resumed`` has the epochs in its checkpoint.
    """
    from dtl_core.training import loop

    from ..experiments import Run, execute, load_card, save_card

    start, write = time.perf_counter(), loop.Checkpoint.write

    def deadly(self, rows: list[dict]) -> None:
        write(self, rows)
        os.kill(os.getpid(), signal.SIGKILL)

    if spec["killed"] and not resumed:
        loop.Checkpoint.write = deadly
    run = Run(spec["task"], spec["method"], profile="paper", benchmark=spec["benchmark"], epochs=EPOCHS)
    card, model = execute(run)
    path = save_card(card, run.card())
    if load_card(path) != card:
        raise ValueError(f"the run card {path.name} does not say what was written")
    losses = [row["loss"] for row in card.epochs]
    if len(losses) != EPOCHS or not all(map(math.isfinite, [*losses, card.loss])):
        raise ValueError(
            f"{EPOCHS} epochs with finite losses were expected, and there are {losses}, {card.loss} on the test"
        )
    if [row["seconds"] for row in card.epochs[: len(resumed)]] != [row["seconds"] for row in resumed]:
        raise ValueError("the run started over instead of continuing from its checkpoint")
    if hasattr(model, "save_adapter"):
        model.save_adapter(path.with_suffix(".safetensors"))
    return {
        "status": "passed", "seconds": round(time.perf_counter() - start, 2), "epochs": len(losses), "loss": losses[-1],
        "finite": True, "resumed_from": len(resumed), "precision": card.precision, "device": card.device,
        "protocol": card.protocol, "drop_path": card.recipe["drop_path"], "augmentation": card.recipe["augmentation"],
        "cache": card.cache, "targets": sorted(card.targets), "peak_bytes": card.peak_bytes,
    }  # fmt: skip


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))

"""A rehearsal of the paper profile: its recipes, its precision and its code on a few stand-in images. No number of it counts.

The stand-ins have the official layouts and lie in a temporary folder, with the results and the checkpoints; the weights are
random. The first run is killed after its first epoch and goes on from there. All runs are in a process of their own.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from dtl_core.backbones import TOYS

from .rows import attempt, fill, last_lines, open_card
from .suites import child_environment

EPOCHS = 2
RUNS = (  # the authors' recipes: clevr_count has drop path, caltech101 none, so that its prefix is stored
    {"benchmark": "vtab-1k", "task": "clevr_count", "method": "dtl+"},
    {"benchmark": "vtab-1k", "task": "clevr_count", "method": "lora"},
    {"benchmark": "vtab-1k", "task": "caltech101", "method": "dtl+"},
    {"benchmark": "vtab-1k", "task": "caltech101", "method": "lora"},
    {"benchmark": "few-shot", "task": "oxford-pets", "method": "dtl+"},
    {"benchmark": "domain", "task": "imagenet", "method": "dtl+"},
)
KILLED = 0  # which of them


def paper_specs() -> list[dict]:
    """Return the rows: dicts {"name", "benchmark", "task", "method", "killed"}."""
    return [
        {"name": f"{r['benchmark']}: {r['task']}, {r['method']}", **r, "killed": i == KILLED}
        for i, r in enumerate(RUNS)
    ]


def measure_paper(
    path: Path, device: torch.device, backbone: str, deadline: float, specs: list[dict] | None = None
) -> dict:
    """Rehearse the runs one after the other and write the card after each.

    Args:
        path: of the card.
        device: where.
        backbone: a name for ``load_backbone``; random weights.
        deadline: of ``time.monotonic``. A run that goes on then is stopped.
        specs: which rows; ``paper_specs()`` if None.

    Returns:
        The card. It shows that the path can be walked, and says nothing of an accuracy.
    """
    specs = paper_specs() if specs is None else specs
    card = open_card(path, "paper", device, backbone, specs)
    known = {row["name"] for row in card["rows"]}
    with tempfile.TemporaryDirectory(prefix="dtl-rehearsal-") as folder:
        runs = rehearse([s for s in specs if s["name"] not in known], Path(folder), device, backbone, deadline)
        try:
            return fill(card, path, specs, lambda spec: next(runs), deadline, tell=tell_row)
        finally:
            runs.close()


def rehearse(specs: list[dict], folder: Path, device: torch.device, backbone: str, deadline: float) -> Iterator[dict]:
    """Yield the rest of each row, in order, as soon as its run has ended.

    Args:
        specs: of ``paper_specs``.
        folder: an empty one, for the stand-ins and all that the runs write.
        device, backbone, deadline: see ``measure_paper``.
    """
    from .stand_ins import write_stand_ins

    write_stand_ins(folder / "data" / "paper")
    places = {f"DTL_{name}": str(folder / name.lower()) for name in ("DATA", "RESULTS", "CACHE")}
    environment = child_environment(device, **places)
    waiting, resumed = list(specs), []
    while waiting:
        out, said = folder / "out.jsonl", folder / "said"
        out.unlink(missing_ok=True)
        job = {"specs": waiting, "backbone": backbone, "device": device.type, "out": str(out), "resumed": resumed}
        with open(said, "wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "dtl_book.measured.rehearsal", json.dumps(job)], env=environment,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            read = 0
            while True:
                ended = process.poll() is not None  # asked before the file is read: what comes last is read, too
                lines = out.read_text(encoding="utf-8").split("\n")[:-1] if out.exists() else []
                for line in lines[read:]:
                    yield json.loads(line)
                waiting, read = waiting[len(lines) - read :], len(lines)
                if ended or not waiting:
                    break
                if time.monotonic() > deadline:
                    waiting.pop(0)
                    yield {"status": "not run", "reason": "stopped when the budget was over"}
                    break
                time.sleep(0.05)
        finally:
            process.kill()
            process.wait()
        if waiting and ended:
            if waiting[0]["killed"] and not resumed and process.returncode == -signal.SIGKILL:
                resumed = checkpointed_epochs(folder / "cache" / "runs")
                if resumed:
                    continue
            waiting.pop(0)
            text = last_lines(said.read_text(encoding="utf-8", errors="replace"))
            yield {"status": "failed", "error": f"its process ended with status {process.returncode}: {text}"}
        resumed = []


def checkpointed_epochs(folder: Path) -> list[dict]:
    """Return the rows of the epochs that the one checkpoint in a folder holds; none where there is no checkpoint."""
    from safetensors import safe_open

    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            return json.loads(file.metadata()["rows"])
    return []


def tell_row(row: dict) -> str:
    """Return what is printed of a row."""
    if row["status"] != "passed":
        return f"{row['status']} ({row['error'].strip().splitlines()[-1][:110]})"
    went_on = f", killed, and resumed after epoch {row['resumed_from']}" if row["resumed_from"] else ""
    return (
        f"passed, {row['epochs']} epochs in {row['precision']}, loss {row['loss']:.3f}, {row['seconds']:.0f} s{went_on}"
    )


# ---------------------------------------------------------------- in the process of the runs


def main(job: dict) -> None:
    """Run what is waiting and write a line of JSON for each run that has ended."""
    _use_random_weights(job["backbone"], job["device"])
    for number, spec in enumerate(job["specs"]):
        resumed = job["resumed"] if number == 0 else []
        row = attempt(_run, spec, resumed)
        with open(job["out"], "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _use_random_weights(backbone: str, device: str) -> None:
    """The paper profile of this process has random weights, the same each time, and a schedule without a cool-down."""
    from ..experiments import execution
    from ..experiments.profiles import PROFILES

    size = TOYS[backbone][1]["img_size"] if backbone in TOYS else 224
    load, recipe_of = execution.load_backbone, execution.recipe_of
    PROFILES["paper"] = replace(PROFILES["paper"], backbone=backbone, image_size=size)

    def load_random(name: str, image_size: int | None = None):
        torch.manual_seed(0)
        return load(name, image_size=image_size, pretrained=False)

    def short(*arguments, **options):
        return replace(recipe_of(*arguments, **options), warmup_epochs=1, cooldown_epochs=0)

    execution.load_backbone, execution.recipe_of = load_random, short
    if device == "cpu":
        torch.backends.mps.is_available = lambda: False


def _run(spec: dict, resumed: list[dict]) -> dict:
    """One run, from its data to its card; killed after its first epoch where that is asked for.

    ``resumed`` has the epochs that it has behind it, as its checkpoint says.
    """
    from dtl_core.training import loop

    from ..experiments import Run, execute, load_card, save_card

    start, write = time.perf_counter(), loop.Checkpoint.write

    def deadly(self, rows: list[dict]) -> None:
        write(self, rows)
        os.kill(os.getpid(), signal.SIGKILL)

    if spec["killed"] and not resumed:
        loop.Checkpoint.write = deadly
    try:
        run = Run(spec["task"], spec["method"], profile="paper", benchmark=spec["benchmark"], epochs=EPOCHS)
        card, model = execute(run)
    finally:
        loop.Checkpoint.write = write
    path = save_card(card, run.card())
    if load_card(path) != card:
        raise ValueError(f"the run card {path.name} does not say what was written")
    losses = [row["loss"] for row in card.epochs]
    if len(losses) != EPOCHS or not all(map(math.isfinite, [*losses, card.loss])):
        raise ValueError(
            f"{EPOCHS} epochs with finite losses were expected, and there are {losses}, {card.loss} on the test"
        )
    if [row["seconds"] for row in card.epochs[: len(resumed)]] != [row["seconds"] for row in resumed]:
        raise ValueError("the run began again in the place of going on from its checkpoint")
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

"""Record the results: benchmarks, ablations, pitfalls and a backbone in bf16. Each continues where it was stopped."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.utils.data import DataLoader

from dtl_core.training import pick_device

from ..experiments import grids, settings
from ..experiments.cards import save_card
from ..experiments.equal_memory import TASKS
from ..experiments.execution import execute, prepare
from ..experiments.profiles import get_profile
from ..experiments.run import Run
from ..experiments.settings import Grid, best_setting
from ..json_files import write_json
from ..paths import results_dir
from .equal_memory import record_equal_memory
from .grid import sweep_grid, sweep_runs
from .runner import Result

PARTS = ("vtab-1k", "few-shot", "domain", "ablations", "pitfalls", "equal-memory", "bf16")


def record(
    profile: str = "laptop",
    methods: Sequence[str] = settings.COMPARED,
    tasks: Sequence[str] = (),
    parts: Sequence[str] = PARTS[:-1],
    workers: int = 0,
) -> None:
    """Record the grids: per task and method a learning rate chosen on validation images with one seed, then three runs.

    ``methods`` are those of the three benchmarks, ``tasks`` of VTAB-1K (all if empty), ``parts`` of ``PARTS``.
    """
    if unknown := set(parts) - set(PARTS):
        raise ValueError(f"nothing is called {', '.join(sorted(unknown))} here: choose from {', '.join(PARTS)}")
    for part in parts:
        print(f"--- {part}", flush=True)
        if part == "ablations":
            ablate(profile, workers=workers)
        elif part == "pitfalls":
            measure_pitfalls(profile, workers=workers)
        elif part == "equal-memory":
            record_equal_memory(profile, tasks or TASKS, workers=workers)
        elif part == "bf16":
            record_bf16(profile, tasks or grids.BF16_TASKS)
        else:
            asked = dict(tasks=tuple(tasks) if part == "vtab-1k" else (), methods=tuple(methods), benchmark=part)
            grid = Grid(profile=profile, seeds=settings.SEEDS, lr=settings.LEARNING_RATES, **asked)
            sweep_grid(grid, workers=workers)


def ablate(
    profile: str | None = None, seeds: Sequence[int] | None = None, *, lr: float | None = None, workers: int = 0
) -> list[Result]:
    """Record what each part of DTL is worth: M, rank, beta and kernel, one at a time. Return a result per run.

    The paper's own configuration is DTL's in the table of VTAB-1K. The learning rate is the one that was chosen for DTL on
    this task if None is given.
    """
    name = get_profile(profile).name
    task = grids.task_of(name)
    lr = lr or best_setting(Run(task, "dtl", profile=name)).lr
    runs = [
        Run(
            task,
            "dtl",
            seed=seed,
            lr=lr,
            profile=name,
            group=grids.ABLATIONS,
            variant=variant,
            **grids.asked_of(config),
        )
        for variant, config in grids.variants().items()
        for seed in seeds or settings.SEEDS
    ]
    return sweep_runs(runs, results_dir() / name / grids.ABLATIONS, workers=workers)


def measure_pitfalls(
    profile: str | None = None, tasks: Sequence[str] = (), seeds: Sequence[int] | None = None, *, lr: float | None = None,
    workers: int = 0,
) -> list[Result]:  # fmt: skip
    """Record the same run with each of the pitfalls. Return a result per run.

    The runs without one are those of the table of VTAB-1K. The learning rate is the one that was chosen for the method on the
    task if None is given.
    """
    name = get_profile(profile).name
    runs = []
    for task in tasks or grids.pitfall_tasks(name):
        for method in grids.PITFALL_METHODS:
            base = Run(task, method, profile=name)
            shared = dict(profile=name, lr=lr or best_setting(base).lr, group=grids.PITFALLS)
            runs += [
                Run(task, method, seed=seed, pitfalls=pitfalls, variant=variant, **shared)
                for variant, pitfalls in grids.PITFALL_VARIANTS.items()
                if grids.pitfall_applies(method, variant)
                for seed in seeds or settings.SEEDS
            ]
    return sweep_runs(runs, results_dir() / name / grids.PITFALLS, workers=workers)


def record_bf16(profile: str = "laptop", tasks: Sequence[str] = grids.BF16_TASKS) -> None:
    """Train DTL with the frozen backbone in bf16, with the learning rates that were chosen in fp32.

    It also records, per task, how far the logits of one trained model move when its backbone is cast.
    """
    for task in tasks:
        lr = best_setting(Run(task, "dtl", profile=profile)).lr
        for seed in settings.SEEDS:
            run = Run(task, "dtl", profile=profile, seed=seed, lr=lr, backbone_dtype="bfloat16")
            if run.card().exists():
                continue
            card, model = execute(run, prefixes=run.prefixes, progress=False)
            if seed == settings.SEEDS[0]:
                _save_logits(run, model)
            save_card(card, run.card())  # last, since a run with a card is not taken again
            print(f"{run}, bf16: accuracy {card.accuracy:.3f} in {card.seconds:.0f} s", flush=True)


@torch.no_grad()
def _save_logits(run: Run, trained: torch.nn.Module) -> None:
    """Compare the logits of the trained side network and head on both backbones, over val200."""
    ready = prepare(Run(run.task, run.method, profile=run.profile, purpose="select"))
    whole, device = ready.model, pick_device()
    own = {n: p for n, p in trained.state_dict().items() if not n.startswith("backbone.")}
    whole.load_state_dict(own, strict=False)
    pairs = []
    for images, _ in DataLoader(ready.data.test, batch_size=50):
        pairs.append([m.to(device).eval()(images.to(device)).float().cpu() for m in (whole, trained)])
    fp32, bf16 = (torch.cat(side) for side in zip(*pairs, strict=True))
    note = {
        "task": run.task, "method": run.method, "images": len(fp32), "split": ready.data.test.split,
        "relative_difference": float((bf16 - fp32).norm() / fp32.norm()),
        "largest_difference": float((bf16 - fp32).abs().max()), "largest_logit": float(fp32.abs().max()),
        "same_answer": float((bf16.argmax(1) == fp32.argmax(1)).float().mean()),
    }  # fmt: skip
    write_json(grids.bf16_logits_path(run.profile, run.task), note)

"""Equal memory: DTL beside rivals that are confined to the blocks after M, all from a stored prefix.

A rival that starts at block M + 1 keeps about what DTL keeps and may store the same prefix, so that what is left of a
difference is the side network itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..experiments.cards import load_card
from ..experiments.run import Run
from ..experiments.settings import SEEDS
from ..paths import recorded_path, results_dir
from .grid import sweep_runs
from .runner import Result

GROUP = "equal-memory"  # folder of the cards, the choices included
TASKS = ("mnist", "elpv", "shape_location", "object_count")  # of all three groups
FIRST = 7  # M + 1 of twelve blocks
RATES = (1e-3, 3e-3, 1e-2)
CLOSE = 0.02  # two rates that lie so near on validation images are tried with every seed
PROBE_EPOCHS = 200  # of the two probes, which cost nothing
# method, variant, its size; of LoRA and AdaptFormer the usual size, and that with nearly DTL's parameters
LATE = {
    "lora-late": {}, "lora-late-r2": {"rank": 2}, "adaptformer-late": {}, "adaptformer-late-b4": {"rank": 4},
    "bitfit-late": {}, "full-late": {},
}  # fmt: skip
METHODS = ("dtl", "dtl+", *LATE, "linear", "linear-taps")


def base_runs(profile: str = "laptop", tasks: Sequence[str] = TASKS, names: Sequence[str] = METHODS) -> list[Run]:
    """Return a run a method and task, with the first seed and no learning rate yet."""
    runs = []
    for task in tasks:
        for name in names:
            shared = dict(profile=profile, group=GROUP)
            if name in LATE:
                method, _, variant = name.partition("-")
                own = {"first_block": FIRST, **LATE[name]}
                runs.append(Run(task, method, variant=variant, **own, **shared))
            elif name.startswith("linear"):
                taps = {"taps": True, "variant": "taps"} if name == "linear-taps" else {}
                runs.append(Run(task, "linear", epochs=PROBE_EPOCHS, **taps, **shared))
            else:
                runs.append(Run(task, name, **shared))
    return runs


def tried(run: Run, seeds: Sequence[int] = SEEDS[:1], rates: Sequence[float] = RATES) -> list[Run]:
    """Return the runs that try learning rates on validation images."""
    return [replace(run, purpose="select", lr=lr, seed=seed) for lr in rates for seed in seeds]


def accuracy_of(run: Run) -> float:
    """Return the accuracy on the card of a recorded run."""
    return load_card(recorded_path(run.card())).accuracy


def close_rates(run: Run) -> tuple[float, ...]:
    """Return the learning rates within ``CLOSE`` of the best with the first seed; none where the best stands alone."""
    scores = {select.lr: accuracy_of(select) for select in tried(run)}
    near = tuple(lr for lr, score in scores.items() if score >= max(scores.values()) - CLOSE)
    return near if len(near) > 1 else ()


def chosen_rate(run: Run) -> float:
    """Return the learning rate with the best accuracy on validation images; the smaller one on a tie.

    The first seed decides; where rates lie close, the mean over all seeds does.
    """
    near = close_rates(run)
    scores = {lr: sum(map(accuracy_of, tried(run, SEEDS if near else SEEDS[:1], (lr,)))) for lr in near or RATES}
    return max(scores, key=lambda lr: (scores[lr], -lr))


def record_equal_memory(
    profile: str = "laptop", tasks: Sequence[str] = TASKS, names: Sequence[str] = METHODS, *, workers: int = 0
) -> list[Result]:
    """Record what is missing of the comparison, a task at a time: choices, close choices again, final runs."""
    results = []
    for task in tasks:
        runs, folder = base_runs(profile, (task,), names), results_dir() / profile / GROUP
        results += sweep_runs([select for run in runs for select in tried(run)], folder, workers=workers)
        again = [select for run in runs for select in tried(run, SEEDS, close_rates(run))]
        results += sweep_runs(again, folder, workers=workers)
        final = [replace(run, lr=chosen_rate(run), seed=seed) for run in runs for seed in SEEDS]
        results += sweep_runs(final, folder, workers=workers)
    return results

"""Equal memory: DTL beside rivals that are confined to the blocks after M, all from a stored prefix.

A rival that starts at block M + 1 may store the same prefix, and LoRA, AdaptFormer and BitFit then keep about as much as DTL
(``dtl memory --compare late``), so that what is left of a difference is the side network itself. Full fine-tuning of these
blocks keeps more: an upper line, as the two probes are lower ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..paths import recorded_path
from .cards import load_card
from .run import Run
from .settings import SEEDS

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
METHODS = ("dtl", "dtl+", *LATE, "linear", "linear-taps", "res-tuning-bypass")
ALONG = ("shape_location", (2, 4, 8, 10))  # task, M; 6 is among the others
FEW_SHOT = ("typefaces", (4, 16))  # set, images a class
SIX = ("dtl", "dtl+", "lora-late", "adaptformer-late", "bitfit-late", "full-late")
WHOLE = ("lora", "adaptformer", "bitfit")  # over all blocks, which stores no prefix


def base_runs(
    profile: str = "laptop", tasks: Sequence[str] = TASKS, names: Sequence[str] = METHODS, **shared
) -> list[Run]:  # fmt: skip
    """Return a run a method and task, with the first seed and no learning rate yet."""
    shared = dict(profile=profile, group=GROUP, **shared)
    runs = []
    for task in tasks:
        for name in names:
            if name in LATE:
                method, _, variant = name.partition("-")
                runs.append(Run(task, method, variant=variant, first_block=FIRST, **LATE[name], **shared))
            elif name.startswith("linear"):
                taps = {"taps": True, "variant": "taps"} if name == "linear-taps" else {}
                runs.append(Run(task, "linear", epochs=PROBE_EPOCHS, **taps, **shared))
            else:
                runs.append(Run(task, name, **shared))
    return runs


def runs_along_m(profile: str = "laptop") -> list[Run]:
    """Return DTL and late LoRA at other values of M, each of which has a choice of its own."""
    task, shared = ALONG[0], dict(profile=profile, group=GROUP)
    runs = []
    for m in ALONG[1]:
        runs.append(Run(task, "dtl", inject_from=m, variant=f"M{m}", **shared))
        runs.append(Run(task, "lora", first_block=m + 1, variant=f"late-M{m}", **shared))
    return runs


def whole_runs(profile: str = "laptop", tasks: Sequence[str] = TASKS) -> list[Run]:
    """Return the rivals over all blocks; a rate that VTAB-1K's record tried with the first seed is not tried again."""
    return [Run(task, method, variant="whole", profile=profile, group=GROUP) for task in tasks for method in WHOLE]


def tried(run: Run, seeds: Sequence[int] = SEEDS[:1], rates: Sequence[float] = RATES) -> list[Run]:
    """Return the runs that try learning rates on validation images."""
    return [replace(run, purpose="select", lr=lr, seed=seed) for lr in rates for seed in seeds]


def choice_card(run: Run) -> Path:
    """Return the card of a run that tries a rate: of a rival over all blocks also that of VTAB-1K's record."""
    own, other = recorded_path(run.card()), recorded_path(replace(run, group="", variant="").card())
    return other if run.variant == "whole" and not own.exists() and other.exists() else own


def accuracy_of(run: Run) -> float:
    """Return the accuracy on the card of a run that tried a rate."""
    return load_card(choice_card(run)).accuracy


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

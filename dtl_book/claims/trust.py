"""Which run cards may speak: those of the right network, lists and settings, for all seeds, with numbers that are numbers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from dtl_core.dtl import DTLConfig
from dtl_core.training import Recipe

from ..experiments.behaviour import VIEWS
from ..experiments.cards import RunCard, load_card
from ..experiments.code import age_of, code_of
from ..experiments.grids import BASE
from ..experiments.profiles import get_profile
from ..experiments.recipes import profile_recipe
from ..experiments.run_data import VTAB_SPLITS, takes_views
from ..experiments.runs import SEEDS
from ..paths import recorded_path, results_dir

# of a recipe: what the data decides (epochs of small sets, augmentation of letters) and what the method decides is left out
COMPARED_FIELDS = ("weight_decay", "batch_size", "warmup_lr", "min_lr", "cooldown_epochs", "precision")


@dataclass(frozen=True)
class Scores:
    """The accuracies of one method on one task (or set at so many shots, or source), by seed.

    Attributes:
        cards: those that may speak.
        missing: why this is not whole: seeds without a card, and what is wrong with the cards that are there.
        stale: what has changed since the cards were made.
    """

    cards: tuple[RunCard, ...]
    missing: tuple[str, ...]
    stale: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Every seed is there."""
        return not self.missing

    @property
    def date(self) -> str:
        """Of the youngest card."""
        return max((c.created[:10] for c in self.cards), default="")


def scores(
    profile: str,
    benchmark: str,
    task: str,
    method: str,
    shots: int | None = None,
    group: str = "",
    config: DTLConfig = BASE,
    root: Path | None = None,
) -> Scores:
    """The final runs of one method on one task that may speak, over ``SEEDS``.

    Args:
        profile, benchmark, task, method, shots: whose runs.
        group: folder of the cards, where it is not the benchmark's; a card's name then bears its variant ("dtl-M4").
        config: that DTL and DTL+ have to have, but for the kernel.
        root: folder of the results; ``results_dir()`` if None.
    """
    label = f"{method}-M{config.inject_from}" if group else f"{method}-{shots}shot" if shots else method
    folder = (root or results_dir()) / profile / (group or benchmark) / task
    good, missing, stale, absent = [], [], [], []
    for seed in SEEDS:
        path = recorded_path(folder / f"{label}-seed{seed}.json")
        if not path.is_file():
            absent.append(str(seed))
            continue
        card = _card(path, path.stat().st_mtime_ns)
        wrong = faults(card, profile, benchmark, task, method, seed, shots, config)
        if wrong:
            missing.append(f"{label} on {task}, seed {seed}: {', '.join(wrong)}")
            continue
        good.append(card)
        stale += aged(card)
    if absent:
        missing.append(f"{label} on {task}: no card of seed{'s' * (len(absent) > 1)} {', '.join(absent)}")
    same = ("backbone_sha256", "lr", "protocol")
    differ = [what for what in same if len({getattr(c, what) for c in good}) > 1]
    missing += [f"{label} on {task}: the seeds differ in {what}" for what in differ]
    return Scores(tuple(good), tuple(missing), tuple(dict.fromkeys(stale)))


@cache
def _card(path: Path, _written: int) -> RunCard:
    return load_card(path)


def faults(
    card: RunCard,
    profile: str,
    benchmark: str,
    task: str,
    method: str,
    seed: int,
    shots: int | None = None,
    config: DTLConfig = BASE,
) -> list[str]:
    """Why a card may not speak for a run; empty where it may."""
    chosen, wrong = get_profile(profile), []
    wanted = {
        "profile": profile,
        "benchmark": benchmark,
        "task": task,
        "seed": seed,
        "purpose": "final",
        "shots": shots,
    }
    wanted |= {"method": method, "backbone": chosen.backbone, "backbone_dtype": "float32"}
    if benchmark == "domain":
        wanted["shots"] = 16
    for name, value in wanted.items():
        if getattr(card, name) != value:
            wrong.append(f"{name} is {getattr(card, name)}, not {value}")
    if card.image_size != [chosen.image_size] * 2:
        wrong.append(f"images of {card.image_size}, not {chosen.image_size}")
    if (card.train_split, card.test_split) != lists_of(benchmark, seed, wanted["shots"]):
        wrong.append(
            f"lists {card.train_split} and {card.test_split}, not {' and '.join(lists_of(benchmark, seed, wanted['shots']))}"
        )
    if method in ("dtl", "dtl+"):
        had = card.recipe["config"]
        other = [k for k, v in asdict(config).items() if k != "dwconv_kernel" and had[k] != v]
        other += ["dwconv_kernel"] * (bool(had["dwconv_kernel"]) != (method == "dtl+"))
        wrong += [f"{k} is {had[k]}" for k in other]
    if card.switches:
        wrong.append(f"switched: {', '.join(card.switches)}")
    for name, value in {
        "accuracy": card.accuracy,
        "loss": card.loss,
        **{t: s["accuracy"] for t, s in card.targets.items()},
    }.items():
        if not isinstance(value, int | float) or not math.isfinite(value):
            wrong.append(f"{name} is {value}")
        elif name != "loss" and not 0 <= value <= 1:
            wrong.append(f"{name} is {value}, outside 0 to 1")
    return wrong


def lists_of(benchmark: str, seed: int, shots: int | None) -> tuple[str, str]:
    """The lists that a final run trains and tests on."""
    if benchmark == "vtab-1k":
        return VTAB_SPLITS["final"]
    test = "test_meta.list" if benchmark == "few-shot" else "val_meta.list"
    return f"train_meta.list.num_shot_{shots}.seed_{seed}", test


def aged(card: RunCard) -> list[str]:
    """What has changed since a card was made: files of the code, values of the recipe."""
    views = takes_views(card.benchmark, card.task, card.recipe.get("augmentation", "none"))
    found = age_of(card.code, code_of(card.method, views), card.method, *([VIEWS] if views else []))
    now = profile_recipe(
        get_profile(card.profile), card.method, card.task, card.lr, card.seed,
        benchmark=card.benchmark, shots=card.shots, protocol=card.protocol,
    )  # fmt: skip
    names = [*COMPARED_FIELDS, *(("epochs", "warmup_epochs") if card.benchmark == "vtab-1k" else ())]
    default, had = asdict(Recipe()), card.recipe
    other = [n for n in names if had.get(n, default[n]) != getattr(now, n)]
    if other:
        found.append(
            "the recipe has changed since: " + ", ".join(f"{n} {had.get(n)}, now {getattr(now, n)}" for n in other)
        )
    return found

"""Which run cards count as evidence: the right network, lists and settings, all seeds, finite numbers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from dtl_core.dtl import DTLConfig
from dtl_core.training import Recipe

from ..experiments import SEEDS, RunCard, card_path, load_card
from ..experiments.behaviour import VIEWS
from ..experiments.code_digests import age_of, code_of
from ..experiments.grids import ABLATIONS
from ..experiments.profiles import get_profile
from ..experiments.recipes import recipe_of, takes_views
from ..experiments.run import Run
from ..experiments.run_data import VTAB_SPLITS
from ..paths import recorded_path

# of a recipe: what the data decides (epochs of small sets, augmentation of letters) and what the method decides is left out
COMPARED_FIELDS = ("weight_decay", "batch_size", "warmup_lr", "min_lr", "cooldown_epochs", "precision")


@dataclass(frozen=True)
class Scores:
    """The accuracies of one method on one task, set or source, or their mean over several."""

    values: np.ndarray  # in percent, by seed; NaN for a seed without a valid card
    cards: tuple[RunCard, ...]  # the valid ones
    # why this is incomplete: seeds without a card, and what is wrong with the cards that are there
    missing: tuple[str, ...]
    stale: tuple[str, ...]  # what has changed since the cards were made

    @property
    def mean(self) -> float:
        return self.values.mean()

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.values.std(ddof=1):.1f}"


def scores(
    profile: str, benchmark: str, task: str, method: str, shots: int | None = None, config: DTLConfig = DTLConfig(),
    root: Path | None = None,
) -> Scores:  # fmt: skip
    """Return the valid final runs of one method on one task, over ``SEEDS``.

    DTL and DTL+ must have ``config``, but for the kernel. Another M than the paper's is a run of the ablations.
    """
    group, name = benchmark, method
    if config != DTLConfig():
        group, name = ABLATIONS, f"{method}-M{config.inject_from}"
    label = f"{name}-{shots}shot" if shots else name
    cards, missing, stale, absent = {}, [], [], []
    for seed in SEEDS:
        path = recorded_path(card_path(profile, group, task, name, seed, root=root, shots=shots))
        if not path.is_file():
            absent.append(str(seed))
            continue
        card = load_card(path)
        if wrong := mismatches(card, profile, benchmark, task, method, seed, shots, config):
            missing.append(f"{label} on {task}, seed {seed}: {', '.join(wrong)}")
            continue
        cards[seed] = card
        stale += staleness(card)
    if absent:
        missing.append(f"{label} on {task}: no card of seed{'s' * (len(absent) > 1)} {', '.join(absent)}")
    same = ("backbone_sha256", "lr", "protocol")
    differ = [what for what in same if len({getattr(card, what) for card in cards.values()}) > 1]
    missing += [f"{label} on {task}: the seeds differ in {what}" for what in differ]
    values = np.array([100 * cards[seed].accuracy if seed in cards else math.nan for seed in SEEDS])
    return Scores(values, tuple(cards.values()), tuple(missing), tuple(stale))


def mismatches(
    card: RunCard, profile: str, benchmark: str, task: str, method: str, seed: int, shots: int | None, config: DTLConfig
) -> list[str]:
    """Return why a card is no evidence for a run; nothing where it is."""
    chosen, shots = get_profile(profile), 16 if benchmark == "domain" else shots
    wanted = dict(
        profile=profile, benchmark=benchmark, task=task, seed=seed, purpose="final", shots=shots, method=method,
        backbone=chosen.backbone, backbone_dtype="float32",
    )  # fmt: skip
    wrong = [f"{k} is {getattr(card, k)}, not {value}" for k, value in wanted.items() if getattr(card, k) != value]
    if card.image_size != [chosen.image_size] * 2:
        wrong.append(f"images of {card.image_size}, not {chosen.image_size}")
    lists = lists_of(benchmark, seed, shots)
    if (card.train_split, card.test_split) != lists:
        wrong.append(f"lists {card.train_split} and {card.test_split}, not {' and '.join(lists)}")
    if method in ("dtl", "dtl+"):
        had = card.recipe["config"]
        other = [k for k, value in asdict(config).items() if k != "dwconv_kernel" and had[k] != value]
        other += ["dwconv_kernel"] * (bool(had["dwconv_kernel"]) != (method == "dtl+"))
        wrong += [f"{k} is {had[k]}" for k in other]
    if card.switches:
        wrong.append(f"switched: {', '.join(card.switches)}")
    if own := [k for k in ("first_block", "rank", "taps") if (card.run or {}).get(k)]:
        wrong.append(f"a form of its own: {', '.join(own)}")
    numbers = {"accuracy": card.accuracy, "loss": card.loss} | {t: s["accuracy"] for t, s in card.targets.items()}
    for name, value in numbers.items():
        if not isinstance(value, int | float) or not math.isfinite(value):
            wrong.append(f"{name} is {value}")
        elif name != "loss" and not 0 <= value <= 1:
            wrong.append(f"{name} is {value}, outside 0 to 1")
    return wrong


def lists_of(benchmark: str, seed: int, shots: int | None) -> tuple[str, str]:
    """Return the lists that a final run trains and tests on."""
    if benchmark == "vtab-1k":
        return VTAB_SPLITS["final"]
    test = "test_meta.list" if benchmark == "few-shot" else "val_meta.list"
    return f"train_meta.list.num_shot_{shots}.seed_{seed}", test


def staleness(card: RunCard) -> list[str]:
    """Return what has changed since a card was made: files of the code, values of the recipe."""
    shots = card.shots if card.benchmark == "few-shot" else None
    asked = {k: getattr(card, k) for k in ("benchmark", "protocol", "profile", "seed", "lr")}
    run = Run(card.task, card.method, shots=shots, **asked)
    views = takes_views(replace(run, augmentation=card.recipe.get("augmentation", "none")))
    found = age_of(card.code, code_of(card.method, views), card.method, *([VIEWS] if views else []))
    now = recipe_of(run)
    names = [*COMPARED_FIELDS, *(("epochs", "warmup_epochs") if card.benchmark == "vtab-1k" else ())]
    had = asdict(Recipe()) | card.recipe
    other = [f"{n} {had[n]}, now {getattr(now, n)}" for n in names if had[n] != getattr(now, n)]
    return [*found, f"the recipe has changed since: {', '.join(other)}"] if other else found

"""What validation images choose: a learning rate, and for DTL and DTL+ a drop path, from one grid for all methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from ..paths import recorded_path
from .cards import load_card
from .profiles import get_profile
from .run import DROP_PATH_METHODS, Benchmark, Method, ProfileName, Protocol, Run

METHODS = ("linear", "lora", "dtl", "dtl+")  # what a sweep runs if not told
COMPARED = ("linear", "bitfit", "adaptformer", "lora", "dtl", "dtl+")  # all that a recording runs
SEEDS = (0, 1, 2)
# the same values for every method, on a logarithmic scale over the range of the authors' own
LEARNING_RATES = (1e-3, 1e-2)


@dataclass(frozen=True)
class Setting:
    """A learning rate and a drop path; None is the recipe's own."""

    lr: float | None = None
    drop_path: float | None = None


@dataclass(frozen=True)
class Grid:
    """A grid of runs.

    Attributes:
        tasks: of the benchmark; all of the profile's if not given. For domain the source, which is tested on every domain.
        methods: how to adapt.
        seeds: of initialisation and order.
        lr: none: the recipe's own; one: that one; several: chosen per task, method and number of shots on validation images
            with the first seed.
        drop_path: the same for the drop path of DTL and DTL+, e.g. `--lr 0.001 0.01 --drop-path 0 0.1 0.2` tries six pairs.
            The other methods run without, so that DTL has more settings to choose from than they; and a run with drop
            path stores no prefix, so it takes longer.
        benchmark: which one. A domain run trains on the source and is tested on every domain.
        shots: training images a class (few-shot): of 1, 2, 4, 8, 16; all five if not given.
        protocol: `authors` (their recipe for each task) or `clean` (one grid for all methods); the profile's if not given.
        profile: sizes and sources; `DTL_PROFILE`, else laptop.
        epochs: passes over the images; the recipe's own if not given.
        batch_size: images a step; the recipe's own if not given.
    """

    tasks: tuple[str, ...] = ()
    methods: tuple[Method, ...] = METHODS
    seeds: tuple[int, ...] = SEEDS
    lr: tuple[float, ...] = ()
    drop_path: tuple[float, ...] = ()
    benchmark: Benchmark = "vtab-1k"
    shots: tuple[int, ...] = ()
    protocol: Protocol | None = None
    profile: ProfileName | None = None
    epochs: int | None = None
    batch_size: int | None = None

    def __post_init__(self):
        object.__setattr__(self, "profile", get_profile(self.profile).name)
        if self.shots and self.benchmark != "few-shot":
            raise ValueError(f"shots belong to the few-shot benchmark, and this is {self.benchmark}: leave them out")
        if not self.methods or not self.seeds:
            raise ValueError("a sweep needs at least one task, one method and one seed")
        if not all(0 <= drop < 1 for drop in self.drop_path):
            raise ValueError(f"drop paths {', '.join(map(str, self.drop_path))}: each is a probability below 1")
        if self.drop_path and not set(self.methods) & set(DROP_PATH_METHODS):
            raise ValueError(f"none of {', '.join(self.methods)} takes a drop path: leave it out, or sweep dtl or dtl+")


def settings_for(
    method: str, rates: Sequence[float | None], drop_paths: Sequence[float | None] = ()
) -> tuple[Setting, ...]:
    """Return the grid of one method: every learning rate with every drop path, if the method takes one."""
    drops = (drop_paths if method in DROP_PATH_METHODS else ()) or (None,)
    return tuple(Setting(*pair) for pair in product(rates or (None,), drops))


def selection_runs(
    run: Run, rates: Sequence[float | None], drop_paths: Sequence[float | None] = ()
) -> dict[Setting, Run]:
    """Return the runs that try each setting of a method's grid on validation images."""
    return {
        tried: replace(run, purpose="select", lr=tried.lr, drop_path=tried.drop_path)
        for tried in settings_for(run.method, rates, drop_paths)
    }


def best_setting(run: Run, rates: Sequence[float | None] | None = None, drop_paths: Sequence[float] = ()) -> Setting:
    """Return the setting with the best accuracy on validation images among the selection cards of a run.

    On a tie the smaller learning rate wins, then the smaller drop path. Without drop paths each run had the recipe's own.

    Raises:
        FileNotFoundError: a run of the grid is not recorded.
    """
    tried = selection_runs(run, LEARNING_RATES if rates is None else rates, drop_paths)
    scores = {setting: load_card(recorded_path(select.card())).accuracy for setting, select in tried.items()}
    return max(scores, key=lambda s: (scores[s], -(s.lr or 0), -(s.drop_path or 0)))

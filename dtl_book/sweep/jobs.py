"""One run of a sweep: what it is, where its card lies, how it is run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dtl_core.dtl import DTLConfig

from ..experiments import Pitfalls, RunCard, card_path, load_card, run
from ..experiments.run_data import Benchmark
from ..paths import cache_dir, results_dir


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        task, method, seed: what is run.
        lr: the recipe's own if None.
        drop_path: of DTL and DTL+; the recipe's own if None. A "select" job has an ``lr``, a ``drop_path`` or both.
        benchmark: "vtab-1k", "few-shot" or "domain".
        shots: training images a class (few-shot).
        profile: sizes and sources.
        purpose: "final" (tested once) or "select" (a setting that is tried, scored on validation images).
        protocol: "authors" or "clean"; the profile's if None.
        epochs, batch_size: the recipe's own if None.
        config: of DTL, in the place of the profile's.
        switches: pitfalls of the field that are switched on.
        group, variant: a run with such a config or switch has its card in a folder of its own, named after them.
    """

    task: str
    method: str
    seed: int = 0
    lr: float | None = None
    benchmark: Benchmark = "vtab-1k"
    shots: int | None = None
    profile: str = "laptop"
    purpose: str = "final"
    protocol: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    config: DTLConfig | None = None
    switches: Pitfalls | None = None
    group: str = ""
    variant: str = ""
    drop_path: float | None = None

    def __str__(self) -> str:
        rate = f", lr {self.lr:g}" if self.lr else ""
        drop = "" if self.drop_path is None else f", drop path {self.drop_path:g}"
        return f"{self.label} on {self.where}, seed {self.seed}{rate}{drop}"

    @property
    def label(self) -> str:
        """The method, with its variant."""
        return f"{self.method}-{self.variant}" if self.variant else self.method

    @property
    def where(self) -> str:
        """The task, with its shots."""
        return f"{self.task}, {self.shots} shots" if self.shots else self.task

    @property
    def card(self) -> Path:
        """Where its card is written."""
        tried = dict(lr=self.lr, drop_path=self.drop_path) if self.purpose == "select" else {}
        where = (self.profile, self.group or self.benchmark, self.task, self.label, self.seed)
        return card_path(*where, shots=self.shots, **tried)

    @property
    def failure(self) -> Path:
        """Where it is recorded as failed; the log lies beside it, as ``.log``."""
        folder = self.card.parent.relative_to(results_dir() / self.profile)
        return results_dir() / self.profile / "failed" / folder / self.card.name

    @property
    def name(self) -> str:
        """Of its log while it runs."""
        return "-".join([*self.card.parts[-4:-1], self.card.stem])

    @property
    def prefixes(self) -> Path:
        """Folder of the stored prefixes, which the runs of a task share."""
        return cache_dir() / "sweep" / f"{self.profile}-{self.benchmark}-{self.task}"


def run_job(job: Job) -> RunCard:
    """Runs a job and returns its card, which is not written."""
    card, _ = run(
        job.method, job.task, profile=job.profile, benchmark=job.benchmark, shots=job.shots, protocol=job.protocol,
        seed=job.seed, lr=job.lr, drop_path=job.drop_path, epochs=job.epochs, batch_size=job.batch_size, purpose=job.purpose,
        cache_root=job.prefixes, progress=False, options={"config": job.config} if job.config else None,
        switches=job.switches,
    )  # fmt: skip
    return card


def recorded(job: Job) -> RunCard | None:
    """The card of a job that has been run, else None.

    Raises:
        DamagedFile: it is not whole.
        ValueError: the run on the card had another learning rate, drop path, length, batch or protocol than is asked for.
    """
    if not job.card.exists():
        return None
    card = load_card(job.card)
    had = {
        "lr": card.lr,
        "protocol": card.protocol,
        **{k: card.recipe[k] for k in ("drop_path", "epochs", "batch_size")},
    }
    other = [f"{k} {v}, not {getattr(job, k)}" for k, v in had.items() if getattr(job, k) not in (None, v)]
    if other:
        raise ValueError(
            f"{job.card} is of a run with {' and '.join(other)}: move it away, or set DTL_RESULTS to another folder"
        )
    return card

"""Checks of memory: measured on a GPU where a card of today's code has the setting, planned where none has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from dtl_core.dtl import DTLConfig
from dtl_core.memory import GIB, plan_training

from ..experiments.grids import VALUES
from ..measured.cards import measured_peak, memory_cards
from ..tables.figure1 import BACKBONE, NAMES, SETTINGS, figure_options, figure_readings, plan_row
from .claim import Finding, finding, today

PLANNED = (
    "planned: ViT-B/16, batch 32, 224 px, 100 classes, CUDA's fp16 autocast by its rules, attention written out, gradients "
    "kept through the next forward (as before PyTorch 2.0); not measured on a GPU"
)
M_TRIED = VALUES["inject_from"]
FREED = {**SETTINGS["paper"], "keep_gradients": False}


@dataclass(frozen=True)
class Account:
    """The peaks of some steps, all measured or all planned.

    Attributes:
        bytes: by name.
        planned: the planned bytes beside, by name.
        setting: where.
        measured: whether they were measured.
    """

    bytes: dict[str, int]
    planned: dict[str, int]
    setting: str
    measured: bool

    def beside(self, name: str) -> str:
        """The planned GiB as words, where ``bytes`` were measured; else nothing."""
        return f", {self.planned[name] / GIB:.2f} planned" if self.measured else ""


@cache
def planned_row(label: str, kept: bool = True) -> tuple[int, int]:
    """Peak bytes and trained parameters of a method of Figure 1 in the paper's setting, gradients kept or freed."""
    return plan_row(label, **(SETTINGS["paper"] if kept else FREED))


@cache
def planned_lora(kept: bool = True) -> int:
    """Peak bytes of LoRA with one update for the fused qkv, this workbook's form."""
    return plan_training("lora", BACKBONE, **(SETTINGS["paper"] if kept else FREED)).peak_bytes


@cache
def planned_at(first: int) -> int:
    """Peak bytes of the authors' DTL with this M."""
    return plan_training("dtl", BACKBONE, **SETTINGS["paper"], recompute="none", config=config_at(first)).peak_bytes


def config_at(first: int) -> DTLConfig:
    """The paper's configuration with another first block of injection."""
    paper = DTLConfig.paper("vit")
    return DTLConfig(paper.rank, 0, first, paper.beta, 0)


def account(wanted: dict[str, tuple[str, dict]], planned: dict[str, int], root: Path | None = None) -> Account:
    """The peaks of some settings: measured if every one of them is.

    Args:
        wanted: by name, the method and what it adds to the paper's setting.
        planned: the planned bytes, by name.
        root: folder of the results; the project's if None.
    """
    cards = memory_cards(root)
    rows = {name: measured_peak(m, {**SETTINGS["paper"], **more}, cards) for name, (m, more) in wanted.items()}
    if not all(rows.values()):
        return Account(planned, planned, PLANNED, False)
    devices = sorted({f"{row['device']}, torch {row['versions']['torch']}" for row in rows.values()})
    setting = f"measured on {' and '.join(devices)}: {PLANNED.split(': ')[1].removesuffix('; not measured on a GPU')}"
    return Account({name: row["allocated_bytes"] for name, row in rows.items()}, planned, setting, True)


def figure_account(labels: Sequence[str], root: Path | None = None) -> Account:
    """The peaks of methods of Figure 1, by their names there."""
    wanted = {label: (NAMES[label], figure_options(NAMES[label])) for label in labels}
    return account(wanted, {label: planned_row(label)[0] for label in labels}, root)


def memory_shares(methods: Sequence[str], low: float, high: float, root: Path | None = None) -> Finding:
    """Each needs this share of full fine-tuning's memory, in the setting that meets the figure.

    LoRA counts in this workbook's form. What it comes to with an update for query and value each, and all methods with
    gradients freed between steps, stands beside it and decides nothing.
    """
    labels = [*methods, "Full"]
    wanted = {m: (NAMES[m], {} if m == "LoRA" else figure_options(NAMES[m])) for m in labels}
    here = account(wanted, {m: planned_lora() if m == "LoRA" else planned_row(m)[0] for m in labels}, root)
    shares = {m: here.bytes[m] / here.bytes["Full"] for m in methods}
    read = figure_readings()["gpu_GB_read"]
    words = ", ".join(f"{m} {s:.0%} (read: {read[m] / read['Full']:.0%})" for m, s in shares.items())
    whole = planned_row("Full", kept=False)[0]
    freed = {m: (planned_lora(False) if m == "LoRA" else planned_row(m, kept=False)[0]) / whole for m in methods}
    beside = [f"with gradients freed, as PyTorch does since 2.0: {', '.join(f'{m} {s:.0%}' for m, s in freed.items())}"]
    if "LoRA" in methods:
        split = planned_row("LoRA")[0] / planned_row("Full")[0]
        beside.append(f"LoRA with an update for query and value each: {split:.0%}")
    numbers = f"of full fine-tuning: {words}; planned beside it, {'; '.join(beside)}"
    return finding(all(low <= s <= high for s in shares.values()), numbers, here.setting)


def memory_read(method: str, tolerance: float, inferred: bool = False, root: Path | None = None) -> Finding:
    """A method needs what was read off Figure 1.

    Args:
        method: its name in the figure.
        tolerance: as a share of what was read.
        inferred: the paper's own form of the method is not known: a miss then says nothing of the paper.
    """
    here, read = figure_account([method], root), figure_readings()["gpu_GB_read"][method]
    gib = here.bytes[method] / GIB
    off, decimal = gib / read - 1, gib * GIB / 1e9 / read - 1
    setting = f"{here.setting}; the figure's GB taken as GiB (taken as 10^9 bytes: {decimal:+.1%})"
    how = "measured" if here.measured else "planned"
    numbers = f"{method} {gib:.2f} GiB {how}{here.beside(method)}, {read:.2f} GB read ({off:+.1%})"
    if inferred and abs(off) > tolerance:
        return Finding("not run", f"this workbook's form of it: {numbers}", setting, today())
    return finding(abs(off) <= tolerance, numbers, setting)


def least_memory(method: str, among: Sequence[str] = (), root: Path | None = None) -> Finding:
    """A method needs the least memory."""
    rivals = list(among) or [m for m in NAMES if m not in (method, f"{method}+")]
    here = figure_account([method, *rivals], root)
    nearest = min(rivals, key=here.bytes.get)
    words = [f"{m} {here.bytes[m] / GIB:.2f} GiB{here.beside(m)}" for m in (method, nearest)]
    numbers = f"{words[0]}, next {words[1]}, of {len(rivals)} rivals"
    return finding(here.bytes[method] < here.bytes[nearest], numbers, here.setting)


def memory_ratio(method: str, to: str, high: float, root: Path | None = None) -> Finding:
    """A method needs at most so many times what another does."""
    here = figure_account([method, to], root)
    ratio, planned = (n[method] / n[to] for n in (here.bytes, here.planned))
    beside = f" ({planned:.3f} planned)" if here.measured else ""
    return finding(ratio <= high, f"{ratio:.3f} times the memory of {to}{beside}", here.setting)


def memory_by_m(root: Path | None = None) -> Finding:
    """The memory of DTL falls with every step of M."""
    more = {first: {"recompute": "none", "config": asdict(config_at(first))} for first in M_TRIED}
    here = account({m: ("dtl", options) for m, options in more.items()}, {m: planned_at(m) for m in M_TRIED}, root)
    peaks = [here.bytes[m] for m in M_TRIED]
    words = ", ".join(f"M = {m}: {here.bytes[m] / GIB:.2f}{here.beside(m)}" for m in M_TRIED)
    return finding(all(a > b for a, b in zip(peaks, peaks[1:], strict=False)), f"GiB: {words}", here.setting)

"""C1 to C3, on what training costs: parameters, counted, and memory, measured on a GPU or planned.

The docstring of a claim's function holds the claim and its facts, its arguments the tolerances; it yields a finding for
each part. Sources: the abstract, captions and summary of the paper; the authors' code; numbers from ``paper_numbers.csv``,
``figure1_readings.csv`` and ``vtab_vit_rows.csv`` of the resources. Fig. 3, Fig. 4 and the tables for domains and Swin-B
were not available: none of their numbers is known, and no part compares with one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from dtl_core.backbones import load_backbone
from dtl_core.dtl import DTL, DTLConfig
from dtl_core.memory import GIB, plan_training
from dtl_core.training import authors_table

from ..measured.cards import measured_peak, memory_cards
from ..tables.figure1 import BACKBONE, NAMES, SETTINGS, figure_options, figure_readings, plan_row
from .claim import Finding, finding, paper_number, today

COUNTED = "counted: ViT-B/16, head left out"
PLANNED = (
    "planned: ViT-B/16, batch 32, 224 px, 100 classes, CUDA's fp16 autocast by its rules, attention written out, gradients "
    "kept through the next forward (as before PyTorch 2.0); not measured on a GPU"
)
RIVALS = tuple(label for label in NAMES if not label.startswith("DTL"))  # the other methods of Figure 1
row_of, step_of = cache(plan_row), cache(plan_training)  # a plan takes a second


def C1(root: Path | None, low: float = 0.55, high: float = 0.65, most: float = 0.01) -> Iterator[Finding]:
    """PETL methods save parameters, but not memory in proportion: LoRA, BitFit and adapters need about 60 % of full fine-tuning's memory.

    Source: abstract, Fig. 1
    Supported if: LoRA, BitFit and AdaptFormer each need 55 to 65 % of full fine-tuning's memory while they train under
        1 % of its parameters, in the setting that meets the figure best (gradients kept through the next forward; LoRA
        with one update for the fused qkv). The version of PyTorch behind the figure is not known; what the other
        settings give stands beside it.
    Refuted if: One of them needs less than 55 % or more than 65 % there.
    Part: each needs 55 to 65 % of the memory of full fine-tuning [dtl figure1]
    Part: each trains under 1 % of the parameters [dtl figure1]
    Notebooks: 01, 02, 03, 09
    Doubt it? Measure it on a GPU: `dtl measure memory`; `dtl memory --compare all` plans other sizes.
    Others: frozen, LoRA and full fine-tuning measured on GPUs, in GB: 33.89, 48.62 and 49.56 (LoRA at 98 % of full),
        and 36.05, 67.14 and 72.34 (93 %), both segmentation (github: computational-cell-analytics/micro-sam, PR 820);
        7.64, 19.59 and 20.49 (96 %; computational-cell-analytics/peft-sam, PR 40); LoRA 17 and full 24 on ViT-B/16 at
        384 px (71 %; open-mmlab/mmpretrain, PR 1687).
    Others: Swin-B on COCO, in MB: full 17,061, frozen 7,137, BitFit 13,657, LoRA 11,975, AdaptFormer 13,186 (V-PETL
        Bench).
    """
    methods, labels = ("LoRA", "BitFit", "AdaptFormer"), ("BitFit", "AdaptFormer", "Full")
    fused = {"LoRA": ("lora", {})}  # this workbook's form, one update for the fused qkv
    here, freed = peaks(root, labels, fused), planned(labels, fused, keep_gradients=False)
    split = planned(("LoRA", "Full"))  # as in the figure; freed and split stand beside and decide nothing
    read = figure_readings()["gpu_GB_read"]
    shares = {m: here.gib[m] / here.gib["Full"] for m in methods}
    words = ", ".join(f"{m} {share:.0%} (read: {read[m] / read['Full']:.0%})" for m, share in shares.items())
    beside = ", ".join(f"{m} {freed[m] / freed['Full']:.0%}" for m in methods)
    numbers = (
        f"of full fine-tuning: {words}; planned beside it, with gradients freed, as PyTorch does since 2.0: {beside}; "
        f"LoRA with an update for query and value each: {split['LoRA'] / split['Full']:.0%}"
    )
    yield finding(all(low <= share <= high for share in shares.values()), numbers, here.setting)

    shares = {m: parameters(m) / parameters("Full") for m in methods}
    words = ", ".join(f"{m} {share:.2%}" for m, share in shares.items())
    yield finding(all(share < most for share in shares.values()), f"of full fine-tuning: {words}", COUNTED)


def C2(root: Path | None) -> Iterator[Finding]:
    """DTL trains 0.04 M parameters, DTL+ 0.05 M, on ViT-B/16.

    Source: Fig. 1, code
    Supported if: The side network, built and counted, has the numbers of the authors' code.
    Refuted if: It has others.
    Part: DTL trains 36,864 beside the head [dtl claims C2]
    Part: DTL+ trains 50,728, the mean over the kernels of the 19 tasks' recipes [dtl claims C2]
    Notebooks: 04, 06, 07, 10
    Doubt it? Count by hand: 12 blocks, two matrices of 2 x 768 each; `DTL(...).parameter_table()` lists the parts of
        any model.
    """
    yield as_theirs("vit")
    yield as_theirs("vit", plus=True)


def C3(root: Path | None, tolerance: float = 0.05) -> Iterator[Finding]:
    """DTL needs 1.6 GB and DTL+ 1.7 GB where full fine-tuning needs 4.7, LST 2.7 and LoRA 3.0 (batch 32).

    Source: Fig. 1
    Supported if: Each measured or planned figure lies within 5 % of the one that was read.
    Refuted if: One of them does not. LST alone cannot refute: its form in the paper is not known, so a miss says
        nothing of the paper.
    Part: DTL needs what was read [dtl figure1]
    Part: DTL+ needs what was read [dtl figure1]
    Part: full fine-tuning needs what was read [dtl figure1]
    Part: LoRA needs what was read [dtl figure1]
    Part: LST needs what was read (the side network of the paper's LST is not known in detail) [dtl figure1]
    Notebooks: 09
    Doubt it? `dtl measure memory` on a GPU reads `torch.cuda.max_memory_allocated()` of all five; `dtl figure1` shows
        what was tried for LST.
    """
    for method in ("DTL", "DTL+", "Full", "LoRA", "LST"):
        here, read = peaks(root, [method]), figure_readings()["gpu_GB_read"][method]
        gib, source = here.gib[method], "measured" if here.measured else "planned"
        off, decimal = gib / read - 1, gib * GIB / 1e9 / read - 1
        setting = f"{here.setting}; the figure's GB taken as GiB (taken as 10^9 bytes: {decimal:+.1%})"
        numbers = f"{method} {gib:.2f} GiB {source}{here.beside(method)}, {read:.2f} GB read ({off:+.1%})"
        if method == "LST" and abs(off) > tolerance:
            yield Finding("not run", f"this workbook's form of it: {numbers}", setting, today())
        else:
            yield finding(abs(off) <= tolerance, numbers, setting)


@cache
def side_parameters(kind: str, plus: bool = False) -> float:
    """Count the parameters of the side network of the paper's "vit" or "swin".

    DTL+ on a ViT is the mean over the kernels of the 19 tasks' recipes.
    """
    paper = DTLConfig.paper(kind, plus=plus)
    kernels = [paper.dwconv_kernel]
    if plus and kind == "vit":
        rows = authors_table().query("benchmark == 'vtab-1k' and method == 'DTL+' and backbone.str.startswith('vit')")
        kernels = rows["fusion_size"].astype(int).tolist()
    with torch.device("meta"):
        backbone = load_backbone({"vit": BACKBONE, "swin": "swin_base_patch4_window7_224"}[kind], pretrained=False)
        models = {k: DTL(backbone, 1, replace(paper, dwconv_kernel=k)) for k in set(kernels)}
    return sum(p.numel() for k in kernels for p in models[k].csn.parameters()) / len(kernels)


def as_theirs(kind: str, plus: bool = False) -> Finding:
    """Check that the side network has the size that the authors' code gives it."""
    value, around, source = paper_number(f"side-dtl{'+' * plus}-{kind}")
    here, name = side_parameters(kind, plus), {"vit": "ViT-B/16", "swin": "Swin-B"}[kind]
    numbers = f"{here:,.0f} counted, {value:,.0f} by {source}"
    return finding(abs(here - value) <= around, numbers, f"counted: {name}, head left out")


def parameters(label: str) -> int:
    """Return the trained parameters of a method of Figure 1, head left out; for DTL+ the mean over the 19 tasks' kernels."""
    if label == "DTL+":
        return round(side_parameters("vit", plus=True))
    return row_of(label, **SETTINGS["paper"])[1]


def fewest_parameters(method: str, rivals: Sequence[str] = RIVALS) -> Finding:
    """Check that a method of Figure 1 trains fewer parameters than the others."""
    mine, others = parameters(method), {label: parameters(label) for label in rivals}
    nearest = min(others, key=others.get)
    numbers = f"{method} {mine:,}, next {nearest} {others[nearest]:,}, of {len(others)} rivals"
    return finding(mine < others[nearest], numbers, COUNTED)


class Peaks(NamedTuple):
    """Peaks of training steps in GiB, by name: those that count, and the planned ones; the setting, and whether measured."""

    gib: dict
    planned: dict
    setting: str
    measured: bool

    def beside(self, name: str | int) -> str:
        """Return the planned GiB as words where the peaks were measured, else nothing."""
        return f", {self.planned[name]:.2f} planned" if self.measured else ""


def planned(labels: Sequence[str], steps: Mapping | None = None, **changes) -> dict:
    """Return the planned GiB (see ``peaks``), with changes to the paper's setting."""
    setting = {**SETTINGS["paper"], **changes}
    found = {label: row_of(label, **setting)[0] for label in labels}
    for name, (method, own) in (steps or {}).items():
        found[name] = step_of(method, BACKBONE, **setting, **own).peak_bytes
    return {name: count / GIB for name, count in found.items()}


def peaks(root: Path | None, labels: Sequence[str], steps: Mapping | None = None) -> Peaks:
    """Return the peaks of training steps in the paper's setting: measured if a card of today's code has all, else planned.

    ``labels`` are methods in the form that Figure 1 has them in; ``steps`` further ones: name -> (method, what it adds to the
    setting).
    """
    cards, plans = memory_cards(root), planned(labels, steps)
    wanted = {label: (label, figure_options(NAMES[label])) for label in labels} | (steps or {})
    rows = {k: measured_peak(method, SETTINGS["paper"] | own, cards) for k, (method, own) in wanted.items()}
    if not all(rows.values()):
        return Peaks(plans, plans, PLANNED, False)
    devices = sorted({f"{row['device']}, torch {row['versions']['torch']}" for row in rows.values()})
    setting = f"measured on {' and '.join(devices)}: {PLANNED.split(': ')[1].removesuffix('; not measured on a GPU')}"
    return Peaks({name: row["allocated_bytes"] / GIB for name, row in rows.items()}, plans, setting, True)


def least_memory(root: Path | None, method: str, rivals: Sequence[str] = RIVALS) -> Finding:
    """Check that a method of Figure 1 needs less memory than the others."""
    here = peaks(root, [method, *rivals])
    nearest = min(rivals, key=here.gib.get)
    mine, other = (f"{label} {here.gib[label]:.2f} GiB{here.beside(label)}" for label in (method, nearest))
    numbers = f"{mine}, next {other}, of {len(rivals)} rivals"
    return finding(here.gib[method] < here.gib[nearest], numbers, here.setting)

"""C9 to C12, on exact identities, and on what a shared prefix saves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F

from dtl_core.backbones import load_backbone
from dtl_core.blocks import blocks_of
from dtl_core.csn import swish
from dtl_core.dtl import DTL, DTLConfig

from ..experiments.behaviour import SERVING
from ..experiments.code_digests import age_of, serving_code
from ..tables.serving import serving_card
from .claim import Finding, finding, paper_number, today
from .costs import as_theirs
from .golden import golden_case


def C9(root: Path | None, tolerance: float = 1e-9) -> Iterator[Finding]:
    """It holds for Swin-B too.

    Source: paper structure, code
    Supported if: The side network has the authors' size, our code meets their outputs on a Swin, and in the paper's
        setting DTL reaches the table's accuracy.
    Refuted if: One of them does not hold.
    Part: DTL on Swin-B trains 90,112 beside the head [dtl claims C9]
    Part: our logits are the authors' on a narrow Swin of 24 blocks, DTL and DTL+ [python -m pytest
        tests/core/test_golden.py]
    Part: accuracy on VTAB-1K with Swin-B
    Notebooks: 08
    Doubt it? No pre-trained Swin is within reach of a laptop here, and the paper's Swin table is not known. On a GPU:
        `dtl train --profile paper --task svhn --method dtl --weights swin_base_patch4_window7_224.ms_in22k` takes the
        authors' Swin recipe.
    """
    yield as_theirs("swin")
    yield meets_the_authors("swin", tolerance)
    why = "no run of Swin-B is recorded, and the paper's table is not known"
    yield Finding("not run", why, "paper: Swin-B (ImageNet-22k) at 224 px", today())


def C10(root: Path | None, additions: float = 0.5, time: float = 1.0) -> Iterator[Finding]:
    """Features before block M can be reused across tasks, which saves computation.

    Source: summary
    Supported if: Two tasks have the same features up to block M, bit for bit; 19 tasks that share them take under half
        of the multiply-adds of 19 separate models, and less time.
    Refuted if: The features differ, or nothing is saved.
    Part: models of two tasks give the same prefix, bit for bit [python -m pytest tests/core/test_serving.py]
    Part: 19 tasks on one prefix take under half of the multiply-adds of separate models [python benchmarks/serving.py]
    Part: 19 tasks on one prefix take less time than separate models [python benchmarks/serving.py]
    Notebooks: 06, 14
    Doubt it? `python benchmarks/serving.py` counts and times it again, side by side.
    """
    backbone, images = toy("vit")
    models = [DTL(backbone, n, DTLConfig.for_backbone(backbone, plus=n == 7)).eval() for n in (3, 7)]
    with torch.no_grad():
        for p in (p for model in models for p in model.trainable_parameters()):
            torch.nn.init.normal_(p)  # as if each had been trained on its own task
        one, other = (model.prefix(images) for model in models)
    same = torch.equal(one.tokens, other.tokens) and all(torch.equal(t, other.taps[i]) for i, t in one.taps.items())
    numbers = f"tokens and {len(one.taps)} taps {'equal' if same else 'differ'}, with different side networks and heads"
    yield finding(same, numbers, "fp32, toy ViT, DTL and DTL+")

    def numbers_of(card: dict) -> tuple:
        tasks = max(row["tasks"] for row in card["rows"])
        kinds = {row["kind"]: row for row in card["rows"] if row["tasks"] == tasks}
        one = kinds["MultiTask"]
        share = one["multiply_adds"] / kinds["separate DTL models"]["multiply_adds"]
        setting = "{backbone} at {image_size} px, random weights, {batch_size} image(s) a call, CPU, fp32"
        stale = tuple(age_of(card.get("code", {}), serving_code(), SERVING))
        # the ratios are those of rounds side by side in one run
        times = (one[name] for name in ("ratio", "low", "high"))
        return tasks, share, *times, (setting.format(**card["setting"]), card["created"][:10], stale)

    try:
        tasks, share, seconds, low, high, facts = serving_card(root, numbers_of)
    except FileNotFoundError:
        yield from [Finding("not run", "the benchmark is not recorded", "", today())] * 2
        return
    yield finding(share < additions, f"{share:.3f} of the multiply-adds for {tasks} tasks", *facts)
    numbers = f"{seconds:.2f} of the time for {tasks} tasks (quartiles {low:.2f} to {high:.2f})"
    yield finding(seconds < time, numbers, *facts)


def C11(root: Path | None, tolerance: float = 1e-9) -> Iterator[Finding]:
    """At the start the adapted network equals the pre-trained one.

    Source: code
    Supported if: With the initial side network the features that the head reads are those of the frozen backbone, bit
        for bit, on a ViT and on a Swin.
    Refuted if: They differ.
    Part: the features at the start are the frozen backbone's, for DTL and DTL+ [python -m pytest
        tests/core/test_dtl.py]
    Part: our logits are the authors' on a narrow ViT of 12 blocks, DTL and DTL+ [python -m pytest
        tests/core/test_golden.py]
    Notebooks: 04, 06, 07, 08
    Doubt it? Take any timm ViT: `DTL(backbone, 10)` and compare `model(images)` with the head on the backbone's own
        features.
    """
    off = []
    for kind, plus in (("vit", False), ("vit", True), ("swin", False), ("swin", True)):
        backbone, images = toy(kind)
        model, steps = DTL(backbone, 3, DTLConfig.for_backbone(backbone, plus=plus)).eval(), blocks_of(backbone)
        with torch.no_grad():
            x = steps.embed(images)
            for i in range(len(steps.widths)):
                x = steps.block(i, steps.enter(i, x))
            off.append((model(images) - model.head(steps.readout(x))).abs().max().item())
    numbers = f"largest difference of the logits {max(off):g} in {len(off)} networks"
    yield finding(max(off) == 0, numbers, "fp32, toy ViT and toy Swin, DTL and DTL+")

    yield meets_the_authors("vit", tolerance)


def C12(root: Path | None) -> Iterator[Finding]:
    """Swish with beta = 100 is a smooth ReLU: they differ by at most 0.0028.

    Source: code
    Supported if: The largest distance on a fine grid rounds to 0.0028.
    Refuted if: It is larger.
    Part: the largest distance from ReLU is 0.0028 [python -m pytest tests/core/test_csn.py]
    Notebooks: 04, 05
    Doubt it? By hand: the distance is |h| / (1 + exp(100 |h|)), largest where 100 |h| = 1.278; notebook 05 draws it.
    """
    value, around, source = paper_number("gate-distance")
    h = torch.arange(-100_000, 100_001, dtype=torch.float64) * 1e-6
    here = (swish(h, 100.0) - F.relu(h)).abs().max().item()
    numbers = f"{here:.6f} at most, {value} by {source}"
    yield finding(abs(here - value) <= around, numbers, "float64, |h| up to 0.1")


@torch.no_grad()
def meets_the_authors(kind: str, tolerance: float) -> Finding:
    """Check our logits against the authors', in float64, for the first of the recorded images."""
    cases = [golden_case(kind, plus) for plus in (False, True)]
    off = max((case.model(case.images[:1]) - case.logits[:1]).abs().max().item() for case in cases)
    below = 10.0 ** math.ceil(math.log10(max(off, 1e-16)))  # the last bits differ from one CPU to the next
    return finding(off <= tolerance, f"differ by at most {below:.0e}", f"float64, a narrow {kind} with drawn weights")


def toy(kind: str) -> tuple[torch.nn.Module, torch.Tensor]:
    """Return a small backbone and four images for it."""
    backbone = load_backbone(f"toy/{kind}")
    return backbone, torch.randn(4, 3, *backbone.dtl_info.image_size, generator=torch.Generator().manual_seed(0))

"""Checks that are computed at once: parameters counted, identities looked at. Nothing is read from cards."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from dtl_core.backbones import load_backbone
from dtl_core.blocks import blocks_of
from dtl_core.csn import swish
from dtl_core.dtl import DTL, DTLConfig
from dtl_core.training import authors_table

from ..tables.figure1 import BACKBONE, NAMES
from .claim import Finding, finding, paper_number
from .golden import golden_swin_case, golden_vit_case
from .memory import planned_row

COUNTED = "counted: ViT-B/16, head left out"


def trained(label: str) -> int:
    """Trained parameters of a method of Figure 1, head left out; DTL+ as the mean over the 19 tasks' kernels."""
    return round(side_parameters_of("vit", plus=True)) if label == "DTL+" else planned_row(label)[1]


def fewest_parameters(method: str, among: Sequence[str] = ()) -> Finding:
    """A method trains the fewest parameters."""
    rivals = {m: trained(m) for m in among or [m for m in NAMES if m not in (method, f"{method}+")]}
    nearest, mine = min(rivals, key=rivals.get), trained(method)
    numbers = f"{method} {mine:,}, next {nearest} {rivals[nearest]:,}, of {len(rivals)} rivals"
    return finding(mine < rivals[nearest], numbers, COUNTED)


def parameter_shares(methods: Sequence[str], high: float) -> Finding:
    """Each trains less than this share of what full fine-tuning trains."""
    shares = {m: trained(m) / trained("Full") for m in methods}
    words = ", ".join(f"{m} {s:.2%}" for m, s in shares.items())
    return finding(all(s < high for s in shares.values()), f"of full fine-tuning: {words}", COUNTED)


def side_parameters_of(kind: str, plus: bool) -> float:
    """The side network of the paper's backbone, built and counted; DTL+ on a ViT as the mean over the tasks' kernels."""
    name = {"vit": BACKBONE, "swin": "swin_base_patch4_window7_224"}[kind]
    with torch.device("meta"):
        backbone = load_backbone(name, pretrained=False)
        if not (plus and kind == "vit"):
            return _counted(DTL(backbone, 1, DTLConfig.paper(kind, plus=plus)))
        rows = authors_table()
        mine = (rows.benchmark == "vtab-1k") & (rows.method == "DTL+") & rows.backbone.str.startswith("vit")
        kernels = rows[mine].fusion_size.astype(int).tolist()
        paper = DTLConfig.paper("vit")
        sizes = {
            k: _counted(DTL(backbone, 1, DTLConfig(paper.rank, 0, paper.inject_from, paper.beta, k)))
            for k in set(kernels)
        }
    return sum(sizes[k] for k in kernels) / len(kernels)


def _counted(model: DTL) -> int:
    return sum(p.numel() for p in model.csn.parameters())


def side_parameters(method: str, number: str) -> Finding:
    """The side network has the size that the authors' code gives it."""
    kind = "swin" if number.endswith("swin") else "vit"
    value, around, source = paper_number(number)
    here = side_parameters_of(kind, plus=method == "DTL+")
    where = "Swin-B" if kind == "swin" else "ViT-B/16"
    numbers = f"{here:,.0f} counted, {value:,.0f} by {source}"
    return finding(abs(here - value) <= around, numbers, f"counted: {where}, head left out")


def parameters_below(method: str, high: int) -> Finding:
    """A method trains fewer parameters than this."""
    here = trained(method)
    return finding(here < high, f"{here:,} (mean over the kernels of the 19 tasks)", COUNTED)


@torch.no_grad()
def golden(kind: str, tolerance: float) -> Finding:
    """Our logits are those that the authors' code gave, in float64, for the first of the recorded images."""
    make, off = {"vit": golden_vit_case, "swin": golden_swin_case}[kind], 0.0
    for plus in (False, True):
        case = make(plus)
        off = max(off, (case.model(case.images[:1]) - case.logits[:1]).abs().max().item())
    below = 10.0 ** math.ceil(math.log10(max(off, 1e-16)))  # the last bits differ from one CPU to the next
    return finding(off <= tolerance, f"differ by at most {below:.0e}", f"float64, a narrow {kind} with drawn weights")


@torch.no_grad()
def start() -> Finding:
    """With a new side network the head reads what the frozen backbone gives."""
    worst, cases = 0.0, 0
    for name in ("toy/vit", "toy/swin"):
        for plus in (False, True):
            backbone = load_backbone(name)
            images = torch.randn(4, 3, *backbone.dtl_info.image_size, generator=torch.Generator().manual_seed(0))
            model, steps = DTL(backbone, 3, DTLConfig.for_backbone(backbone, plus=plus)).eval(), blocks_of(backbone)
            x = steps.embed(images)
            for i in range(len(steps.widths)):
                x = steps.block(i, steps.enter(i, x))
            worst = max(worst, (model(images) - model.head(steps.readout(x))).abs().max().item())
            cases += 1
    setting = "fp32, toy ViT and toy Swin, DTL and DTL+"
    return finding(worst == 0, f"largest difference of the logits {worst:g} in {cases} networks", setting)


@torch.no_grad()
def shared_prefix() -> Finding:
    """Models of two tasks on one backbone give the same features up to block M."""
    backbone = load_backbone("toy/vit")
    images = torch.randn(4, 3, *backbone.dtl_info.image_size, generator=torch.Generator().manual_seed(0))
    models = [
        DTL(backbone, n, DTLConfig.for_backbone(backbone, plus=plus)).eval() for n, plus in ((3, False), (7, True))
    ]
    for model in models:  # as if each had been trained on its own task
        for p in model.trainable_parameters():
            torch.nn.init.normal_(p)
    one, other = (model.prefix(images) for model in models)
    same = torch.equal(one.tokens, other.tokens) and all(torch.equal(t, other.taps[i]) for i, t in one.taps.items())
    numbers = f"tokens and {len(one.taps)} taps {'equal' if same else 'differ'}, with different side networks and heads"
    return finding(same, numbers, "fp32, toy ViT, DTL and DTL+")


def gate(number: str) -> Finding:
    """The gate's largest distance from ReLU, on a grid of 10^-6."""
    value, around, source = paper_number(number)
    h = torch.arange(-100_000, 100_001, dtype=torch.float64) * 1e-6
    here = (swish(h, 100.0) - F.relu(h)).abs().max().item()
    return finding(abs(here - value) <= around, f"{here:.6f} at most, {value} by {source}", "float64, |h| up to 0.1")

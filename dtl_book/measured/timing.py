"""Seconds of a training step, all kinds side by side in one run, as ratios to the plain DTL of the paper.

Every round takes one step of every kind in a new random order, so that whatever slows the machine slows all alike. A
ratio is taken within its round. Random weights and images: neither changes the time.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import nn

from dtl_core.backbones import load_backbone
from dtl_core.baselines import build
from dtl_core.memory import plan_training
from dtl_core.memory.step import AUTOCAST, checkpointed, set_attention

from .memory import image_size
from .rows import Part, attempt, clean

PLAIN, COMPILED = "DTL plain", "DTL plain, compiled"
ROUNDS = (3, 30)  # at least and at most
WARM_UP = 3  # steps before the first round: fp16's scaler finds its scale there
COMPILE_SECONDS = 60.0  # our own guess at a compilation: with less left it is not begun
BATCH, CLASSES = 32, 100
# method and its options for ``build``; "extras": what is done with the model besides
KINDS: dict[str, dict] = {
    PLAIN: {"method": "dtl", "options": {"recompute": "none"}},
    "DTL side": {"method": "dtl", "options": {"recompute": "side"}},
    "DTL blocks": {"method": "dtl", "options": {"recompute": "blocks"}},
    "DTL side, cached prefix": {"method": "dtl", "options": {"recompute": "side"}, "extras": ["cached"]},
    "DTL blocks, cached prefix": {"method": "dtl", "options": {"recompute": "blocks"}, "extras": ["cached"]},
    "DTL side, bf16": {"method": "dtl", "options": {"recompute": "side"}, "extras": ["bf16"]},
    "DTL blocks, bf16": {"method": "dtl", "options": {"recompute": "blocks"}, "extras": ["bf16"]},
    "DTL side, bf16, cached prefix": {"method": "dtl", "options": {"recompute": "side"}, "extras": ["bf16", "cached"]},
    **{
        f"{label}{', checkpointing' if extras else ''}": {"method": method, "options": {}, "extras": extras}
        for label, method in {
            "LoRA (ours)": "lora", "LoRA (peft)": "peft", "BitFit": "bitfit", "AdaptFormer": "adaptformer", "full": "full",
        }.items()
        for extras in ([], ["checkpointing"])
    },
    COMPILED: {"method": "dtl", "options": {"recompute": "none"}, "extras": ["compiled"]},
}  # fmt: skip


def time_specs(device: torch.device) -> list[dict]:
    """Return the rows: every kind in every precision of the device, compiled ones last.

    CUDA has autocast in fp16 (with its scaler) and in bf16, a CPU fp32. A backbone in bf16 runs without autocast beside
    the others.
    """
    rows = [
        {"name": f"{precision}: {kind}", "kind": kind, "precision": precision, "batch_size": BATCH}
        for precision in (tuple(AUTOCAST) if device.type == "cuda" else ("fp32",))
        for kind in KINDS
    ]
    return sorted(rows, key=lambda row: row["kind"] == COMPILED)


def time_rows(specs: list[dict], device: torch.device, backbone: str, deadline: float) -> Iterator[dict]:
    """Yield the rest of each row, timed in groups that fit the device, each with the plain DTL.

    Each group takes its share of the time that is left, and at least three rounds.
    """
    shape = load_backbone(backbone, image_size=image_size(backbone), pretrained=False)
    set_attention(shape, "fused")
    groups = _groups(specs, shape, device)
    for done, group in enumerate(groups):
        left = deadline - time.monotonic()
        if left <= (COMPILE_SECONDS if group[0]["kind"] == COMPILED else 0):
            return
        end = time.monotonic() + left / (len(groups) - done)
        result = attempt(time_group, group, shape, device, end, deadline)
        clean(device)
        yield from ([result] * len(group) if "status" in result else (result[spec["name"]] for spec in group))


def _groups(specs: list[dict], shape: nn.Module, device: torch.device) -> list[list[dict]]:
    """Return rows to time side by side: of one precision, with room for all their models; a compiled one alone."""
    groups: list[list[dict]] = []
    weights = sum(p.numel() * p.element_size() for p in shape.parameters())
    used, room, before = 0, _room(shape, device), None
    for spec in specs:
        # with gradients and AdamW's state four times as much where all are trained
        size = weights * (4 if KINDS[spec["kind"]]["method"] == "full" else 1)
        if spec["kind"] == COMPILED or spec["precision"] != before or used + size > room:
            groups.append([])
            used = weights  # the plain DTL is in each
        groups[-1].append(spec)
        used, before = used + size, spec["precision"]
    return groups


def _room(shape: nn.Module, device: torch.device) -> float:
    """Return the bytes for the models of a group: what is free, less the largest step and a tenth."""
    if device.type != "cuda":
        return float("inf")
    step = plan_training("full", shape.dtl_info.name, batch_size=BATCH, image_size=shape.dtl_info.image_size)
    return 0.9 * torch.cuda.mem_get_info(device)[0] - step.peak_bytes


def time_group(
    specs: list[dict], shape: nn.Module, device: torch.device, end: float, deadline: float
) -> dict[str, dict]:
    """Time some rows of one precision and the plain DTL in rounds.

    No round beyond the third starts that would end after ``end``, and none at all where three would end after
    ``deadline``. The backbone is on the CPU. Return the rest of each row by name: the median of the seconds, and median and
    quartiles of the ratios to the plain DTL in the same round.
    """
    precision = specs[0]["precision"]
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, 3, *shape.dtl_info.image_size, generator=generator).to(device)
    labels = (torch.arange(BATCH) % CLASSES).to(device)
    steps: dict[str, Callable[[], None]] = {}
    failures: dict[str, dict] = {}

    def prepare(kind: str) -> dict:
        step = make_step(KINDS[kind], shape, images, labels, precision)
        for _ in range(WARM_UP):
            step()
        steps[kind] = step
        return {}

    for kind in dict.fromkeys([PLAIN, *(spec["kind"] for spec in specs)]):
        failures[kind] = attempt(prepare, kind)
        clean(device)
    if failures[PLAIN]:
        error = f"the plain DTL, which all are compared with, did not run: {failures[PLAIN]['error']}"
        return {spec["name"]: {**failures[PLAIN], "error": error} for spec in specs}
    seconds = _rounds(steps, device, end, deadline)
    if not seconds[PLAIN]:
        reason = f"the budget has no room for {ROUNDS[0]} rounds of {len(steps)} kinds"
        return {s["name"]: failures[s["kind"]] or {"status": "not run", "reason": reason} for s in specs}
    return {s["name"]: failures[s["kind"]] or _row(seconds[s["kind"]], seconds[PLAIN]) for s in specs}


def _rounds(
    steps: dict[str, Callable[[], None]], device: torch.device, end: float, deadline: float
) -> dict[str, list[float]]:
    """Return the seconds of each kind in each round: three rounds at least, or none."""
    seconds: dict[str, list[float]] = {kind: [] for kind in steps}
    least, most = ROUNDS
    round_takes = sum(_seconds(step, device) for step in steps.values())  # of a round that is not counted
    if time.monotonic() + least * round_takes > deadline:
        return seconds
    order = random.Random(0)
    for done in range(most):
        if done >= least and time.monotonic() + round_takes > end:
            break
        for kind in order.sample(list(steps), len(steps)):
            seconds[kind].append(_seconds(steps[kind], device))
    return seconds


def _seconds(step: Callable[[], None], device: torch.device) -> float:
    """Time one step: between two of CUDA's events, or by the clock."""
    if device.type != "cuda":
        start = time.perf_counter()
        step()
        return time.perf_counter() - start
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize(device)
    start.record()
    step()
    end.record()
    torch.cuda.synchronize(device)
    return start.elapsed_time(end) / 1000


def _row(seconds: list[float], plain: list[float]) -> dict:
    ratios = [a / b for a, b in zip(seconds, plain, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    typical = statistics.median(seconds)
    return {
        "status": "measured", "rounds": len(seconds), "seconds": round(typical, 6),
        "images_per_second": round(BATCH / typical, 1),
        "to_plain": round(middle, 4), "to_plain_low": round(low, 4), "to_plain_high": round(high, 4),
    }  # fmt: skip


def make_step(
    kind: dict, shape: nn.Module, images: torch.Tensor, labels: torch.Tensor, precision: str
) -> Callable[[], None]:
    """Return a function that takes one whole step: forward, backward, AdamW.

    The backbone is copied; the batch is on the device. "amp" has the gradient scaler. A backbone in bf16 runs without
    autocast, whatever the precision.
    """
    device, extras = images.device, kind.get("extras", [])
    model = _model(kind, shape).to(device).train()
    forward: Callable = model
    inputs: object = images
    if "compiled" in extras:
        torch._dynamo.reset()
        forward = torch.compile(model)
    if "cached" in extras:
        forward, inputs = model.suffix, model.prefix(images)
    cast = AUTOCAST.get(precision) if "bf16" not in extras else None
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    scaler = torch.amp.GradScaler(device.type, enabled=cast == torch.float16)

    def step() -> None:
        with torch.autocast(device.type, dtype=cast or torch.bfloat16, enabled=cast is not None):
            loss = F.cross_entropy(forward(inputs), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

    def step_checkpointed() -> None:
        with checkpointed(model):
            step()

    return step_checkpointed if "checkpointing" in extras else step


def _model(kind: dict, shape: nn.Module) -> nn.Module:
    half = {"backbone_dtype": torch.bfloat16} if "bf16" in kind.get("extras", []) else {}
    if kind["method"] == "peft":
        return peft_lora(shape, CLASSES)
    return build(kind["method"], shape, CLASSES, **kind["options"], **half)


def peft_lora(backbone: nn.Module, classes: int) -> nn.Module:
    """Return peft's LoRA (r = 8 on qkv) on the same classifier as ours."""
    from peft import LoraConfig, inject_adapter_in_model

    model = build("linear", backbone, classes)
    inject_adapter_in_model(LoraConfig(r=8, lora_alpha=8, lora_dropout=0.0, target_modules=["qkv"]), model.backbone)
    model.forward = lambda images: model.head(model.features(images))  # a linear probe runs it without autograd
    return model


def describe_row(row: dict) -> str:
    return (
        f"{1000 * row['seconds']:.1f} ms, {row['images_per_second']:.0f} images/s, {row['to_plain']:.2f} of plain DTL "
        f"({row['to_plain_low']:.2f} to {row['to_plain_high']:.2f})"
    )


def _without_peft(spec: dict, device: torch.device) -> str:
    missing = KINDS[spec["kind"]]["method"] == "peft" and find_spec("peft") is None
    return "peft is not installed: pip install peft" if missing else ""


TIME = Part(
    specs=lambda device, backbone: time_specs(device), rows=time_rows, describe=describe_row, refuse=_without_peft
)

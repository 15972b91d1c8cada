"""The planned peak of a step beside the measured one: CUDA's own counter, or the ledger's on a CPU."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import torch
from torch import nn

from dtl_core.backbones import TOYS, load_backbone
from dtl_core.baselines import build
from dtl_core.dtl import DTLConfig
from dtl_core.memory import MIB, measure_training, plan_training
from dtl_core.memory.step import AUTOCAST, set_attention

from ..tables.figure1 import FORMS, NAMES, SETTINGS, figure_options
from .cards import plan_setting
from .rows import Part, attempt, clean, in_budget

STEP = ("precision", "optimizer", "checkpointing", "keep_gradients")  # arguments of ``measure_training``
OTHER = ("backbone", "batch_size", "image_size", "num_classes", "attention", "cached")  # the rest is the method's own
NO_AUTOCAST = "autocast in fp16 and bf16 is CUDA's: it is planned here, and measured on a GPU alone"


def image_size(backbone: str) -> int:
    """Return the side of a backbone's images: a toy has its own."""
    return TOYS[backbone][1]["img_size"] if backbone in TOYS else 224


def memory_specs(backbone: str = "vit_base_patch16_224") -> list[dict]:
    """Return the rows, the most valuable first: {"name", "group", "label", "method", "setting"}.

    ``plan_training(method, **setting)`` plans a row. A toy is measured together with the toy Swin.
    """
    return [
        {
            "name": f"{group}: {label}, {what}", "group": group, "label": label, "method": NAMES[label],
            "setting": plan_setting(NAMES[label], setting),
        }
        for group, label, what, setting in _wanted(backbone)
    ]  # fmt: skip


def _wanted(backbone: str) -> Iterator[tuple[str, str, str, dict]]:
    """Yield group, the figure's name of the method, what the row is, and its setting."""
    swin = "toy/swin" if backbone in TOYS else "swin_base_patch4_window7_224"
    paper, today = ({**s, "backbone": backbone, "image_size": image_size(backbone)} for s in SETTINGS.values())
    # the forms in which the authors of a method ran it, and LoRA as it is by default here
    forms = {label: [options for _, options in FORMS.get(label, ())] or [{}] for label in NAMES}
    forms["LoRA"].append({})
    for label, some in forms.items():
        for options in some:
            what = ", ".join(["amp", *(f"{name} {value}" for name, value in options.items())])
            own = options if label in FORMS else figure_options(NAMES[label])
            yield "figure 1, paper's setting", label, what, {**paper, **own}
    for precision in ("amp", "amp-bf16", "fp32"):
        for label, method in NAMES.items():
            yield "figure 1, today's", label, precision, {**today, **figure_options(method), "precision": precision}
    for precision in ("fp32", "bf16"):
        here = {**today, "precision": precision}
        for recompute in ("side", "blocks", "none"):
            yield "recomputing", "DTL", f"recompute {recompute}, {precision}", {**here, "recompute": recompute}
        for label in ("LoRA", "BitFit", "AdaptFormer", "Full"):
            if (label, precision) != ("Full", "bf16"):  # full fine-tuning has no frozen weights to keep in bf16
                yield "recomputing", label, f"checkpointing, {precision}", {**here, "checkpointing": True}
    for precision in ("fp32", "bf16"):
        for label, recompute in (("DTL", "side"), ("DTL", "blocks"), ("DTL+", "side")):
            setting = {**today, "precision": precision, "recompute": recompute, "cached": True}
            yield "cached prefix", label, f"recompute {recompute}, {precision}", setting
    for label, method in (("DTL", "dtl"), ("DTL+", "dtl+")):
        for first in range(0, 11, 2):
            config = replace(DTLConfig.paper("vit", plus=method == "dtl+"), inject_from=first)
            setting = {**paper, **figure_options(method), "config": config}
            yield "first injection", label, f"M = {first}, amp", setting
    for precision in ("amp", "fp32"):
        for label, method in (("DTL", "dtl"), ("DTL+", "dtl+")):
            place = {"backbone": swin, "image_size": image_size(swin), "precision": precision}
            yield "Swin", label, precision, {**paper, **figure_options(method), **place}
    for precision in ("amp", "fp32"):
        for batch in (8, 32, 128):
            for label in ("DTL", "LoRA", "Full"):
                setting = {**today, "batch_size": batch, "precision": precision}
                yield "batch", label, f"batch {batch}, {precision}", setting


def measure_rows(specs: list[dict], device: torch.device, backbone: str, deadline: float) -> Iterator[dict]:
    """Yield the rest of each row, see ``measure_row``."""
    attempt(_load_libraries, device)  # what fails here fails in the rows, and is noted there
    for spec in in_budget(specs, deadline):
        yield attempt(measure_row, spec, device)


def _load_libraries(device: torch.device) -> None:
    """Take a tiny step that is not measured, so that CUDA's libraries do not load within the first row."""
    for precision in ("fp32", "amp", "bf16") if device.type == "cuda" else ("fp32",):
        tiny = {"backbone": "toy/vit", "image_size": image_size("toy/vit"), "batch_size": 2, "precision": precision}
        _peaks("lora", plan_setting("lora", tiny), device)
    clean(device)


def measure_row(spec: dict, device: torch.device) -> dict:
    """Plan and measure one row of ``memory_specs``.

    Returns:
        "status", and in bytes "planned_bytes", "planned_by_kind", "allocated_bytes" (the most allocated in the second
        step), "reserved_bytes" (the most that the allocator held; None on a CPU and from a stored prefix) and "left_bytes"
        (what is allocated once model, batch and optimizer are gone: cuBLAS's workspaces, which are part of every peak).
        "ratio" is planned over allocated, "ratio_without_left" the same without what is left.
    """
    method, setting = spec["method"], spec["setting"]
    plan = plan_training(method, **_as_arguments(setting))
    clean(device)
    allocated, reserved = _peaks(method, setting, device)
    clean(device)
    left = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    return {
        "status": "measured", "planned_bytes": plan.peak_bytes, "planned_by_kind": plan.by_kind,
        "allocated_bytes": allocated, "reserved_bytes": reserved, "left_bytes": left,
        "ratio": round(plan.peak_bytes / allocated, 6),
        "ratio_without_left": round(plan.peak_bytes / (allocated - left), 6),
    }  # fmt: skip


def _as_arguments(setting: dict) -> dict:
    """Return a row's setting as ``plan_training`` takes it: a config is a ``DTLConfig`` again."""
    config = setting.get("config")
    return {**setting, "config": DTLConfig(**config)} if config else setting


@lru_cache(maxsize=1)
def _backbone(name: str, size: int) -> nn.Module:
    """Return the backbone with random weights, on the CPU; cached, since drawing them takes longer than a step."""
    return load_backbone(name, image_size=size, pretrained=False)


def _peaks(method: str, setting: dict, device: torch.device) -> tuple[int, int | None]:
    """Return the most bytes allocated and reserved in one step. All that it puts on the device goes with it.

    Nothing else of ours is on the device meanwhile: the weights are copied over, and ``measure_training`` itself moves the
    batch from the CPU.
    """
    arguments = _as_arguments(setting)
    options = {k: v for k, v in arguments.items() if k not in (*STEP, *OTHER)}
    if setting["precision"] == "bf16":
        options["backbone_dtype"] = torch.bfloat16
    backbone, size = _backbone(setting["backbone"], setting["image_size"]), setting["image_size"]
    model = build(method, backbone, setting["num_classes"], **options).to(device)
    set_attention(model, setting["attention"])
    inputs = torch.randn(setting["batch_size"], 3, size, size)
    labels = torch.arange(setting["batch_size"]) % setting["num_classes"]
    if setting["cached"]:  # given features, the measurement itself leaves the weights before the suffix off the device
        inputs = model.prefix(inputs.to(device)).to("cpu")
    plan = measure_training(model, (inputs, labels), **{name: arguments[name] for name in STEP})
    if device.type != "cuda":
        return plan.peak_bytes, None
    # the weights before the suffix come back after the step, and would count as reserved
    return plan.cuda_peak_bytes, None if setting["cached"] else torch.cuda.max_memory_reserved(device)


def describe_row(row: dict) -> str:
    planned, allocated = row["planned_bytes"] / MIB, row["allocated_bytes"] / MIB
    return f"planned {planned:,.1f} MiB, measured {allocated:,.1f} MiB ({row['ratio'] - 1:+.2%})"


def summarize(rows: list[dict]) -> dict[str, dict]:
    """Return for each group, and for "all", how far the plans are off: median and worst |ratio - 1| of the measured rows.

    The same without what was left has the suffix "_without_left".
    """
    measured = [row for row in rows if row["status"] == "measured"]
    summary = {}
    for group in dict.fromkeys([*(row["group"] for row in measured), *(["all"] if measured else [])]):
        some = [row for row in measured if group in ("all", row["group"])]
        off, without = ([abs(row[key] - 1) for row in some] for key in ("ratio", "ratio_without_left"))
        summary[group] = {
            "rows": len(some), "median": round(statistics.median(off), 6), "worst": round(max(off), 6),
            "worst_row": some[off.index(max(off))]["name"],
            "median_without_left": round(statistics.median(without), 6), "worst_without_left": round(max(without), 6),
        }  # fmt: skip
    return summary


def describe_summary(summary: dict[str, dict]) -> str:
    """Return the summary in words, a line for each group."""
    return "\n".join(
        f"{group}: planned against measured over {s['rows']} rows: median error {s['median']:.2%}, worst {s['worst']:.2%} "
        f"({s['worst_row']})"
        for group, s in summary.items()
    )


MEMORY = Part(
    specs=lambda device, backbone: memory_specs(backbone),
    rows=measure_rows,
    describe=describe_row,
    refuse=lambda spec, device: (
        NO_AUTOCAST if device.type != "cuda" and spec["setting"]["precision"] in AUTOCAST else ""
    ),
    summarize=summarize,
)

"""The planned peak of a step beside the measured one: CUDA's own counter, or the ledger's on a CPU."""

from __future__ import annotations

import statistics
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from dtl_core.backbones import TOYS, load_backbone
from dtl_core.baselines import build
from dtl_core.dtl import DTLConfig
from dtl_core.memory import MIB, measure_training, plan_training
from dtl_core.memory.step import AUTOCAST, set_attention

from ..tables.figure1 import FORMS, NAMES, SETTINGS, figure_options
from .cards import plan_setting, save_card
from .rows import attempt, clean, fill, open_card

STEP = ("precision", "optimizer", "checkpointing", "keep_gradients")  # arguments of ``measure_training``
OTHER = (
    "backbone",
    "batch_size",
    "image_size",
    "num_classes",
    "attention",
    "cached",
)  # what is left is the method's own
NO_AUTOCAST = "autocast in fp16 and bf16 is CUDA's: it is planned here, and measured on a GPU alone"


def memory_specs(backbone: str = "vit_base_patch16_224") -> list[dict]:
    """Return the rows that are measured, the one that is worth most first.

    Args:
        backbone: a name for ``load_backbone``. A toy has its own image size, and the toy Swin beside it.

    Returns:
        Dicts {"name", "group", "label", "method", "setting"}; ``plan_training(method, **setting)`` plans the row.
    """
    specs: list[dict] = []
    swin = "toy/swin" if backbone in TOYS else "swin_base_patch4_window7_224"
    paper, today = ({**s, **_place(backbone)} for s in SETTINGS.values())

    def add(group: str, label: str, what: str, setting: dict) -> None:
        method = NAMES[label]
        specs.append(
            {
                "name": f"{group}: {label}, {what}", "group": group, "label": label, "method": method,
                "setting": plan_setting(method, setting),
            }
        )  # fmt: skip

    # the forms in which the authors of a method ran it, and LoRA as it is by default here
    forms = {label: [options for _, options in FORMS.get(label, ())] or [{}] for label in NAMES}
    forms["LoRA"].append({})
    for label, some in forms.items():
        for options in some:
            what = ", ".join(["amp", *(f"{name} {value}" for name, value in options.items())])
            own = options if label in FORMS else figure_options(NAMES[label])
            add("figure 1, paper's setting", label, what, {**paper, **own})
    for precision in ("amp", "amp-bf16", "fp32"):
        for label, method in NAMES.items():
            add("figure 1, today's", label, precision, {**today, **figure_options(method), "precision": precision})
    for precision in ("fp32", "bf16"):
        for recompute in ("side", "blocks", "none"):
            what = f"recompute {recompute}, {precision}"
            add("recomputing", "DTL", what, {**today, "precision": precision, "recompute": recompute})
        for label in ("LoRA", "BitFit", "AdaptFormer", "Full"):
            if (label, precision) != ("Full", "bf16"):  # full fine-tuning has no frozen weights to keep in bf16
                what = f"checkpointing, {precision}"
                add("recomputing", label, what, {**today, "precision": precision, "checkpointing": True})
    for precision in ("fp32", "bf16"):
        for label, recompute in (("DTL", "side"), ("DTL", "blocks"), ("DTL+", "side")):
            setting = {**today, "precision": precision, "recompute": recompute, "cached": True}
            add("cached prefix", label, f"recompute {recompute}, {precision}", setting)
    for label, method in (("DTL", "dtl"), ("DTL+", "dtl+")):
        for first in range(0, 11, 2):
            config = replace(DTLConfig.paper("vit", plus=method == "dtl+"), inject_from=first)
            add("first injection", label, f"M = {first}, amp", {**paper, **figure_options(method), "config": config})
    for precision in ("amp", "fp32"):
        for label, method in (("DTL", "dtl"), ("DTL+", "dtl+")):
            setting = {**paper, **figure_options(method), **_place(swin), "precision": precision}
            add("Swin", label, precision, setting)
    for precision in ("amp", "fp32"):
        for batch in (8, 32, 128):
            for label in ("DTL", "LoRA", "Full"):
                setting = {**today, "batch_size": batch, "precision": precision}
                add("batch", label, f"batch {batch}, {precision}", setting)
    return specs


def _place(backbone: str) -> dict:
    return {"backbone": backbone, "image_size": TOYS[backbone][1]["img_size"] if backbone in TOYS else 224}


def measure_memory(
    path: Path, device: torch.device, backbone: str, deadline: float, specs: list[dict] | None = None
) -> dict:
    """Measure the rows one after the other and write the card after each.

    Args:
        path: of the card.
        device: "cuda", or "cpu" for the ledger's count, which has no autocast.
        backbone: a name for ``load_backbone``; random weights.
        deadline: of ``time.monotonic``.
        specs: which rows; ``memory_specs(backbone)`` if None.

    Returns:
        The card. Its "summary" has for each group the median and the worst |ratio - 1| of the measured rows.
    """
    specs, refused = memory_specs(backbone) if specs is None else specs, []
    if device.type != "cuda":
        autocast = [s["name"] for s in specs if s["setting"]["precision"] in AUTOCAST]
        refused = [{"name": name, "reason": NO_AUTOCAST} for name in autocast]
        specs = [s for s in specs if s["name"] not in autocast]
    card = open_card(path, "memory", device, backbone, specs)
    if len(card["rows"]) < len(specs):
        attempt(_load_libraries, device)  # what fails here fails in the rows, and is noted there
    fill(card, path, specs, lambda spec: measure_row(spec, device), deadline, refused, tell_row)
    card["summary"] = summarize(card["rows"])
    save_card(card, path)
    return card


def _load_libraries(device: torch.device) -> None:
    """Takes a tiny step that no one measures, so that CUDA's libraries do not load within the first row."""
    for precision in ("fp32", "amp", "bf16") if device.type == "cuda" else ("fp32",):
        setting = plan_setting("lora", {**_place("toy/vit"), "batch_size": 2, "precision": precision})
        _peaks("lora", setting, device)
    clean(device)


def measure_row(spec: dict, device: torch.device) -> dict:
    """Plan and measure one row.

    Args:
        spec: of ``memory_specs``.
        device: where.

    Returns:
        "status", and in bytes "planned_bytes", "planned_by_kind", "allocated_bytes" (the most allocated in the second
        step), "reserved_bytes" (the most that the allocator held; None on a CPU and from a stored prefix) and "left_bytes"
        (what is allocated once model, batch and optimizer are gone: cuBLAS's workspaces, which sit in every peak).
        "ratio" is planned over allocated, "ratio_without_left" the same without what is left.
    """
    method, setting = spec["method"], spec["setting"]
    plan = plan_training(method, **as_arguments(setting))
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


def as_arguments(setting: dict) -> dict:
    """Return a row's setting as ``plan_training`` takes it: a config is a ``DTLConfig`` again."""
    config = setting.get("config")
    return {**setting, "config": DTLConfig(**config)} if config else setting


@lru_cache(maxsize=1)
def _backbone(name: str, image_size: int) -> nn.Module:
    """With random weights, on the CPU. Kept, since drawing them takes longer than a step."""
    return load_backbone(name, image_size=image_size, pretrained=False)


def _peaks(method: str, setting: dict, device: torch.device) -> tuple[int, int | None]:
    """Bytes allocated and reserved at most in one step. All that it puts on the device goes with it.

    Nothing else of ours is there meanwhile: the weights are copied over, and the batch is made on the CPU and moved by
    ``measure_training`` itself.
    """
    arguments = as_arguments(setting)
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


def tell_row(row: dict) -> str:
    """Return what is printed of a row."""
    if row["status"] != "measured":
        return f"{row['status']} ({row['error'].splitlines()[0][:100]})"
    planned, allocated = row["planned_bytes"] / MIB, row["allocated_bytes"] / MIB
    return f"planned {planned:,.1f} MiB, measured {allocated:,.1f} MiB ({row['ratio'] - 1:+.2%})"


def summarize(rows: list[dict]) -> dict[str, dict]:
    """Return for each group, and for "all", how far the plans are off.

    Args:
        rows: of the card.

    Returns:
        Group -> {"rows", "median", "worst", "worst_row"}: |ratio - 1| of the measured rows, and the same without what was
        left as "median_without_left" and "worst_without_left".
    """
    measured = [row for row in rows if row["status"] == "measured"]
    summary = {}
    for group in [*dict.fromkeys(row["group"] for row in measured), "all"]:
        some = [row for row in measured if group in ("all", row["group"])]
        if not some:
            continue
        off, without = ([abs(row[key] - 1) for row in some] for key in ("ratio", "ratio_without_left"))
        summary[group] = {
            "rows": len(some), "median": round(statistics.median(off), 6), "worst": round(max(off), 6),
            "worst_row": some[off.index(max(off))]["name"],
            "median_without_left": round(statistics.median(without), 6), "worst_without_left": round(max(without), 6),
        }  # fmt: skip
    return summary


def tell_summary(summary: dict[str, dict]) -> str:
    """Return the summary in words, a line for each group."""
    return "\n".join(
        f"{group}: planned against measured over {s['rows']} rows: median error {s['median']:.2%}, worst {s['worst']:.2%} "
        f"({s['worst_row']})"
        for group, s in summary.items()
    )

"""The largest backbone of each family that trains on a GPU at a given batch, by method and form."""

from __future__ import annotations

import sys

import pandas as pd
import torch
from tqdm import tqdm

from dtl_core import UnsupportedBackbone, load_backbone
from dtl_core.memory import GIB, plan_training, room_bytes

from ..experiments.settings import COMPARED
from .memory import forms_of

METHODS = ("full", *COMPARED)
LADDERS = {  # family: size -> name, from the smallest to the largest
    "ViT": {
        "S/16": "vit_small_patch16_224", "B/16": "vit_base_patch16_224", "L/16": "vit_large_patch16_224",
        "H/14": "vit_huge_patch14_224", "g/14": "vit_giant_patch14_224",
    },
    "Swin": {f"{size[0].upper()}": f"swin_{size}_patch4_window7_224" for size in ("tiny", "small", "base", "large")},
    "DINOv3": {
        "S/16": "vit_small_patch16_dinov3", "B/16": "vit_base_patch16_dinov3", "L/16": "vit_large_patch16_dinov3",
        "H+/16": "vit_huge_plus_patch16_dinov3", "7B/16": "vit_7b_patch16_dinov3",
    },
}  # fmt: skip
COLUMNS = ["form", "method", "family", "size", "backbone", "parameters", "GiB"]


def largest_backbones(
    gpu_gib: float, *, ladders: dict[str, dict[str, str]] | None = None, methods: tuple[str, ...] | None = None,
    checkpointing: bool = False, progress: bool = True, **setting,
) -> tuple[pd.DataFrame, dict[str, str]]:  # fmt: skip
    """Plan the largest backbone of each family that fits a GPU, for each method in each of its forms (``forms_of``).

    A GiB of the GPU is left for CUDA itself, as by ``largest_batch``. A family's peak rises from one size to the next, so
    halving finds the answer in two or three plans.

    Returns:
        A row for each form and family, with columns form, method, family, size, backbone, parameters (of the backbone) and
        GiB (planned peak); the last four are missing where not even the smallest fits. And what could not be planned,
        with the reason.
    """
    room, ladders, methods, absent = room_bytes(gpu_gib), ladders or LADDERS, methods or METHODS, {}
    counts = {name: _parameters(name, setting, absent) for ladder in ladders.values() for name in ladder.values()}
    forms = {form: (m, more) for m in methods for form, more in forms_of(m, "side", checkpointing).items()}
    steps = [(form, family) for form in forms for family in ladders]
    rows = []
    for form, family in tqdm(steps, desc="planning", unit="row", leave=False, disable=not progress, file=sys.stderr):
        method, more = forms[form]
        sizes = [(size, name) for size, name in ladders[family].items() if name not in absent]
        low, high, best = 0, len(sizes), (None, None, None, None)
        try:
            while low < high:
                middle = (low + high) // 2
                size, name = sizes[middle]
                plan = plan_training(method, name, **{"checkpointing": checkpointing, **setting, **more})
                if plan.peak_bytes <= room:
                    low, best = middle + 1, (size, name, counts[name], plan.peak_bytes / GIB)
                else:
                    high = middle
        except UnsupportedBackbone as error:
            absent[f"{method} on {family}"] = str(error)
        if sizes and f"{method} on {family}" not in absent:
            rows.append((form, method, family, *best))
    return pd.DataFrame(rows, columns=COLUMNS), absent


def _parameters(name: str, setting: dict, absent: dict[str, str]) -> int:
    """Return the parameters of a backbone, or note in ``absent`` why it cannot be had."""
    try:
        with torch.device("meta"):
            backbone = load_backbone(name, image_size=setting.get("image_size", 224), pretrained=False)
    except (UnsupportedBackbone, ValueError) as error:  # this timm lacks it, or it does not take such images
        absent[name] = str(error)
        return 0
    return sum(p.numel() for p in backbone.parameters())


def backbones_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ``largest_backbones`` as texts: a row for each form, a column for each family."""
    cells = [
        "none" if pd.isna(r.GiB) else f"{r.size}, {r.parameters / 1e6:,.0f} M, {r.GiB:.2f} GiB"
        for r in frame.itertuples(index=False)
    ]
    cells = frame.assign(cell=cells).pivot(index="form", columns="family", values="cell")
    return cells.loc[list(dict.fromkeys(frame["form"])), list(dict.fromkeys(frame["family"]))].fillna("–")


def backbones_setting(gpu_gib: float, setting: dict) -> str:
    """Return what the rows of ``largest_backbones`` are, with their setting."""
    shown = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in setting.items())
    return f"The largest backbone of each family that trains on a GPU of {gpu_gib:g} GiB ({shown}; planned)"


def backbones_sentence(frame: pd.DataFrame, gpu_gib: float, setting: dict) -> str:
    """Describe the picture of ``largest_backbones``; its alternative text."""

    def words(form: str, rows: pd.DataFrame) -> str:
        sizes = [f"{r.family} {'none' if pd.isna(r.GiB) else r.size}" for r in rows.itertuples(index=False)]
        return f"{form}: {', '.join(sizes)}"

    said = "; ".join(words(form, rows) for form, rows in frame.groupby("form", sort=False))
    return f"{backbones_setting(gpu_gib, setting)}. {said}."

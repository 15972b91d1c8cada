"""Compare all methods, and return the texts that `dtl memory` prints."""

from __future__ import annotations

import json
import sys

import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from dtl_core import DTLConfig, UnsupportedBackbone, load_backbone
from dtl_core.baselines import METHODS, build
from dtl_core.memory import MIB, MemoryPlan, largest_batch, plan_training

from ..experiments.run import LATE_METHODS

DTLS = ("dtl", "dtl+")


def forms_of(method: str, recompute: str, checkpointing: bool) -> dict[str, dict]:
    """Return the forms of a method that are compared: label -> what it adds to the setting.

    A method whose gradient crosses the blocks has a plain form and one with gradient checkpointing. A DTL has a plain form,
    as its authors run it, and lean forms, one with a cached prefix. With ``checkpointing`` each has only that form.
    """
    if checkpointing:
        return {f"{method}, checkpointing": _options(method, recompute)}
    if method in DTLS:
        lean = {f"{method}, {mode} recomputed": {"recompute": mode} for mode in ("side", "blocks")}
        cached = {f"{method}, blocks recomputed, cached prefix": {"recompute": "blocks", "cached": True}}
        return {f"{method}, plain": {"recompute": "none"}, **lean, **cached}
    if method in ("linear", "lst", "res-tuning-bypass"):  # no gradient crosses a block
        return {method: {}}
    return {method: {}, f"{method}, checkpointing": {"checkpointing": True}}


def late_forms(backbone: str, image_size: int | tuple[int, int]) -> dict[str, tuple[str, dict]]:
    """Return what is compared where every method keeps the blocks up to M frozen: label -> method, what it adds.

    The rivals adapt the blocks after M and have the same favours as DTL: checkpointing, and the stored prefix. LoRA and
    AdaptFormer also have the size whose parameters come nearest to DTL's.
    """
    with torch.device("meta"):
        shape = load_backbone(backbone, image_size=image_size, pretrained=False)
    first = DTLConfig.for_backbone(shape).inject_from + 1
    sized = {"lora": "rank", "adaptformer": "bottleneck"}
    asked = {(method, ""): {"first_block": first} for method in LATE_METHODS}
    for method, name in sized.items():
        sizes = {n: _trained(method, shape, first_block=first, **{name: n}) for n in range(1, 17)}
        target = _trained("dtl", shape)
        nearest = min(sizes, key=lambda n: abs(sizes[n] - target))
        asked[method, f" ({name} {nearest})"] = {"first_block": first, name: nearest}
    forms: dict[str, tuple[str, dict]] = {"full": ("full", {})}
    for (method, size), own in asked.items():
        label = f"{method} from block {first}{size}"
        forms |= {
            label: (method, own),
            f"{label}, checkpointing": (method, own | {"checkpointing": True}),
            f"{label}, cached prefix": (method, own | {"cached": True}),
            f"{label}, checkpointing, cached prefix": (method, own | {"checkpointing": True, "cached": True}),
        }
    for method in DTLS:
        for name, own in forms_of(method, "side", False).items():
            forms[name] = method, own
        forms[f"{method}, side recomputed, cached prefix"] = method, {"recompute": "side", "cached": True}
    bypass = {"res-tuning-bypass": {}, "res-tuning-bypass, cached prefix": {"cached": True}}
    forms |= {label: ("res-tuning-bypass", own) for label, own in bypass.items()}
    return forms | {"linear": ("linear", {}), "linear on all taps": ("linear", {"taps": True})}


def _trained(method: str, backbone: nn.Module, **options) -> int:
    """Return the trained parameters without the head; no number to come near to where the method does not run."""
    try:
        with torch.device("meta"):
            model = build(method, backbone, 2, **options)
    except UnsupportedBackbone:
        return sys.maxsize
    head = sum(p.numel() for p in model.head.parameters())
    return sum(p.numel() for p in model.trainable_parameters()) - head


def _options(method: str, recompute: str) -> dict:
    return {"recompute": recompute} if method in DTLS else {}


def plan_methods(
    backbone: str = "vit_base_patch16_224", *, recompute: str = "side", checkpointing: bool = False, progress: bool = True,
    late: bool = False, **setting,
) -> tuple[dict[str, MemoryPlan], dict[str, str]]:  # fmt: skip
    """Plan every method on one backbone, in each of its forms; see ``plan_training``, ``forms_of`` and ``late_forms``.

    Return the plans by form, and for the methods that do not run on this backbone the reason.
    """
    plans, reasons = {}, {}
    if late:
        forms = late_forms(backbone, setting.get("image_size", 224))
    else:
        forms = {label: (m, more) for m in METHODS for label, more in forms_of(m, recompute, checkpointing).items()}
    shown = tqdm(forms.items(), desc="planning", unit="form", leave=False, disable=not progress, file=sys.stderr)
    for label, (method, more) in shown:
        if method in reasons:
            continue
        try:
            plans[label] = plan_training(method, backbone, **{"checkpointing": checkpointing, **setting, **more})
        except (UnsupportedBackbone, ValueError) as error:
            if not plans:  # full fine-tuning runs on every backbone: it is the setting that is wrong
                raise
            reasons[method] = str(error)
    return plans, reasons


def memory_table(plans: dict[str, MemoryPlan]) -> pd.DataFrame:
    """Return a row for each plan, indexed by its label.

    Columns are trained parameters without the head; peak, static and held for backward in MiB; the peak as a share of
    full fine-tuning, where that is among the plans.
    """
    # plain where it is there
    full = next((plan.peak_bytes for plan in plans.values() if plan.setting["method"] == "full"), None)
    rows = {
        label: {
            "trained parameters": plan.parameters,
            "peak MiB": plan.peak_bytes / MIB,
            "static MiB": plan.static_bytes / MIB,
            "held for backward MiB": plan.saved_bytes / MIB,
            **({"of full": plan.peak_bytes / full} if full else {}),
        }
        for label, plan in plans.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def compare_text(
    backbone: str, *, recompute: str = "side", late: bool = False, as_json: bool = False, **setting
) -> str:  # fmt: skip
    """Return what ``dtl memory --compare`` prints."""
    plans, reasons = plan_methods(backbone, recompute=recompute, late=late, **setting)
    if as_json:
        return json.dumps({"plans": {m: vars(p) for m, p in plans.items()}, "unsupported": reasons}, indent=1)
    setting_text = ", ".join(f"{name} {value}" for name, value in setting.items() if name != "checkpointing")
    absent = [f"{method}: not on this backbone ({reason.split(':')[0]})" for method, reason in reasons.items()]
    table = memory_table(plans).to_string(float_format="{:,.3f}".format)
    return "\n".join([f"{backbone}, {setting_text}, planned:", table, *absent])


def plan_text(
    method: str, backbone: str, *, recompute: str = "side", gpu_gib: float | None = None, as_json: bool = False, **setting
) -> str:  # fmt: skip
    """Return what ``dtl memory`` prints for one method."""
    setting |= _options(method, recompute)
    plan, fit = plan_training(method, backbone, **setting), None
    if gpu_gib is not None:
        fit = largest_batch(
            method, backbone, gpu_gib=gpu_gib, **{k: v for k, v in setting.items() if k != "batch_size"}
        )
    if as_json:
        return json.dumps({**vars(plan), "largest_batch": vars(fit) if fit else None}, indent=1)
    blocks = pd.DataFrame({"at the peak MiB": plan.by_block, "held for backward MiB": plan.saved_by_block})
    blocks = (blocks.reindex(plan.by_block) / MIB).round(1).fillna(0.0).rename_axis("made in")
    parts = [plan.sentence(), plan.to_frame().to_string(), blocks.to_string(), *([fit.sentence()] if fit else [])]
    return "\n\n".join(parts)

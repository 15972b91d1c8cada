"""The leaner DTL in the README: what its forms need, planned anew, and what a step costs in time, from the recorded card."""

from __future__ import annotations

import json
from pathlib import Path

from ..memory import MIB, MemoryPlan, plan_training
from ..paths import recorded_path, results_dir

BACKBONE, SETTING = "vit_base_patch16_224", {"batch_size": 32, "image_size": 224, "num_classes": 100}
FORMS = {
    'DTL, plain (`recompute="none"`)': "none",
    'DTL, default (`recompute="side"`)': "side",
    'DTL, blocks recomputed (`recompute="blocks"`)': "blocks",
}
MEMORY_MARKS = ("<!-- leaner: begin (dtl results --write) -->", "<!-- leaner: end -->")
TIME_MARKS = ("<!-- step times: begin (dtl results --write) -->", "<!-- step times: end -->")


def floor_bytes(plan: MemoryPlan) -> int:
    """What no recomputation of blocks can do without: weights, input, optimizer, and the taps for d(down)."""
    width = 2 if plan.setting["precision"] == "bf16" else 4
    # 12 blocks are tapped: 197 tokens of 768 numbers for each image
    return plan.static_bytes + 12 * plan.setting["batch_size"] * 197 * 768 * width


def memory_markdown() -> str:
    """A row for each form, in fp32 and with the frozen backbone in bf16. Planned here and now."""

    def row(label: str, *peaks: int) -> str:
        return f"| {label} | " + " | ".join(f"{peak / MIB:,.1f}" for peak in peaks) + " | –" * (2 - len(peaks)) + " |"

    lines = ["| form | fp32 (MiB) | frozen backbone in bf16 (MiB) |", "|---|--:|--:|"]
    for label, method in (("full fine-tuning", "full"), ("LoRA (r = 8)", "lora")):
        lines.append(row(label, plan_training(method, BACKBONE, **SETTING).peak_bytes))
    for label, mode in FORMS.items():
        plans = [plan_training("dtl", BACKBONE, precision=p, recompute=mode, **SETTING) for p in ("fp32", "bf16")]
        lines.append(row(label, *(plan.peak_bytes for plan in plans)))
    leanest = [f"{plan.peak_bytes / floor_bytes(plan):.2f}" for plan in plans]
    lines.append(row("floor: weights, input, optimizer, and the taps for `down`", *map(floor_bytes, plans)))
    note = f"The last form lies at {leanest[0]} and {leanest[1]} times its floor: what is above is the working set of one block for a quarter of the batch."
    return "\n".join([*lines, "", note])


def time_markdown(root: Path | None = None) -> str:
    """A row for each kind of step, from the card of ``benchmarks/step_time.py``.

    Raises:
        FileNotFoundError: nothing is recorded.
    """
    path = recorded_path((root or results_dir()) / "benchmarks" / "step-time.json")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: python benchmarks/step_time.py --out {path}")
    card = json.loads(path.read_text())
    lines = ["| step | of plain DTL | of LoRA (peft) | by arithmetic |", "|---|--:|--:|--:|"]
    for r in card["rows"]:
        ratios = [
            f"{r[f'to_{key}']:.2f} ({r[f'to_{key}_low']:.2f} to {r[f'to_{key}_high']:.2f})" for key in ("plain", "lora")
        ]
        lines.append(f"| {r['kind']} | {' | '.join(ratios)} | {r['arithmetic'] or '–'} |")
    s, torch = card["setting"], card["versions"]["torch"]
    note = (
        f"Median ratio and quartiles over {s['rounds']} rounds; {s['backbone']} at {s['image_size']} px, batch {s['batch_size']}, "
        f"{s['threads']} threads of a CPU with{'' if card['bf16_instructions'] else 'out'} bf16 instructions, torch {torch}. "
        "By arithmetic: forwards of a block and backwards through one, of plain DTL's 17."
    )
    return "\n".join([*lines, "", note])

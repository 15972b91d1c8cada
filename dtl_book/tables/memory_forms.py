"""Time of a step against its peak memory: every method with the same savings, as planned and as timed side by side."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pandas as pd

from dtl_core.memory import MIB, MemoryPlan, plan_training

from .cells import NAMES, NOTHING, markdown
from .records import read_record, write_record

BACKBONE, SETTING = "vit_base_patch16_224", {"batch_size": 32, "image_size": 224, "num_classes": 100}
RIVALS = (("full", "full"), ("lora", "LoRA"), ("bitfit", "BitFit"), ("adaptformer", "AdaptFormer"))
CHECKPOINTED = ("checkpointing", {"checkpointing": True}, ", checkpointing")
# key, form, what it adds to the setting, its name in the card of the step times
FORMS = [(key, form, more, kind + end) for key, kind in RIVALS for form, more, end in (("plain", {}, ""), CHECKPOINTED)]
FORMS += [
    ("dtl", "plain (the authors')", {"recompute": "none"}, "DTL plain"),
    ("dtl", "side recomputed (default)", {"recompute": "side"}, "DTL side"),
    ("dtl", "blocks recomputed", {"recompute": "blocks"}, "DTL blocks"),
    ("dtl", "side recomputed, cached prefix", {"recompute": "side", "cached": True}, "DTL side, cached prefix"),
    ("dtl", "blocks recomputed, cached prefix", {"recompute": "blocks", "cached": True}, "DTL blocks, cached prefix"),
]
PRECISIONS = ("fp32", "bf16")
COLUMNS = ["method", "key", "form", "precision", "MiB", "time", "low", "high", "arithmetic"]
ROWS = "planned/time-memory.json"


def floor_bytes(plan: MemoryPlan) -> int:
    """Return what recomputing blocks cannot avoid: weights, input, optimizer, and the taps for d(down)."""
    width = 2 if plan.setting["precision"] == "bf16" else 4
    # 12 blocks are tapped: 197 tokens of 768 numbers for each image
    return plan.static_bytes + 12 * plan.setting["batch_size"] * 197 * 768 * width


@cache
def planned_peak(method: str, precision: str, more: tuple[tuple[str, object], ...]) -> int:
    """Return the peak bytes of a form, on ``BACKBONE`` in ``SETTING``."""
    return plan_training(method, BACKBONE, precision=precision, **SETTING, **dict(more)).peak_bytes


def step_times(root: Path | None = None) -> dict:
    """Return the card of ``benchmarks/step_time.py``; see ``read_record``."""
    return read_record("benchmarks/step-time.json", "python benchmarks/step_time.py --out {}", root)


def time_against_memory(root: Path | None = None) -> pd.DataFrame:
    """Return a row for each method, form and precision.

    Returns:
        Columns: method (name), key, form, precision ("fp32", or "bf16" for a frozen backbone in bf16), MiB (planned peak),
        time (median ratio to a step of plain DTL in fp32), low, high (its quartiles), arithmetic. Full fine-tuning has no
        frozen weights, so it has no row in bf16.
    """
    timed, rows = {row["kind"]: row for row in step_times(root)["rows"]}, []
    for precision in PRECISIONS:
        for key, form, more, kind in FORMS:
            if precision == "bf16" and key == "full":
                continue
            first, *rest = kind.split(", ")  # in bf16 "LoRA, checkpointing" is "LoRA, bf16, checkpointing"
            row = timed[kind if precision == "fp32" else ", ".join([first, "bf16", *rest])]
            mib = planned_peak(key, precision, tuple(more.items())) / MIB
            times = (row[name] for name in ("to_plain", "to_plain_low", "to_plain_high", "arithmetic"))
            rows.append((NAMES.get(key, "Full fine-tuning"), key, form, precision, mib, *times))
    return pd.DataFrame(rows, columns=COLUMNS)


def save_trade_rows(frame: pd.DataFrame, root: Path | None = None) -> Path:
    """Write the rows of ``time_against_memory``, for pages that do not plan them again."""
    return write_record(ROWS, json.loads(frame.to_json(orient="records")), root)


def load_trade_rows(root: Path | None = None) -> pd.DataFrame:
    """Return the recorded rows of ``time_against_memory``; see ``read_record``."""
    return read_record(ROWS, "`dtl results --write` makes it again", root, lambda rows: pd.DataFrame(rows)[COLUMNS])


def trade_sentence(frame: pd.DataFrame) -> str:
    """Describe the picture of ``time_against_memory``; its alt text."""

    def words(key: str, form: str, precision: str = "fp32") -> str:
        rows = frame[(frame.key == key) & frame.form.str.startswith(form) & (frame.precision == precision)]
        row = rows.iloc[0]
        return f"{row.MiB:,.0f} MiB at {row.time:.2f}"

    return (
        "Peak memory of a training step against its time, one point a method and form, time as a multiple of plain DTL's. In "
        f"fp32 LoRA stands at {words('lora', 'plain')}, with checkpointing at {words('lora', 'checkpointing')}; DTL as its "
        f"authors run it at {words('dtl', 'plain')}, with blocks recomputed at {words('dtl', 'blocks recomputed')}, and from "
        f"a cached prefix besides at {words('dtl', 'blocks recomputed, cached')}. With a frozen backbone in bf16 LoRA with "
        f"checkpointing stands at {words('lora', 'checkpointing', 'bf16')}, the leanest DTL at "
        f"{words('dtl', 'blocks recomputed, cached', 'bf16')}."
    )


def trade_table(frame: pd.DataFrame) -> list[str]:
    """Return the rows of ``time_against_memory`` as lines of a Markdown table, a line per form with both precisions."""
    time = frame.apply(lambda row: f"{row.time:.2f} ({row.low:.2f} to {row.high:.2f})", axis=1)
    texts = frame.assign(MiB=frame["MiB"].map("{:,.1f}".format), time=time).set_index(["method", "form"])
    fp32, bf16 = (texts[texts["precision"] == precision] for precision in PRECISIONS)
    fp32 = fp32[["MiB", "time", "arithmetic"]].set_axis(["peak, fp32 (MiB)", "time, fp32", "by arithmetic"], axis=1)
    bf16 = bf16[["MiB", "time"]].set_axis(["peak, bf16 backbone (MiB)", "time, bf16 backbone"], axis=1)
    return markdown(fp32.join(bf16).fillna(NOTHING).reset_index(), left=2).split("\n")


def trade_markdown(root: Path | None = None) -> str:
    """Return the picture, its table and its note for RESULTS.md; see ``read_record`` for what it raises."""
    frame, card = time_against_memory(root), step_times(root)
    plans = [plan_training("dtl", BACKBONE, precision=p, recompute="blocks", **SETTING) for p in PRECISIONS]
    fp32, bf16 = (f"{floor_bytes(plan) / MIB:,.1f}" for plan in plans)
    s, peft = card["setting"], next(r for r in card["rows"] if r["kind"] == "LoRA (peft)")
    note = (
        f"Peak: planned, ViT-B/16, batch {SETTING['batch_size']}, {SETTING['image_size']} px, {SETTING['num_classes']} classes, "
        "AdamW, fused attention. Time: a step as a multiple of plain DTL's in fp32, median and quartiles over "
        f"{s['rounds']} rounds side by side; {s['backbone']}, batch {s['batch_size']}, {s['threads']} threads of a CPU "
        f"with{'' if card['bf16_instructions'] else 'out'} bf16 instructions, torch {card['versions']['torch']}; not measured on a "
        f"GPU. LoRA of peft takes {peft['to_plain']:.2f}. By arithmetic: forwards of a block and backwards through one, of plain "
        "DTL's 17. From a cached prefix the frozen weights up to block M are not on the device. Floor: what recomputing blocks "
        "cannot do without, of a step from images."
    )
    return "\n".join([
        f'<img src="notebooks/images/time-memory.png" width="720" alt="{trade_sentence(frame)}">', "", *trade_table(frame),
        f"| floor: weights, input, optimizer, taps | | {fp32} | – | – | {bf16} | – |", "", note,
    ])  # fmt: skip

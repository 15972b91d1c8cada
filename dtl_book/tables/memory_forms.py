"""Time of a step against its peak memory: every method with the same favours, as planned and as timed side by side."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pandas as pd

from dtl_core.files import DamagedFile, written_whole
from dtl_core.memory import MIB, MemoryPlan, plan_training

from ..paths import recorded_path, results_dir

BACKBONE, SETTING = "vit_base_patch16_224", {"batch_size": 32, "image_size": 224, "num_classes": 100}
CHECKPOINTED = {"checkpointing": True}
# method in the table, key, form, what it adds to the setting, its name in the card of the step times
FORMS: tuple[tuple[str, str, str, dict, str], ...] = (
    ("Full fine-tuning", "full", "plain", {}, "full"),
    ("Full fine-tuning", "full", "checkpointing", CHECKPOINTED, "full, checkpointing"),
    ("LoRA (r = 8)", "lora", "plain", {}, "LoRA"),
    ("LoRA (r = 8)", "lora", "checkpointing", CHECKPOINTED, "LoRA, checkpointing"),
    ("BitFit", "bitfit", "plain", {}, "BitFit"),
    ("BitFit", "bitfit", "checkpointing", CHECKPOINTED, "BitFit, checkpointing"),
    ("AdaptFormer", "adaptformer", "plain", {}, "AdaptFormer"),
    ("AdaptFormer", "adaptformer", "checkpointing", CHECKPOINTED, "AdaptFormer, checkpointing"),
    ("DTL", "dtl", "plain (the authors')", {"recompute": "none"}, "DTL plain"),
    ("DTL", "dtl", "side recomputed (default)", {"recompute": "side"}, "DTL side"),
    ("DTL", "dtl", "blocks recomputed", {"recompute": "blocks"}, "DTL blocks"),
    ("DTL", "dtl", "side recomputed, cached prefix", {"recompute": "side", "cached": True}, "DTL side, cached prefix"),
    (
        "DTL",
        "dtl",
        "blocks recomputed, cached prefix",
        {"recompute": "blocks", "cached": True},
        "DTL blocks, cached prefix",
    ),
)
PRECISIONS = ("fp32", "bf16")
MARKS = ("<!-- leaner: begin (dtl results --write) -->", "<!-- leaner: end -->")


def floor_bytes(plan: MemoryPlan) -> int:
    """What no recomputation of blocks can do without: weights, input, optimizer, and the taps for d(down)."""
    width = 2 if plan.setting["precision"] == "bf16" else 4
    # 12 blocks are tapped: 197 tokens of 768 numbers for each image
    return plan.static_bytes + 12 * plan.setting["batch_size"] * 197 * 768 * width


@cache
def planned_peak(method: str, precision: str, more: tuple[tuple[str, object], ...]) -> int:
    """Peak bytes of a form, on ``BACKBONE`` in ``SETTING``."""
    return plan_training(method, BACKBONE, precision=precision, **SETTING, **dict(more)).peak_bytes


def step_times(root: Path | None = None) -> dict:
    """Return the card of ``benchmarks/step_time.py``.

    Args:
        root: folder of the results; ``results_dir()`` if None.

    Raises:
        FileNotFoundError: nothing is recorded.
    """
    path = recorded_path((root or results_dir()) / "benchmarks" / "step-time.json")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: python benchmarks/step_time.py --out {path}")
    return json.loads(path.read_text(encoding="utf-8"))


def time_against_memory(root: Path | None = None) -> pd.DataFrame:
    """Return a row for each method, form and precision.

    Args:
        root: see ``step_times``.

    Returns:
        Columns: method (name), key, form, precision ("fp32", or "bf16" for a frozen backbone in bf16), MiB (planned peak),
        time (median ratio to a step of plain DTL in fp32), low, high (its quartiles), arithmetic. Full fine-tuning has no
        frozen weights, so it has no row in bf16.
    """
    timed, rows = {row["kind"]: row for row in step_times(root)["rows"]}, []
    for precision in PRECISIONS:
        for name, key, form, more, kind in FORMS:
            if precision == "bf16" and key == "full":
                continue
            row = timed[kind if precision == "fp32" else _in_bf16(kind)]
            rows.append(
                {
                    "method": name, "key": key, "form": form, "precision": precision,
                    "MiB": planned_peak(key, precision, tuple(more.items())) / MIB, "time": row["to_plain"],
                    "low": row["to_plain_low"], "high": row["to_plain_high"], "arithmetic": row["arithmetic"],
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def trade_path(root: Path | None = None) -> Path:
    """Return where the rows of ``time_against_memory`` are recorded."""
    return (root or results_dir()) / "planned" / "time-memory.json"


def save_trade_rows(frame: pd.DataFrame, path: Path | None = None) -> Path:
    """Write the rows, whole or not at all, for pages that do not plan them anew."""
    path = path or trade_path()
    rows = json.loads(frame.to_json(orient="records"))
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def load_trade_rows(path: Path | None = None) -> pd.DataFrame:
    """Return the recorded rows of ``time_against_memory``.

    Raises:
        FileNotFoundError, DamagedFile: they are missing or damaged; the message says what makes them again.
    """
    path = path or recorded_path(trade_path())
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: `dtl results --write` makes it")
    try:
        frame = pd.DataFrame(json.loads(path.read_text(encoding="utf-8")))
        return frame[["method", "key", "form", "precision", "MiB", "time", "low", "high", "arithmetic"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedFile(f"{path} is damaged ({error}): `dtl results --write` makes it again") from error


def _in_bf16(kind: str) -> str:
    """The benchmark's name of a form with a backbone in bf16: "LoRA, checkpointing" is "LoRA, bf16, checkpointing"."""
    first, *rest = kind.split(", ")
    return ", ".join([first, "bf16", *rest])


def trade_sentence(frame: pd.DataFrame) -> str:
    """What the picture of ``time_against_memory`` shows; its alt text."""

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
    """Return the rows of ``time_against_memory`` as lines of a Markdown table, a line a form with both precisions."""
    lines = [
        "| method | form | peak, fp32 (MiB) | time, fp32 | by arithmetic | peak, bf16 backbone (MiB) | time, bf16 backbone |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for (name, form), rows in frame.groupby(["method", "form"], sort=False):
        by = {row.precision: row for row in rows.itertuples()}
        cells = [
            f"{by[p].MiB:,.1f} | {by[p].time:.2f} ({by[p].low:.2f} to {by[p].high:.2f})" for p in PRECISIONS if p in by
        ]
        cells[0] += f" | {by['fp32'].arithmetic}"
        lines.append(f"| {name} | {form} | {' | '.join(cells + ['– | –'] * (2 - len(cells)))} |")
    return lines


def trade_markdown(root: Path | None = None) -> str:
    """The picture, its table and its note for RESULTS.md.

    Raises:
        FileNotFoundError: see ``step_times``.
    """
    frame, card = time_against_memory(root), step_times(root)
    picture = f'<img src="notebooks/images/time-memory.png" width="720" alt="{trade_sentence(frame)}">'
    lines = [picture, "", *trade_table(frame)]
    plans = [plan_training("dtl", BACKBONE, precision=p, recompute="blocks", **SETTING) for p in PRECISIONS]
    floors = [f"{floor_bytes(plan) / MIB:,.1f}" for plan in plans]
    lines.append(f"| floor: weights, input, optimizer, taps | | {floors[0]} | – | – | {floors[1]} | – |")
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
    return "\n".join([*lines, "", note])

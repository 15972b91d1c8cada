"""Seconds of a training step, side by side in one run, as ratios to the plain DTL of the paper.

    python benchmarks/step_time.py --out results/benchmarks/step-time.json

Every round takes one step of every kind, one after the other in an order that is shuffled anew, so that a busy machine
slows all of them alike. A ratio is taken within its round. Random weights, random images: neither changes the time.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from torch import nn
from tqdm import tqdm

from dtl_book.measured.timing import peft_lora
from dtl_core import load_backbone
from dtl_core.baselines import build
from dtl_core.files import written_whole
from dtl_core.memory.step import checkpointed, set_attention

PLAIN = "DTL plain"
# forward and backward of the frozen and the crossed blocks, in forwards of one block: a backward through a frozen block
# costs one forward more, one that also makes weight gradients two; the lean forms leave out a third of the last block's
# products, forward and backward, by taking the mean over the tokens before its last layer; checkpointing adds a forward
# of every block
ARITHMETIC = {
    "DTL plain": "17/17", "DTL side": "16.3/17", "DTL blocks": "21/17", "DTL side, cached prefix": "9.3/17",
    "DTL blocks, cached prefix": "14/17", "LoRA (peft)": "24/17", "LoRA": "24/17", "BitFit": "24/17", "AdaptFormer": "24/17",
    "full": "36/17", "LoRA, checkpointing": "36/17", "BitFit, checkpointing": "36/17", "AdaptFormer, checkpointing": "36/17",
    "full, checkpointing": "48/17",
}  # fmt: skip
FIRST = 7  # of twelve blocks: M + 1
RIVALS = {"LoRA": "lora", "BitFit": "bitfit", "AdaptFormer": "adaptformer"}


@dataclass
class Bench:
    """Compares the seconds of a step.

    Attributes:
        backbone: a name for ``load_backbone``; random weights.
        image_size: side in pixels.
        batch_size: images in a step.
        classes: of the head.
        rounds: counted rounds, after one that is not.
        threads: of torch.
        out: JSON file for the figures.
    """

    backbone: str = "vit_base_patch16_224"
    image_size: int = 224
    batch_size: int = 8
    classes: int = 100
    rounds: int = 7
    threads: int = 2
    out: Path | None = None


def kinds(bench: Bench, images: torch.Tensor) -> dict[str, Callable[[], None]]:
    """A function for each kind, which takes one whole step: forward, backward, AdamW."""
    backbone = load_backbone(bench.backbone, image_size=bench.image_size, pretrained=False)
    labels, steps = torch.arange(len(images)) % bench.classes, {}
    set_attention(backbone, "fused")

    def add(name: str, model: nn.Module, forward: Callable | None = None, context=None) -> None:
        model.train()
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer, forward = torch.optim.AdamW(trained, lr=1e-4), forward or (lambda: model(images))

        def step() -> None:
            if context is None:
                F.cross_entropy(forward(), labels).backward()
            else:
                with context(model):
                    F.cross_entropy(forward(), labels).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        steps[name] = step

    def cached(model):
        features = model.prefix(images)
        return lambda: model.suffix(features)

    for dtype in (None, torch.bfloat16):
        half, suffix = dict(backbone_dtype=dtype), ", bf16" if dtype else ""
        for mode in ("none", "side", "blocks"):
            name = f"DTL {'plain' if mode == 'none' else mode}{suffix}"
            model = build("dtl", backbone, bench.classes, recompute=mode, **half)
            add(name, model)
            if mode != "none":
                add(f"{name}, cached prefix", model, cached(model))
        for name, method in RIVALS.items():
            model = build(method, backbone, bench.classes, **half)
            add(name + suffix, model)
            add(f"{name}{suffix}, checkpointing", model, context=checkpointed)
    for name, method in {**RIVALS, "full": "full"}.items():  # confined to the blocks after DTL's M
        model = build(method, backbone, bench.classes, first_block=FIRST)
        add(f"{name} from block {FIRST}", model)
        add(f"{name} from block {FIRST}, cached prefix", model, cached(model))
    model = build("res-tuning-bypass", backbone, bench.classes)
    add("Res-Tuning-Bypass, cached prefix", model, cached(model))
    add("LoRA (peft)", peft_lora(backbone, bench.classes))
    model = build("full", backbone, bench.classes)
    add("full", model)
    add("full, checkpointing", model, context=checkpointed)
    return steps


def quartiles(values: list[float]) -> tuple[float, float, float]:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return low, middle, high


def main(bench: Bench) -> None:
    torch.set_num_threads(bench.threads)
    torch.manual_seed(0)
    random.seed(0)
    images = torch.randn(bench.batch_size, 3, bench.image_size, bench.image_size)
    steps = kinds(bench, images)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in tqdm(range(bench.rounds + 1), desc="rounds", unit="round"):
        for name in random.sample(list(steps), len(steps)):
            start = time.perf_counter()
            steps[name]()
            if round_:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    rows = []
    for name, times in seconds.items():
        row = {"kind": name, "seconds": statistics.median(times)}
        for other, key in ((PLAIN, "plain"), ("LoRA (peft)", "lora")):
            ratios = [a / b for a, b in zip(times, seconds[other], strict=True)]
            row[f"to_{key}"], row[f"to_{key}_low"], row[f"to_{key}_high"] = (quartiles(ratios)[i] for i in (1, 0, 2))
        rows.append({**row, "arithmetic": ARITHMETIC.get(name, "")})
    print(
        f"\n{bench.backbone}, {bench.image_size} px, batch {bench.batch_size}, {bench.threads} threads, {bench.rounds} rounds"
    )
    print(f"{'':36s}{'s':>7s}   {'to plain DTL (quartiles)':28s}{'to LoRA of peft':22s}arithmetic")
    for r in rows:
        print(
            f"{r['kind']:36s}{r['seconds']:7.2f}   {r['to_plain']:.2f} ({r['to_plain_low']:.2f} to {r['to_plain_high']:.2f})"
            f"{'':9s}{r['to_lora']:.2f} ({r['to_lora_low']:.2f} to {r['to_lora_high']:.2f})   {r['arithmetic']}"
        )
    if bench.out:
        bench.out.parent.mkdir(parents=True, exist_ok=True)
        supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
        card = {
            "setting": {k: v for k, v in vars(bench).items() if k != "out"}, "rows": rows,
            "bf16_instructions": bool(supported), "versions": {n: version(n) for n in ("torch", "timm", "peft")},
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }  # fmt: skip
        with written_whole(bench.out) as temporary:
            temporary.write_text(json.dumps(card, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Bench, description=__doc__))

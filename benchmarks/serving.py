"""Seconds, multiply-adds and bytes of answering many tasks for the same images, as ratios to separate DTL models.

    python benchmarks/serving.py --rounds 9 --out results/benchmarks/serving.json

Every round answers with every kind and every number of tasks, one after the other in an order that is shuffled anew, so
that a busy machine slows all of them alike. A ratio is taken within its round. Random weights, random images: neither
changes the time. Multiply-adds are counted on the meta device, attention written out (the counter does not know the CPU's
fused kernel); times are taken with the fused kernel.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
import tyro
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from dtl_core import DTL, DTLConfig, load_backbone
from dtl_core.baselines import build
from dtl_core.evidence.code import serving_code
from dtl_core.files import written_whole
from dtl_core.memory import Ledger
from dtl_core.memory.step import set_attention
from dtl_core.serving import MultiTask
from dtl_core.serving.multitask import CHUNK

KINDS = ("MultiTask", "MultiTask, known images", "separate DTL models", "LoRA (peft), switched", "full copies")
ONE, KNOWN, SEPARATE, LORA, FULL = KINDS


@dataclass
class Bench:
    """Compares what many tasks cost.

    Attributes:
        backbone: a name for ``load_backbone``; random weights. ``vit_small_patch16_224`` is quicker.
        image_size: side in pixels.
        batch_size: images that every task answers.
        tasks: numbers of tasks.
        classes: of every head.
        chunk: of ``MultiTask``.
        chunks: sizes of a chunk that are compared at the largest number of tasks.
        rounds: counted rounds, after one that is not.
        threads: of torch.
        out: JSON file for the figures.
    """

    backbone: str = "vit_base_patch16_224"
    image_size: int = 224
    batch_size: int = 1
    tasks: tuple[int, ...] = (1, 2, 4, 8, 19)
    classes: int = 100
    chunk: int = CHUNK
    chunks: tuple[int, ...] = (1, 4, 8, 16, 32)
    rounds: int = 7
    threads: int = 2
    out: Path | None = None


class Lora(nn.Module):
    """peft's LoRA (r = 8 on qkv) for many tasks on one backbone, with a head each."""

    def __init__(self, backbone: nn.Module, tasks: int, classes: int):
        from peft import LoraConfig, get_peft_model

        super().__init__()
        config = LoraConfig(r=8, lora_alpha=8, lora_dropout=0.0, target_modules=["qkv"])
        classifier = build("linear", backbone, classes)  # a copy of the backbone, and the readout of all methods
        self.features, self.heads = (
            classifier.features,
            nn.ModuleList(nn.Linear(classifier.head.in_features, classes) for _ in range(tasks)),
        )
        self.adapted = get_peft_model(classifier.backbone, config, adapter_name="task 0")
        for i in range(1, tasks):
            self.adapted.add_adapter(f"task {i}", config)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor, task: int) -> Tensor:
        self.adapted.set_adapter(f"task {task}")
        return self.heads[task](self.features(images))


def answers(bench: Bench) -> tuple[dict[str, Callable], dict[str, nn.Module], MultiTask]:
    """The two servers as functions (images, tasks), the others as functions (images, task); their models; the server."""
    most = max(bench.tasks)
    backbone = load_backbone(bench.backbone, image_size=bench.image_size, pretrained=False)
    config = DTLConfig.for_backbone(backbone)
    models = [DTL(backbone, bench.classes, config).eval() for _ in range(most)]
    for model in models:
        for low_rank in model.csn.maps.values():
            nn.init.normal_(low_rank.up, std=0.1)
    named = {str(i): model for i, model in enumerate(models)}
    server = MultiTask(backbone, named, chunk=bench.chunk)
    known = MultiTask(backbone, named, chunk=bench.chunk, cache_bytes=2**30)
    lora, full = Lora(backbone, most, bench.classes), build("linear", backbone, bench.classes).eval()
    for model in (backbone, lora, full):
        set_attention(model, "fused")
    work = {
        ONE: lambda images, tasks: server.predict(images, map(str, range(tasks))),
        KNOWN: lambda images, tasks: known.predict(images, map(str, range(tasks))),
        SEPARATE: lambda images, task: models[task](images),
        LORA: lambda images, task: lora(images, task),
        FULL: lambda images, task: full(
            images
        ),  # one in the place of all: a block's weights leave the caches either way
    }
    return work, {SEPARATE: models[0], LORA: lora, FULL: full}, server


def weight_bytes(held: dict[str, nn.Module], kind: str, tasks: int) -> int:
    """Bytes of all weights for so many tasks: one backbone, and what each task adds."""

    def size(parameters) -> int:
        return sum(p.numel() * p.element_size() for p in parameters)

    dtl, lora, full = held[SEPARATE], held[LORA], held[FULL]
    if kind == FULL:
        return tasks * size(full.parameters())
    if kind == LORA:
        added = [p for n, p in lora.named_parameters() if ".task 0" in n or n.startswith("heads.0.")]
        return size(dtl.backbone.parameters()) + tasks * size(added)
    return size(dtl.backbone.parameters()) + tasks * size(dtl.trainable_parameters())


@torch.no_grad()
def multiply_adds(bench: Bench) -> dict[tuple[str, int], int]:
    """Of every kind and number of tasks for one image, counted on the meta device. Digests need pixels: none of ``KNOWN``."""
    with torch.device("meta"):
        work, held, server = answers(bench)
        images, counts = torch.empty(1, 3, bench.image_size, bench.image_size), {}
        for model in (server.backbone, held[LORA], held[FULL]):
            set_attention(model, "math")
        for kind in (k for k in KINDS if k != KNOWN):
            for tasks in bench.tasks:
                with FlopCounterMode(display=False) as counter:
                    if kind == ONE:
                        work[kind](images, tasks)
                    else:
                        for task in range(tasks):
                            work[kind](images, task)
                counts[kind, tasks] = counter.get_total_flops() // 2
    return counts


def peak_bytes(work: Callable[[], object], models: Iterable[nn.Module]) -> int:
    """The most bytes alive at once of what the work makes, beside the weights and the images."""
    ledger = Ledger()
    ledger.adopt((t for m in models for t in (*m.parameters(), *m.buffers())), "frozen parameters")
    ledger.start()
    weights = ledger.live
    with ledger:
        work()
    ledger.close()
    return ledger.peak - weights


def shares(server: MultiTask, work: Callable[[], object]) -> dict[str, float]:
    """Where the seconds of one call go: inside the frozen blocks with few rows and with many, and beside them."""
    seconds, begun = {"prefix": 0.0, "suffix": 0.0}, []
    handles = []
    for i, block in enumerate(server.backbone.blocks):
        part = "prefix" if i <= next(iter(server.tasks.values())).config.inject_from else "suffix"

        def after(module, args, out, part=part):
            seconds[part] += time.perf_counter() - begun.pop()

        handles.append(block.register_forward_pre_hook(lambda module, args: begun.append(time.perf_counter())))
        handles.append(block.register_forward_hook(after))
    start = time.perf_counter()
    work()
    whole = time.perf_counter() - start
    for handle in handles:
        handle.remove()
    return {"whole": whole, **seconds, "beside": whole - sum(seconds.values())}


def quartiles(values: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"ratio": middle, "low": low, "high": high}


@dataclass
class Clock:
    """Seconds on the wall and of this process' threads, from its start."""

    def __post_init__(self):
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self.wall, time.process_time() - self.cpu


def turns_of(bench: Bench, work: dict[str, Callable], server: MultiTask, images: Tensor) -> dict[tuple, Callable]:
    """What a round does: each turn gives {(kind, tasks): (seconds, CPU seconds)}."""

    def together(key: tuple, answer: Callable[[], object]) -> dict:
        clock = Clock()
        answer()
        return {key: clock.read()}

    def one_by_one(kind: str) -> dict:
        clock, read = Clock(), {}
        for task in range(max(bench.tasks)):
            work[kind](images, task)
            if task + 1 in bench.tasks:
                read[kind, task + 1] = clock.read()
        return read

    turns: dict[tuple, Callable] = {(kind,): partial(one_by_one, kind) for kind in (SEPARATE, LORA, FULL)}
    for kind in (ONE, KNOWN):
        for tasks in bench.tasks:
            turns[kind, tasks] = partial(together, (kind, tasks), partial(work[kind], images, tasks))
    for chunk in bench.chunks:
        other = MultiTask(server.backbone, chunk=chunk)
        other._tasks = server.tasks
        turns["chunk", chunk] = partial(together, ("chunk", chunk), partial(other.predict, images))
    return turns


@torch.no_grad()
def main(bench: Bench) -> None:
    torch.set_num_threads(bench.threads)
    torch.manual_seed(0)
    random.seed(0)
    images = torch.randn(bench.batch_size, 3, bench.image_size, bench.image_size)
    work, held, server = answers(bench)
    turns, read, inside, loads = turns_of(bench, work, server, images), {}, [], []
    with tqdm(total=(bench.rounds + 1) * len(turns), desc="answers", unit="turn") as bar:
        for round_ in range(bench.rounds + 1):
            for turn in random.sample(list(turns), len(turns)):
                for key, times in turns[turn]().items():
                    if round_:  # the first round warms up
                        read.setdefault(key, []).append(times)
                bar.update()
            loads.append(os.getloadavg()[0])
            inside.append(shares(server, lambda: work[ONE](images, max(bench.tasks))))

    def compared(key: tuple, others: list[tuple]) -> dict[str, float]:
        """Medians and quartiles of the ratios, taken within each round, of wall and CPU seconds."""
        wall, cpu = (
            [a[i] / min(b[i] for b in bs) for a, *bs in zip(read[key], *map(read.get, others), strict=True)]
            for i in (0, 1)
        )
        return {
            "seconds": statistics.median(a for a, _ in read[key]),
            **quartiles(wall),
            **{f"cpu_{k}": v for k, v in quartiles(cpu).items()},
        }

    counts, models, rows = multiply_adds(bench), [*held.values(), *(t.csn for t in server.tasks.values())], []
    models += [t.head for t in server.tasks.values()]
    for kind in KINDS:
        for tasks in bench.tasks:
            # of those that run one after the other, one is alive at a time
            alive = tasks if kind in (ONE, KNOWN) else 0
            rows.append(
                {
                    "kind": kind, "tasks": tasks, **compared((kind, tasks), [(SEPARATE, tasks)]),
                    "multiply_adds": counts.get((kind, tasks)), "weight_bytes": weight_bytes(held, kind, tasks),
                    "peak_bytes": peak_bytes(partial(work[kind], images, alive), models),
                }
            )  # fmt: skip
    every = [("chunk", c) for c in bench.chunks]
    chunks = [{"chunk": key[1], **compared(key, every)} for key in every]
    where = {
        part: statistics.median(s[part] / s["whole"] for s in inside[1:]) for part in ("prefix", "suffix", "beside")
    }
    report(bench, rows, chunks, where)
    if bench.out:
        supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
        card = {
            "setting": {k: v for k, v in vars(bench).items() if k != "out"}, "blocks": len(server.backbone.blocks),
            "inject_from": next(iter(server.tasks.values())).config.inject_from, "rows": rows, "chunks": chunks, "where": where,
            "wait_policy": os.environ.get("OMP_WAIT_POLICY", "default"), "bf16_instructions": bool(supported),
            "versions": {n: version(n) for n in ("torch", "timm", "peft")},
            "code": serving_code(), "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }  # fmt: skip
        with written_whole(bench.out) as temporary:
            temporary.write_text(json.dumps(card, indent=1) + "\n")


def report(bench: Bench, rows: list[dict], chunks: list[dict], where: dict[str, float]) -> None:
    print(
        f"\n{bench.backbone}, {bench.image_size} px, {bench.batch_size} images, {bench.threads} threads, {bench.rounds} rounds"
    )
    print(
        f"{'':28s}{'tasks':>6s}{'s':>8s}   {'to separate (quartiles)':26s}{'CPU s':8s}{'Gmadd':>8s}{'weights MiB':>13s}{'peak MiB':>10s}"
    )
    for r in rows:
        count = f"{r['multiply_adds'] / 1e9:8.1f}" if r["multiply_adds"] else f"{'–':>8s}"
        print(
            f"{r['kind']:28s}{r['tasks']:6d}{r['seconds']:8.2f}   {r['ratio']:.2f} ({r['low']:.2f} to {r['high']:.2f}){'':8s}"
            f"{r['cpu_ratio']:<8.2f}{count}{r['weight_bytes'] / 2**20:13,.0f}{r['peak_bytes'] / 2**20:10,.0f}"
        )
    for c in chunks:
        print(
            f"chunk {c['chunk']:3d}: {c['seconds']:.2f} s, {c['ratio']:.2f} ({c['low']:.2f} to {c['high']:.2f}) of the quickest, CPU {c['cpu_ratio']:.2f}"
        )
    print("seconds of MultiTask: " + ", ".join(f"{k} {100 * v:.1f} %" for k, v in where.items()))


if __name__ == "__main__":
    main(tyro.cli(Bench, description=__doc__))

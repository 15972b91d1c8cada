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
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version

import torch
import tyro
from serving_costs import Clock, multiply_adds, peak_bytes, quartiles, shares
from serving_models import FULL, KINDS, KNOWN, LORA, ONE, SEPARATE, Bench, answers, weight_bytes
from torch import Tensor
from tqdm import tqdm

from dtl_book.experiments.code_digests import serving_code
from dtl_core.files import written_whole
from dtl_core.serving import MultiTask


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
    turns, read, inside = turns_of(bench, work, server, images), {}, []
    with tqdm(total=(bench.rounds + 1) * len(turns), desc="answers", unit="turn") as bar:
        for round_ in range(bench.rounds + 1):
            for turn in random.sample(list(turns), len(turns)):
                for key, times in turns[turn]().items():
                    if round_:  # the first round warms up
                        read.setdefault(key, []).append(times)
                bar.update()
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

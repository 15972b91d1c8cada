"""Result of a plan or a measurement: bytes by kind and by block, as a table and a sentence."""

from collections import Counter
from dataclasses import dataclass, field
from html import escape

import pandas as pd
from torch import nn

from .ledger import KINDS, STATIC, Entry, Ledger

MIB, GIB = 2**20, 2**30


@dataclass(frozen=True)
class MemoryPlan:
    """Memory of one training step, in bytes, with each storage in whole 512-byte blocks.

    Attributes:
        source: "planned", or "measured" with the device's name.
        setting: method, backbone, batch_size, image_size, num_classes, precision, optimizer, attention, checkpointing,
            keep_gradients, cached, options; and batch, the shapes by name or place, of a step of any module.
        parameters: number of trained parameters, without a method's head.
        peak_bytes: the most bytes alive at once in the second step, including the input.
        static_bytes: parameters, optimizer state and input, which are alive throughout.
        saved_bytes: bytes held for backward at the end of forward.
        by_kind, by_block: bytes at the peak by purpose, and by the region that made them; each sums to ``peak_bytes``.
        by_operation, saved_by_block: bytes held for backward by the operation, and by the region, that made them.
        profile: rows {"phase", "region", "bytes"}: the most bytes alive in each stretch of the step, in order.
        cuda_peak_bytes: ``torch.cuda.max_memory_allocated`` of the same step if measured on CUDA, else None.
    """

    source: str
    setting: dict
    parameters: int
    peak_bytes: int
    static_bytes: int
    saved_bytes: int
    peak_phase: str
    peak_region: str
    by_kind: dict[str, int]
    by_block: dict[str, int]
    by_operation: dict[str, int]
    saved_by_block: dict[str, int]
    profile: list[dict] = field(repr=False)
    cuda_peak_bytes: int | None = None

    def to_frame(self) -> pd.DataFrame:
        """Return bytes at the peak by kind, with columns bytes, MiB and share; the last row is the total."""
        rows = {**self.by_kind, "peak": self.peak_bytes}
        frame = pd.DataFrame({"bytes": pd.Series(rows, dtype="int64")})
        frame["MiB"] = (frame["bytes"] / MIB).round(1)
        frame["share"] = (frame["bytes"] / self.peak_bytes).round(3)
        return frame.rename_axis("kind")

    def _repr_html_(self) -> str:
        formats = {"MiB": "{:,.1f}".format, "share": "{:.1%}".format}
        table = self.to_frame()[["MiB", "share"]].query("MiB > 0").to_html(formatters=formats)
        return f"{table}<p>{escape(self.sentence())}</p>"

    def sentence(self) -> str:
        """Return the setting, the peak and its largest parts in words."""
        s, kinds = self.setting, sorted(self.by_kind.items(), key=lambda kv: -kv[1])
        largest = ", ".join(f"{kind} {n / MIB:,.0f} MiB" for kind, n in kinds[:3] if n)
        if s["backbone"] is None:
            shapes = ", ".join("x".join(map(str, shape)) for shape in s["batch"].values())
            what = f"{s['method']}, batch of {shapes}"
        else:
            size = "x".join(map(str, s["image_size"]))
            what = f"{s['method']} on {s['backbone']}, batch {s['batch_size']}, {size} px"
        return (
            f"{self.source.capitalize()}: {what}, {s['precision']}: "
            f"peak {self.peak_bytes / MIB:,.0f} MiB, in {self.peak_phase} at {self.peak_region}. Largest parts: {largest}."
        )


def summarize(ledger: Ledger, model: nn.Module, saved: int, setting: dict, source: str) -> MemoryPlan:
    at_peak = ledger.alive()
    held = [entry for entry in ledger.entries if entry.kind == "activations"]
    kinds = _bytes_by("kind", at_peak)
    here = [m for m in ledger.marks if m.at < ledger.peak_at] or ledger.marks[:1]
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    head = sum(p.numel() for p in model.head.parameters()) if hasattr(model, "watch_points") else 0
    return MemoryPlan(
        source=source,
        setting=setting,
        parameters=trained - head,
        peak_bytes=ledger.peak,
        static_bytes=sum(e.bytes for e in at_peak if e.kind in STATIC),
        saved_bytes=saved,
        peak_phase=here[-1].phase,
        peak_region=here[-1].region,
        by_kind={kind: kinds[kind] for kind in KINDS},
        by_block=_in_order(_bytes_by("region", at_peak)),
        by_operation=dict(_bytes_by("operation", held).most_common()),
        saved_by_block=_in_order(_bytes_by("region", held)),
        profile=ledger.profile(),
    )


def _bytes_by(attribute: str, entries: list[Entry]) -> Counter:
    sums = Counter()
    for entry in entries:
        sums[getattr(entry, attribute)] += entry.bytes
    return sums


def _in_order(sums: Counter) -> dict[str, int]:
    blocks = sorted((r for r in sums if r.startswith("block ")), key=lambda r: int(r.removeprefix("block ")))
    first, last = (
        ["input", "embed", *blocks],
        ["between blocks", "side network", "readout", "head", "loss", "optimizer"],
    )
    return {r: sums[r] for r in [*first, *(r for r in sums if r not in (*first, *last)), *last] if r in sums}

"""Ledger of live memory: each storage that operations make, its purpose, and when it is freed.

It counts storages rather than tensors, since views share a storage. Sizes are rounded up to the 512-byte blocks of
CUDA's caching allocator. A dispatch mode observes the operations, so real tensors and fake ones (with shapes but no
data) are counted alike. Memory that a kernel allocates and frees internally is not seen.
"""

import weakref
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import NamedTuple

import pandas as pd
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

BLOCK = 512  # bytes: what CUDA's caching allocator rounds up to
STATIC = ("frozen parameters", "trainable parameters", "optimizer state", "input")  # alive throughout a step
KINDS = (*STATIC[:2], "gradients", *STATIC[2:], "activations", "temporary")
BESIDE = ("between blocks", "side network")  # regions that come again and again between the others


@dataclass
class Entry:
    """One storage."""

    bytes: int  # in whole 512-byte blocks
    kind: str  # one of KINDS
    region: str  # where it was made: "embed", "block 3", "side network", "head", "loss", …
    operation: str  # that made it, for example "aten.gelu"
    born: int  # number of the event that made it
    died: int | None = None  # number of the event that freed it; None while it is alive


class Mark(NamedTuple):
    """Phase and region of the step from event ``at`` on."""

    at: int
    phase: str
    region: str


@dataclass(eq=False)
class Ledger(TorchDispatchMode):
    """Record of every storage that is made inside ``with ledger:`` or registered by ``adopt``.

    Attributes:
        entries: all storages so far, in the order they were seen.
        marks: phases and regions entered since ``start``, in order; see ``enter``.
        live: bytes alive now.
        peak, peak_at: the most bytes alive at once since ``start``, and the event at which they were.
    """

    entries: list[Entry] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    live: int = 0
    peak: int = 0
    peak_at: int = 0

    def __post_init__(self):
        super().__init__()
        self.phase, self.region = "set-up", "set-up"
        self._event = 0
        self._of: dict[int, Entry] = {}  # address of a live storage's handle -> its entry
        self._finalizers: list[weakref.finalize] = []

    def enter(self, region: str, phase: str | None = None) -> None:
        """Set the region, and the phase if given, of the storages made from here on."""
        self.phase, self.region = phase or self.phase, region
        self.marks.append(Mark(self._event, self.phase, region))

    def adopt(self, tensors: Iterable[Tensor], kind: str, region: str | None = None) -> None:
        """Count new storages, and give these and known ones this kind, and this region if given."""
        for tensor in tensors:
            entry = self._count(tensor, "given")
            if entry is not None:
                entry.kind, entry.region = kind, region or entry.region

    def start(self) -> None:
        """Reset the peak and the marks, so that both are recorded from here on."""
        self.peak, self.peak_at = self.live, self._event
        self.marks.clear()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._count(tensor, str(func).rsplit(".", 1)[0])
        return out

    def _count(self, tensor: Tensor, operation: str) -> Entry | None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._of:
            return self._of[key]
        size = -(-storage.nbytes() // BLOCK) * BLOCK
        if size == 0:
            return None
        self._event += 1
        entry = Entry(size, "temporary", self.region, operation, self._event)
        self.entries.append(entry)
        self._of[key] = entry
        self.live += size
        if self.live > self.peak:
            self.peak, self.peak_at = self.live, self._event
        # torch keeps one Python handle for a storage as long as the storage lives, so its end is the storage's end
        self._finalizers.append(weakref.finalize(storage, self._free, key, entry))
        return entry

    def _free(self, key: int, entry: Entry) -> None:
        if self._of.get(key) is entry:
            del self._of[key]
            self._event += 1
            entry.died = self._event
            self.live -= entry.bytes

    def close(self) -> None:
        """Stop following the live storages; later frees are not recorded."""
        for finalizer in self._finalizers:
            finalizer.detach()
        self._finalizers.clear()
        self._of.clear()

    def mark_activations(self) -> int:
        """Mark the live storages of no other kind as activations, held for backward, and return their bytes.

        Call it at the end of forward.
        """
        held = [e for e in self.entries if e.died is None and e.kind == "temporary"]
        for entry in held:
            entry.kind = "activations"
        return sum(e.bytes for e in held)

    def alive(self) -> list[Entry]:
        at = self.peak_at
        return [e for e in self.entries if e.born <= at and (e.died is None or e.died > at)]

    def profile(self) -> list[dict]:
        """Return the most bytes alive in each stretch of the step, as rows {"phase", "region", "bytes"} in order.

        The regions "between blocks" and "side network" are merged into the region before them in forward, and into the
        region after them in backward.
        """
        table = pd.DataFrame(self.marks).assign(bytes=self._tops())
        apart = table["region"].mask(table["region"].isin(BESIDE)).groupby(table["phase"], sort=False)
        merged = apart.transform(lambda r: r.bfill().ffill() if r.name == "backward" else r.ffill().bfill())
        table["region"] = merged.fillna(table["region"])
        where = table[["phase", "region"]]
        stretch = (where != where.shift()).any(axis=1).cumsum()
        return table.groupby(stretch).agg({"phase": "first", "region": "first", "bytes": "max"}).to_dict("records")

    def _tops(self) -> list[int]:
        """Return the most bytes alive between each mark and the next."""
        born = [(e.born, e.bytes) for e in self.entries]
        died = [(e.died, -e.bytes) for e in self.entries if e.died is not None]
        changes = sorted(born + died)
        levels = list(accumulate((size for _, size in changes), initial=0))  # before the first change, after each
        events = [event for event, _ in changes]
        ends = [bisect_right(events, mark.at) for mark in self.marks] + [len(changes)]
        return [max(levels[start : end + 1]) for start, end in pairwise(ends)]

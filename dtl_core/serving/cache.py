"""Known images: what the frozen blocks gave for an image, by the digest of its pixels, in a bounded number of bytes."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Set as AbstractSet
from threading import Lock

import torch
from torch import Tensor


def digests(images: Tensor) -> list[str]:
    """sha256 of each image of a batch, over its type, shape and bytes. (B, 3, H, W) -> B strings."""
    about = f"{images.dtype} {tuple(images.shape[1:])}\n".encode()
    rows = images.detach().cpu().contiguous().flatten(1).view(torch.uint8).numpy()
    return [hashlib.sha256(about + row.tobytes()).hexdigest() for row in rows]


class FeatureCache:
    """The least recently used images go first. Several threads may use it at once.

    Args:
        max_bytes: the tensors that are kept never take more.

    Attributes:
        bytes: what they take now.
        hits: images asked for whose features were there, all that were needed.
        misses: images asked for that have to run through the frozen blocks.
        evictions: images that had to make room.
    """

    def __init__(self, max_bytes: int):
        if max_bytes < 0:
            raise ValueError(f"max_bytes is {max_bytes}: give the room for features in bytes, or 0 to keep none")
        self.max_bytes, self.bytes = max_bytes, 0
        self.hits = self.misses = self.evictions = 0
        self._rows: OrderedDict[str, dict[str, Tensor]] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, digest: str, needs: AbstractSet[str]) -> dict[str, Tensor] | None:
        """The features of one image, or None where one of those needed is missing."""
        with self._lock:
            row = self._rows.get(digest)
            if row is None or not needs <= row.keys():
                self.misses += 1
                return None
            self.hits += 1
            self._rows.move_to_end(digest)
            return row

    def put(self, digest: str, row: dict[str, Tensor]) -> None:
        """Keeps the features of one image, beside those that are known of it; not where they alone pass the bound."""
        with self._lock:
            old = self._rows.pop(digest, {})
            self.bytes -= _bytes(old)
            row = {**old, **row}
            size = _bytes(row)
            if size > self.max_bytes:
                return
            while self.bytes + size > self.max_bytes:
                _, gone = self._rows.popitem(last=False)
                self.bytes -= _bytes(gone)
                self.evictions += 1
            self._rows[digest] = row
            self.bytes += size

    def clear(self) -> None:
        """Forgets all images. The counts go on."""
        with self._lock:
            self._rows.clear()
            self.bytes = 0


def _bytes(row: dict[str, Tensor]) -> int:
    return sum(t.untyped_storage().nbytes() for t in row.values())

"""Cache of the frozen blocks' outputs for known images, keyed by the digest of their pixels and bounded in bytes."""

import hashlib
from collections.abc import Set as AbstractSet
from contextlib import suppress
from threading import Lock

import torch
from cachetools import LRUCache
from torch import Tensor


def digests(images: Tensor) -> list[str]:
    """Return the sha256 of each image over its type, shape and bytes, (B, 3, H, W) -> B strings."""
    about = f"{images.dtype} {tuple(images.shape[1:])}\n".encode()
    rows = images.detach().cpu().contiguous().flatten(1).view(torch.uint8).numpy()
    return [hashlib.sha256(about + row.tobytes()).hexdigest() for row in rows]


class FeatureCache:
    """Thread-safe cache of image features that evicts the least recently used images first.

    Attributes:
        max_bytes: upper bound on the bytes of the cached tensors.
        hits: images asked for of which all needed features were cached.
        misses: images asked for that have to run through the frozen blocks.
    """

    def __init__(self, max_bytes: int):
        if max_bytes < 0:
            raise ValueError(f"max_bytes is {max_bytes}: give the room for features in bytes, or 0 to keep none")
        self.max_bytes = max_bytes
        self.hits = self.misses = 0
        self._rows: LRUCache[str, dict[str, Tensor]] = LRUCache(max_bytes, getsizeof=_bytes)
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def bytes(self) -> int:
        return int(self._rows.currsize)

    def get(self, digest: str, needs: AbstractSet[str]) -> dict[str, Tensor] | None:
        """Return the cached features of one image, or None if any of those needed is missing."""
        with self._lock:
            row = self._rows.get(digest)
            if row is None or not needs <= row.keys():
                self.misses += 1
                return None
            self.hits += 1
            return row

    def put(self, digest: str, row: dict[str, Tensor]) -> None:
        """Store features of one image beside those already cached for it."""
        with self._lock:
            row = {**self._rows.pop(digest, {}), **row}
            with suppress(ValueError):  # larger than the whole cache: nothing is kept of this image
                self._rows[digest] = row


def _bytes(row: dict[str, Tensor]) -> int:
    return sum(t.untyped_storage().nbytes() for t in row.values())

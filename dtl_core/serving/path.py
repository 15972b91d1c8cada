"""Block-by-block run of many tasks: the frozen path that all share, and the suffixes as one batch.

Before its first injection a task's tokens are those of the frozen network. The frozen path therefore runs once for all
tasks, up to the largest M among them. Each task leaves the path after its own block M.
"""

import math
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..blocks import Blocks
from ..config import DTLConfig
from ..csn import CompactSideNetwork
from ..lean import added

Path = dict[str, Tensor]  # "in 6": what enters block 6; "out 3": what leaves block 3, where a stage ends


@dataclass(frozen=True)
class Task:
    """Immutable content of a loaded adapter: its side network and head are frozen, and loading it again makes a new one."""

    name: str
    config: DTLConfig
    csn: CompactSideNetwork
    head: nn.Linear
    class_names: tuple[str, ...] | None

    @property
    def num_classes(self) -> int:
        return self.head.out_features


def leaves(steps: Blocks, m: int) -> str:
    """Return the key of block m's output: the input of the next block, unless patches are merged between them."""
    inside = m + 1 < len(steps.stages) and steps.stages[m + 1] == steps.stages[m]
    return f"in {m + 1}" if inside else f"out {m}"


def taps(steps: Blocks, config: DTLConfig) -> range:
    """Return the blocks up to M whose inputs the side network reads: those of M's stage, from ``tap_from`` on."""
    m = config.inject_from
    return range(max(config.tap_from, steps.stages.index(steps.stages[m])), m + 1)


def needs(steps: Blocks, config: DTLConfig) -> frozenset[str]:
    return frozenset({*(f"in {i}" for i in taps(steps, config)), leaves(steps, config.inject_from)})


def frozen_path(steps: Blocks, images: Tensor, wanted: AbstractSet[str]) -> Path:
    """Run the frozen blocks no further than ``wanted`` requires, (B, 3, H, W) -> tokens by key."""
    x, path = steps.embed(images), {}
    for i in range(len(steps.stages)):
        x = steps.enter(i, x)
        if f"in {i}" in wanted:
            path[f"in {i}"] = x
        if len(path) == len(wanted):
            break
        x = steps(i, x)
        if f"out {i}" in wanted:
            path[f"out {i}"] = x
    return path


@dataclass
class Piece:
    """Some images of one task within a batch of several tasks.

    Attributes:
        images: rows of the frozen path.
        rows: rows of the joined batch.
        codes: codes of the side network by block, in the current stage.
    """

    task: Task
    images: slice
    rows: slice
    codes: dict[int, Tensor] = field(default_factory=dict)


def pieces(tasks: Sequence[Task], images: int, chunk: int) -> Iterator[list[Piece]]:
    """Yield batches of at most ``chunk`` rows that together hold all images of all tasks.

    The batches are as even as possible. Tasks with a smaller M come first.
    """
    total = images * len(tasks)
    size = math.ceil(total / math.ceil(total / chunk)) if total else 1
    batch, filled = [], 0
    for task in sorted(tasks, key=lambda t: t.config.inject_from):
        start = 0
        while start < images:
            stop = min(images, start + size - filled)
            batch.append(Piece(task, slice(start, stop), slice(filled, filled + stop - start)))
            filled, start = filled + stop - start, stop
            if filled == size:
                yield batch
                batch, filled = [], 0
    if batch:
        yield batch


def suffixes(steps: Blocks, path: Path, batch: list[Piece]) -> list[Tensor]:
    """Run the frozen blocks after the smallest M once for all pieces of a batch, each with its own side network.

    The path has to hold all that the tasks of the batch need. Return the logits of each piece, (images, classes of its
    task).
    """
    x, inside = None, []
    for i in range(batch[0].task.config.inject_from, len(steps.stages)):
        if inside:
            x = steps.enter(i, x)
            for piece in inside:
                if steps.stages[i] != steps.stages[i - 1]:
                    piece.codes = {}  # the side state starts again from 0 at each stage
                piece.codes[i] = piece.task.csn.maps[str(i)].encode(x[piece.rows])
            x = steps(i, x)
            for piece in inside:
                x[piece.rows] += added(piece.task.csn, i, piece.codes).to(x.dtype)
        joining = [piece for piece in batch if piece.task.config.inject_from == i]
        for piece in joining:
            piece.codes = {
                j: piece.task.csn.maps[str(j)].encode(path[f"in {j}"][piece.images])
                for j in taps(steps, piece.task.config)
            }
        if joining:
            end = path[leaves(steps, i)]
            own = [end[p.images] + added(p.task.csn, i, p.codes).to(end.dtype) for p in joining]
            x, inside = torch.cat(own if x is None else [x, *own]), inside + joining
    read = steps.readout(x)
    return [piece.task.head(read[piece.rows].to(piece.task.head.weight.dtype)) for piece in batch]

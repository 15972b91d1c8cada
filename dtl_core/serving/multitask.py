"""Many tasks over one frozen backbone, with adapters that are loaded and unloaded while it serves."""

import copy
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path as FilePath
from threading import Lock
from types import MappingProxyType

import torch
from torch import Tensor, nn

from ..backbones import info_of, load_backbone
from ..blocks import blocks_of
from ..config import DTLConfig
from ..dtl import DTL, Features
from .cache import FeatureCache, digests
from .path import Path, Task, frozen_path, leaves, needs, pieces, suffixes, taps

CHUNK = 16


class MultiTask:
    """One frozen backbone with any number of DTL and DTL+ adapters, of any classes, ranks and M.

    ``predict`` runs the frozen blocks once for all tasks up to each task's first injection. The blocks after that run
    on batches that join the tokens of all tasks. The answers equal those of separate models, up to rounding.

    All methods may be called from several threads at once. A call uses the tasks that were loaded when it began.

    Args:
        backbone: a timm model made with ``num_classes=0``, or a name for ``load_backbone``. It is frozen in place; cast
            or move it beforehand.
        adapters: task -> adapter file, or a ``DTL`` whose side network and head are copied.
        chunk: rows (images times tasks) that go through a block at once. It bounds the memory for any number of tasks
            and images.
        cache_bytes: main memory for the features of known images, in the attribute ``cache``; 0 turns the cache off.
    """

    def __init__(
        self,
        backbone: nn.Module | str,
        adapters: Mapping[str, str | FilePath | DTL] | None = None,
        *,
        chunk: int = CHUNK,
        cache_bytes: int = 0,
    ):
        if chunk < 1:
            raise ValueError(f"chunk is {chunk}: at least one row has to go through a block at once")
        backbone = load_backbone(backbone) if isinstance(backbone, str) else backbone
        self.blocks, self.info, self.chunk = blocks_of(backbone), info_of(backbone), chunk
        self.backbone = backbone.requires_grad_(False).eval()
        self.cache = FeatureCache(cache_bytes) if cache_bytes else None
        self._lock = Lock()
        self._tasks: Mapping[str, Task] = MappingProxyType({})  # replaced, never changed: a reader keeps what it holds
        for name, adapter in (adapters or {}).items():
            self.load(name, adapter)

    @property
    def tasks(self) -> Mapping[str, Task]:
        """Return the tasks loaded now, by name, as a mapping that ``load`` and ``unload`` do not change."""
        return self._tasks

    def load(self, name: str, adapter: str | FilePath | DTL) -> None:
        """Add a task, or replace the adapter of the task with this name.

        Raises:
            ValueError: the adapter was trained with other backbone weights, another image size or another
                normalisation.
            DamagedFile, FileNotFoundError: see ``adapters.load_adapter``. Each message names the task.
        """
        if isinstance(adapter, DTL):
            model = adapter
        else:
            try:
                model = DTL.from_adapter(adapter, self.backbone)
            except (ValueError, FileNotFoundError) as error:
                raise type(error)(f"task {name!r}: {error}") from error
        model.info.check(self.info, f"task {name!r}")
        theirs, ours = ((info.mean, info.std) for info in (model.info, self.info))
        if theirs != ours:
            raise ValueError(
                f"task {name!r} was trained on images of mean {theirs[0]} and deviation {theirs[1]}, this server's have "
                f"{ours[0]} and {ours[1]}: all tasks get the same images, so serve it on its own"
            )
        device = next(self.backbone.parameters()).device
        # copies: a model that is trained on must not change the answers of a running server
        csn, head = (copy.deepcopy(part).to(device).requires_grad_(False).eval() for part in (model.csn, model.head))
        task = Task(name, model.config, csn, head, model.class_names)
        with self._lock:
            self._tasks = MappingProxyType({**self._tasks, name: task})

    def unload(self, name: str) -> None:
        """Remove a task; calls of ``predict`` that have already begun still answer it."""
        with self._lock:
            _known(self._tasks, [name])
            self._tasks = MappingProxyType({k: v for k, v in self._tasks.items() if k != name})

    @torch.no_grad()
    def predict(self, images: Tensor, tasks: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Return the logits of some tasks, or of all, for the same images: task -> (B, classes of the task).

        The images (B, 3, H, W) are normalised as the backbone expects.
        """
        loaded = self._tasks
        chosen = list(loaded.values()) if tasks is None else _known(loaded, dict.fromkeys(tasks))
        self.blocks.check(images)
        logits = {t.name: t.head.weight.new_empty(len(images), t.num_classes) for t in chosen}
        if not chosen:
            return logits
        wanted = frozenset().union(*(needs(self.blocks, t.config) for t in chosen))
        for start in range(0, len(images), self.chunk):
            some = images[start : start + self.chunk]
            path = self._path(some, wanted, loaded)
            for batch in pieces(chosen, len(some), self.chunk):
                for piece, answer in zip(batch, suffixes(self.blocks, path, batch), strict=True):
                    logits[piece.task.name][start + piece.images.start : start + piece.images.stop] = answer
        return logits

    @torch.no_grad()
    def prefix_features(self, images: Tensor, config: DTLConfig) -> Features:
        """Return the output of ``DTL.prefix`` for a model with this config, from the cache for known images.

        A new task is trained on these features: ``model.suffix(server.prefix_features(images, model.config))``.
        """
        steps = self.blocks
        if config.inject_from >= len(steps.stages):
            raise ValueError(f"inject_from={config.inject_from}, but the last block is {len(steps.stages) - 1}")
        self.blocks.check(images)
        wanted, loaded = needs(steps, config), self._tasks
        starts = range(0, max(1, len(images)), self.chunk)  # an empty batch goes through once, for its shape
        paths = [self._path(images[s : s + self.chunk], wanted, loaded) for s in starts]
        whole = {key: paths[0][key] if len(paths) == 1 else torch.cat([p[key] for p in paths]) for key in wanted}
        tapped = {i: whole[f"in {i}"] for i in taps(steps, config)}
        return Features(whole[leaves(steps, config.inject_from)], tapped)

    @property
    def weight_bytes(self) -> int:
        """Return the bytes of all parameters: those of the backbone, counted once, and of every adapter."""
        parts = [self.backbone, *(part for t in self._tasks.values() for part in (t.csn, t.head))]
        return sum(p.numel() * p.element_size() for part in parts for p in part.parameters())

    def _path(self, images: Tensor, wanted: AbstractSet[str], loaded: Mapping[str, Task]) -> Path:
        one = next(self.backbone.parameters())
        if self.cache is None or not len(images):
            return frozen_path(self.blocks, images.to(one), wanted)
        names = digests(images)
        rows = [self.cache.get(name, wanted) for name in names]
        new = [i for i, row in enumerate(rows) if row is None]
        if new:
            # what any loaded task needs is kept, so that the next call finds it whichever tasks it asks for
            every = frozenset(wanted).union(*(needs(self.blocks, t.config) for t in loaded.values()))
            path = frozen_path(self.blocks, images[new].to(one), every)
            for at, i in enumerate(new):
                rows[i] = {key: tokens[at].to("cpu", copy=True) for key, tokens in path.items()}
                self.cache.put(names[i], rows[i])
            if len(new) == len(images):
                return path
        # pyright does not see that the loop above fills every row
        return {key: torch.stack([row[key] for row in rows]).to(one.device) for key in wanted}  # pyright: ignore[reportOptionalSubscript]


def _known(loaded: Mapping[str, Task], names: Iterable[str]) -> list[Task]:
    for name in names:
        if name not in loaded:
            raise ValueError(f"no task is called {name!r}; loaded are: {', '.join(loaded) or 'none'}")
    return [loaded[name] for name in names]

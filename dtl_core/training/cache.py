"""A cache of the frozen prefix's output over a data set, in a memory-mapped file."""

import hashlib
import json
import shutil
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from ..dtl import Features
from ..files import format_bytes, one_writer, sha256_of, written_whole
from ..paths import cache_dir, shown
from .loop import pick_device

DTYPES = (torch.float32, torch.bfloat16, torch.float64)


class InexactCache(ValueError):
    """Error for stored features that would train differently from the images; the message gives the reason."""


class PrefixCache(Dataset):
    """A data set of stored ``model.prefix`` outputs, which ``fit`` and ``evaluate`` accept in place of the images.

    For a ViT with taps from block 0 and M = 6 each image takes 8 tensors: the inputs of blocks 0..6 and the output of
    block 6. DTL and DTL+ with the same taps and M share one file; so do all seeds and learning rates. If several runs
    need a missing file, one run writes it and the others wait. A damaged file is written again.

    Args:
        model: a model with a frozen ``prefix``: DTL, DTL+, a linear probe, or a rival with ``first_block``.
        data: yields (image, label); has ``digest`` (a string that changes with the data) and ``transform``.
        dtype: type on disk: ``torch.float32``, ``torch.bfloat16`` (half the size, rounded), ``torch.float64``.
        root: folder of the file; ``prefix/`` in the cache folder if None.
        progress: show a bar, and print the size of the file beforehand.
        workers: processes that open images; 0 opens them in this one.

    Raises:
        InexactCache: training from images would differ (drop path in the prefix, random transform).
        OSError: the disk has too little free space.
        TypeError: the model has no prefix, or the data has no ``digest`` or no transform with a stable ``repr``.
        ValueError: there are no images, or ``dtype`` is not one of the three.
    """

    holds_features = True  # what it yields goes to ``model.suffix``; see ``loop.place``

    def __init__(
        self,
        model: nn.Module,
        data: Dataset,
        *,
        dtype: torch.dtype = torch.float32,
        batch_size: int = 32,
        device: str | torch.device | None = None,
        root: str | Path | None = None,
        progress: bool = True,
        workers: int = 0,
    ):
        if not hasattr(model, "prefix"):
            raise TypeError(
                f"{type(model).__name__} has no frozen prefix: its training reaches the first block, so there is nothing to store"
            )
        if dtype not in DTYPES:
            raise ValueError(f"dtype is {dtype}: features are stored as {', '.join(map(str, DTYPES))}")
        if len(data) == 0:
            raise ValueError("there are no images to store features of")
        reasons = _why_inexact(model, data)
        if reasons:
            raise InexactCache(f"features would not be those of training from images: {reasons}; train without a cache")
        device = pick_device(device)
        self.data, self.dtype, self._compute = data, dtype, next(model.backbone.parameters()).dtype
        first = _prefix(model.to(device), data[0][0][None].to(device))
        self._shapes = {k: t.shape[1:] for k, t in first.items()}
        numbers = sum(s.numel() for s in self._shapes.values())
        self.bytes_per_image = numbers * dtype.itemsize
        self.path = Path(root or cache_dir() / "prefix") / f"{self._key(model)[:24]}.bin"
        labels = self._stored_labels()
        if labels is None:
            said = "prefix cache: another run is writing it; waiting for that one" if progress else ""
            with one_writer(self.path, said):  # another run may have written it while this one waited
                labels = self._stored_labels() or self._write(model, device, batch_size, progress, workers)
        self.labels = torch.tensor(labels)
        rows = torch.from_file(str(self.path), shared=False, size=len(data) * numbers, dtype=dtype)
        self._rows = rows.view(len(data), numbers)

    @staticmethod
    def plan_bytes(model: nn.Module, image: Tensor, images: int, dtype: torch.dtype = torch.float32) -> int:
        """Return the size in bytes of a cache of ``images`` images like ``image`` (3, H, W); write nothing."""
        one = _prefix(model, image[None].to(next(model.parameters()).device))
        return sum(t.numel() for t in one.values()) * dtype.itemsize * images

    def _key(self, model: nn.Module) -> str:
        config = getattr(model, "config", None)
        facts = {
            "backbone": model.info.sha256,
            "compute": str(self._compute),
            "readout": getattr(model, "readout", None),
            "cut": getattr(model, "first_block", None),
            "taps": [config.tap_from, config.inject_from] if config else None,
            "shapes": {k: list(s) for k, s in self._shapes.items()},
            "data": _data_facts(self.data),
            "images": len(self.data),
            "dtype": str(self.dtype),
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _stored_labels(self) -> list[int] | None:
        """Return the labels, or None if the features are not there whole."""
        try:
            note = json.loads(self.path.with_suffix(".json").read_text())
            return note["labels"] if note["sha256"] == _digest(self.path, note["labels"]) else None
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _write(
        self, model: nn.Module, device: torch.device, batch_size: int, progress: bool, workers: int
    ) -> list[int]:
        folder, total = self.path.parent, self.bytes_per_image * len(self.data)
        for left in folder.glob(f".{self.path.stem}.*.part"):  # of a killed writer: no other writes this file now
            left.unlink()
        free, size = shutil.disk_usage(folder).free, format_bytes(total)
        if total > 0.95 * free:
            raise OSError(
                f"the prefix cache needs {size} in {folder} and {format_bytes(free)} are free: "
                "run `dtl data clean`, take dtype=torch.bfloat16, or train without a cache"
            )
        if progress:
            print(
                f"prefix cache: {size} ({len(self.data)} images of {self.bytes_per_image:,} bytes) in {shown(folder)}"
            )
        labels, loader = [], DataLoader(self.data, batch_size=batch_size, num_workers=workers)
        with written_whole(self.path) as temporary, open(temporary, "wb") as file:
            for images, target in tqdm(loader, desc="frozen prefix", disable=not progress, leave=False):
                features = _prefix(model, images.to(device)).values()
                rows = torch.cat([t.flatten(1) for t in features], dim=1).to("cpu", self.dtype)
                rows.view(torch.uint8).numpy().tofile(file)  # NumPy has no bfloat16
                labels += target.tolist()
            file.flush()
            digest = _digest(temporary, labels)
        with written_whole(self.path.with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps({"labels": labels, "sha256": digest}))
        return labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Features, Tensor]:
        return self.__getitems__([i])

    def __getitems__(self, indices: list[int]) -> tuple[Features, Tensor]:
        """Return a whole batch: ``Features`` of the images, and labels (B,)."""
        rows = self._rows[indices].to(self._compute)  # the suffix gets the type that the prefix would have handed it
        parts = rows.split([s.numel() for s in self._shapes.values()], dim=1)
        tensors = {k: p.reshape(len(indices), *s) for (k, s), p in zip(self._shapes.items(), parts, strict=True)}
        return Features(tensors.pop("tokens"), {int(k): v for k, v in tensors.items()}), self.labels[indices]

    collate = staticmethod(lambda batch: batch)  # ``__getitems__`` has already made the batch


def _digest(path: Path, labels: list[int]) -> str:
    return hashlib.sha256(f"{sha256_of(path)} {labels}".encode()).hexdigest()


def _data_facts(data: Dataset) -> dict:
    """Return what identifies these images: digest, transform, and the size and time of each file in ``data.samples``.

    The digest covers only a list of names, and an archive unpacked again may hold other pixels under the same names.
    """
    transform, digest = repr(getattr(data, "transform", None)), getattr(data, "digest", None)
    if not isinstance(digest, str) or " at 0x" in transform:
        raise TypeError(
            f"the cache of this {type(data).__name__} could not be told from another's: it needs a `digest` (a string that "
            f"changes with the data; here {digest!r}) and a transform whose __repr__ states its settings (here {transform})"
        )
    stats = [(s.st_size, s.st_mtime_ns) for s in (Path(path).stat() for path, _ in getattr(data, "samples", ()))]
    return {"digest": digest, "transform": transform, "files": hashlib.sha256(repr(stats).encode()).hexdigest()}


def _prefix(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    was_training = model.training
    features = model.eval().prefix(images)
    model.train(was_training)
    return {"tokens": features.tokens, **{str(i): tap for i, tap in features.taps.items()}}


def _why_inexact(model: nn.Module, data: Dataset) -> str:
    reasons = []
    if getattr(model, "drop_path", 0) > 0:
        reasons.append(
            f"drop path ({model.drop_path:g}) is active in the prefix, and a cache would freeze one draw of it"
        )
    if not getattr(getattr(data, "transform", None), "deterministic", False):
        reasons.append("the transform is not marked deterministic, so an image may look different in every epoch")
    return " and ".join(reasons)

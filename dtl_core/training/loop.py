"""The training loop."""

import math
import random
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset
from tqdm.auto import tqdm

from ..dtl import Features, suffix_to
from .checkpoint import Checkpoint
from .recipe import Recipe


class NonFiniteLoss(RuntimeError):
    """Error for a loss or weight that is NaN or infinite; after ``fit`` the model is back at the last whole epoch's end."""


@dataclass(frozen=True)
class FitRecord:
    """Result of ``fit``.

    Attributes:
        history: a row per epoch: epoch, lr, loss, accuracy (of training batches), seconds; with a ``score`` also score,
            NaN for epochs without one.
        seconds: training time without scoring, over all resumed runs.
        peak_bytes: peak CUDA memory allocated; None on other devices.
        device, precision: those used, with "auto" resolved.
        kept_epoch: the epoch whose parameters the model holds: the best-scored, or the last without a ``score``.
    """

    history: pd.DataFrame
    seconds: float
    peak_bytes: int | None
    device: str
    precision: str
    kept_epoch: int


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """Return the given device, or the first available of cuda, mps and cpu."""
    if device:
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")


def pick_precision(precision: str, device: torch.device) -> str:
    """Return the precision with "auto" resolved: fp16 on CUDA, bf16 on a CPU with bf16 instructions, else fp32."""
    if precision == "auto":
        if device.type == "cuda":
            return "fp16"
        # without these instructions bf16 is emulated, and a step takes many times as long as in fp32
        return "bf16" if device.type == "cpu" and torch.backends.mkldnn.is_available() and cpu_has_bf16() else "fp32"
    if precision == "fp16" and device.type != "cuda":
        raise ValueError("fp16 needs its gradient scaler and CUDA: take precision='bf16' or 'fp32' here")
    return precision


def cpu_has_bf16() -> bool:
    """Return whether the CPU has instructions for bf16; without them it is emulated, far slower than fp32."""
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def autocast(precision: str, device: torch.device):
    """Return the autocast context of a precision for the forward pass; a null context for fp32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype={"fp16": torch.float16, "bf16": torch.bfloat16}[precision])


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - a transform of others may draw from it
    torch.manual_seed(seed)


def logits_of(model: nn.Module, inputs, device: torch.device) -> Tensor:
    """Return logits for a batch of images or of cached prefix ``Features``."""
    return model(inputs.to(device)) if isinstance(inputs, Tensor) else model.suffix(inputs.to(device))


def place(model: nn.Module, data: Dataset, device: torch.device) -> None:
    """Move the model to a device, or, for stored features, its suffix there and the rest to the CPU."""
    if getattr(data, "holds_features", False):
        suffix_to(model, device)
    else:
        model.to(device)


def loading(data: Dataset, workers: int) -> dict:
    """Return how a ``DataLoader`` takes a data set: stored features come as batches, and from this process."""
    stored = getattr(data, "holds_features", False)
    return {"collate_fn": getattr(data, "collate", None), "num_workers": 0 if stored else workers}


def _epoch_batches(n: int, batch_size: int, seed: int) -> list[list[int]]:
    """Return shuffled batches of indices, without a smaller last batch.

    If n is less than ``batch_size``, all indices form one batch.
    """
    if n == 0:
        raise ValueError("the training set is empty: zero steps would be taken")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
    return list(BatchSampler(order, min(batch_size, n), drop_last=True))


def _best(rows: list[dict]) -> int:
    """Return the epoch with the best score (the first of equals), or the last epoch if none is scored."""
    scored = [r for r in rows if r.get("score") is not None]
    return max(scored, key=lambda r: (r["score"], -r["epoch"]))["epoch"] if scored else rows[-1]["epoch"]


def train_epoch(
    model: nn.Module,
    loader: Iterable[tuple[Tensor | Features, Tensor]],
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    precision: str,
    device: torch.device,
    bar: tqdm | None = None,
) -> tuple[float, float]:
    """Take one step per batch, and return the mean loss and accuracy over the images seen."""
    losses, right, seen = 0.0, 0, 0
    for step, (inputs, labels) in enumerate(loader, start=1):
        labels = labels.to(device)
        with autocast(precision, device):
            logits = logits_of(model, inputs, device)
            loss = nn.functional.cross_entropy(logits, labels)
        if not math.isfinite(loss.item()):
            raise NonFiniteLoss(f"the loss is {loss.item()} in step {step}")
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)  # at once: the next forward has the room that the gradients took
        losses += loss.item() * len(labels)
        right += (logits.argmax(1) == labels).sum().item()
        seen += len(labels)
        if bar is not None:
            bar.set_postfix(loss=f"{losses / seen:.3f}", accuracy=f"{right / seen:.3f}", refresh=False)
            bar.update()
    return losses / seen, right / seen


def fit(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    *,
    device: str | torch.device | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    score: Callable[[nn.Module], float] | None = None,
    score_every: int = 10,
    workers: int = 0,
) -> FitRecord:
    """Train the model's trainable parameters with AdamW and cross-entropy.

    Args:
        model: ``DTL`` or a model of ``baselines.build``.
        data: yields (image, label), or is a ``PrefixCache``. With a cache the frozen weights up to block M stay on the
            CPU during training and take no GPU memory.
        recipe: optimizer, schedule, precision, seed.
        device: see ``pick_device``.
        checkpoint: file that is written after every epoch and read at the start. A killed run continues from its last
            whole epoch and, on a CPU, ends with the same bits. The caller removes the file when it is no longer needed.
        score: returns the model's score, on validation images for example; called after every ``score_every``-th epoch
            and the last. The model ends with the best state (the first of equals). Without it the last epoch is kept.
        score_every: epochs between two scores; the authors use 10.
        workers: processes that open images; 0 opens them in this one. Stored features need none.

    Raises:
        NonFiniteLoss: the loss or a weight is not finite. The model is restored to the end of the last whole epoch, and
            the checkpoint on disk is of that epoch too.
        DamagedFile: the checkpoint cannot be read.
        ValueError: the training set is empty, fp16 is asked for without CUDA, or the checkpoint is of another run.
    """
    device = pick_device(device)
    precision = pick_precision(recipe.precision, device)
    place(model, data, device)
    model.train()
    optimizer = recipe.optimizer(model)
    scheduler = recipe.scheduler(optimizer)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    # what must be the same for a run to go on; what a data set or a model cannot say is left out
    images = {"images": len(data), "data": getattr(getattr(data, "data", data), "digest", None)}
    backbone = getattr(model, "info", None)
    identity = {**asdict(recipe), **images, "backbone": backbone.sha256 if backbone else None}
    if score is not None:
        identity["score_every"] = score_every
    saved = Checkpoint(checkpoint, model, optimizer, scaler, identity)
    rows = saved.restore()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    steps, epochs = len(_epoch_batches(len(data), recipe.batch_size, 0)), recipe.total_epochs
    bar = tqdm(total=steps * epochs, initial=steps * len(rows), desc="training", disable=not progress, leave=False)
    for epoch in range(len(rows), epochs):
        start, good = time.perf_counter(), saved.snapshot()
        seed_everything(recipe.seed * 100_003 + epoch)  # a resumed epoch draws what it would have drawn
        scheduler.step(epoch)
        batches = _epoch_batches(len(data), recipe.batch_size, recipe.seed * 100_003 + epoch)
        loader = DataLoader(data, batch_sampler=batches, **loading(data, workers))
        bar.set_description(f"training, epoch {epoch + 1}")
        try:
            loss, accuracy = train_epoch(model, loader, optimizer, scaler, precision, device, bar)
            # a gradient can overflow where the loss did not: such weights must not be kept
            if not saved.is_finite():
                raise NonFiniteLoss("a weight is not finite, though the losses were")
        except NonFiniteLoss as error:
            saved.put_back(good)
            bar.close()
            back = f"at the end of epoch {epoch}" if epoch else "as it was before the first epoch"
            raise NonFiniteLoss(
                f"epoch {epoch + 1}: {error}: the model is back {back}; try a smaller learning rate than "
                f"{recipe.lr:g} or precision='fp32', and look at the images"
            ) from None
        seconds = time.perf_counter() - start
        lr = optimizer.param_groups[0]["lr"]
        rows.append({"epoch": epoch + 1, "lr": lr, "loss": loss, "accuracy": accuracy, "seconds": seconds})
        if score is not None:
            due = (epoch + 1) % score_every == 0 or epoch + 1 == epochs
            rows[-1]["score"] = score(model) if due else None
            if due and _best(rows) == epoch + 1:
                saved.best = saved.snapshot()
        saved.write(rows)
    bar.close()
    if saved.best is not None:
        saved.put_back(saved.best)
    model.to(device).eval()  # whole again, for images
    history = pd.DataFrame(rows)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return FitRecord(history, float(history["seconds"].sum()), peak, device.type, precision, _best(rows))

"""The recipe of a training run, and the table of the authors' own 136."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pandas as pd
import torch
from timm.optim import param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from torch import nn

from ..dtl import DTLConfig
from ..paths import RESOURCES


@dataclass(frozen=True)
class Recipe:
    """Settings of a training run, by default the authors' for VTAB-1K on ViT-B/16.

    Attributes:
        lr: base learning rate of AdamW. The authors' schedule peaks at 0.9755 of this rate.
        weight_decay: weight decay of AdamW; biases and 1-D tensors get none.
        batch_size: images per step; a smaller training set is one batch.
        epochs: length of the cosine, with the warm-up, as timm counts.
        warmup_epochs, warmup_lr: epochs of linear warm-up, and the learning rate of its first epoch.
        min_lr: floor of the cosine.
        cooldown_epochs: epochs at the floor after the cosine.
        drop_path: stochastic depth rate at the last block.
        precision: "auto" (fp16 on CUDA; elsewhere bf16 where the hardware has it, else fp32), "fp32", "fp16" or "bf16".
        augmentation: name of the authors' augmentation; "none" is resize and normalise.
        config: configuration of DTL, for the methods DTL and DTL+.
        seed: seed of initialisation, order and augmentation.
    """

    lr: float = 1e-3
    weight_decay: float = 0.05
    batch_size: int = 32
    epochs: int = 100
    warmup_epochs: int = 10
    warmup_lr: float = 1e-7
    min_lr: float = 1e-8
    cooldown_epochs: int = 10
    drop_path: float = 0.0
    precision: str = "auto"
    augmentation: str = "none"
    config: DTLConfig = field(default_factory=DTLConfig)
    seed: int = 42

    def __post_init__(self):
        if not (self.lr > 0 and math.isfinite(self.lr)):
            raise ValueError(f"lr is {self.lr}: it must be a positive number")
        for name in ("weight_decay", "warmup_lr", "min_lr"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise ValueError(f"{name} is {getattr(self, name)}: it must be 0 or a positive number")
        if self.batch_size < 1 or self.epochs < 1:
            raise ValueError(f"batch_size={self.batch_size}, epochs={self.epochs}: both must be at least 1")
        if self.warmup_epochs < 0 or self.cooldown_epochs < 0:
            raise ValueError(
                f"warmup_epochs={self.warmup_epochs}, cooldown_epochs={self.cooldown_epochs}: 0 is the least, and means none"
            )
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path is {self.drop_path}: it is a probability below 1")
        if self.precision not in ("auto", "fp32", "fp16", "bf16"):
            raise ValueError(f"precision is {self.precision!r}: choose auto, fp32, fp16 or bf16")

    @property
    def total_epochs(self) -> int:
        """Return the number of passes over the data: the cosine and the cool-down."""
        return self.epochs + self.cooldown_epochs

    @classmethod
    def authors(cls, *, backbone: str, benchmark: str, task: str, method: str, shot: int | None = None) -> Recipe:
        """Return the recipe of one of the authors' 136 training scripts; see ``authors_table``.

        Args:
            backbone: "vit" or "swin".
            benchmark: "vtab-1k", "fgfs" or "domain_generalization".
            task: name of the data set, as in the table.
            method: "dtl" or "dtl+".
            shot: images per class; None for a benchmark without shots.
        """
        rows = authors_table()
        # the columns as the caller names them: "vit", "dtl+", and None where there are no shots
        rows["backbone"], rows["method"] = rows["backbone"].str.split("_").str[0], rows["method"].str.lower()
        rows["task"] = rows["dataset"]
        rows["shot"] = pd.Series([None if math.isnan(s) else int(s) for s in rows["shot"]], dtype=object)
        wanted = {"backbone": backbone, "benchmark": benchmark, "method": method.lower(), "task": task, "shot": shot}
        for column, value in wanted.items():
            choices = ", ".join(repr(v) for v in dict.fromkeys(rows[column]))
            rows = rows[[v == value for v in rows[column]]]
            if rows.empty:
                raise ValueError(f"the authors have no script with {column}={value!r} here: choose one of {choices}")
        (row,) = rows.to_dict("records")
        tap, inject = (int(row[c].split("-")[0]) for c in ("csn_blocks", "inject_blocks"))
        return cls(
            lr=float(row["lr"]),
            weight_decay=float(row["weight_decay"]),
            batch_size=int(row["batch_size"]),
            epochs=int(row["epochs"]),
            warmup_epochs=int(row["warmup"]),
            drop_path=float(row["drop_path"]),
            augmentation="none" if row["augmentation"].startswith("resize") else "rand-m9-mstd0.5-inc1",
            config=DTLConfig(int(row["rank"]), tap, inject, float(row["beta"]), int(row["fusion_size"])),
        )

    def optimizer(self, model: nn.Module) -> torch.optim.AdamW:
        """Return AdamW over the trainable parameters, without weight decay on biases and 1-D tensors (timm's rule)."""
        return torch.optim.AdamW(param_groups_weight_decay(model, self.weight_decay), lr=self.lr)

    def scheduler(self, optimizer: torch.optim.Optimizer) -> CosineLRScheduler:
        """Return timm's cosine schedule with warm-up, to be stepped once per epoch."""
        return CosineLRScheduler(
            optimizer,
            t_initial=self.epochs,
            lr_min=min(self.min_lr, self.lr),
            warmup_t=self.warmup_epochs,
            warmup_lr_init=min(self.warmup_lr, self.lr),
        )

    def learning_rates(self) -> list[float]:
        optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=self.lr)
        scheduler, rates = self.scheduler(optimizer), []
        for epoch in range(self.total_epochs):
            scheduler.step(epoch)
            rates.append(optimizer.param_groups[0]["lr"])
        return rates


def authors_table() -> pd.DataFrame:
    """Return the hyper-parameters of the authors' 136 training scripts, one per row."""
    return pd.read_csv(RESOURCES / "recipes.csv")

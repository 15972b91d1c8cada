"""The configuration of DTL, also importable from ``dtl``."""

from __future__ import annotations

import operator
import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import nn


def whole(name: str, value: int) -> int:
    """Return a count as an int, NumPy's integers included; ValueError for any other number."""
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {value!r}: give a whole number") from None


@dataclass(frozen=True)
class DTLConfig:
    """Configuration of the function that DTL computes, by default the paper's for ViT-B/16.

    Attributes:
        rank: r of the low-rank maps.
        tap_from: first block whose input the side network reads.
        inject_from: M. The side state is added after block M and every later block. Blocks are counted from 0 through
            all stages.
        beta: steepness of the swish gate. Infinity gives ReLU, whose gradient at the start (``up = 0``) is 0.
        dwconv_kernel: 0 for DTL; k > 0 for DTL+ with one k x k depthwise convolution per injecting stage.
    """

    rank: int = 2
    tap_from: int = 0
    inject_from: int = 6
    beta: float = 100.0
    dwconv_kernel: int = 0

    def __post_init__(self):
        for name in ("rank", "tap_from", "inject_from", "dwconv_kernel"):
            object.__setattr__(self, name, whole(name, getattr(self, name)))
        if self.rank < 1:
            raise ValueError(
                f"rank is {self.rank}: the low-rank maps need a rank of at least 1 (the paper takes 2 and 4)"
            )
        if self.tap_from < 0 or self.inject_from < 0:
            raise ValueError(f"blocks are counted from 0: tap_from={self.tap_from}, inject_from={self.inject_from}")
        if self.tap_from > self.inject_from:
            raise ValueError(
                f"tap_from={self.tap_from} lies after inject_from={self.inject_from}: at the first injection there would "
                "be nothing to add; lower tap_from or raise inject_from"
            )
        if not self.beta > 0:
            raise ValueError(f"beta is {self.beta}: the gate wants a positive number, or infinity for ReLU")
        if self.dwconv_kernel < 0:
            raise ValueError(f"dwconv_kernel is {self.dwconv_kernel}: take 0 for DTL or a kernel size for DTL+")

    @classmethod
    def paper(cls, architecture: Literal["vit", "swin"], plus: bool = False) -> DTLConfig:
        """Return the configuration of the authors' scripts for ViT-B/16 or Swin-B."""
        if architecture == "vit":
            return cls(dwconv_kernel=3 if plus else 0)
        if architecture == "swin":
            return cls(rank=4, tap_from=4, inject_from=14, dwconv_kernel=5 if plus else 0)
        raise ValueError(f"the paper has 'vit' and 'swin', not {architecture!r}")

    @classmethod
    def for_backbone(cls, model: nn.Module, plus: bool = False) -> DTLConfig:
        """Return the paper's configuration, with ``tap_from`` and M scaled to the model's depth.

        Warn if the depth is not the paper's.
        """
        from .blocks import blocks_of  # brings torch, which a configuration can do without

        steps = blocks_of(model)
        swin = steps.grid is None
        config, depth, paper_depth = cls.paper("swin" if swin else "vit", plus), len(steps.widths), 24 if swin else 12
        if depth == paper_depth:
            return config
        scaled = {k: round(getattr(config, k) * depth / paper_depth) for k in ("tap_from", "inject_from")}
        warnings.warn(
            f"a backbone of {depth} blocks is not in the paper: M = {scaled['inject_from']} is ours, not the paper's",
            stacklevel=2,
        )
        return cls(**{**asdict(config), **scaled})

"""AdaptFormer (Chen et al., NeurIPS 2022): a bottleneck beside the MLP of every block."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .classifier import Classifier
from .support import standard_blocks


class Bottleneck(nn.Module):
    """``up(relu(down(x)))`` with biases.

    Args:
        dim: d.
        hidden: width between, far below d.
        like: a tensor whose type and device the parameters take.

    Attributes:
        down: (hidden, d), Kaiming-uniform with a = sqrt(5); its bias ``down_bias`` is 0.
        up: (d, hidden), zeros as is its bias ``up_bias``, so that the output is 0 at the start.
    """

    def __init__(self, dim: int, hidden: int, like: Tensor):
        super().__init__()
        if hidden < 1:
            raise ValueError(f"the bottleneck is {hidden} wide: it needs a width of at least 1")
        self.down, self.down_bias = nn.Parameter(like.new_empty(hidden, dim)), nn.Parameter(like.new_zeros(hidden))
        self.up, self.up_bias = nn.Parameter(like.new_zeros(dim, hidden)), nn.Parameter(like.new_zeros(dim))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., d)."""
        return F.linear(torch.relu(F.linear(x, self.down, self.down_bias)), self.up, self.up_bias)


class ParallelAdapter(nn.Module):
    """``mlp(x) + scale * bottleneck(x)``, in the place of the MLP."""

    def __init__(self, mlp: nn.Module, adapter: Bottleneck, scale: float):
        super().__init__()
        self.mlp, self.adapter, self.scale = mlp, adapter, scale

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., d)."""
        return self.mlp(x) + self.scale * self.adapter(x)


def adaptformer(
    backbone: nn.Module, num_classes: int, bottleneck: int = 8, scale: float = 0.1, readout: str = "mean"
) -> Classifier:
    """``x + mlp(norm(x)) + s * up(relu(down(norm(x))))`` in every block, with only up and down trained.

    It starts at the frozen function, since up is 0. On ViT-B/16 with a bottleneck of 8: 156,768 parameters beside the
    head (the field's 0.16 M). Bottleneck 8 is customary on VTAB-1K; the paper's own is 64 (from memory), s = 0.1 as in the
    paper. Where a backbone has LayerScale, it scales the adapter as it scales the MLP.

    Raises:
        UnsupportedBackbone: for blocks that are not timm's standard ones.
    """
    blocks = standard_blocks(backbone, "AdaptFormer")
    model = Classifier(backbone.requires_grad_(False), num_classes, readout)
    for block, width in zip(blocks, model.blocks.widths, strict=True):
        adapter = Bottleneck(width, bottleneck, next(block.mlp.parameters()))
        block.mlp = ParallelAdapter(block.mlp, adapter, scale)
    return model

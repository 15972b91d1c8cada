"""AdaptFormer (Chen et al., NeurIPS 2022): a bottleneck in parallel with the MLP of every block."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .classifier import Classifier
from .support import standard_blocks


class Bottleneck(nn.Module):
    """A two-layer bottleneck with biases, ``up(relu(down(x)))``.

    Args:
        dim: width d of the tokens.
        hidden: width of the bottleneck, far below d.
        like: a tensor whose type and device the parameters take.

    Attributes:
        down: (hidden, d), Kaiming-uniform with a = sqrt(5). Its bias ``down_bias`` starts at 0.
        up: (d, hidden). It and its bias ``up_bias`` start at 0, so the output is 0 at the start.
    """

    def __init__(self, dim: int, hidden: int, like: Tensor):
        super().__init__()
        if hidden < 1:
            raise ValueError(f"the bottleneck is {hidden} wide: it needs a width of at least 1")
        self.down, self.down_bias = nn.Parameter(like.new_empty(hidden, dim)), nn.Parameter(like.new_zeros(hidden))
        self.up, self.up_bias = nn.Parameter(like.new_zeros(dim, hidden)), nn.Parameter(like.new_zeros(dim))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., d) to (..., d)."""
        return F.linear(torch.relu(F.linear(x, self.down, self.down_bias)), self.up, self.up_bias)


class ParallelAdapter(nn.Module):
    """A replacement for the MLP that computes ``mlp(x) + scale * bottleneck(x)``."""

    def __init__(self, mlp: nn.Module, adapter: Bottleneck, scale: float):
        super().__init__()
        self.mlp, self.adapter, self.scale = mlp, adapter, scale

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., d) to (..., d)."""
        return self.mlp(x) + self.scale * self.adapter(x)


def adaptformer(
    backbone: nn.Module, num_classes: int, bottleneck: int = 8, scale: float = 0.1, readout: str = "mean"
) -> Classifier:
    """Return a model with a trained bottleneck in parallel with the MLP of every block.

    Each block computes ``x + mlp(norm(x)) + s * up(relu(down(norm(x))))``. Only up, down, their biases and the head are
    trained. Training starts at the frozen function because up is 0. On ViT-B/16 a bottleneck of 8 has 156,768
    parameters besides the head, commonly reported as 0.16 M. A bottleneck of 8 is customary on VTAB-1K. The paper uses
    s = 0.1 and a bottleneck of 64 (the 64 is unverified). If a backbone has LayerScale, the adapter is scaled together
    with the MLP.

    Raises:
        UnsupportedBackbone: the blocks are not timm's standard ones.
    """
    blocks = standard_blocks(backbone, "AdaptFormer")
    model = Classifier(backbone.requires_grad_(False), num_classes, readout)
    for block, width in zip(blocks, model.blocks.widths, strict=True):
        adapter = Bottleneck(width, bottleneck, next(block.mlp.parameters()))
        block.mlp = ParallelAdapter(block.mlp, adapter, scale)
    return model

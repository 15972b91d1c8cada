"""AdaptFormer (Chen et al., NeurIPS 2022): a bottleneck in parallel with the MLP of every block."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .classifier import Classifier, classifier
from .support import kaiming, standard_blocks


class Bottleneck(nn.Module):
    """A two-layer bottleneck with biases, ``up(relu(down(x)))``, whose parameters take the type and device of ``like``.

    Attributes:
        down: (hidden, d), Kaiming-uniform with a = sqrt(5). Its bias ``down_bias`` starts at 0.
        up: (d, hidden). It and its bias ``up_bias`` start at 0, so the output is 0 at the start.
    """

    def __init__(self, dim: int, hidden: int, like: Tensor):
        super().__init__()
        if hidden < 1:
            raise ValueError(f"the bottleneck is {hidden} wide: it needs a width of at least 1")
        self.down, self.down_bias = kaiming(like, hidden, dim), nn.Parameter(like.new_zeros(hidden))
        self.up, self.up_bias = nn.Parameter(like.new_zeros(dim, hidden)), nn.Parameter(like.new_zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.relu(F.linear(x, self.down, self.down_bias)), self.up, self.up_bias)


class ParallelAdapter(nn.Module):
    """A replacement for the MLP that computes ``mlp(x) + scale * bottleneck(x)``."""

    def __init__(self, mlp: nn.Module, adapter: Bottleneck, scale: float):
        super().__init__()
        self.mlp, self.adapter, self.scale = mlp, adapter, scale

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x) + self.scale * self.adapter(x)


def adaptformer(
    backbone: nn.Module,
    num_classes: int,
    bottleneck: int = 8,
    scale: float = 0.1,
    readout: str = "mean",
    first_block: int = 0,
) -> Classifier:
    """Return a model with a trained bottleneck in parallel with the MLP of every block from ``first_block`` on.

    Each block computes ``x + mlp(norm(x)) + s * up(relu(down(norm(x))))``. Training starts at the frozen function
    because up is 0. On ViT-B/16 a bottleneck of 8 has 156,768 parameters besides the head, commonly reported as 0.16 M.
    A bottleneck of 8 is customary on VTAB-1K. The paper uses s = 0.1 and a bottleneck of 64 (the 64 is unverified). If
    a backbone has LayerScale, the adapter is scaled together with the MLP.
    """
    blocks = standard_blocks(backbone, "AdaptFormer")
    model = classifier(backbone, num_classes, readout, first_block)
    for block, width in list(zip(blocks, model.blocks.widths, strict=True))[first_block:]:
        adapter = Bottleneck(width, bottleneck, next(block.mlp.parameters()))
        block.mlp = ParallelAdapter(block.mlp, adapter, scale)
    return model

"""RepAdapter (Luo et al., 2023): a linear bottleneck before attention and MLP that can be merged into them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .classifier import Classifier, classifier
from .support import replace_linears


class RepAdapter(nn.Module):
    """A residual linear bottleneck, ``x + s * up(down(x))``, with a block-diagonal ``up`` of g groups.

    Block i of ``up`` maps the i-th hidden / g features to the i-th d / g outputs.

    Attributes:
        down: (hidden, d), Xavier-uniform (customary). Its bias ``down_bias`` starts at 0.
        up: (g, d / g, hidden / g). It and its bias ``up_bias`` start at 0, so the module is the identity at the start.
    """

    def __init__(self, dim: int, hidden: int, groups: int, scale: float, like: Tensor):
        super().__init__()
        if hidden < 1 or groups < 1 or hidden % groups or dim % groups:
            raise ValueError(
                f"hidden={hidden} and groups={groups} on tokens of width {dim}: both widths must be multiples of groups"
            )
        self.scale = scale
        self.down, self.down_bias = nn.Parameter(like.new_empty(hidden, dim)), nn.Parameter(like.new_zeros(hidden))
        self.up = nn.Parameter(like.new_zeros(groups, dim // groups, hidden // groups))
        self.up_bias = nn.Parameter(like.new_zeros(dim))
        nn.init.xavier_uniform_(self.down)

    def forward(self, x: Tensor) -> Tensor:
        up = torch.block_diag(*self.up)  # (d, hidden): small, and one product in place of g
        return x + self.scale * F.linear(F.linear(x, self.down, self.down_bias), up, self.up_bias)


def repadapter(
    backbone: nn.Module,
    num_classes: int,
    hidden: int = 8,
    groups: int = 2,
    scale: float = 1.0,
    readout: str = "mean",
    first_block: int = 0,
) -> Classifier:
    """Return a model with a trained ``RepAdapter`` before the qkv and fc1 layers of every block from ``first_block`` on.

    Each block uses ``attn(rep(norm1(x)))`` and ``mlp(rep(norm2(x)))`` with ``rep(x) = x + s (up (down x + a) + b)``.
    Training starts at the frozen function because up is 0. rep is affine, so it can be merged into qkv and fc1 after
    training. On a Swin, the adapter before qkv comes after the padding of the windows. On ViT-B/16 with hidden 8 in 2
    groups the adapters have 239,808 parameters, of which 18,624 are biases. The commonly reported figure is 0.22 M
    without biases (221,184) or 0.24 M with them. On VTAB-1K s is tuned by task between 0.1 and 10 (unverified).
    """
    model = classifier(backbone, num_classes, readout, first_block)

    def prepended(layer: nn.Linear) -> nn.Sequential:
        return nn.Sequential(RepAdapter(layer.in_features, hidden, groups, scale, layer.weight), layer)

    replace_linears(backbone, "RepAdapter", ("attn.qkv", "mlp.fc1"), prepended, first_block)
    return model

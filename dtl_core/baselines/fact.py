"""FacT (Jie and Deng, AAAI 2023), in its tensor-train form: one factorisation for the updates of all layers."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from ..walks import UnsupportedBackbone
from .classifier import Classifier
from .support import replace_linears, require_vit


class SharedFactors(nn.Module):
    """The two factors that all layers share.

    Attributes:
        U: (r, d), Kaiming-uniform with a = sqrt(5): reads the tokens.
        V: (d, r), zeros, so that every update is 0 at the start: writes the tokens.
    """

    def __init__(self, dim: int, rank: int, like: Tensor):
        super().__init__()
        self.U = nn.Parameter(like.new_empty(rank, dim))
        self.V = nn.Parameter(like.new_zeros(dim, rank))
        nn.init.kaiming_uniform_(self.U, a=math.sqrt(5))


class FacTLinear(nn.Module):
    """A frozen linear layer with an update from the shared factors and a core of its own.

    The layer maps ``a`` pieces of width d to ``b`` pieces (qkv 1 to 3, fc1 1 to 4, fc2 4 to 1), and its core holds an
    r x r matrix for each pair of pieces.

    Args:
        base: the layer, frozen.
        factors: U and V.
        scale: s.

    Attributes:
        core: (b r, a r), Kaiming-uniform with a = sqrt(5).
    """

    def __init__(self, base: nn.Linear, factors: SharedFactors, scale: float):
        super().__init__()
        rank, dim = factors.U.shape
        self.base, self.scale = base, scale
        self._factors = (factors,)  # in a tuple: the model owns them once, not every layer again
        self._pieces = base.in_features // dim, base.out_features // dim
        inputs, outputs = self._pieces
        self.core = nn.Parameter(base.weight.new_empty(outputs * rank, inputs * rank))
        nn.init.kaiming_uniform_(self.core, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """(..., a d) -> (..., b d)."""
        (factors,), (inputs, outputs) = self._factors, self._pieces
        read = F.linear(x.unflatten(-1, (inputs, -1)), factors.U).flatten(-2)  # (..., a r)
        mixed = F.linear(read, self.core).unflatten(-1, (outputs, -1))  # (..., b, r)
        return self.base(x) + self.scale * F.linear(mixed, factors.V).flatten(-2)


def fact(
    backbone: nn.Module, num_classes: int, rank: int = 17, scale: float = 1.0, readout: str = "mean"
) -> Classifier:
    """``W_i x + s V C_i U x`` for every d x d piece W_i of qkv, proj, fc1 and fc2: 12 pieces a block of a ViT.

    U and V are shared by all pieces of all blocks, C_i is r x r, and all three are trained. It starts at the frozen
    function, since V is 0. On ViT-B/16 with r = 17: 67,728 parameters beside the head; r = 16 makes 61,440. The field's
    0.07 M is a mean of several ranks over the tasks of VTAB-1K, and r = 17 is our choice to meet it. The paper tunes s by
    task between 0.01 and 100 (from memory); the default is 1.

    Raises:
        UnsupportedBackbone: for a Swin, or layers whose widths are no multiples of d.
        ValueError: the rank is below 1.
    """
    require_vit(backbone, "FacT", "its factors are shared by all layers, and the blocks of a Swin differ in width")
    if rank < 1:
        raise ValueError(f"rank is {rank}: FacT needs a rank of at least 1")
    dim = backbone.embed_dim

    def updated(base: nn.Linear) -> FacTLinear:
        if base.in_features % dim or base.out_features % dim:
            raise UnsupportedBackbone(
                f"FacT cuts every layer into pieces of {dim} x {dim}, and this {type(backbone).__name__} has a layer of "
                f"{base.out_features} x {base.in_features}: use a backbone whose MLP is a whole multiple as wide"
            )
        return FacTLinear(base, factors, scale)

    model = Classifier(backbone.requires_grad_(False), num_classes, readout)
    factors = SharedFactors(dim, rank, next(backbone.blocks.parameters()))
    replace_linears(backbone, "FacT", ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"), updated)
    model.shared_factors = factors
    return model

"""FacT (Jie and Deng, AAAI 2023): one Tucker factorisation for the updates of all layers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import UnsupportedBackbone
from .classifier import Classifier
from .support import kaiming, replace_linears, require_vit


class SharedFactors(nn.Module):
    """The factors that all layers share, for n pieces of d x d in all layers together.

    Attributes:
        U: (r, d), Kaiming-uniform with a = sqrt(5). It projects the tokens down to r.
        V: (d, r), zeros, so that every update is 0 at the start. It projects back up to d.
        core: (r, r, r).
        mix: (n, r). Piece i has the matrix ``C_i = sum_k mix[i, k] core[k]``.
    """

    def __init__(self, dim: int, rank: int, pieces: int, like: Tensor):
        super().__init__()
        self.U, self.V = kaiming(like, rank, dim), nn.Parameter(like.new_zeros(dim, rank))
        self.core, self.mix = kaiming(like, rank, rank, rank), kaiming(like, pieces, rank)


class FacTLinear(nn.Module):
    """A frozen linear layer with an update from the shared factors: ``W x + s V drop(C U x)``, piece by piece.

    The layer maps ``a`` pieces of width d to ``b`` pieces: 1 to 3 for qkv, 1 to 4 for fc1 and 4 to 1 for fc2. Each pair
    of an input and an output piece has an r x r matrix; ``first`` is the index of the first among those of all layers.
    Query, key and value have their own products with U and their own dropout masks, as in the authors' code.
    """

    def __init__(self, base: nn.Linear, factors: SharedFactors, scale: float, dropout: float, first: int):
        super().__init__()
        dim = len(factors.V)
        self.base, self.scale, self.dropout = base, scale, nn.Dropout(dropout)
        self._factors = (factors,)  # in a tuple: the model owns them once, not every layer again
        self._inputs, self._outputs = base.in_features // dim, base.out_features // dim
        self._first, self._reads = first, 3 if self._outputs == 3 else 1

    def matrices(self) -> Tensor:
        """Return the r x r matrix of each pair of pieces as (b, a, r, r)."""
        (factors,) = self._factors
        mine = factors.mix[self._first : self._first + self._inputs * self._outputs]  # (b a, r)
        return torch.tensordot(mine, factors.core, 1).unflatten(0, (self._outputs, self._inputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., a d) to (..., b d)."""
        (factors,), updates = self._factors, []
        for matrices in self.matrices().chunk(self._reads):  # (b / reads, a, r, r)
            read = F.linear(x.unflatten(-1, (self._inputs, -1)), factors.U).flatten(-2)  # (..., a r)
            mixed = F.linear(read, matrices.transpose(1, 2).flatten(2).flatten(0, 1))  # (..., b / reads r)
            mixed = self.dropout(mixed)
            updates.append(F.linear(mixed.unflatten(-1, (len(matrices), -1)), factors.V).flatten(-2))
        update = updates[0] if self._reads == 1 else torch.cat(updates, dim=-1)
        return self.base(x) + self.scale * update


def fact(
    backbone: nn.Module,
    num_classes: int,
    rank: int = 32,
    scale: float = 1.0,
    dropout: float = 0.1,
    readout: str = "mean",
) -> Classifier:
    """Return a model that computes ``W_i x + s V drop(C_i U x)`` for every d x d piece W_i of qkv, proj, fc1 and fc2.

    A block of a ViT has 12 such pieces. All pieces of all blocks share U and V. C_i is r x r and mixes one shared
    (r, r, r) core with r numbers per piece (the paper's Figure 1). Training starts at the frozen function because V
    is 0.

    The authors' configurations use rank 32 on 13 tasks of VTAB-1K and rank 16 on the other six. On ViT-B/16 these have
    86,528 and 30,976 parameters besides the head, 68,985 on average, commonly reported as 0.07 M. The authors' dropout
    rate, on the vectors of width r, is 0.1. They tune s by task between 0.01 and 100 (unverified). The paper's tensor
    train is not implemented.
    """
    require_vit(backbone, "FacT", "its factors are shared by all layers, and the blocks of a Swin differ in width")
    if rank < 1:
        raise ValueError(f"rank is {rank}: FacT needs a rank of at least 1")
    dim, layers = backbone.embed_dim, []
    linears = [m for block in backbone.blocks for m in block.modules() if isinstance(m, nn.Linear)]
    for base in linears:
        if base.in_features % dim or base.out_features % dim:
            raise UnsupportedBackbone(
                f"FacT cuts every layer into pieces of {dim} x {dim}, and this {type(backbone).__name__} has a layer of "
                f"{base.out_features} x {base.in_features}: use a backbone whose MLP is a whole multiple as wide"
            )
    model = Classifier(backbone.requires_grad_(False), num_classes, readout)

    def pieces_of(some: list[nn.Linear]) -> int:
        return sum((layer.in_features // dim) * (layer.out_features // dim) for layer in some)

    def updated(base: nn.Linear) -> FacTLinear:
        layers.append(FacTLinear(base, factors, scale, dropout, first=pieces_of([layer.base for layer in layers])))
        return layers[-1]

    factors = SharedFactors(dim, rank, pieces_of(linears), next(backbone.blocks.parameters()))
    replace_linears(backbone, "FacT", ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"), updated)
    model.shared_factors = factors
    model.drops = tuple(layer.dropout.eval() for layer in layers)  # still until train(), as the backbone is
    return model

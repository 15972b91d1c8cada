"""LoRA (Hu et al., ICLR 2022): a trained low-rank update on the qkv of every attention, fused or for query and value each."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .classifier import Classifier


class LoRALinear(nn.Module):
    """A frozen linear layer with a trained low-rank update.

    Args:
        base: the layer, frozen in place.
        rank: r.
        alpha: the update is scaled by alpha / r.

    Attributes:
        A: (r, in), Kaiming-uniform with a = sqrt(5).
        B: (out, r), zeros, so that the update is 0 at the start.

    Raises:
        ValueError: the rank is below 1.
    """

    def __init__(self, base: nn.Linear, rank: int = 8, alpha: float = 8.0):
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank is {rank}: LoRA needs a rank of at least 1")
        self.base, self.scale = base.requires_grad_(False), alpha / rank
        self.A = nn.Parameter(base.weight.new_empty(rank, base.in_features))
        self.B = nn.Parameter(base.weight.new_zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return self.base(x) + self.scale * F.linear(F.linear(x, self.A), self.B)

    def update(self) -> Tensor:
        """What the layer adds to the frozen weight: (out, in)."""
        return self.scale * self.B @ self.A


class LoRAQueryValue(nn.Module):
    """A frozen qkv layer with an update for the query and one for the value, as the paper has it.

    Args:
        base: the layer, d -> 3 d, frozen in place.
        rank, alpha: of each update, see ``LoRALinear``.

    Attributes:
        A, B: of query and value, two matrices (r, d) and two (d, r), drawn as in ``LoRALinear``.
    """

    def __init__(self, base: nn.Linear, rank: int = 8, alpha: float = 8.0):
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank is {rank}: LoRA needs a rank of at least 1")
        self.base, self.scale = base.requires_grad_(False), alpha / rank
        d = base.in_features
        self.A = nn.ParameterList(nn.Parameter(base.weight.new_empty(rank, d)) for _ in "qv")
        self.B = nn.ParameterList(nn.Parameter(base.weight.new_zeros(d, rank)) for _ in "qv")
        for down in self.A:
            nn.init.kaiming_uniform_(down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., 3 d)."""
        query, key, value = self.base(x).chunk(3, dim=-1)
        updates = [self.scale * F.linear(F.linear(x, a), b) for a, b in zip(self.A, self.B, strict=True)]
        return torch.cat([query + updates[0], key, value + updates[1]], dim=-1)

    def update(self) -> Tensor:
        """What the layer adds to the frozen weight: (3 d, d)."""
        query, value = (self.scale * b @ a for a, b in zip(self.A, self.B, strict=True))
        return torch.cat([query, torch.zeros_like(query), value])


def lora(
    backbone: nn.Module,
    num_classes: int,
    rank: int = 8,
    alpha: float = 8.0,
    separate: bool = False,
    readout: str = "mean",
) -> Classifier:
    """``W x + (alpha / r) B A x`` in the place of each ``attn.qkv``, with only A and B trained.

    It starts at the frozen function, since B is 0. On ViT-B/16 with r = 8: 294,912 parameters beside the head (the field's
    0.29 M). r = 8 is customary on VTAB-1K. The paper gives query and value an update each (``separate``, of the same size in
    all); by default one update of rank r is shared by query, key and value. Dropout is left out.

    The parameters lie inside the backbone, so autograd must keep the activations of every block: this is what DTL avoids.

    Args:
        backbone, num_classes, readout: see ``Classifier``.
        rank, alpha: see ``LoRALinear``.
        separate: an update for query and value each, in place of one for the fused qkv.

    Raises:
        ValueError: no attention of the backbone has a fused qkv layer.
    """
    model = Classifier(backbone.requires_grad_(False), num_classes, readout)
    attentions = [m for m in backbone.modules() if isinstance(getattr(m, "qkv", None), nn.Linear)]
    if not attentions:
        raise ValueError(f"this {type(backbone).__name__} has no attention with a fused qkv layer for LoRA to update")
    for module in attentions:
        module.qkv = (LoRAQueryValue if separate else LoRALinear)(module.qkv, rank, alpha)
    return model


def merge(model: Classifier) -> None:
    """Folds every update into its frozen weight, in place: the network then costs what it cost before."""
    with torch.no_grad():
        for module in list(model.backbone.modules()):
            layer = getattr(module, "qkv", None)
            if isinstance(layer, LoRALinear | LoRAQueryValue):
                layer.base.weight += layer.update()
                module.qkv = layer.base

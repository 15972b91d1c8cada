"""LoRA (Hu et al., ICLR 2022): a trained low-rank update on the fused qkv of every attention."""

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


def lora(backbone: nn.Module, num_classes: int, rank: int = 8, alpha: float = 8.0, readout: str = "mean") -> Classifier:
    """``W x + (alpha / r) B A x`` in the place of each ``attn.qkv``, with only A and B trained.

    It starts at the frozen function, since B is 0. On ViT-B/16 with r = 8: 294,912 parameters beside the head (the field's
    0.29 M). r = 8 is customary on VTAB-1K. The paper gives query and value an update each; here one update of rank r is
    shared by query, key and value, and dropout is left out.

    The parameters lie inside the backbone, so autograd must keep the activations of every block: this is what DTL avoids.

    Args:
        backbone, num_classes, readout: see ``Classifier``.
        rank, alpha: see ``LoRALinear``.

    Raises:
        ValueError: no attention of the backbone has a fused qkv layer.
    """
    model = Classifier(backbone.requires_grad_(False), num_classes, readout)
    attentions = [m for m in backbone.modules() if isinstance(getattr(m, "qkv", None), nn.Linear)]
    if not attentions:
        raise ValueError(f"this {type(backbone).__name__} has no attention with a fused qkv layer for LoRA to update")
    for module in attentions:
        module.qkv = LoRALinear(module.qkv, rank, alpha)
    return model


def merge(model: Classifier) -> None:
    """Folds every update into its frozen weight, in place: the network then costs what it cost before."""
    with torch.no_grad():
        for module in list(model.backbone.modules()):
            if isinstance(getattr(module, "qkv", None), LoRALinear):
                update = module.qkv
                update.base.weight += update.scale * update.B @ update.A
                module.qkv = update.base

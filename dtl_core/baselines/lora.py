"""LoRA (Hu et al., ICLR 2022): a trained low-rank update of every qkv layer, fused or separate for query and value."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .classifier import Classifier, classifier
from .support import call_qkv, kaiming


class LoRALinear(nn.Module):
    """A frozen linear layer with a trained low-rank update, scaled by alpha / r.

    Attributes:
        A: (r, in), Kaiming-uniform with a = sqrt(5).
        B: (out, r), zeros, so that the update is 0 at the start.
    """

    def __init__(self, base: nn.Linear, rank: int = 8, alpha: float = 8.0):
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank is {rank}: LoRA needs a rank of at least 1")
        self.base, self.scale = base.requires_grad_(False), alpha / rank
        self.A = kaiming(base.weight, rank, base.in_features)
        self.B = nn.Parameter(base.weight.new_zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.scale * F.linear(F.linear(x, self.A), self.B)


class LoRAQueryValue(nn.Module):
    """A frozen qkv layer from d to 3 d with separate updates for query and value, as in the paper.

    A and B are two matrices (r, d) and two matrices (d, r), initialised as in ``LoRALinear``.
    """

    def __init__(self, base: nn.Linear, rank: int = 8, alpha: float = 8.0):
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank is {rank}: LoRA needs a rank of at least 1")
        self.base, self.scale = base.requires_grad_(False), alpha / rank
        d = base.in_features
        self.A = nn.ParameterList(kaiming(base.weight, rank, d) for _ in "qv")
        self.B = nn.ParameterList(nn.Parameter(base.weight.new_zeros(d, rank)) for _ in "qv")

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.base(x).chunk(3, dim=-1)
        updates = [self.scale * F.linear(F.linear(x, a), b) for a, b in zip(self.A, self.B, strict=True)]
        return torch.cat([query + updates[0], key, value + updates[1]], dim=-1)


def lora(
    backbone: nn.Module,
    num_classes: int,
    rank: int = 8,
    alpha: float = 8.0,
    separate: bool = False,
    readout: str = "mean",
    first_block: int = 0,
) -> Classifier:
    """Return a model that computes ``W x + (alpha / r) B A x`` in place of each ``attn.qkv`` from ``first_block`` on.

    Training starts at the frozen function because B is 0. On ViT-B/16 with r = 8 the updates have 294,912 parameters
    besides the head, commonly reported as 0.29 M. r = 8 is customary on VTAB-1K. By default query, key and value share
    one update of rank r. The paper has separate updates for query and value (``separate``), with the same number of
    parameters in total; a backbone with separate layers (EVA-02) has these in any case. There is no dropout.

    The parameters lie inside the backbone, so autograd must keep the activations of every block from the first one
    that is adapted. DTL avoids this.
    """
    model = classifier(backbone, num_classes, readout, first_block)
    inside = [m for part in model.adapted() for m in part.modules()]
    attentions = [m for m in inside if isinstance(getattr(m, "qkv", None), nn.Linear)]
    apart = [m for m in inside if isinstance(getattr(m, "q_proj", None), nn.Linear)]
    if not attentions + apart:
        raise ValueError(f"this {type(backbone).__name__} has no attention with a fused qkv layer for LoRA to update")
    for module in attentions:
        call_qkv(module)
        module.qkv = (LoRAQueryValue if separate else LoRALinear)(module.qkv, rank, alpha)
    for module in apart:
        module.q_proj, module.v_proj = (LoRALinear(layer, rank, alpha) for layer in (module.q_proj, module.v_proj))
    return model

"""SSF (Lian et al., NeurIPS 2022): a trained scale and shift for the output of every operation."""

import torch
from timm.layers import RmsNorm
from torch import Tensor, nn

from ..blocks import UnsupportedBackbone
from .classifier import Classifier, classifier
from .support import standard_blocks

OPERATIONS = (nn.Linear, nn.Conv2d, nn.LayerNorm, RmsNorm)


class ScaledShifted(nn.Module):
    """A frozen linear layer, norm or convolution with a scale and a shift per channel of its output.

    They start at 1 and 0, so that training starts at the frozen function.
    """

    def __init__(self, operation: nn.Module):
        super().__init__()
        weight = operation.weight  # its first dimension is the output's channels in each of the four
        self.operation, self._channels_first = operation, isinstance(operation, nn.Conv2d)
        self.scale = nn.Parameter(torch.ones_like(weight[(slice(None), *[0] * (weight.ndim - 1))]))
        self.shift = nn.Parameter(torch.zeros_like(self.scale))

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = self.scale, self.shift
        if self._channels_first:
            scale, shift = scale[:, None, None], shift[:, None, None]
        return self.operation(x) * scale + shift


def ssf(backbone: nn.Module, num_classes: int, readout: str = "mean", first_block: int = 0) -> Classifier:
    """Return a model that trains ``y * gamma + beta`` after every linear layer, norm and patch embedding.

    Training starts at the frozen function, with gamma 1 and beta 0. The paper draws them at random around these values
    (unverified). On ViT-B/16 they have 205,824 parameters, commonly reported as 0.21 M. The method has no size to
    choose. With ``first_block`` only what runs from that block on is scaled and shifted.
    """
    blocks = standard_blocks(backbone, "SSF")  # others may read a layer's weight and pass its forward by
    if any(getattr(block.attn, "q_bias", None) is not None for block in blocks):
        raise UnsupportedBackbone(
            f"SSF scales what a layer puts out, and the attention of this {type(backbone).__name__} adds the bias of query "
            "and value outside of its qkv layer: use full, linear, bitfit, lora, adaptformer or dtl"
        )
    model = classifier(backbone, num_classes, readout, first_block)
    inside = {id(m) for part in model.adapted() for m in part.modules()}
    # the pooling by attention of a SigLIP tower is not run: the readout is the same for all methods; and what makes a
    # bias of relative positions is no operation on tokens
    names = [
        n
        for n, m in backbone.named_modules()
        if id(m) in inside and isinstance(m, OPERATIONS) and n.split(".")[0] != "attn_pool" and "rel_pos" not in n
    ]
    for name in names:
        operation = backbone.get_submodule(name)
        if operation.weight is not None:
            owner, _, key = name.rpartition(".")
            setattr(backbone.get_submodule(owner), key, ScaledShifted(operation))
    return model

"""BitFit (Ben Zaken, Goldberg and Ravfogel, ACL 2022): only the biases are trained."""

from __future__ import annotations

from torch import nn

from .classifier import Classifier


def bitfit(backbone: nn.Module, num_classes: int, readout: str = "mean") -> Classifier:
    """``W x + b`` with W frozen and b trained, in every layer that has a bias: linear, norm and patch embedding.

    It starts at the frozen function. On ViT-B/16: 102,912 parameters beside the head (the field's 0.10 M). The table of
    relative positions of a Swin is no bias of a layer and stays frozen.

    Raises:
        ValueError: the backbone has no biases.
    """
    model = Classifier(backbone.requires_grad_(False), num_classes, readout)
    biases = [p for name, p in backbone.named_parameters() if name.endswith("bias")]
    if not biases:
        raise ValueError(f"this {type(backbone).__name__} has no biases for BitFit to train: choose another method")
    for bias in biases:
        bias.requires_grad_(True)
    return model

"""BitFit (Ben Zaken, Goldberg and Ravfogel, ACL 2022): training of the biases only."""

from torch import nn

from .classifier import Classifier


def bitfit(backbone: nn.Module, num_classes: int, readout: str = "mean") -> Classifier:
    """Return a model that trains only the head and the biases of all linear, norm and patch embedding layers.

    Training starts at the frozen function. On ViT-B/16 the biases have 102,912 parameters, commonly reported as 0.10 M.
    The relative position tables of a Swin stay frozen.
    """
    model = Classifier(backbone.requires_grad_(False), num_classes, readout)
    biases = [p for name, p in backbone.named_parameters() if name.endswith("bias")]
    if not biases:
        raise ValueError(f"this {type(backbone).__name__} has no biases for BitFit to train: choose another method")
    for bias in biases:
        bias.requires_grad_(True)
    return model

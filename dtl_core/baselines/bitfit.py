"""BitFit (Ben Zaken, Goldberg and Ravfogel, ACL 2022): training of the biases only."""

from torch import nn

from .classifier import Classifier, classifier


def bitfit(backbone: nn.Module, num_classes: int, readout: str = "mean", first_block: int = 0) -> Classifier:
    """Return a model that trains only the head and the biases of all linear, norm and patch embedding layers.

    Training starts at the frozen function. On ViT-B/16 the biases have 102,912 parameters, commonly reported as 0.10 M.
    The relative position tables of a Swin stay frozen. With ``first_block`` only what runs from that block on is trained.
    """
    model = classifier(backbone, num_classes, readout, first_block)
    biases = [p for part in model.adapted() for name, p in part.named_parameters() if name.endswith("bias")]
    if not biases:
        raise ValueError(f"this {type(backbone).__name__} has no biases for BitFit to train: choose another method")
    for bias in biases:
        bias.requires_grad_(True)
    return model

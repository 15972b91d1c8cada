"""The methods that DTL is compared with, behind one function. One readout for all, so that only the training differs."""

from __future__ import annotations

import copy

from torch import nn

from ..dtl import DTL, DTLConfig
from .classifier import Classifier, LinearProbe
from .lora import LoRALinear, lora


def _full(backbone: nn.Module, num_classes: int, readout: str = "mean") -> Classifier:
    return Classifier(backbone.requires_grad_(True), num_classes, readout)


def _dtl(backbone: nn.Module, num_classes: int, config: DTLConfig | None = None, **options) -> DTL:
    return DTL(backbone, num_classes, config or DTLConfig.for_backbone(backbone), **options)


def _dtl_plus(backbone: nn.Module, num_classes: int, config: DTLConfig | None = None, **options) -> DTL:
    config = config or DTLConfig.for_backbone(backbone, plus=True)
    if not config.dwconv_kernel:
        raise ValueError("dtl+ has a depthwise convolution: give a config with dwconv_kernel > 0, or build 'dtl'")
    return DTL(backbone, num_classes, config, **options)


METHODS = {"full": _full, "linear": LinearProbe, "lora": lora, "dtl": _dtl, "dtl+": _dtl_plus}


def build(name: str, backbone: nn.Module, num_classes: int, *, inplace: bool = False, **options) -> nn.Module:
    """A model that trains by one of ``METHODS``.

    Args:
        name: a key of ``METHODS``.
        backbone: a timm ViT or Swin made with ``num_classes=0``.
        num_classes: classes of the task.
        inplace: use this backbone itself, not a copy. It is then frozen, trained or changed.
        **options: of the method: ``rank``, ``alpha`` (lora); ``config``, ``recompute``, ``drop_path`` (dtl, dtl+);
            ``readout`` (the others).

    Raises:
        ValueError: no such method.
    """
    if name not in METHODS:
        raise ValueError(f"no method is called {name!r}: choose one of {', '.join(METHODS)}")
    return METHODS[name](backbone if inplace else copy.deepcopy(backbone), num_classes, **options)


__all__ = ["METHODS", "Classifier", "LinearProbe", "LoRALinear", "build", "lora"]

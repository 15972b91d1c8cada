"""The methods that DTL is compared with, behind one function. One readout for all, so that only the training differs."""

from __future__ import annotations

import copy

import torch
from torch import nn

from ..dtl import DTL, DTLConfig
from .adaptformer import adaptformer
from .bitfit import bitfit
from .classifier import Classifier, LinearProbe
from .fact import fact
from .lora import LoRALinear, lora
from .lst import LST
from .noah import noah
from .repadapter import repadapter
from .ssf import ssf
from .vpt import VPT, vpt_deep, vpt_shallow


def _full(backbone: nn.Module, num_classes: int, readout: str = "mean") -> Classifier:
    """Full fine-tuning: on ViT-B/16 all 85,798,656 parameters beside the head."""
    return Classifier(backbone.requires_grad_(True), num_classes, readout)


def _dtl(backbone: nn.Module, num_classes: int, config: DTLConfig | None = None, **options) -> DTL:
    """DTL: on ViT-B/16 36,864 parameters beside the head, two (r, d) matrices of rank 2 for each of 12 blocks."""
    return DTL(backbone, num_classes, config or DTLConfig.for_backbone(backbone), **options)


def _dtl_plus(backbone: nn.Module, num_classes: int, config: DTLConfig | None = None, **options) -> DTL:
    """DTL+: on ViT-B/16 43,776 parameters beside the head with a 3 x 3 convolution, 56,064 with 5 x 5."""
    config = config or DTLConfig.for_backbone(backbone, plus=True)
    if not config.dwconv_kernel:
        raise ValueError("dtl+ has a depthwise convolution: give a config with dwconv_kernel > 0, or build 'dtl'")
    return DTL(backbone, num_classes, config, **options)


METHODS = {
    "full": _full,
    "linear": LinearProbe,
    "bitfit": bitfit,
    "vpt-shallow": vpt_shallow,
    "vpt-deep": vpt_deep,
    "adaptformer": adaptformer,
    "lora": lora,
    "ssf": ssf,
    "fact": fact,
    "repadapter": repadapter,
    "lst": LST,
    "noah": noah,
    "dtl": _dtl,
    "dtl+": _dtl_plus,
}


def build(
    name: str,
    backbone: nn.Module,
    num_classes: int,
    *,
    inplace: bool = False,
    backbone_dtype: torch.dtype | None = None,
    **options,
) -> nn.Module:
    """A model that trains by one of ``METHODS``.

    Args:
        name: a key of ``METHODS``.
        backbone: a timm ViT or Swin made with ``num_classes=0``.
        num_classes: classes of the task.
        inplace: use this backbone itself, not a copy. It is then frozen, trained or changed.
        backbone_dtype: keep the frozen weights, and run the tokens, in this type (``torch.bfloat16``); what is trained,
            the head and the optimizer stay fp32. See ``Classifier.cast_frozen``.
        **options: of the method: ``prompts`` (vpt-shallow, vpt-deep); ``bottleneck``, ``scale`` (adaptformer); ``rank``,
            ``alpha``, ``separate`` (lora); ``rank``, ``scale``, ``form``, ``dropout`` (fact); ``hidden``, ``groups``, ``scale`` (repadapter); ``reduction``,
            ``dropout`` (lst); ``adapter``, ``rank``, ``prompts`` (noah); ``config``, ``recompute``, ``drop_path`` (dtl, dtl+);
            ``readout`` (all but dtl, dtl+).

    Raises:
        UnsupportedBackbone: the method has no place in this architecture. On a Swin: vpt-shallow, vpt-deep, fact, lst, noah.
        ValueError: no such method, or a size that does not fit.
    """
    if name not in METHODS:
        raise ValueError(f"no method is called {name!r}: choose one of {', '.join(METHODS)}")
    backbone = backbone if inplace else copy.deepcopy(backbone)
    if name.startswith("dtl"):
        return METHODS[name](backbone, num_classes, backbone_dtype=backbone_dtype, **options)
    model = METHODS[name](backbone, num_classes, **options)
    return model if backbone_dtype is None else model.cast_frozen(backbone_dtype)


__all__ = ["LST", "METHODS", "VPT", "Classifier", "LinearProbe", "LoRALinear", "build", "lora"]

"""The methods that DTL is compared with, behind ``build``; all but DTL share the readout and head of ``Classifier``."""

import copy
import inspect

import torch
from torch import nn

from ..adapter_file import mark
from ..config import whole
from ..dtl import DTL, DTLConfig
from .adaptformer import adaptformer
from .bitfit import bitfit
from .classifier import Classifier, LinearProbe, classifier
from .fact import fact
from .lora import LoRALinear, lora
from .lst import LST
from .noah import noah
from .repadapter import repadapter
from .res_tuning import ResTuningBypass
from .ssf import ssf
from .vpt import VPT, vpt_deep, vpt_shallow


def _full(backbone: nn.Module, num_classes: int, readout: str = "mean", first_block: int = 0) -> Classifier:
    """Return a model for full fine-tuning, on ViT-B/16 of 85,798,656 parameters besides the head.

    With ``first_block`` only what runs from that block on is trained.
    """
    model = classifier(backbone, num_classes, readout, first_block)
    for part in model.adapted():
        part.requires_grad_(True)
    return model


def _dtl(backbone: nn.Module, num_classes: int, config: DTLConfig | None = None, **options) -> DTL:
    """Return a DTL model.

    On ViT-B/16 it trains 36,864 parameters besides the head: two rank-2 matrices (r, d) for each of the 12 blocks.
    """
    return DTL(backbone, num_classes, config or DTLConfig.for_backbone(backbone), **options)


def _dtl_plus(backbone: nn.Module, num_classes: int, config: DTLConfig | None = None, **options) -> DTL:
    """Return a DTL+ model.

    On ViT-B/16 it trains 43,776 parameters besides the head with a 3 x 3 convolution, or 56,064 with a 5 x 5 one.
    """
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
    "res-tuning-bypass": ResTuningBypass,
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
    """Return a model that trains by one of ``METHODS``.

    Args:
        name: a key of ``METHODS``.
        backbone: a supported timm model made with ``num_classes=0``.
        num_classes: number of classes of the task.
        inplace: change this backbone itself instead of a copy. The method then freezes, trains or modifies it.
        backbone_dtype: type of the frozen weights and of the tokens, such as ``torch.bfloat16``. Trained parameters,
            the head and the optimizer's state stay fp32. See ``Classifier.cast_frozen``.
        **options: options of the method: ``prompts`` (vpt-shallow, vpt-deep); ``bottleneck``, ``scale`` (adaptformer); ``bottleneck`` (res-tuning-bypass);
            ``rank``, ``alpha``, ``separate`` (lora); ``rank``, ``scale``, ``dropout`` (fact); ``hidden``,
            ``groups``, ``scale`` (repadapter); ``reduction``, ``dropout`` (lst); ``adapter``, ``rank``, ``prompts``
            (noah); ``config``, ``recompute``, ``drop_path`` (dtl, dtl+); ``readout`` (all but dtl, dtl+);
            ``taps`` (linear); ``first_block`` (full, bitfit, vpt-deep, adaptformer, lora, ssf, repadapter): nothing before this block is
            changed, which gives the model a frozen ``prefix`` and a ``suffix`` as DTL has them.

    Raises:
        UnsupportedBackbone: the method does not support this architecture; the message gives the reason. A Swin is not
            supported by vpt-shallow, vpt-deep, fact, lst, noah and res-tuning-bypass, a ViT with biases for pairs of tokens not by those
            with prompts, and blocks that are not of the standard kind (Swin V2, post-norm) not by those that go inside.
        ValueError: the method is unknown, or a size does not fit.
    """
    if name not in METHODS:
        raise ValueError(f"no method is called {name!r}: choose one of {', '.join(METHODS)}")
    for option in ("rank", "prompts", "bottleneck", "hidden", "groups", "reduction", "adapter", "first_block"):
        whole(option, options.get(option, 0))
    backbone = backbone if inplace else copy.deepcopy(backbone)
    if name.startswith("dtl"):
        return METHODS[name](backbone, num_classes, backbone_dtype=backbone_dtype, **options)
    model = METHODS[name](backbone, num_classes, **options)
    given = inspect.signature(METHODS[name]).bind(backbone, num_classes, **options)
    given.apply_defaults()  # a later version may have others
    mark(model, name, {k: v for k, v in given.arguments.items() if k not in ("backbone", "num_classes")})
    return model if backbone_dtype is None else model.cast_frozen(backbone_dtype)


__all__ = ["LST", "METHODS", "VPT", "Classifier", "LinearProbe", "LoRALinear", "build", "lora"]

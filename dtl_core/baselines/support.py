"""Checks and replacements that the methods apply to a backbone."""

from __future__ import annotations

from collections.abc import Callable

from timm.models.vision_transformer import VisionTransformer
from torch import nn

from ..blocks import UnsupportedBackbone, blocks_of

ON_A_SWIN = "full, linear, bitfit, adaptformer, lora, ssf, repadapter, dtl, dtl+"


def require_vit(backbone: nn.Module, method: str, why: str) -> VisionTransformer:
    """Return the backbone if it is a ViT.

    Args:
        backbone: any model.
        method: name of the method, for the message.
        why: reason why the method does not support a Swin, for the message.

    Raises:
        UnsupportedBackbone: the backbone is a Swin, or ``blocks_of`` does not support it.
    """
    if blocks_of(backbone).grid is None:
        raise UnsupportedBackbone(
            f"{method} is built for timm's VisionTransformer, not for a {type(backbone).__name__}: {why}. "
            f"Methods for a Swin: {ON_A_SWIN}"
        )
    return backbone


def standard_blocks(backbone: nn.Module, method: str) -> list[nn.Module]:
    """Return the blocks if each computes ``x + attn(norm1(x))`` and then ``x + mlp(norm2(x))``.

    Raises:
        UnsupportedBackbone: the blocks are of another kind (parallel, post-norm), or ``blocks_of`` does not support the
            backbone.
    """
    steps = blocks_of(backbone)
    if not steps.can_drop_path():
        raise UnsupportedBackbone(
            f"{method} goes into timm's standard block (norm, attention, norm, MLP), and this {type(backbone).__name__} "
            "is built of another kind: use full, linear, bitfit or dtl, or a backbone of standard blocks"
        )
    return steps.blocks if steps.grid is None else list(backbone.blocks)


def replace_linears(
    backbone: nn.Module, method: str, paths: tuple[str, ...], replacement: Callable[[nn.Linear], nn.Module]
) -> None:
    """Replace the named linear layers of every block by ``replacement(layer)``.

    Args:
        backbone: a ViT or Swin with standard blocks. It is changed in place, or not at all if a layer is missing.
        method: name of the method, for the message.
        paths: paths within a block: "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2".
        replacement: function that makes the new module from the old layer.

    Raises:
        UnsupportedBackbone: a block has no linear layer at one of the paths, or the blocks are not timm's standard
            ones.
    """
    places = []
    for i, block in enumerate(standard_blocks(backbone, method)):
        for owner, name in (path.split(".") for path in paths):
            parent = getattr(block, owner)
            if not isinstance(getattr(parent, name, None), nn.Linear):
                raise UnsupportedBackbone(
                    f"{method} changes the linear layer {owner}.{name}, and block {i} of this {type(backbone).__name__} "
                    f"has none in its {type(parent).__name__}: use a backbone with timm's own Attention and Mlp"
                )
            places.append((parent, name, replacement(getattr(parent, name))))
    for parent, name, module in places:
        setattr(parent, name, module)

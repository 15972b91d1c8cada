"""What the methods ask of a backbone before they change it."""

from __future__ import annotations

from collections.abc import Callable

from timm.models.vision_transformer import VisionTransformer
from torch import nn

from ..blocks import UnsupportedBackbone, blocks_of

ON_A_SWIN = "full, linear, bitfit, adaptformer, lora, ssf, repadapter, dtl, dtl+"


def require_vit(backbone: nn.Module, method: str, why: str) -> VisionTransformer:
    """The backbone, if it is a ViT.

    Args:
        backbone: any model.
        method: name of the method, for the message.
        why: what of the method a Swin cannot hold, for the message.

    Raises:
        UnsupportedBackbone: for a Swin, and for what ``blocks_of`` refuses.
    """
    if blocks_of(backbone).grid is None:
        raise UnsupportedBackbone(
            f"{method} is built for timm's VisionTransformer, not for a {type(backbone).__name__}: {why}. "
            f"Methods for a Swin: {ON_A_SWIN}"
        )
    return backbone


def standard_blocks(backbone: nn.Module, method: str) -> list[nn.Module]:
    """The blocks, if each is ``x + attn(norm1(x))``, then ``x + mlp(norm2(x))``, as the methods' equations have it.

    Raises:
        UnsupportedBackbone: for other kinds of blocks (parallel, post-norm), and for what ``blocks_of`` refuses.
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
    """Puts ``replacement(layer)`` in the place of the named linear layers of every block.

    Args:
        backbone: a ViT or Swin of standard blocks, changed in place, or not at all where a layer is missing.
        method: name of the method, for the message.
        paths: within a block: "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2".
        replacement: makes the new module from the old layer.

    Raises:
        UnsupportedBackbone: a block has no linear layer of such a name.
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

"""Checks and replacements that the methods apply to a backbone."""

import math
from collections.abc import Callable

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ..blocks import UnsupportedBackbone, blocks_of

ON_A_SWIN = "full, linear, bitfit, adaptformer, lora, ssf, repadapter, dtl, dtl+"


def kaiming(like: Tensor, *shape: int) -> nn.Parameter:
    """Return a parameter of ``like``'s type and device, Kaiming-uniform with a = sqrt(5) as in PyTorch's linear layers."""
    parameter = nn.Parameter(like.new_empty(shape))
    nn.init.kaiming_uniform_(parameter, a=math.sqrt(5))
    return parameter


def require_vit(backbone: nn.Module, method: str, why: str) -> VisionTransformer:
    """Return the backbone if it is a ViT; ``why`` says in the message what the method does not find in a Swin."""
    if blocks_of(backbone).grid is None:
        raise UnsupportedBackbone(
            f"{method} is built for timm's VisionTransformer, not for a {type(backbone).__name__}: {why}. "
            f"Methods for a Swin: {ON_A_SWIN}"
        )
    return backbone


def standard_blocks(backbone: nn.Module, method: str) -> list[nn.Module]:
    """Return the blocks if each computes ``x + attn(norm1(x))`` and then ``x + mlp(norm2(x))``."""
    steps = blocks_of(backbone)
    if not steps.can_drop_path():
        raise UnsupportedBackbone(
            f"{method} goes into timm's standard block (norm, attention, norm, MLP), and this {type(backbone).__name__} "
            "is built of another kind: use full, linear, bitfit or dtl, or a backbone of standard blocks"
        )
    return steps.blocks if steps.grid is None else list(backbone.blocks)


def replace_linears(
    backbone: nn.Module,
    method: str,
    paths: tuple[str, ...],
    replacement: Callable[[nn.Linear], nn.Module],
    first_block: int = 0,
) -> None:
    """Replace the linear layers at these paths ("attn.qkv", …) by ``replacement(layer)``, from ``first_block`` on.

    The backbone is changed in place, or not at all if a layer is missing.
    """
    places = []
    for i, block in list(enumerate(standard_blocks(backbone, method)))[first_block:]:
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

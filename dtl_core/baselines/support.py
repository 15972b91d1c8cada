"""Checks and replacements that the methods apply to a backbone."""

import math
from collections.abc import Callable

from torch import Tensor, nn

from ..blocks import STANDARD, BeitBlocks, RelPosBlocks, UnsupportedBackbone, blocks_of

ON_A_SWIN = "full, linear, bitfit, adaptformer, lora, ssf, repadapter, dtl, dtl+"
ON_A_SWIN_V2 = "full, linear, bitfit, lora, dtl, dtl+"


def kaiming(like: Tensor, *shape: int) -> nn.Parameter:
    """Return a parameter of ``like``'s type and device, Kaiming-uniform with a = sqrt(5) as in PyTorch's linear layers."""
    parameter = nn.Parameter(like.new_empty(shape))
    nn.init.kaiming_uniform_(parameter, a=math.sqrt(5))
    return parameter


def require_vit(backbone: nn.Module, method: str, why: str) -> None:
    """Refuse a Swin; ``why`` says in the message what the method does not find in one."""
    if (steps := blocks_of(backbone)).grid is None:
        methods = ON_A_SWIN if type(steps.blocks[0]) in STANDARD else ON_A_SWIN_V2
        raise UnsupportedBackbone(
            f"{method} is built for timm's VisionTransformer, not for a {type(backbone).__name__}: {why}. "
            f"Methods for a Swin: {methods}"
        )


def require_room(backbone: nn.Module, method: str) -> None:
    """Refuse a backbone whose row of tokens cannot take in prompts."""
    require_vit(backbone, method, "its prompts are tokens in one row with the patches, and a Swin has windows of them")
    if isinstance(steps := blocks_of(backbone), BeitBlocks | RelPosBlocks):
        biased = steps.shared or any(
            getattr(b.attn, "relative_position_bias_table", 0) is not None for b in steps.blocks
        )
        if biased:
            raise UnsupportedBackbone(
                f"{method} puts prompts among the tokens, and this {type(backbone).__name__} has a trained bias for each "
                "pair of its own tokens and none for prompts: use a method without prompts"
            )


def call_qkv(attention: nn.Module) -> None:
    """Let an attention call its qkv layer, as a replaced layer has to be; EVA, BEiT and Swin V2 read its weight.

    timm's own switch: the bias of query and value is then added behind the layer, which is the same up to rounding.
    """
    if getattr(attention, "q_bias", None) is not None:
        attention.qkv_bias_separate = True


def standard_blocks(backbone: nn.Module, method: str) -> list[nn.Module]:
    """Return the blocks if each computes ``x + attn(norm1(x))`` and then ``x + mlp(norm2(x))``."""
    steps = blocks_of(backbone)
    if not all(type(b) in STANDARD for b in steps.blocks):
        raise UnsupportedBackbone(
            f"{method} goes into timm's standard block (norm, attention, norm, MLP), and this {type(backbone).__name__} "
            "is built of another kind: use full, linear, bitfit or dtl, or a backbone of standard blocks"
        )
    return list(steps.blocks)


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
        call_qkv(parent)
        setattr(parent, name, module)

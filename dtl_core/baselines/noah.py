"""The modules of NOAH (Zhang, Zhou and Liu, "Neural Prompt Search", 2022): adapter, LoRA and prompts at once, no search."""

from __future__ import annotations

from torch import Tensor, nn

from .adaptformer import Bottleneck
from .lora import LoRALinear
from .support import replace_linears, require_vit, standard_blocks
from .vpt import VPT


class SerialAdapter(nn.Module):
    """``y + bottleneck(y)`` with ``y = mlp(x)``, in the place of the MLP."""

    def __init__(self, mlp: nn.Module, adapter: Bottleneck):
        super().__init__()
        self.mlp, self.adapter = mlp, adapter

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., d)."""
        y = self.mlp(x)
        return y + self.adapter(y)


def noah(
    backbone: nn.Module, num_classes: int, adapter: int = 8, rank: int = 5, prompts: int = 10, readout: str = "mean"
) -> VPT:
    """In every block: prompts before it (VPT-Deep), LoRA on qkv, and an adapter behind the MLP; all three trained.

    NOAH trains a network with all of them at several sizes, then searches for each task which modules to keep in which
    block at which size. There is no search here: the sizes are the same in all blocks, and ours. On ViT-B/16 with adapters
    of 8, rank 5 and 10 prompts they make 433,248 parameters beside the head, to meet the field's 0.43 M, which is a mean
    of what the search found. The prompts are seen from the start, so the function does not begin at the frozen one.
    The adapter is AdaptFormer's (ReLU, zeros in ``up``); NOAH's own code has QuickGELU and draws ``up`` at random.

    Raises:
        UnsupportedBackbone: for a Swin, or blocks that are not timm's standard ones.
    """
    require_vit(backbone, "NOAH", "its prompts are tokens in one row with the patches, and a Swin has windows of them")
    blocks = standard_blocks(backbone, "NOAH")
    model = VPT(backbone, num_classes, prompts, deep=True, readout=readout)
    replace_linears(backbone, "NOAH", ("attn.qkv",), lambda layer: LoRALinear(layer, rank, alpha=rank))
    for block in blocks:
        weight = next(block.mlp.parameters())
        block.mlp = SerialAdapter(block.mlp, Bottleneck(backbone.embed_dim, adapter, weight))
    return model

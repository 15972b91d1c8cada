"""The modules of NOAH (Zhang, Zhou and Liu, "Neural Prompt Search", 2022) without its search."""

from torch import Tensor, nn

from .adaptformer import Bottleneck
from .lora import LoRALinear
from .support import replace_linears, require_room, standard_blocks
from .vpt import VPT


class SerialAdapter(nn.Module):
    """A replacement for the MLP that computes ``y + bottleneck(y)`` with ``y = mlp(x)``."""

    def __init__(self, mlp: nn.Module, adapter: Bottleneck):
        super().__init__()
        self.mlp, self.adapter = mlp, adapter

    def forward(self, x: Tensor) -> Tensor:
        y = self.mlp(x)
        return y + self.adapter(y)


def noah(
    backbone: nn.Module, num_classes: int, adapter: int = 8, rank: int = 5, prompts: int = 10, readout: str = "mean"
) -> VPT:
    """Return a model that trains VPT-Deep prompts, LoRA on qkv and an adapter after the MLP in every block.

    NOAH trains a network with all three modules at several sizes. It then searches for each task which to keep per
    block. This function does not search: all blocks have the same sizes, which are not NOAH's. On ViT-B/16 the default
    sizes have 433,248 parameters besides the head, chosen to match the commonly reported 0.43 M. That figure is a mean
    over the results of NOAH's search. Training does not start at the frozen function because the prompts take part in
    attention. The adapter is AdaptFormer's, with ReLU and ``up`` at 0. NOAH's own code has QuickGELU and a random
    ``up``.
    """
    require_room(backbone, "NOAH")
    blocks = standard_blocks(backbone, "NOAH")
    model = VPT(backbone, num_classes, prompts, deep=True, readout=readout)
    replace_linears(backbone, "NOAH", ("attn.qkv",), lambda layer: LoRALinear(layer, rank, alpha=rank))
    for block in blocks:
        weight = next(block.mlp.parameters())
        block.mlp = SerialAdapter(block.mlp, Bottleneck(backbone.embed_dim, adapter, weight))
    return model

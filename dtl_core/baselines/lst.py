"""Ladder side-tuning (Sung, Cho and Bansal, NeurIPS 2022): a small side transformer that reads a frozen one."""

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from ..blocks import WatchPoint
from .classifier import Classifier
from .support import require_vit, standard_blocks


class Rung(nn.Module):
    """A gated connection from the frozen network, of width d, to the side network: a linear layer ``down`` and a gate.

    The gate (1,) is 0 at the start, so that both inputs have weight 0.5.
    """

    def __init__(self, dim: int, width: int, temperature: float = 0.1):
        super().__init__()
        self.down, self.temperature = nn.Linear(dim, width), temperature
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, tap: Tensor, side: Tensor) -> Tensor:
        """Mix ``tap`` (B, N, d) and ``side`` (B, N, width) into (B, N, width)."""
        share = torch.sigmoid(self.gate / self.temperature)
        return share * side + (1 - share) * self.down(tap)


class LadderSideNetwork(nn.Module):
    """A side transformer of width d / reduction, with a rung from every block of the frozen network.

    ``first`` reads the tokens that enter block 0. ``up`` maps back to d and starts at 0, so that training starts at the
    frozen function. Dropout acts in the side blocks, in attention and after every layer, as in T5.
    """

    def __init__(self, dim: int, depth: int, heads: int, reduction: int, dropout: float):
        super().__init__()
        width = dim // reduction if reduction > 0 else 0
        if not width or dim % reduction or width % heads:
            raise ValueError(
                f"reduction={reduction} of tokens of width {dim}: the side network's width must be a whole number and a "
                f"multiple of its {heads} heads"
            )
        self.first = nn.Linear(dim, width)
        self.rungs = nn.ModuleList(Rung(dim, width) for _ in range(depth))
        self.blocks = nn.ModuleList(
            Block(width, heads, qkv_bias=True, proj_drop=dropout, attn_drop=dropout) for _ in range(depth)
        )
        self.up = nn.Linear(width, dim)
        for layer in (m for m in self.modules() if isinstance(m, nn.Linear)):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.up.weight)

    def forward(self, taps: list[Tensor]) -> Tensor:
        """Return the update (B, N, d) of the last tokens from the tokens before block 0 and after each block."""
        side = self.first(taps[0])
        for rung, block, tap in zip(self.rungs, self.blocks, taps[1:], strict=True):
            side = block(rung(tap, side))
        return self.up(side)


class LST(Classifier):
    """A frozen ViT, run without autograd, with a ``LadderSideNetwork`` whose output is added to the last tokens.

    With x_0 the tokens that enter the first block and x_i those that leave the i-th block, ``s_0 = first x_0``,
    ``s_i = block_i(mu_i s_(i-1) + (1 - mu_i) down_i x_i)`` and ``mu_i = sigmoid(gate_i / T)``. The readout receives
    ``x_L + up s_L``. Gradients never reach the backbone.

    On ViT-B/16 with reduction 8 the side network has 2,376,300 parameters, commonly reported as 2.38 M. As in the
    paper, gates start at 0 with T = 0.1 (unverified). Three choices are specific to this implementation. The side
    blocks start from random numbers, whereas the paper prunes the backbone's weights into them. ``up`` starts at 0. No
    block is left out.
    """

    def __init__(
        self, backbone: nn.Module, num_classes: int, reduction: int = 8, dropout: float = 0.0, readout: str = "mean"
    ):
        require_vit(
            backbone, "LST", "its side network has one width, and that of a Swin's tokens changes between stages"
        )
        heads = standard_blocks(backbone, "LST")[0].attn.num_heads
        super().__init__(backbone.requires_grad_(False), num_classes, readout)
        side = LadderSideNetwork(backbone.embed_dim, len(backbone.blocks), heads, reduction, dropout)
        weight = next(backbone.blocks.parameters())
        self.side = side.to(weight.device, weight.dtype)

    def features(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            taps = [self._embed(images)]
            for i in range(len(self.blocks.widths)):
                taps.append(self.blocks(i, taps[-1]))
        return self._read(taps[-1] + self.side(taps))

    def watch_points(self) -> list[WatchPoint]:
        return [*super().watch_points(), WatchPoint(self.side, "forward", "side network")]

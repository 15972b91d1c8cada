"""Res-Tuning-Bypass (Jiang et al., NeurIPS 2023): adapters beside a frozen ViT, which runs once for every task."""

import torch
from torch import Tensor, nn

from ..blocks import WatchPoint
from ..dtl import Features, head_logits
from .adaptformer import Bottleneck
from .classifier import Classifier
from .support import require_vit


class Bypass(nn.Module):
    """A chain of adapters that reads the tokens before block 0 and after each block.

    Each link has two adapters, ``across`` for the backbone's tokens and ``along`` for those of the chain, and a number
    ``share`` that mixes them. It starts at 0, so that both have weight 0.5.
    """

    def __init__(self, dim: int, depth: int, bottleneck: int, like: Tensor):
        super().__init__()
        self.across = nn.ModuleList(Bottleneck(dim, bottleneck, like) for _ in range(depth))
        self.along = nn.ModuleList(Bottleneck(dim, bottleneck, like) for _ in range(depth))
        self.share = nn.Parameter(like.new_zeros(depth))

    def forward(self, taps: list[Tensor]) -> Tensor:
        """Map the tokens (B, N, d) before block 0 and after each block -> (B, N, d)."""
        b, *outputs = taps
        for across, along, share, x in zip(self.across, self.along, torch.sigmoid(self.share), outputs, strict=True):
            b = share * (x + across(x)) + (1 - share) * (b + along(b))
        return b


class ResTuningBypass(Classifier):
    """A frozen ViT, run without autograd, whose readout receives what a ``Bypass`` makes of the tokens.

    With x_0 the tokens that enter the first block and x_i those that leave the i-th, the chain is ``b_0 = x_0`` and
    ``b_i = share_i tuner(x_i) + (1 - share_i) tuner(b_(i-1))``; the readout receives b_L, not x_L. Gradients never reach
    the backbone, so that its tokens can be stored and shared between tasks. On ViT-B/16 a bottleneck of 8 has 313,548
    parameters besides the head.

    Only the published equation of the chain was at hand. The tuner is ours: ``x + up(relu(down(x)))`` with ``up = 0`` at
    the start and a bottleneck of 8, two of their own for each block. At the start b_L is a running mean of the tokens of all blocks, and so not the frozen function.
    """

    def __init__(self, backbone: nn.Module, num_classes: int, bottleneck: int = 8, readout: str = "mean"):
        require_vit(
            backbone,
            "Res-Tuning-Bypass",
            "its chain has one width, and that of a Swin's tokens changes between stages",
        )
        super().__init__(backbone.requires_grad_(False), num_classes, readout)
        like, widths = next(backbone.blocks.parameters()), self.blocks.widths
        self.side = Bypass(widths[-1], len(widths), bottleneck, like)

    @torch.no_grad()
    def prefix(self, images: Tensor) -> Features:
        """Map images (B, 3, H, W) -> ``Features`` with the input of every block and the last block's output."""
        x, taps = self._embed(images), {}
        for i in range(len(self.blocks.widths)):
            taps[i] = x
            x = self.blocks(i, x)
        return Features(x, taps)

    def suffix(self, features: Features) -> Tensor:
        """Map ``Features`` -> logits (B, num_classes)."""
        return head_logits(self.head, self._read_chain(features))

    def suffix_parts(self) -> list[nn.Module]:
        return [self.side, self.head, self.backbone.norm, self.backbone.fc_norm]

    def features(self, images: Tensor) -> Tensor:
        return self._read_chain(self.prefix(images))

    def _read_chain(self, features: Features) -> Tensor:
        return self._read(self.side([*features.taps.values(), features.tokens]))

    def watch_points(self) -> list[WatchPoint]:
        return [*super().watch_points(), WatchPoint(self.side, "forward", "side network")]

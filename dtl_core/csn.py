"""The Compact Side Network (CSN) of DTL, in the order of the paper. Independent of the backbone.

Source: Fu, Zhu and Wu, "DTL: Disentangled Transfer Learning for Visual Recognition" (AAAI 2024), and the behaviour of
the authors' code. The tokens that enter block i are ``x_i``. The side state starts at ``h = 0``; on a Swin it starts
again at each stage.

1. tap:     ``h <- h + up_i (down_i x_i)``                   before block i, for i >= tap_from
2. gate:    ``swish(h) = h * sigmoid(beta * h)``             a smooth ReLU for beta = 100
3. DTL+:    a depthwise convolution over the patch grid; in DTL ``conv`` is the identity
4. inject:  ``x_{i+1} = block_i(x_i) + conv(swish(h))``      for i >= M
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def swish(h: Tensor, beta: float = 100.0) -> Tensor:
    """Return ``h * sigmoid(beta * h)``, elementwise, for h of any shape.

    Swish tends to ReLU as beta grows; its slope at 0 is 1/2 for every finite beta. At beta = 100 it lies within 0.0028
    of ReLU everywhere. For beta = infinity ReLU is returned, whose slope at 0 is 0: a side network that starts at
    ``up = 0`` then has no gradient.
    """
    if math.isinf(beta):
        return h.relu()
    return h * torch.sigmoid(beta * h)


class LowRankMap(nn.Module):
    """One low-rank map of the side network: ``x -> up (down x)``, without bias or scale.

    Attributes:
        down: (r, d), Kaiming-uniform with a = sqrt(5).
        up: (d, r), zeros, so that the map is 0 at the start.
    """

    def __init__(self, dim: int, rank: int):
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, dim))
        self.up = nn.Parameter(torch.zeros(dim, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def encode(self, x: Tensor) -> Tensor:
        """Return the code ``down x`` of each token: (..., d) -> (..., r).

        The map is cast to the type of the tokens, not the tokens to the map's: a cast copy would be kept for backward.
        """
        return F.linear(x, self.down.to(x.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., d) -> (..., d)."""
        return F.linear(self.encode(x), self.up.to(x.dtype))


class DepthwiseConv(nn.Module):
    """One k x k filter per channel over the patch grid, padding "same", no bias (DTL+); ``weight`` is (d, 1, k, k).

    An even kernel is padded by one more to the right and below. The initialisation is PyTorch's default.
    """

    def __init__(self, dim: int, kernel: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim, 1, kernel, kernel))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, grid: Tensor) -> Tensor:
        """Map (B, H, W, d) -> (B, H, W, d)."""
        k = self.weight.shape[-1]
        before, after = (k - 1) // 2, k // 2
        x = F.pad(grid.permute(0, 3, 1, 2), (before, after, before, after))  # (B, d, H + k - 1, W + k - 1)
        weight = self.weight.to(grid.dtype)
        return F.conv2d(x, weight, groups=weight.shape[0]).permute(0, 2, 3, 1)  # (B, H, W, d)


class CompactSideNetwork(nn.Module):
    """Low-rank maps, gate and convolution, with maps only in stages that have an injection.

    On a ViT all blocks form one stage. On a Swin ``h`` starts again from 0 at each stage, so a map in a stage without
    an injection could never matter, and none is made there.

    Args:
        widths: token width d of each block.
        stages: stage of each block (all 0 for a ViT), not decreasing.
        grid: (H, W) of the patches of a ViT, whose tokens come as (B, P + H*W, d) with P prefix tokens (class,
            registers). None for a Swin, whose tokens come as (B, H, W, d).
        rank, tap_from, inject_from, beta, dwconv_kernel: see ``DTLConfig``.

    Attributes:
        maps: ``maps["6"]`` is the ``LowRankMap`` of block 6.
        dwconvs: ``dwconvs["0"]`` is the ``DepthwiseConv`` of stage 0, one for every stage with an injection, shared by
            all injections of the stage.
    """

    def __init__(
        self,
        widths: Sequence[int],
        stages: Sequence[int],
        grid: tuple[int, int] | None = None,
        *,
        rank: int,
        tap_from: int,
        inject_from: int,
        beta: float,
        dwconv_kernel: int = 0,
    ):
        super().__init__()
        self.stages, self.grid, self.beta = tuple(stages), grid, beta
        injecting = sorted(set(self.stages[inject_from:]))
        self.maps = nn.ModuleDict(
            {str(i): LowRankMap(d, rank) for i, d in enumerate(widths) if i >= tap_from and stages[i] in injecting}
        )
        width_of = dict(zip(stages, widths, strict=True))
        self.dwconvs = nn.ModuleDict(
            {str(s): DepthwiseConv(width_of[s], dwconv_kernel) for s in injecting} if dwconv_kernel else {}
        )

    def tap(self, i: int, x: Tensor, h: Tensor | float) -> Tensor:
        """Return ``h + up_i (down_i x)``: step 1, before block i, for x and h of shape (B, ..., d).

        At the start of a stage h is 0.0. ``lean.state`` computes the same h from the codes ``down_i x``: change both
        together (``tests/core/test_lean.py`` compares them), or train with ``recompute="none"``, which runs only this
        method.
        """
        return h + self.maps[str(i)](x)

    def gate(self, i: int, h: Tensor, nonlinearity: Callable[[Tensor, float], Tensor] = swish) -> Tensor:
        """Return ``conv(swish(h))``: steps 2 and 3, what is added to the tokens (B, ..., d) after block i >= M.

        Class and register tokens bypass the convolution. ``lean.py`` passes a swish that overwrites its input.
        """
        gated = nonlinearity(h, self.beta)
        if not self.dwconvs:
            return gated
        conv = self.dwconvs[str(self.stages[i])]
        if self.grid is None:
            return conv(gated)
        prefix = gated.shape[1] - math.prod(self.grid)
        patches = conv(gated[:, prefix:].unflatten(1, self.grid)).flatten(1, 2)  # (B, H*W, d)
        return torch.cat([gated[:, :prefix], patches], dim=1)

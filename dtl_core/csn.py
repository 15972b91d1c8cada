"""The Compact Side Network (CSN) of DTL, in the order of the paper. Knows no backbone.

Source: Fu, Zhu and Wu, "DTL: Disentangled Transfer Learning for Visual Recognition" (AAAI 2024), and the
behaviour of the authors' code. Tokens that enter block i are ``x_i``; the side state starts at ``h = 0``.

1. tap:     ``h <- h + up_i (down_i x_i)``            before block i
2. gate:    ``swish(h) = h * sigmoid(beta * h)``      a smooth ReLU for beta = 100
3. DTL+:    a depthwise convolution over the patch grid
4. inject:  ``x <- x + conv(swish(h))``               after block i, for i >= M
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def swish(h: Tensor, beta: float = 100.0) -> Tensor:
    """``h * sigmoid(beta * h)``, elementwise. Tends to ReLU as beta grows; its slope at 0 is 1/2.

    At beta = 100 it lies within 0.0028 of ReLU everywhere; for beta = infinity ReLU itself is given. Any shape.
    """
    if math.isinf(beta):
        return h.relu()
    return h * torch.sigmoid(beta * h)


class LowRankMap(nn.Module):
    """One low-rank map of the side network: ``x -> up (down x)``, without bias or scale.

    Args:
        dim: width d of the tokens.
        rank: r, far below d.

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
        """(..., d) -> (..., r): the code of a token, all that its map knows of it.

        The map is cast to the type of the tokens, not the tokens to the map's: a cast token would be kept for backward.
        """
        return F.linear(x, self.down.to(x.dtype))

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., d)."""
        return F.linear(self.encode(x), self.up.to(x.dtype))


class DepthwiseConv(nn.Module):
    """One k x k filter per channel over the patch grid, padding "same", no bias (DTL+).

    An even kernel is padded one more to the right and below. PyTorch's default initialisation.

    Attributes:
        weight: (d, 1, k, k).
    """

    def __init__(self, dim: int, kernel: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim, 1, kernel, kernel))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, grid: Tensor) -> Tensor:
        """(B, H, W, d) -> (B, H, W, d)."""
        k = self.weight.shape[-1]
        before, after = (k - 1) // 2, k // 2
        x = F.pad(grid.permute(0, 3, 1, 2), (before, after, before, after))  # (B, d, H + k - 1, W + k - 1)
        weight = self.weight.to(grid.dtype)
        return F.conv2d(x, weight, groups=weight.shape[0]).permute(0, 2, 3, 1)  # (B, H, W, d)


class CompactSideNetwork(nn.Module):
    """Low-rank maps, gate and convolution. Holds only what can reach an injection.

    On a ViT all blocks form one stage. On a Swin ``h`` starts again from 0 at each stage, so a map in a stage
    without an injection could never matter, and none is made there.

    Args:
        widths: token width d of each block.
        stages: stage of each block (all 0 for a ViT), not decreasing.
        rank: r of every map.
        tap_from: first block that is tapped.
        inject_from: M, the first block after which the side state is added.
        beta: steepness of the gate.
        dwconv_kernel: k of the depthwise convolutions; 0 makes none (DTL).

    Attributes:
        maps: ``maps["6"]`` is the ``LowRankMap`` of block 6.
        dwconvs: ``dwconvs["0"]`` is the ``DepthwiseConv`` of stage 0, one for every injecting stage.
    """

    def __init__(
        self,
        widths: Sequence[int],
        stages: Sequence[int],
        *,
        rank: int,
        tap_from: int,
        inject_from: int,
        beta: float,
        dwconv_kernel: int = 0,
    ):
        super().__init__()
        self.stages, self.inject_from, self.beta = tuple(stages), inject_from, beta
        injecting = sorted(set(self.stages[inject_from:]))
        self.maps = nn.ModuleDict(
            {str(i): LowRankMap(d, rank) for i, d in enumerate(widths) if i >= tap_from and stages[i] in injecting}
        )
        width_of = dict(zip(stages, widths, strict=True))
        self.dwconvs = nn.ModuleDict(
            {str(s): DepthwiseConv(width_of[s], dwconv_kernel) for s in injecting} if dwconv_kernel else {}
        )

    def tapped(self, block: int) -> bool:
        """Whether the input of this block is read."""
        return str(block) in self.maps

    def encode(self, block: int, x: Tensor) -> Tensor:
        """Step 1, first half: the code ``down_i x_i`` of a block's input, (B, ..., d) -> (B, ..., r)."""
        return self.maps[str(block)].encode(x)

    def state(self, codes: Mapping[int, Tensor], scale: float = 1.0) -> Tensor:
        """Step 1, second half: ``h``, the sum of ``up_j code_j`` over the tapped blocks so far, (B, ..., d).

        The sum is one product, ``[code_0 ... code_i] [up_0 ... up_i]^T``: it writes ``h`` once, and autograd keeps
        the thin codes in place of every partial sum. With ``scale`` it gives ``scale * h`` at no cost.
        """
        joined = torch.cat(list(codes.values()), dim=-1)
        ups = torch.cat([self.maps[str(j)].up for j in codes], dim=1)
        ups = ups if scale == 1 else ups * scale
        return F.linear(joined, ups.to(joined.dtype))

    def gated(self, codes: Mapping[int, Tensor], fused: bool = False) -> Tensor:
        """Step 2, ``swish(h)``, (B, ..., d).

        ``fused`` takes ``silu(beta h) / beta`` in its place, the same function: one kernel forward and one backward, and
        one tensor kept where the form as written keeps two. Not in fp16, where ``beta h`` passes the largest number
        from h = 655 on and silu would give infinity or NaN.
        """
        half = next(iter(codes.values())).dtype == torch.float16
        if fused and not half and math.isfinite(self.beta):
            return F.silu(self.state(codes, self.beta)).mul_(1 / self.beta)
        return swish(self.state(codes), self.beta)

    def injection(
        self, codes: Mapping[int, Tensor], stage: int, grid: tuple[int, int] | None = None, fused: bool = False
    ) -> Tensor:
        """Steps 2 and 3: what is added to the tokens after a block.

        Args:
            codes: code of each tapped block of this stage so far, by block.
            stage: the block's stage, which names the convolution.
            grid: (H, W) of the patches of a ViT; its tokens come as (B, P + H*W, d), where the P prefix tokens
                (class, registers) pass by the convolution. None for tokens (B, H, W, d).
            fused: see ``gated``.

        Returns:
            A tensor of the tokens' shape.
        """
        gated = self.gated(codes, fused)
        if not self.dwconvs:
            return gated
        conv = self.dwconvs[str(stage)]
        if grid is None:
            return conv(gated)
        prefix = gated.shape[1] - grid[0] * grid[1]
        patches = conv(gated[:, prefix:].unflatten(1, grid)).flatten(1, 2)  # (B, H*W, d)
        return torch.cat([gated[:, :prefix], patches], dim=1)

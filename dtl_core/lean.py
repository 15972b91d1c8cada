"""``DTL.suffix`` in fewer bytes: the same function and the same gradients, up to rounding.

``DTL(recompute="side")``, the default, and ``"blocks"`` run what stands here while training. It differs from the form of the
paper, ``recompute="none"``, in five ways. All but the last make "side"; in brackets what is held in place of what, in
tensors of the tokens' size (B, N, d):

1. *Thin codes.* A tap keeps ``down_i x_i``, r numbers a token, and no h. Each injection sums h anew from the codes of its
   stage, in one product (r/d of a tensor a block; the plain form holds none for the sum either, but two for the gate).
2. *The gate again.* What an injection adds is not kept for backward but computed again there from the codes (0 for 2, and
   0 for the padded input of a convolution).
3. *The gate in place.* ``swish(h)`` is ``silu(beta h) / beta``, which overwrites h (1 alive for 2, while it runs).
4. *The mean before the last layer.* The readout of a ViT takes only the mean of its patch tokens, and the last layer of its
   last block is linear: the mean is taken before it. That block runs in ``PARTS`` of the batch, so that only one part's
   working set is alive at a time. Hooks on its submodules see parts; hooks on the block itself are not called.
5. *The blocks again* ("blocks" alone). Blocks after M keep their input and are computed again in backward. They run in
   parts, as do the blocks of the prefix (``frozen_block``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from timm.models.vision_transformer import Block
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .blocks import Blocks, ViTBlocks, WatchPoint
from .csn import CompactSideNetwork, swish

if TYPE_CHECKING:
    from .dtl import DTL, Features

PARTS = 4


def swish_in_place(h: Tensor, beta: float) -> Tensor:
    """Return ``csn.swish(h, beta)`` as ``silu(beta h) / beta``, and overwrite h.

    Not in fp16, where ``beta h`` passes the largest number from h = 655 on and silu would give infinity or NaN.
    """
    if h.dtype == torch.float16 or math.isinf(beta):
        return swish(h, beta)
    return F.silu(h.mul_(beta)).mul_(1 / beta)


def state(csn: CompactSideNetwork, codes: Mapping[int, Tensor]) -> Tensor:
    """Return ``h``, the sum of ``up_j code_j`` over the tapped blocks so far, (B, ..., d).

    One product, ``[code_0 ... code_i] [up_0 ... up_i]^T``, writes h once; autograd keeps the codes and no partial sum.

    Args:
        csn: whose maps.
        codes: ``down_j x_j`` by block, (B, ..., r).
    """
    joined = torch.cat(list(codes.values()), dim=-1)
    ups = torch.cat([csn.maps[str(j)].up for j in codes], dim=1)
    return F.linear(joined, ups.to(joined.dtype))


def added(csn: CompactSideNetwork, i: int, codes: Mapping[int, Tensor]) -> Tensor:
    """Return what is added to the tokens after block i, from the codes of its stage so far; see ``state``."""
    return csn.gate(i, state(csn, codes), swish=swish_in_place)


def can_pool(blocks: Blocks) -> bool:
    """Return whether the last block can give the mean of its patch tokens; see ``pooled_block``."""
    last = blocks.model.blocks[-1] if isinstance(blocks, ViTBlocks) else None
    return type(last) is Block and type(last.mlp) is Mlp


def pooled_block(blocks: ViTBlocks, x: Tensor) -> Tensor:
    """Return the mean over the patch tokens of the last block's output, (B, N, d) -> (B, d).

    The last layer of the MLP is linear, so the mean is taken before it: a third of the block's products falls away,
    forward and backward.
    """
    b, drop = blocks.model.blocks[-1], blocks.drop(-1) or (lambda x: x)
    x = (x + drop(b.ls1(b.attn(b.norm1(x)))))[:, blocks.model.num_prefix_tokens :]
    hidden = b.mlp.norm(b.mlp.act(b.mlp.fc1(b.norm2(x))))  # its two dropouts are still: the block is frozen
    return x.mean(dim=1) + drop(b.ls2(b.mlp.fc2(hidden.mean(dim=1))))


class LeanSuffix:
    """The suffix of a ``DTL``, in parts that can be watched.

    Args:
        model: whose parts it runs. It holds no parameters of its own.
    """

    def __init__(self, model: DTL):
        self.model, self.blocks = model, model.blocks
        self.pools, self.last = can_pool(model.blocks), len(model.blocks.stages) - 1

    def suffix(self, features: Features) -> Tensor:
        """Return what ``DTL.suffix`` returns."""
        stages, m = self.blocks.stages, self.model.config.inject_from
        x, taps = features.tokens, dict(features.taps)
        del features  # where the caller keeps none, the tokens are freed as soon as they are read
        codes = {i: self.encode(i, taps.pop(i)) for i in list(taps)}
        x = self.inject(m, x, codes)
        for i in range(m + 1, self.last + 1):
            x = self.blocks.enter(i, x)
            if stages[i] != stages[i - 1]:
                codes = {}  # the side state starts again from 0 at each stage
            codes[i] = self.encode(i, x)
            pool = self.pools and i == self.last
            x = self.inject(i, self.block(i, x, pool), codes, pool)
        return self.model.head(self.blocks.readout(x).to(self.model.head.weight.dtype))

    def encode(self, i: int, x: Tensor) -> Tensor:
        """Return the codes ``down_i x`` of the input of block i, (B, ..., d) -> (B, ..., r)."""
        return self.model.csn.maps[str(i)].encode(x)

    def frozen_block(self, i: int, x: Tensor) -> Tensor:
        """Return the output of a block of the prefix, in parts of the batch."""
        return self._in_parts(i, partial(self.blocks, i), x)

    def block(self, i: int, x: Tensor, pool: bool = False) -> Tensor:
        """Return the output of block i, or with ``pool`` its mean: in parts, and computed again in backward."""
        step, again = partial(self.pooled_block if pool else self.blocks, i), self.model.recompute == "blocks"
        if again:
            dropping = self.blocks.drop(i) is not None
            step = partial(checkpoint, step, use_reentrant=False, preserve_rng_state=dropping)
        return self._in_parts(i, step, x) if again or i == self.last else step(x)

    def _in_parts(self, i: int, step: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if self.blocks.drop(i):  # drop path would draw other numbers for parts than for the whole
            return step(x)
        return torch.cat([step(part) for part in x.chunk(PARTS)])

    def pooled_block(self, i: int, x: Tensor) -> Tensor:
        """Return ``pooled_block`` of block i, the last one."""
        return pooled_block(self.blocks, x)

    def inject(self, i: int, x: Tensor, codes: Mapping[int, Tensor], pool: bool = False) -> Tensor:
        """Return the output of block i with the side state on top. With ``pool`` x is the mean of the patch tokens."""
        codes, patches = dict(codes), math.prod(self.blocks.grid) if pool else None
        if pool:
            codes = {j: code[:, -patches:] for j, code in codes.items()}
        add = checkpoint(self.added, i, codes, use_reentrant=False, preserve_rng_state=False)
        return x + (add.mean(dim=1) if pool else add).to(x.dtype)

    def added(self, i: int, codes: Mapping[int, Tensor]) -> Tensor:
        """Return ``added`` of this side network."""
        return added(self.model.csn, i, codes)

    def watch_points(self) -> list[WatchPoint]:
        """Return the methods that run its parts, beside those of the backbone and head."""
        return [
            WatchPoint(self, "encode", "side network"),
            WatchPoint(self, "inject", "side network"),
            WatchPoint(self, "added", "side network", recomputed=True),
            WatchPoint(self, "block"),
            WatchPoint(self, "frozen_block"),
            WatchPoint(self, "pooled_block", recomputed=True),
        ]

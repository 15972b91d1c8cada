"""A ``DTL.suffix`` that needs less memory, with the same outputs and gradients up to rounding.

``DTL(recompute="side")``, the default, and ``recompute="blocks"`` use this module wherever gradients are recorded.
"side" differs from the form of the paper, ``recompute="none"``, in the first four points, "blocks" in all five. A
*full tensor* here has the size of the tokens, (B, N, d).

1. *Thin codes.* A tap keeps its input, as in every form, and its code ``down_i x_i``, r numbers per token. No h is
   passed on: each injection sums h anew from the codes of its stage, in one product.
2. *Recomputed gate.* What an injection adds is not kept for backward but computed again there from the codes. The
   form of the paper keeps two full tensors per injection, h and the sigmoid, and a third for a convolution.
3. *Gate in place.* ``swish(h)`` is computed as ``silu(beta h) / beta``, where ``beta h`` overwrites h. One full tensor
   besides h is then alive, not two.
4. *Last block.* The last block runs in ``PARTS`` parts of the batch, so that only one part's working set is alive at a
   time. The readout of a ViT takes only the mean of the patch tokens, so the mean is taken before the block's last
   layer, which is linear. Hooks on that block are then not called.
5. *Recomputed blocks.* The blocks after M keep their input and are computed again in backward. These blocks and those
   of the prefix run in parts too.

A block under drop path never runs in parts: drop path would draw other numbers for parts than for the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .blocks import STANDARD, Blocks, ViTBlocks, WatchPoint, scaled
from .csn import CompactSideNetwork, swish

if TYPE_CHECKING:
    from .dtl import DTL, Features

PARTS = 4


def swish_in_place(h: Tensor, beta: float) -> Tensor:
    """Return ``csn.swish(h, beta)``, computed as ``silu(beta h) / beta`` in the memory of h.

    In fp16 and for beta = infinity ``csn.swish`` itself runs and h is kept: in fp16 ``beta h`` overflows (at beta = 100
    from h = 655 on), and silu would give infinity or NaN.
    """
    if h.dtype == torch.float16 or math.isinf(beta):
        return swish(h, beta)
    return F.silu(h.mul_(beta)).mul_(1 / beta)


def state(csn: CompactSideNetwork, codes: Mapping[int, Tensor]) -> Tensor:
    """Return ``h``, the sum of ``up_j code_j`` over the tapped blocks so far, from codes (B, ..., r) by block.

    One product, ``[code_0 ... code_i] [up_0 ... up_i]^T``, writes h (B, ..., d) once; autograd keeps the codes and no
    partial sum. The result must stay equal to what ``csn.tap`` adds up block by block.
    """
    joined = torch.cat(list(codes.values()), dim=-1)
    ups = torch.cat([csn.maps[str(j)].up for j in codes], dim=1)
    return F.linear(joined, ups.to(joined.dtype))


def added(csn: CompactSideNetwork, i: int, codes: Mapping[int, Tensor]) -> Tensor:
    """Return what is added to the tokens after block i, computed from the codes of the stage so far; see ``state``."""
    return csn.gate(i, state(csn, codes), nonlinearity=swish_in_place)


def can_pool(blocks: Blocks) -> bool:
    """Return whether the last block can give the mean of its patch tokens; see ``pooled_block``."""
    last = blocks.blocks[-1]
    return isinstance(blocks, ViTBlocks) and type(last) in STANDARD and type(last.mlp) is Mlp


def pooled_block(blocks: ViTBlocks, x: Tensor) -> Tensor:
    """Return the mean over the patch tokens of the last block's output, (B, N, d) -> (B, d).

    The last layer of the MLP is linear, so the mean is taken before that layer. This saves about a third of the
    block's matrix products, forward and backward.
    """
    b, drop = blocks.model.blocks[-1], blocks.drop(-1) or nn.Identity()
    x = (x + drop(blocks.attention(-1, x)))[:, blocks.model.num_prefix_tokens :]
    hidden = b.mlp.norm(b.mlp.act(b.mlp.fc1(b.norm2(x))))  # its two dropouts are inactive: the block is in eval mode
    return x.mean(dim=1) + drop(scaled(b, 2, b.mlp.fc2(hidden.mean(dim=1))))


class LeanSuffix:
    """The suffix of a ``DTL`` in parts that can be watched, without parameters of its own."""

    def __init__(self, model: DTL):
        self.model, self.blocks = model, model.blocks
        self.pools, self.last = can_pool(model.blocks), len(model.blocks.stages) - 1

    def suffix(self, features: Features) -> Tensor:
        stages, M = self.blocks.stages, self.model.config.inject_from
        x, taps = features.tokens, dict(features.taps)
        del features  # where the caller keeps none, the tokens are freed as soon as they are read
        codes = {i: self.encode(i, taps.pop(i)) for i in list(taps)}
        x = self.inject(M, x, codes)
        for i in range(M + 1, self.last + 1):
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
        """Return the output of block i, or with ``pool`` its mean over the patch tokens.

        The last block runs in parts. With ``recompute="blocks"``, or where the owner of the backbone switched gradient
        checkpointing on, every block does, and is computed again in backward.
        """
        again = self.model.recompute == "blocks" or self.blocks.checkpointed(i)
        step = partial(self.pooled_block if pool else self.blocks.block, i)
        if again:
            dropping = self.blocks.drop(i) is not None
            step = partial(checkpoint, step, use_reentrant=False, preserve_rng_state=dropping)
        return self._in_parts(i, step, x) if again or i == self.last else step(x)

    def _in_parts(self, i: int, step: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if self.blocks.drop(i) is not None:  # drop path would draw other numbers for parts than for the whole
            return step(x)
        return torch.cat([step(part) for part in x.chunk(PARTS)])

    def pooled_block(self, i: int, x: Tensor) -> Tensor:
        return pooled_block(self.blocks, x)

    def inject(self, i: int, x: Tensor, codes: Mapping[int, Tensor], pool: bool = False) -> Tensor:
        """Return x, the output of block i, plus the injection; with ``pool`` both are means over the patch tokens."""
        codes = dict(codes)  # a snapshot: ``suffix`` goes on filling the codes, and backward reads these again
        if pool:
            patches = math.prod(self.blocks.grid)
            codes = {j: code[:, -patches:] for j, code in codes.items()}
        add = checkpoint(self.added, i, codes, use_reentrant=False, preserve_rng_state=False)
        return x + (add.mean(dim=1) if pool else add).to(x.dtype)

    def added(self, i: int, codes: Mapping[int, Tensor]) -> Tensor:
        return added(self.model.csn, i, codes)

    def watch_points(self) -> list[WatchPoint]:
        return [
            WatchPoint(self, "encode", "side network"),
            WatchPoint(self, "inject", "side network"),
            WatchPoint(self, "added", "side network"),
            WatchPoint(self, "block"),
            WatchPoint(self, "frozen_block"),
            WatchPoint(self, "pooled_block"),
        ]

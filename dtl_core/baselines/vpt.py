"""Visual prompt tuning (Jia et al., ECCV 2022): trained tokens beside the image's, before the first or every block."""

import math

import torch
from torch import Tensor, nn

from .classifier import Classifier, FrozenPrefix
from .support import require_room


class Prompt(nn.Module):
    """The prompts of one block, n tokens of width d.

    They are uniform in +-sqrt(6 / (3 p^2 + d)) for patches of p x p pixels (customary).
    """

    def __init__(self, number: int, backbone: nn.Module):
        super().__init__()
        weight, (h, w) = backbone.patch_embed.proj.weight, backbone.patch_embed.patch_size
        self.tokens = nn.Parameter(weight.new_empty(number, backbone.embed_dim))
        bound = math.sqrt(6 / (3 * h * w + backbone.embed_dim))
        nn.init.uniform_(self.tokens, -bound, bound)

    def forward(self, x: Tensor, after: int, instead_of: int) -> Tensor:
        """Insert the prompts after the first ``after`` tokens, in place of the next ``instead_of`` tokens.

        The tokens go from (B, N, d) to (B, N - instead_of + n, d).
        """
        own = self.tokens.expand(x.shape[0], -1, -1)  # of any size also when it is exported, which `len` would fix
        return torch.cat([x[:, :after], own, x[:, after + instead_of :]], dim=1)


class VPT(Classifier):
    """A frozen ViT with prompts between its prefix tokens (class, registers) and its patches.

    In VPT-Shallow, ``[c, p, e]`` enters block 0, and the prompts p pass through all blocks. In VPT-Deep, the prompts
    that left block i - 1 are replaced by p_i before block i, from ``first_block`` on. Prompts have no positions, and the readout ignores them;
    the paper reads the class token. Training does not start at the frozen function because the prompts take part in
    attention. The paper's variant for Swin is not implemented.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        prompts: int,
        deep: bool,
        readout: str = "mean",
        first_block: int = 0,
    ):
        require_room(backbone, "VPT")
        if prompts < 1:
            raise ValueError(f"prompts is {prompts}: VPT needs at least 1")
        super().__init__(backbone.requires_grad_(False), num_classes, readout, first_block)
        blocks = len(self.blocks.widths) - first_block if deep else 1
        self.prompts = nn.ModuleList(Prompt(prompts, backbone) for _ in range(blocks))
        self._number, self._after = prompts, backbone.num_prefix_tokens
        for block in self.blocks.blocks[first_block:] if self.blocks.shared else ():
            block.attn.num_prefix_tokens += prompts  # rotary positions: those of the patches, behind the prompts

    def run(self, x: Tensor, start: int, stop: int | None = None) -> Tensor:
        for i in range(start, len(self.blocks.widths) if stop is None else stop):
            own = i - self.first_block
            if 0 <= own < len(self.prompts):
                x = self.prompts[own](x, self._after, instead_of=self._number if own else 0)
            x = self.blocks(i, x)
        return x

    def _read(self, x: Tensor) -> Tensor:
        return super()._read(torch.cat([x[:, : self._after], x[:, self._after + self._number :]], dim=1))


class LateVPT(FrozenPrefix, VPT):
    """A ``VPT`` whose prompts enter from ``first_block`` on."""


def vpt_shallow(backbone: nn.Module, num_classes: int, prompts: int = 100, readout: str = "mean") -> VPT:
    """Return a ``VPT`` with prompts before block 0 only.

    On ViT-B/16, 100 prompts have 76,800 parameters besides the head, commonly reported as 0.08 M. For VTAB-1K the paper
    tunes the number of prompts by task (unverified).
    """
    return VPT(backbone, num_classes, prompts, deep=False, readout=readout)


def vpt_deep(
    backbone: nn.Module, num_classes: int, prompts: int = 61, readout: str = "mean", first_block: int = 0
) -> VPT:
    """Return a ``VPT`` with prompts before every block from ``first_block`` on.

    On ViT-B/16, 61 prompts have 562,176 parameters besides the head, which matches the commonly reported 0.56 M. That
    figure is a mean over the tasks of VTAB-1K. The paper tunes the number of prompts for each of them (unverified).
    """
    kind = LateVPT if first_block else VPT
    return kind(backbone, num_classes, prompts, deep=True, readout=readout, first_block=first_block)

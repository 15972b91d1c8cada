"""Visual prompt tuning (Jia et al., ECCV 2022): trained tokens beside the image's, in front of one block or of each."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .classifier import Classifier
from .support import require_vit


class Prompt(nn.Module):
    """The prompts of one block.

    Args:
        number: n.
        backbone: the ViT, for width, patch size, type and device.

    Attributes:
        tokens: (n, d), uniform in +-sqrt(6 / (3 p^2 + d)) for patches of p x p pixels (customary).
    """

    def __init__(self, number: int, backbone: nn.Module):
        super().__init__()
        weight, (h, w) = backbone.patch_embed.proj.weight, backbone.patch_embed.patch_size
        self.tokens = nn.Parameter(weight.new_empty(number, backbone.embed_dim))
        bound = math.sqrt(6 / (3 * h * w + backbone.embed_dim))
        nn.init.uniform_(self.tokens, -bound, bound)

    def forward(self, x: Tensor, after: int, instead_of: int) -> Tensor:
        """Puts the prompts behind the first ``after`` tokens, in place of the next ``instead_of``.

        (B, N, d) -> (B, N - instead_of + n, d).
        """
        own = self.tokens.expand(len(x), -1, -1)
        return torch.cat([x[:, :after], own, x[:, after + instead_of :]], dim=1)


class VPT(Classifier):
    """A frozen ViT with prompts between its prefix tokens (class, registers) and its patches.

    VPT-Shallow: ``[c, p, e]`` enters block 0, and the prompts p go through all blocks. VPT-Deep: in front of block i the
    prompts that left block i - 1 are replaced by p_i. Prompts have no positions and are not read. They take part in
    attention from the start, so the function does not begin at the frozen one.

    Args:
        backbone, num_classes, readout: as in ``Classifier``. The paper reads the class token.
        prompts: n, of each block that has some.
        deep: prompts for every block, or for the first alone.

    Attributes:
        prompts: a ``Prompt`` for each block that has some.

    Raises:
        UnsupportedBackbone: for a Swin. (The paper has a variant for its windows; it is not built here.)
    """

    def __init__(self, backbone: nn.Module, num_classes: int, prompts: int, deep: bool, readout: str = "mean"):
        require_vit(
            backbone, "VPT", "its prompts are tokens in one row with the patches, and a Swin has windows of them"
        )
        if prompts < 1:
            raise ValueError(f"prompts is {prompts}: VPT needs at least 1")
        super().__init__(backbone.requires_grad_(False), num_classes, readout)
        blocks = len(self.blocks.widths) if deep else 1
        self.prompts = nn.ModuleList(Prompt(prompts, backbone) for _ in range(blocks))
        self._number, self._after = prompts, backbone.num_prefix_tokens

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, d), what the head reads."""
        x = self._embed(images)
        for i in range(len(self.blocks.widths)):
            if i < len(self.prompts):
                x = self.prompts[i](x, self._after, instead_of=self._number if i else 0)
            x = self.blocks(i, x)
        return self._read(torch.cat([x[:, : self._after], x[:, self._after + self._number :]], dim=1))


def vpt_shallow(backbone: nn.Module, num_classes: int, prompts: int = 100, readout: str = "mean") -> VPT:
    """``VPT`` with prompts in front of block 0 alone.

    On ViT-B/16 with 100 prompts: 76,800 parameters beside the head (the field's 0.08 M). For VTAB-1K the paper tunes the
    number of prompts by task (from memory).
    """
    return VPT(backbone, num_classes, prompts, deep=False, readout=readout)


def vpt_deep(backbone: nn.Module, num_classes: int, prompts: int = 61, readout: str = "mean") -> VPT:
    """``VPT`` with prompts in front of every block.

    On ViT-B/16 with 61 prompts: 562,176 parameters beside the head. The field's 0.56 M is the mean over the tasks of
    VTAB-1K, for each of which the paper tunes the number of prompts (from memory); 61 is what this mean comes to.
    """
    return VPT(backbone, num_classes, prompts, deep=True, readout=readout)

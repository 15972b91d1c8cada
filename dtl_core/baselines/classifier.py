"""Backbone, one readout, a head: what the methods without a side network have in common."""

from __future__ import annotations

from typing import Literal

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn

from ..backbones import info_of, walk
from ..dtl import Features


class Classifier(nn.Module):
    """A walked backbone with a linear head. The method decides which parameters of the backbone are trained.

    Args:
        backbone: a timm ViT or Swin made with ``num_classes=0``.
        num_classes: classes of the task.
        readout: "mean" of the patch tokens, then the final norm (as DTL reads); "cls" the normed class token of a ViT.

    Attributes:
        backbone, head: as in ``DTL``.
        info: the backbone's ``BackboneInfo``.
    """

    def __init__(self, backbone: nn.Module, num_classes: int, readout: Literal["mean", "cls"] = "mean"):
        super().__init__()
        if readout not in ("mean", "cls"):
            raise ValueError(f"readout is {readout!r}: choose 'mean' or 'cls'")
        self._walk = walk(backbone)
        if readout == "cls" and getattr(backbone, "cls_token", None) is None:
            raise ValueError(f"this {type(backbone).__name__} has no class token to read: use readout='mean'")
        self.info = info_of(backbone)
        self.backbone, self.readout, self.class_names = backbone.eval(), readout, None
        self.head = nn.Linear(self._walk.widths[-1], num_classes)
        trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def train(self, mode: bool = True) -> Classifier:
        super().train(mode)
        self.backbone.eval()  # no dropout of timm's own, as in DTL: the methods differ in what they train alone
        return self

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, d), what the head reads."""
        x = self._walk.embed(images.to(self.backbone.patch_embed.proj.weight.dtype))
        for i in range(len(self._walk.widths)):
            x = self._walk.block(i, self._walk.enter(i, x))
        if self.readout == "cls":
            return self.backbone.fc_norm(self.backbone.norm(x[:, 0]))
        return self._walk.readout(x)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> logits (B, num_classes)."""
        return self.head(self.features(images))

    def trainable_parameters(self) -> list[nn.Parameter]:
        """What the optimizer gets."""
        return [p for p in self.parameters() if p.requires_grad]

    def parameter_table(self) -> list[dict]:
        """Rows {"part", "parameters", "trained"} for ``pandas.DataFrame``; parameters of one part are all trained or all not."""
        groups = {("head", True): self.head.parameters()}
        for trained in (False, True):
            some = [p for p in self.backbone.parameters() if p.requires_grad is trained]
            if some:
                groups["in the backbone" if trained else "backbone", trained] = some
        return [
            {"part": name, "parameters": sum(p.numel() for p in ps), "trained": t} for (name, t), ps in groups.items()
        ]


class LinearProbe(Classifier):
    """The frozen backbone and a trained head. Its prefix is the whole backbone."""

    def __init__(self, backbone: nn.Module, num_classes: int, readout: Literal["mean", "cls"] = "mean"):
        super().__init__(backbone.requires_grad_(False), num_classes, readout)

    @torch.no_grad()
    def prefix(self, images: Tensor) -> Features:
        """(B, 3, H, W) -> ``Features`` whose tokens are what the head reads, (B, d)."""
        return Features(self.features(images))

    def suffix(self, features: Features) -> Tensor:
        """The head."""
        return self.head(features.tokens)

    def forward(self, images: Tensor) -> Tensor:
        return self.suffix(self.prefix(images))

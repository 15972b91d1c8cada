"""Backbone, one readout, a head: what all methods but DTL have in common."""

from __future__ import annotations

from typing import Literal

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..backbones import info_of
from ..blocks import WatchPoint, blocks_of
from ..dtl import Features


class Cast(nn.Module):
    """A parametrization: the leaf keeps its type, and whoever reads the parameter gets it in another."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, parameter: Tensor) -> Tensor:
        return parameter.to(self.dtype)


class Classifier(nn.Module):
    """A walked backbone with a linear head. The method decides which parameters of the backbone are trained.

    Args:
        backbone: a timm ViT or Swin made with ``num_classes=0``.
        num_classes: classes of the task.
        readout: "mean" of the patch tokens, then the final norm (as DTL reads); "cls" the normed class token of a ViT.

    Attributes:
        backbone, head: as in ``DTL``.
        info: the backbone's ``BackboneInfo``.

    Raises:
        ValueError: no class, another readout, or the class token of a backbone that has none.
    """

    def __init__(self, backbone: nn.Module, num_classes: int, readout: Literal["mean", "cls"] = "mean"):
        super().__init__()
        if readout not in ("mean", "cls"):
            raise ValueError(f"readout is {readout!r}: choose 'mean' or 'cls'")
        if num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}: a head needs at least one class")
        self.blocks = blocks_of(backbone)
        if readout == "cls" and getattr(backbone, "cls_token", None) is None:
            raise ValueError(f"this {type(backbone).__name__} has no class token to read: use readout='mean'")
        self.info = info_of(backbone)
        self.backbone, self.readout, self.class_names = backbone.eval(), readout, None
        self.drops: tuple[nn.Module, ...] = ()  # a method's own dropout, which trains though the backbone does not
        self._tokens_dtype: torch.dtype | None = None  # of ``cast_frozen``; else the backbone's own
        self.head = nn.Linear(self.blocks.widths[-1], num_classes)
        trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def train(self, mode: bool = True) -> Classifier:
        """Sets the mode of the head and of the method's own dropout. The backbone stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()  # no dropout of timm's own, as in DTL: the methods differ in what they train alone
        for drop in self.drops:
            drop.train(mode)
        return self

    def cast_frozen(self, dtype: torch.dtype) -> Classifier:
        """Keeps the frozen weights, and so runs the tokens, in another type; what is trained stays as it is.

        A trained parameter beside frozen ones is cast where it is read, so that its leaf, its gradient and the
        optimizer's state keep their type. The head reads its features in its own type.

        Args:
            dtype: ``torch.bfloat16``, say.

        Returns:
            The model itself, changed in place.
        """
        for parameter in self.backbone.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(dtype)
        for buffer in self.backbone.buffers():
            if buffer.is_floating_point():  # the attention masks of a Swin
                buffer.data = buffer.data.to(dtype)
        for name, child in self.named_children():
            for module in list(child.modules()) if name != "head" else ():
                for key, parameter in list(module.named_parameters(recurse=False)):
                    if parameter.requires_grad and parameter.dtype != dtype:
                        # "unsafe" is the name of the switch that lets a parametrization change the type
                        parametrize.register_parametrization(module, key, Cast(dtype), unsafe=True)
        self._tokens_dtype = dtype
        return self

    def _embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> the tokens that enter block 0."""
        return self.blocks.embed(images.to(self._tokens_dtype or next(self.backbone.parameters()).dtype))

    def _read(self, x: Tensor) -> Tensor:
        """Tokens that left the last block -> (B, d)."""
        if self.readout == "cls":
            return self.backbone.fc_norm(self.backbone.norm(x[:, 0]))
        return self.blocks.readout(x)

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, d), what the head reads."""
        x = self._embed(images)
        for i in range(len(self.blocks.widths)):
            x = self.blocks(i, self.blocks.enter(i, x))
        return self._read(x)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> logits (B, num_classes)."""
        return self.head(self.features(images).to(self.head.weight.dtype))

    def trainable_parameters(self) -> list[nn.Parameter]:
        """What the optimizer gets."""
        return [p for p in self.parameters() if p.requires_grad]

    def watch_points(self) -> list[WatchPoint]:
        """Return the methods that run the parts of a step; see ``DTL.watch_points``."""
        return [*self.blocks.watch_points(), WatchPoint(self.head, "forward", "head")]

    def parameter_table(self) -> list[dict]:
        """Rows {"part", "parameters", "trained"} for ``pandas.DataFrame``; parameters of one part are all trained or all not."""
        groups = {("head", True): list(self.head.parameters())}
        for trained in (False, True):
            some = [p for p in self.backbone.parameters() if p.requires_grad is trained]
            if some:
                groups["in the backbone" if trained else "backbone", trained] = some
        for name, child in self.named_children():
            if name not in ("backbone", "head"):
                groups["side network" if name == "side" else name.replace("_", " "), True] = list(child.parameters())
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

    def suffix_parts(self) -> list[nn.Module]:
        """The head: all that ``suffix`` runs."""
        return [self.head]

    def suffix(self, features: Features) -> Tensor:
        """The head."""
        return self.head(features.tokens.to(self.head.weight.dtype))

    def forward(self, images: Tensor) -> Tensor:
        return self.suffix(self.prefix(images))

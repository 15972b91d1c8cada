"""A backbone with a readout and a linear head: the base of all methods except DTL."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from timm.layers import trunc_normal_
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..adapter_file import save_adapter
from ..backbones import info_of
from ..blocks import WatchPoint, blocks_of
from ..config import whole
from ..dtl import Features, head_logits


class Cast(nn.Module):
    """A parametrization that casts a parameter whenever it is read, while the leaf tensor keeps its own type."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, parameter: Tensor) -> Tensor:
        return parameter.to(self.dtype)


class Classifier(nn.Module):
    """A backbone with a readout and a linear head.

    The caller decides which parameters of the backbone are trained. With the readout "mean" the patch tokens are
    averaged and the final norm applied, as DTL does; "cls" takes the normalised class token of a ViT.
    """

    def __init__(
        self, backbone: nn.Module, num_classes: int, readout: Literal["mean", "cls"] = "mean", first_block: int = 0
    ):
        super().__init__()
        if readout not in ("mean", "cls"):
            raise ValueError(f"readout is {readout!r}: choose 'mean' or 'cls'")
        if whole("num_classes", num_classes) < 1:
            raise ValueError(f"num_classes is {num_classes}: a head needs at least one class")
        self.blocks, depth = blocks_of(backbone), len(blocks_of(backbone).widths)
        if not 0 <= first_block < depth:
            raise ValueError(f"first_block is {first_block}, and the backbone has blocks 0 to {depth - 1}")
        self.first_block = first_block  # the method changes and trains nothing before it
        if readout == "cls" and getattr(backbone, "cls_token", None) is None:
            raise ValueError(f"this {type(backbone).__name__} has no class token to read: use readout='mean'")
        self.info = info_of(backbone)
        self.backbone, self.readout, self.class_names = backbone.eval(), readout, None
        self.drops: tuple[nn.Module, ...] = ()  # a method's own dropout, which trains though the backbone does not
        self._tokens_dtype: torch.dtype | None = None  # of ``cast_frozen``; else the backbone's own
        self.head = _head(self.blocks.widths[-1], num_classes, next(backbone.parameters()).device)

    def train(self, mode: bool = True) -> Classifier:
        """Set the mode of the head and of the method's own dropout, and keep the backbone in evaluation mode."""
        super().train(mode)
        self.backbone.eval()  # no dropout of timm's own, as in DTL: the methods differ in what they train alone
        for drop in self.drops:
            drop.train(mode)
        return self

    def cast_frozen(self, dtype: torch.dtype) -> Classifier:
        """Cast the frozen weights, and thereby the tokens, to another type in place, and return the model.

        Trained parameters keep their type, and so do their gradients and the optimizer's state. Outside the head, they
        are cast whenever they are read. The head casts its features to its own type.
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
        """Return the tokens that enter block 0 for images (B, 3, H, W)."""
        self.blocks.check(images)
        return self.blocks.embed(images.to(self._tokens_dtype or next(self.backbone.parameters()).dtype))

    def _read(self, x: Tensor) -> Tensor:
        if self.readout == "cls":
            return self.backbone.fc_norm(self.backbone.norm(x[:, 0]))
        return self.blocks.readout(x)

    def run(self, x: Tensor, start: int, stop: int | None = None) -> Tensor:
        """Return the tokens after the blocks from ``start`` to ``stop``, or to the last."""
        for i in range(start, len(self.blocks.widths) if stop is None else stop):
            x = self.blocks(i, self.blocks.enter(i, x))
        return x

    def features(self, images: Tensor) -> Tensor:
        """Return the features (B, d) that the head reads for images (B, 3, H, W)."""
        return self._read(self.run(self._embed(images), 0))

    def adapted(self) -> list[nn.Module]:
        """Return the parts of the backbone that the method may change: all of it, or what runs from ``first_block`` on."""
        return self.blocks.after(self.first_block - 1) if self.first_block else [self.backbone]

    def forward(self, images: Tensor) -> Tensor:
        return head_logits(self.head, self.features(images))

    def trainable_parameters(self) -> list[nn.Parameter]:
        return [p for p in self.parameters() if p.requires_grad]

    def watch_points(self) -> list[WatchPoint]:
        return [*self.blocks.watch_points(), WatchPoint(self.head, "forward", "head")]

    def parameter_table(self) -> list[dict]:
        """Return rows {"part", "parameters", "trained"}, whose parameters are either all trained or all frozen."""
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

    save_adapter = save_adapter


def _head(width: int, num_classes: int, device: torch.device) -> nn.Linear:
    head = nn.Linear(width, num_classes)
    trunc_normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head if device.type == "meta" else head.to(device)


class FrozenPrefix:
    """What a ``Classifier`` gains when its first blocks stay frozen: a prefix without gradient, and a suffix, like DTL's.

    ``model(images)`` is exactly ``model.suffix(model.prefix(images))``, so the prefix may be stored and shared.
    """

    @torch.no_grad()
    def prefix(self, images: Tensor) -> Features:
        """Map images (B, 3, H, W) -> ``Features`` whose tokens enter ``first_block`` (on a Swin, its patch merging)."""
        return Features(self.run(self._embed(images), 0, self.first_block))

    def suffix(self, features: Features) -> Tensor:
        """Map ``Features`` -> logits (B, num_classes)."""
        return head_logits(self.head, self._read(self.run(features.tokens, self.first_block)))

    def suffix_parts(self) -> list[nn.Module]:
        own = [child for name, child in self.named_children() if name != "backbone"]
        return [*own, *self.blocks.shared, *self.adapted()]

    def forward(self, images: Tensor) -> Tensor:
        return self.suffix(self.prefix(images))


class LateClassifier(FrozenPrefix, Classifier):
    """A ``Classifier`` of which only the blocks from ``first_block`` on may be changed and trained."""


def classifier(
    backbone: nn.Module, num_classes: int, readout: Literal["mean", "cls"] = "mean", first_block: int = 0
) -> Classifier:
    """Return a frozen backbone with a readout and a head, for a method that adapts its blocks from ``first_block`` on."""
    kind = LateClassifier if first_block else Classifier
    return kind(backbone.requires_grad_(False), num_classes, readout, first_block)


class LinearProbe(Classifier):
    """A frozen backbone with a trained head, whose prefix is the whole backbone.

    With ``taps`` the head reads every block's input beside the final features: the mean over its patch tokens, normalised
    to mean 0 and variance 1. No gradient crosses a block, so this is what the taps of a side network are worth without
    one; it is ours, not of the literature.
    """

    def __init__(
        self, backbone: nn.Module, num_classes: int, readout: Literal["mean", "cls"] = "mean", taps: bool = False
    ):
        super().__init__(backbone.requires_grad_(False), num_classes, readout)
        self.taps, widths = taps, self.blocks.widths
        if taps:
            self.head = _head(sum(widths) + widths[-1], num_classes, self.head.weight.device)

    def features(self, images: Tensor) -> Tensor:
        if not self.taps:
            return super().features(images)
        x, read = self._embed(images), []
        for i, width in enumerate(self.blocks.widths):
            x = self.blocks.enter(i, x)
            patches = x.flatten(1, 2) if x.ndim == 4 else x[:, self.backbone.num_prefix_tokens :]
            read.append(F.layer_norm(patches.mean(dim=1), (width,)))
            x = self.blocks(i, x)
        return torch.cat([*read, self._read(x)], dim=1)

    @torch.no_grad()
    def prefix(self, images: Tensor) -> Features:
        """Return ``Features`` whose tokens are the features (B, d) that the head reads for images (B, 3, H, W)."""
        return Features(self.features(images))

    def suffix_parts(self) -> list[nn.Module]:
        return [self.head]

    def suffix(self, features: Features) -> Tensor:
        return head_logits(self.head, features.tokens)

    def forward(self, images: Tensor) -> Tensor:
        return self.suffix(self.prefix(images))

"""DTL = a frozen backbone + the Compact Side Network + a head, cut in two: a prefix without gradient and a suffix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .backbones import info_of, load_backbone
from .blocks import walk
from .config import DTLConfig
from .csn import CompactSideNetwork

PARTS = 4  # a block that is to be lean takes its batch in so many parts: only one part's working set is alive at a time


@dataclass
class Features:
    """What the frozen prefix hands to the suffix. No task parameter takes part in it.

    Attributes:
        tokens: output of block M before injection, (B, N, d) for a ViT, (B, H, W, C) for a Swin.
        taps: input of each tapped block up to M (of M's stage), by block.
    """

    tokens: Tensor
    taps: dict[int, Tensor] = field(default_factory=dict)

    def to(self, *args) -> Features:
        """``Tensor.to`` for every tensor: a device or a type."""
        return Features(self.tokens.to(*args), {i: tap.to(*args) for i, tap in self.taps.items()})


class DTL(nn.Module):
    """Disentangled transfer learning on a frozen timm ViT or Swin.

    ``model(images)`` is exactly ``model.suffix(model.prefix(images))``. The backbone stays in eval behaviour whatever
    ``train()`` says; only the side network and the head are trained.

    Args:
        backbone: a timm model made with ``num_classes=0``, or a name for ``load_backbone``. It is frozen in place.
        num_classes: classes of the task.
        config: the function; ``DTLConfig.for_backbone`` if None.
        recompute: what backward computes again instead of keeping. "side": the gated side state, from its thin codes.
            "blocks": also the blocks after M. "none": nothing, the form of the paper. "side" and "blocks" also take
            the mean over the tokens before the last layer of a ViT's last block (``ViTWalk.block``), and the last block
            or every block in parts of the batch (``PARTS``; not with drop path). Logits and gradients are the same up
            to rounding. Hooks on a last block that takes the mean early are not called: use "none" to watch it.
        backbone_dtype: cast the frozen weights (and so the tokens) to this type; the side network and head stay fp32.
        drop_path: stochastic depth in training mode, rising linearly from 0 at block 0 to this rate at the last
            block, in the frozen blocks of prefix and suffix alike, as the authors train.

    Attributes:
        backbone: the timm model, frozen.
        csn: the ``CompactSideNetwork``.
        head: ``nn.Linear(d, num_classes)``, truncated normal 0.02, bias 0.
        class_names: names of the classes, or None; travels with the adapter file.

    Raises:
        UnsupportedBackbone: for an architecture that cannot be walked.
        ValueError: for a config that does not fit the backbone, or weights that are not finite.
    """

    def __init__(
        self,
        backbone: nn.Module | str,
        num_classes: int,
        config: DTLConfig | None = None,
        *,
        recompute: Literal["side", "blocks", "none"] = "side",
        backbone_dtype: torch.dtype | None = None,
        drop_path: float = 0.0,
    ):
        super().__init__()
        backbone = load_backbone(backbone) if isinstance(backbone, str) else backbone
        self._walk = walk(backbone)
        depth = len(self._walk.widths)
        config = config or DTLConfig.for_backbone(backbone)
        _check(config, depth, num_classes, recompute, drop_path)
        bad = [n for n, p in backbone.named_parameters() if p.device.type != "meta" and not torch.isfinite(p).all()]
        if bad:
            raise ValueError(f"the backbone's weights are not finite in {bad[0]} ({len(bad)} tensors): load it again")
        if drop_path and not self._walk.can_drop_path():
            raise ValueError(
                f"drop_path={drop_path} is applied by our own walk over timm's standard block, and this "
                f"{type(backbone).__name__} is built of another kind of block: use drop_path=0"
            )
        self.info = info_of(backbone)
        self.backbone = backbone.requires_grad_(False).eval()
        if backbone_dtype is not None:
            self.backbone.to(backbone_dtype)
        self.config, self.recompute, self.class_names = config, recompute, None
        # kept out of the module tree: they hold nothing, and are passed to the walk in training mode only
        self._drops = [DropPath(float(r)) if r > 0 else None for r in torch.linspace(0, drop_path, depth, device="cpu")]
        self.csn = CompactSideNetwork(self._walk.widths, self._walk.stages, **asdict(config))
        self.head = nn.Linear(self._walk.widths[-1], num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def train(self, mode: bool = True) -> DTL:
        super().train(mode)
        self.backbone.eval()  # frozen means frozen: no dropout, no drop path of timm's own
        return self

    @property
    def drop_path(self) -> float:
        """The rate at the last block."""
        return self._drops[-1].drop_prob if self._drops[-1] else 0.0

    def _block(self, i: int, x: Tensor, pool: bool = False) -> Tensor:
        """Block i as ``recompute`` wants it: whole or in parts, kept for backward or computed again there."""
        drop, again = self._drops[i] if self.training else None, self.recompute == "blocks"
        step = partial(self._walk.block, i, drop=drop, pool=pool)
        if again and x.requires_grad:
            step = partial(checkpoint, step, use_reentrant=False, preserve_rng_state=drop is not None)
        lean = again or (self.recompute == "side" and i == len(self._drops) - 1 and x.requires_grad)
        if lean and drop is None:  # drop path would draw other numbers for parts than for the whole
            return torch.cat([step(part) for part in x.chunk(PARTS)])
        return step(x)

    @torch.no_grad()
    def prefix(self, images: Tensor) -> Features:
        """Runs blocks 0..M exactly as pre-trained, but for drop path while training, without autograd.

        (B, 3, H, W) -> ``Features``.

        Raises:
            ValueError: for images of another size than the backbone was built for.
        """
        if images.ndim != 4 or images.shape[1] != 3 or tuple(images.shape[2:]) != self._walk.image_size:
            h, w = self._walk.image_size
            raise ValueError(
                f"images of shape {tuple(images.shape)}; this backbone takes (B, 3, {h}, {w}): resize them, "
                "or load the backbone with image_size=(H, W)"
            )
        x, taps = self._walk.embed(images.to(next(self.backbone.parameters()).dtype)), {}
        for i in range(self.config.inject_from + 1):
            x = self._walk.enter(i, x)
            if self.csn.tapped(i):
                taps[i] = x
            x = self._block(i, x)
        return Features(x, taps)

    def suffix(self, features: Features) -> Tensor:
        """The side network, blocks M+1 onwards, readout and head. ``Features`` -> logits (B, num_classes)."""
        m, stages = self.config.inject_from, self._walk.stages
        x, taps = features.tokens, dict(features.taps)
        lean = self.recompute != "none" and torch.is_grad_enabled() and self._walk.can_pool()
        del features  # where the caller keeps none, tokens and taps are freed as soon as they are read
        codes = {i: self.csn.encode(i, taps.pop(i)) for i in list(taps)}
        x = self._inject(m, x, codes)
        for i in range(m + 1, len(stages)):
            x = self._walk.enter(i, x)
            if stages[i] != stages[i - 1]:
                codes = {}  # the side state starts again from 0 at each stage
            codes[i] = self.csn.encode(i, x)
            pool = lean and i == len(stages) - 1
            x = self._inject(i, self._block(i, x, pool), codes, pool)
        return self.head(self._walk.readout(x).to(self.head.weight.dtype))

    def _inject(self, i: int, x: Tensor, codes: dict[int, Tensor], pool: bool = False) -> Tensor:
        """What comes out of block i, and the side state on top. With ``pool`` x is the mean of the patch tokens."""
        lean = self.recompute != "none"
        add = partial(self.csn.injection, stage=self._walk.stages[i], grid=self._walk.grid, fused=lean)
        if lean and torch.is_grad_enabled():
            add = partial(checkpoint, add, use_reentrant=False, preserve_rng_state=False)
        if pool:
            patches = math.prod(self._walk.grid)
            return x + add({j: code[:, -patches:] for j, code in codes.items()}).mean(dim=1).to(x.dtype)
        return x + add(dict(codes)).to(x.dtype)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> logits (B, num_classes)."""
        return self.suffix(self.prefix(images))

    def suffix_parts(self) -> list[nn.Module]:
        """What ``suffix`` runs. The rest of the model, embedding and blocks 0..M, may lie on another device; see ``suffix_to``."""
        return [self.csn, self.head, *self._walk.after(self.config.inject_from)]

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The side network's parameters and the head's."""
        return [p for p in self.parameters() if p.requires_grad]

    def parameter_table(self) -> list[dict]:
        """A row per part: {"part", "parameters", "trained"}. Made for ``pandas.DataFrame``."""
        parts = {
            "backbone": self.backbone,
            "low-rank maps": self.csn.maps,
            "depthwise convolution": self.csn.dwconvs,
            "head": self.head,
        }
        return [
            {"part": name, "parameters": sum(p.numel() for p in part.parameters()), "trained": name != "backbone"}
            for name, part in parts.items()
        ]

    def save_adapter(self, path: str | Path) -> None:
        """Writes the side network and head to a safetensors file, whole or not at all. See ``adapters.save_adapter``."""
        from .adapters import save_adapter

        save_adapter(self, path)

    @classmethod
    def from_adapter(cls, path: str | Path, backbone: nn.Module | str | None = None, **options) -> DTL:
        """Rebuilds a model from an adapter file. See ``adapters.load_adapter``."""
        from .adapters import load_adapter

        return load_adapter(path, backbone, **options)


def suffix_to(model: nn.Module, device: torch.device | str) -> None:
    """Move what ``model.suffix`` runs to a device, and the weights of the prefix alone to the CPU, in place.

    Where training starts from stored features, the frozen blocks up to M are not run, so their weights need not take
    the device's memory.

    Args:
        model: a ``DTL`` or linear probe.
        device: of the suffix.
    """
    inside = {id(t) for part in model.suffix_parts() for t in (*part.parameters(), *part.buffers())}
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.to(device if id(tensor) in inside else "cpu")


def _check(config: DTLConfig, depth: int, num_classes: int, recompute: str, drop_path: float) -> None:
    if config.inject_from >= depth:
        raise ValueError(
            f"inject_from={config.inject_from}, but the backbone has blocks 0 to {depth - 1}: choose a smaller M"
        )
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}: a head needs at least one class")
    if recompute not in ("side", "blocks", "none"):
        raise ValueError(f"recompute is {recompute!r}: choose 'side', 'blocks' or 'none'")
    if not 0 <= drop_path < 1:
        raise ValueError(f"drop_path is {drop_path}: it is a probability below 1")


__all__: Sequence[str] = ("DTL", "DTLConfig", "Features", "suffix_to")

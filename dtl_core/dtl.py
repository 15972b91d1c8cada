"""DTL = a frozen backbone + the Compact Side Network + a head, cut in two: a prefix without gradient and a suffix."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch
import torch.export
from torch import Tensor, nn

from .adapter_file import AdapterFile, mark, save_adapter
from .backbones import info_of, load_backbone
from .blocks import WatchPoint, blocks_of
from .config import DTLConfig, whole
from .csn import CompactSideNetwork
from .lean import LeanSuffix


@dataclass
class Features:
    """Output of the frozen prefix and input of the suffix, independent of trained parameters.

    Attributes:
        tokens: output of block M before injection, (B, N, d) for a ViT, (B, H, W, C) for a Swin.
        taps: input of each tapped block up to M, all of M's stage, in the order of the blocks.
    """

    tokens: Tensor
    taps: dict[int, Tensor] = field(default_factory=dict)

    def to(self, *args) -> Features:
        return Features(self.tokens.to(*args), {i: tap.to(*args) for i, tap in self.taps.items()})


torch.export.register_dataclass(Features, serialized_type_name="dtl_core.Features")  # so that a prefix can be exported


def head_logits(head: nn.Module, features: Tensor) -> Tensor:
    """Return the head's logits for features (B, d), cast to the head's type; a quantized head takes fp32."""
    weight = head.weight  # a method, once ``quantize_dynamic`` has replaced the layer
    return head(features.to(weight.dtype) if isinstance(weight, Tensor) else features.float())


class DTL(nn.Module):
    """Disentangled transfer learning on a frozen timm ViT or Swin.

    ``model(images)`` is exactly ``model.suffix(model.prefix(images))``. The backbone stays in eval behaviour whatever
    ``train()`` says; only the side network and the head are trained.

    ``torch.export`` takes the model, its prefix or its suffix under ``torch.no_grad()``, then with a batch of any size.
    ``torch.compile`` takes every form to answer, and ``recompute="none"`` to train: the others compute again in backward
    what a compiler would have to see, and take minutes to compile.

    Args:
        backbone: a timm model made with ``num_classes=0``, or a name for ``load_backbone``. It is frozen in place.
        num_classes: classes of the task.
        config: rank, M, beta and so on; ``DTLConfig.for_backbone`` if None.
        recompute: what training computes again in backward instead of keeping it. "none": nothing, the form of the
            paper and the loop in ``suffix``. "side": what is injected. "blocks": also the blocks after M. Logits and
            gradients are the same up to rounding; ``lean.py`` lists what else differs.
        backbone_dtype: cast the frozen weights (and so the tokens) to this type; the side network and head stay fp32. On a
            CPU without instructions for bf16 a step then takes about 20 times as long.
        drop_path: stochastic depth in training mode, rising linearly from 0 at block 0 to this rate at the last block,
            in the frozen blocks of prefix and suffix alike, as the authors train.

    Attributes:
        backbone: the timm model, frozen.
        csn: the ``CompactSideNetwork``.
        head: ``nn.Linear(d, num_classes)``, truncated normal 0.02, bias 0.
        class_names: names of the classes, or None; travels with the adapter file.
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
        self.blocks = blocks_of(backbone)
        depth = len(self.blocks.widths)
        config = config or DTLConfig.for_backbone(backbone)
        if config.inject_from >= depth:
            raise ValueError(
                f"inject_from={config.inject_from}, but the backbone has blocks 0 to {depth - 1}: choose a smaller M"
            )
        if whole("num_classes", num_classes) < 1:
            raise ValueError(f"num_classes is {num_classes}: a head needs at least one class")
        if recompute not in ("side", "blocks", "none"):
            raise ValueError(f"recompute is {recompute!r}: choose 'side', 'blocks' or 'none'")
        bad = [n for n, p in backbone.named_parameters() if p.device.type != "meta" and not torch.isfinite(p).all()]
        if bad:
            raise ValueError(f"the backbone's weights are not finite in {bad[0]} ({len(bad)} tensors): load it again")
        self.blocks.drop_path(drop_path)
        self.info = info_of(backbone)
        self.backbone = backbone.requires_grad_(False).eval()
        if backbone_dtype is not None:
            self.backbone.to(backbone_dtype)
        self.config, self.recompute, self.class_names = config, recompute, None
        self.csn = CompactSideNetwork(self.blocks.widths, self.blocks.stages, self.blocks.grid, **asdict(config))
        self.head = nn.Linear(self.blocks.widths[-1], num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        if (device := next(backbone.parameters()).device).type != "meta":
            self.csn, self.head = self.csn.to(device), self.head.to(device)
        self.lean = LeanSuffix(self)
        mark(self, "dtl+" if config.dwconv_kernel else "dtl", {"config": config})
        self.train(self.training)

    def train(self, mode: bool = True) -> DTL:
        super().train(mode)
        self.backbone.eval()  # frozen means frozen: no dropout, no drop path of timm's own
        self.blocks.training = mode
        return self

    @property
    def drop_path(self) -> float:
        return self.blocks.drops[-1].drop_prob if self.blocks.drops[-1] else 0.0

    @torch.no_grad()
    def prefix(self, images: Tensor) -> Features:
        """Map images (B, 3, H, W) -> ``Features``: embedding and blocks 0..M, without autograd.

        The blocks run as pre-trained, except for drop path in training mode. Images of another size than the backbone
        was built for are refused.
        """
        self.blocks.check(images)
        run = self.lean.frozen_block if self.recompute == "blocks" else self.blocks  # the same, in parts of the batch
        x, taps = self.blocks.embed(images.to(next(self.backbone.parameters()).dtype)), {}
        for i in range(self.config.inject_from + 1):
            x = self.blocks.enter(i, x)
            if str(i) in self.csn.maps:
                taps[i] = x
            x = run(i, x)
        return Features(x, taps)

    def suffix(self, features: Features) -> Tensor:
        """Map ``Features`` -> logits (B, num_classes): side network, blocks M+1 onwards, readout and head."""
        held = [features]
        del features  # no name here may keep the tokens alive; in training autograd keeps the taps in any case
        if self.recompute != "none" and torch.is_grad_enabled():
            return self.lean.suffix(held.pop())  # what follows, in fewer bytes
        M, stages = self.config.inject_from, self.blocks.stages
        x, h, taps = held[0].tokens, 0.0, dict(held.pop().taps)
        for i in list(taps):
            h = self.csn.tap(i, taps.pop(i), h)  # blocks up to M, all of M's stage: h starts at 0
        x = x + self.csn.gate(M, h)  # x <- x + conv(swish(h)), after block M
        for i in range(M + 1, len(stages)):
            x = self.blocks.enter(i, x)  # on a Swin: the patch merging, where a stage begins
            h = self.csn.tap(i, x, h if stages[i] == stages[i - 1] else 0.0)
            x = self.blocks(i, x) + self.csn.gate(i, h)
        return head_logits(self.head, self.blocks.readout(x))

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) -> logits (B, num_classes)."""
        return self.suffix(self.prefix(images))

    def suffix_parts(self) -> list[nn.Module]:
        """Return the modules that ``suffix`` runs; the rest of the model may lie on another device, see ``suffix_to``."""
        return [self.csn, self.head, *self.blocks.shared, *self.blocks.after(self.config.inject_from)]

    def watch_points(self) -> list[WatchPoint]:
        """Return the methods that run the parts of a step, so that its memory can be attributed to them."""
        plain = [WatchPoint(self.csn, "tap", "side network"), WatchPoint(self.csn, "gate", "side network")]
        side = plain if self.recompute == "none" else self.lean.watch_points()
        return [*self.blocks.watch_points(), *side, WatchPoint(self.head, "forward", "head")]

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the side network and the head."""
        return [p for p in self.parameters() if p.requires_grad]

    def parameter_table(self) -> list[dict]:
        """Return a row per part, {"part", "parameters", "trained"}, for ``pandas.DataFrame``."""
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

    save_adapter = save_adapter

    @classmethod
    def from_adapter(cls, path: str | Path, backbone: nn.Module | str | None = None, **options) -> DTL:
        """Return the DTL that ``save_adapter`` wrote; ``adapters.load_adapter`` has the arguments and the errors.

        Raises:
            ValueError: also if another method trained it.
        """
        file = AdapterFile.read(path)
        if file.method not in ("dtl", "dtl+"):
            raise ValueError(
                f"{path} was trained by {file.method}, not by DTL: dtl_core.adapters.load_adapter reads it"
            )
        return file.restore(cls, backbone, **options)


def suffix_tensors(model: nn.Module) -> set[int]:
    """Return the ids of the parameters and buffers that ``model.suffix`` uses."""
    return {id(t) for part in model.suffix_parts() for t in (*part.parameters(), *part.buffers())}


def suffix_to(model: nn.Module, device: torch.device | str) -> None:
    """Move the weights that ``model.suffix`` uses to a device and all others to the CPU, in place.

    Training from stored features does not run the frozen blocks up to M, so their weights need no device memory.
    """
    inside = suffix_tensors(model)
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.to(device if id(tensor) in inside else "cpu")

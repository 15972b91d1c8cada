"""Views of the supported timm backbones as embed, blocks and readout, and the check for support."""

from typing import NamedTuple

import timm
import torch
from timm.layers import DropPath
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn


class UnsupportedBackbone(TypeError):
    """Error for a model that is no timm VisionTransformer or SwinTransformer, or has an unsupported form of either."""


SUPPORTED = (
    "DTL walks the blocks of timm's VisionTransformer (ViT, DeiT, DINOv2, SigLIP, CLIP towers) and SwinTransformer, "
    "and needs to know where a block's tokens come in and go out"
)


class WatchPoint(NamedTuple):
    """A method that runs one part of a network, so that a caller can observe which part runs (``memory.regions``).

    Attributes:
        label: name of the part; None for a method whose first argument is the index of a block.
    """

    owner: object
    method: str
    label: str | None = None


class Blocks:
    """A backbone as embed, blocks and readout, without parameters of its own.

    ``blocks(i, x)`` runs block i; ``enter(i, x)`` runs what precedes the block.

    Attributes:
        model: the timm model.
        blocks: the blocks of all stages, in order.
        first: stage by its first block, for stages that begin with a patch merging.
        widths, stages: token width and stage of each block.
        grid: (H, W) of the patches; None for tokens of shape (B, H, W, C).
        image_size: (H, W) in pixels.
        drops: the drop path of each block, or None; see ``drop_path``.
        training: whether the drop paths are active.
    """

    first: dict[int, int] = {}

    def __init__(self, model: nn.Module, blocks, widths: list[int], stages: list[int], grid: tuple[int, int] | None):
        self.model, self.blocks, self.widths, self.stages, self.grid = model, blocks, widths, stages, grid
        self.image_size = tuple(model.patch_embed.img_size)
        self.drops: list[nn.Module | None] = [None] * len(widths)
        self.training = False

    def __call__(self, i: int, x: Tensor) -> Tensor:
        return self.block(i, x)

    def check(self, images: Tensor) -> None:
        """Raise ValueError if the images have another size than the backbone was built for."""
        if images.ndim != 4 or images.shape[1] != 3 or tuple(images.shape[2:]) != self.image_size:
            h, w = self.image_size
            raise ValueError(
                f"images of shape {tuple(images.shape)}; this backbone takes (B, 3, {h}, {w}): resize them, "
                "or load the backbone with image_size=(H, W)"
            )

    def drop_path(self, rate: float) -> None:
        """Set stochastic depth in training, rising linearly from 0 at block 0 to ``rate`` at the last block."""
        if not 0 <= rate < 1:
            raise ValueError(f"drop_path is {rate}: it is a probability below 1")
        if rate and not self.can_drop_path():
            raise ValueError(
                f"drop_path={rate} is applied by our own walk over timm's standard block, and this "
                f"{type(self.model).__name__} is built of another kind of block: use drop_path=0"
            )
        rates = torch.linspace(0, rate, len(self.widths), device="cpu").tolist()
        self.drops = [DropPath(r) if r > 0 else None for r in rates]  # no module of the model: they hold nothing

    def can_drop_path(self) -> bool:
        return all(type(b) in (Block, SwinTransformerBlock) for b in self.blocks)

    def enter(self, block: int, x: Tensor) -> Tensor:
        """Return x after the patch merging, which timm puts at the start of a Swin's stage; elsewhere return x."""
        return self.model.layers[self.first[block]].downsample(x) if block in self.first else x

    def drop(self, i: int) -> nn.Module | None:
        return self.drops[i] if self.training else None

    def watch_points(self) -> list[WatchPoint]:
        return [
            WatchPoint(self, "embed", "embed"),
            WatchPoint(self, "enter"),
            WatchPoint(self, "block"),
            WatchPoint(self, "readout", "readout"),
        ]


class ViTBlocks(Blocks):
    """The parts of a timm ``VisionTransformer``; all its blocks form stage 0."""

    def __init__(self, model: VisionTransformer):
        depth = len(model.blocks)
        grid = tuple(model.patch_embed.grid_size)
        super().__init__(model, model.blocks, [model.embed_dim] * depth, [0] * depth, grid)

    def embed(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) -> tokens (B, N, d), the input of block 0."""
        m = self.model
        return m.norm_pre(m.patch_drop(m._pos_embed(m.patch_embed(images))))

    def block(self, i: int, x: Tensor) -> Tensor:
        b, drop = self.blocks[i], self.drop(i)
        if drop is None:
            return b(x)
        x = x + drop(b.ls1(b.attn(b.norm1(x))))
        return x + drop(b.ls2(b.mlp(b.norm2(x))))

    def after(self, i: int) -> list[nn.Module]:
        """Return the modules that run after block i: the later blocks and the final norms."""
        return [*self.blocks[i + 1 :], self.model.norm, self.model.fc_norm]

    def readout(self, x: Tensor) -> Tensor:
        """Map (B, N, d) -> (B, d): mean of the patch tokens, then the pre-trained final norm.

        The class token is not read. Input (B, d) is taken as that mean. With ``global_pool="avg"`` timm keeps the norm
        in ``fc_norm``, else in ``norm``; the other is an Identity.
        """
        pooled = x if x.ndim == 2 else x[:, self.model.num_prefix_tokens :].mean(dim=1)
        return self.model.fc_norm(self.model.norm(pooled))


class SwinBlocks(Blocks):
    """The parts of a timm ``SwinTransformer``; tokens are (B, H, W, C), so ``grid`` is None."""

    def __init__(self, model: SwinTransformer):
        blocks = [b for layer in model.layers for b in layer.blocks]
        stages = [s for s, layer in enumerate(model.layers) for _ in layer.blocks]
        super().__init__(model, blocks, [b.dim for b in blocks], stages, None)
        self.first = {stages.index(s): s for s in set(stages)}

    def embed(self, images: Tensor) -> Tensor:
        return self.model.patch_embed(images)

    def block(self, i: int, x: Tensor) -> Tensor:
        b, drop = self.blocks[i], self.drop(i)
        if drop is None:
            return b(x)
        x = x + drop(b._attn(b.norm1(x)))
        return x + drop(b.mlp(b.norm2(x)))

    def after(self, i: int) -> list[nn.Module]:
        """Return the modules that run after block i: later blocks and patch mergings, and the final norm."""
        merging = [self.model.layers[s].downsample for first, s in self.first.items() if first > i]
        return [*self.blocks[i + 1 :], *merging, self.model.norm]

    def readout(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) -> (B, C): final norm, then average pool."""
        return self.model.norm(x).mean(dim=(1, 2))


def blocks_of(model: nn.Module) -> Blocks:
    """Return a supported timm model without a classifier as embed, blocks and readout.

    Raises:
        UnsupportedBackbone: the model is not supported; the message gives the reason.
    """
    name = f"{type(model).__module__}.{type(model).__name__}"
    base = next((c for c in (VisionTransformer, SwinTransformer) if isinstance(model, c)), None)
    if base is None:
        raise UnsupportedBackbone(f"{name} is not supported: {SUPPORTED}")
    if type(model).forward_features is not base.forward_features:
        raise UnsupportedBackbone(
            f"{name} has a forward_features of its own, which a walk over the blocks of {base.__name__} would not "
            f"follow: {SUPPORTED}"
        )
    if base is VisionTransformer and getattr(model, "dynamic_img_size", False):
        raise UnsupportedBackbone(
            "this ViT was made with dynamic_img_size=True, so its patch grid is not known beforehand: "
            "make it with dynamic_img_size=False and img_size=(H, W) instead"
        )
    if base is VisionTransformer and model.pos_embed is None:
        patches = model.patch_embed.num_patches
        tokens = model._pos_embed(next(model.parameters()).new_zeros(1, patches, model.embed_dim)).shape[1]
        if tokens != patches + model.num_prefix_tokens:  # timm before 1.0.26
            raise UnsupportedBackbone(
                f"timm {timm.__version__} leaves out the class token of a ViT without position embeddings: "
                "install a newer one (pip install --upgrade timm)"
            )
    # of the first convolution: timm 1.0.12 keeps no in_chans
    channels = next((m.in_channels for m in model.patch_embed.modules() if isinstance(m, nn.Conv2d)), 3)
    if channels != 3:
        raise UnsupportedBackbone(f"{name} was made with in_chans={channels}: DTL takes images of 3 channels")
    head = model.head.fc if base is SwinTransformer else model.head
    if not isinstance(head, nn.Identity):
        raise ValueError("the backbone has a classifier of its own: make it with num_classes=0, DTL brings its head")
    return SwinBlocks(model) if base is SwinTransformer else ViTBlocks(model)

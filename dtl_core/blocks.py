"""A supported timm backbone as embed, blocks and readout, one block at a time. Also says which are not supported."""

from __future__ import annotations

from timm.layers import Mlp
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn


class UnsupportedBackbone(TypeError):
    """The model is neither a timm VisionTransformer nor a timm SwinTransformer, or is one in a form we cannot walk."""


SUPPORTED = (
    "DTL walks the blocks of timm's VisionTransformer (ViT, DeiT, DINOv2, SigLIP, CLIP towers) and SwinTransformer, "
    "and needs to know where a block's tokens come in and go out"
)


class ViTWalk:
    """The parts of a timm ``VisionTransformer``, one block at a time. Holds no parameters of its own.

    Attributes:
        widths: token width of each block.
        stages: stage of each block, all 0.
        grid: (H, W) of the patches.
        image_size: (H, W) in pixels.
    """

    def __init__(self, model: VisionTransformer):
        self.model = model
        self.widths = [model.embed_dim] * len(model.blocks)
        self.stages = [0] * len(model.blocks)
        self.grid = tuple(model.patch_embed.grid_size)
        self.image_size = tuple(model.patch_embed.img_size)

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> tokens (B, N, d) that enter block 0."""
        m = self.model
        return m.norm_pre(m.patch_drop(m._pos_embed(m.patch_embed(images))))

    def enter(self, block: int, x: Tensor) -> Tensor:
        """What happens between two blocks: nothing in a ViT."""
        return x

    def block(self, i: int, x: Tensor, drop: nn.Module | None = None, pool: bool = False) -> Tensor:
        """Block i on tokens (B, N, d). ``drop`` is the drop path of its two residual branches.

        With ``pool`` it gives the mean of its patch tokens, (B, d), which is all that the readout takes from the last
        block. The last layer of the MLP is linear, so the mean is taken before it: a third of the block's products
        falls away, forward and backward.
        """
        b = self.model.blocks[i]
        if pool:
            drop = drop or nn.Identity()
            x = (x + drop(b.ls1(b.attn(b.norm1(x)))))[:, self.model.num_prefix_tokens :]
            hidden = b.mlp.norm(b.mlp.act(b.mlp.fc1(b.norm2(x))))  # its two dropouts are still: the block is frozen
            return x.mean(dim=1) + drop(b.ls2(b.mlp.fc2(hidden.mean(dim=1))))
        if drop is None:
            return b(x)
        x = x + drop(b.ls1(b.attn(b.norm1(x))))
        return x + drop(b.ls2(b.mlp(b.norm2(x))))

    def after(self, i: int) -> list[nn.Module]:
        """Return what runs after block i: the later blocks, and what the readout runs."""
        return [*self.model.blocks[i + 1 :], self.model.norm, self.model.fc_norm]

    def can_drop_path(self) -> bool:
        return all(type(b) is Block for b in self.model.blocks)

    def can_pool(self) -> bool:
        """Whether the last block can give the mean of its patch tokens, see ``block``."""
        last = self.model.blocks[-1]
        return type(last) is Block and type(last.mlp) is Mlp

    def readout(self, x: Tensor) -> Tensor:
        """(B, N, d) -> (B, d): mean of the patch tokens, then the pre-trained final norm. The class token is not read.

        (B, d) is taken as that mean. With ``global_pool="avg"`` timm keeps the norm in ``fc_norm``, else in ``norm``;
        the other is an Identity.
        """
        pooled = x if x.ndim == 2 else x[:, self.model.num_prefix_tokens :].mean(dim=1)
        return self.model.fc_norm(self.model.norm(pooled))


class SwinWalk:
    """The parts of a timm ``SwinTransformer``, one block at a time; tokens are (B, H, W, C).

    Attributes: as in ``ViTWalk``; ``grid`` is None, since the tokens carry it.
    """

    def __init__(self, model: SwinTransformer):
        self.model = model
        self.blocks = [b for layer in model.layers for b in layer.blocks]
        self.stages = [s for s, layer in enumerate(model.layers) for _ in layer.blocks]
        self.widths = [b.dim for b in self.blocks]
        self.first = {self.stages.index(s): s for s in set(self.stages)}  # first block of each stage
        self.grid = None
        self.image_size = tuple(model.patch_embed.img_size)

    def embed(self, images: Tensor) -> Tensor:
        return self.model.patch_embed(images)

    def enter(self, block: int, x: Tensor) -> Tensor:
        """The patch merging, which timm puts at the start of a stage."""
        return self.model.layers[self.first[block]].downsample(x) if block in self.first else x

    def block(self, i: int, x: Tensor, drop: nn.Module | None = None, pool: bool = False) -> Tensor:
        """As in ``ViTWalk``, but for ``pool``: a Swin takes its final norm, which is not linear, before the mean."""
        assert not pool
        b = self.blocks[i]
        if drop is None:
            return b(x)
        x = x + drop(b._attn(b.norm1(x)))
        return x + drop(b.mlp(b.norm2(x)))

    def after(self, i: int) -> list[nn.Module]:
        """As in ``ViTWalk``; the mergings in front of later stages are among it."""
        merging = [self.model.layers[s].downsample for first, s in self.first.items() if first > i]
        return [*self.blocks[i + 1 :], *merging, self.model.norm]

    def can_drop_path(self) -> bool:
        return all(type(b) is SwinTransformerBlock for b in self.blocks)

    def can_pool(self) -> bool:
        return False

    def readout(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, C): final norm, then average pool."""
        return self.model.norm(x).mean(dim=(1, 2))


def walk(model: nn.Module) -> ViTWalk | SwinWalk:
    """The walk over a supported timm model.

    Raises:
        UnsupportedBackbone: for anything else, with the reason.
        ValueError: the model has a classifier.
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
    channels = getattr(model, "in_chans", 3)
    if channels != 3:
        raise UnsupportedBackbone(f"{name} was made with in_chans={channels}: DTL takes images of 3 channels")
    head = model.head.fc if base is SwinTransformer else model.head
    if not isinstance(head, nn.Identity):
        raise ValueError("the backbone has a classifier of its own: make it with num_classes=0, DTL brings its head")
    return SwinWalk(model) if base is SwinTransformer else ViTWalk(model)

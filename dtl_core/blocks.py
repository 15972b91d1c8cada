"""Views of the supported timm backbones as embed, blocks and readout, and the check for support."""

from functools import partial
from typing import NamedTuple

import timm
import torch
from timm.layers import DropPath
from timm.models.beit import Beit
from timm.models.beit import Block as BeitBlock
from timm.models.eva import Eva, EvaBlock, EvaBlockPostNorm
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock
from timm.models.swin_transformer_v2 import SwinTransformerV2, SwinTransformerV2Block
from timm.models.vision_transformer import Block, ResPostBlock, VisionTransformer
from timm.models.vision_transformer_relpos import RelPosBlock, ResPostRelPosBlock, VisionTransformerRelPos
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class UnsupportedBackbone(TypeError):
    """Error for a model of no supported timm family, or of an unsupported form of one."""


SUPPORTED = (
    "DTL walks the blocks of timm's VisionTransformer (ViT, DeiT, DINOv2, SigLIP, CLIP towers), Eva (DINOv3, EVA-02, "
    "Perception Encoder, rope ViTs), Beit, VisionTransformerRelPos, SwinTransformer and SwinTransformerV2, "
    "and needs to know where a block's tokens come in and go out"
)
STANDARD = (Block, SwinTransformerBlock, EvaBlock, BeitBlock, RelPosBlock)  # x + attn(norm1(x)), then x + mlp(norm2(x))
POST_NORM = (ResPostBlock, EvaBlockPostNorm, ResPostRelPosBlock, SwinTransformerV2Block)  # x + norm1(attn(x)), ...


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

    ``blocks(i, x)`` runs block i, and checkpoints it if the owner of the model called ``set_grad_checkpointing``;
    ``enter(i, x)`` runs what precedes the block.

    Attributes:
        model: the timm model.
        blocks: the blocks of all stages, in order.
        first: stage by its first block, for stages that begin with a patch merging.
        widths, stages: token width and stage of each block.
        grid: (H, W) of the patches; None for tokens of shape (B, H, W, C).
        image_size: (H, W) in pixels. A model made with ``dynamic_img_size`` takes this one size, too.
        channels: of the images.
        shared: modules that every block reads: rotary positions, or a bias on the scores.
        drops: the drop path of each block, or None; see ``drop_path``.
        training: whether the drop paths are active.
    """

    first: dict[int, int] = {}
    shared: list[nn.Module] = []

    def __init__(self, model: nn.Module, blocks, widths: list[int], stages: list[int], grid: tuple[int, int] | None):
        self.model, self.blocks, self.widths, self.stages, self.grid = model, blocks, widths, stages, grid
        self.image_size = tuple(model.patch_embed.img_size)
        convolutions = (m for m in model.patch_embed.modules() if isinstance(m, nn.Conv2d))
        self.channels = next((conv.in_channels for conv in convolutions), 3)
        self.drops: list[nn.Module | None] = [None] * len(widths)
        self.training = False

    def __call__(self, i: int, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and self.checkpointed(i):
            drops = self.drop(i) is not None
            return checkpoint(self.block, i, x, use_reentrant=False, preserve_rng_state=drops)
        return self.block(i, x)

    def checkpointed(self, i: int) -> bool:
        """Return whether timm's own forward would checkpoint block i, as ``model.set_grad_checkpointing()`` asks for."""
        return self.model.grad_checkpointing

    def block(self, i: int, x: Tensor) -> Tensor:
        drop = self.drop(i)
        if drop is None:
            return self.blocks[i](x, **self.context(i))
        x = x + drop(self.attention(i, x))
        return x + drop(self.mlp(i, x))

    def context(self, i: int) -> dict[str, Tensor | None]:
        """Return what block i is given besides the tokens."""
        return {}

    def attention(self, i: int, x: Tensor) -> Tensor:
        """Return what the first half of block i adds to the tokens."""
        b = self.blocks[i]
        attend = b._attn if hasattr(b, "_attn") else partial(b.attn, **self.context(i))  # of a Swin, or of a ViT
        return b.norm1(attend(x)) if isinstance(b, POST_NORM) else scaled(b, 1, attend(b.norm1(x)))

    def mlp(self, i: int, x: Tensor) -> Tensor:
        """Return what the second half of block i adds to the tokens."""
        b = self.blocks[i]
        return b.norm2(b.mlp(x)) if isinstance(b, POST_NORM) else scaled(b, 2, b.mlp(b.norm2(x)))

    def check(self, images: Tensor) -> None:
        """Raise ValueError if the images have another size than the backbone was built for, or lie elsewhere."""
        if images.ndim != 4 or tuple(images.shape[1:]) != (self.channels, *self.image_size):
            c, (h, w) = self.channels, self.image_size
            raise ValueError(
                f"images of shape {tuple(images.shape)}; this backbone takes (B, {c}, {h}, {w}): resize them, "
                "or load the backbone with image_size=(H, W)"
            )
        device = next(self.model.parameters()).device
        if device.type == "meta" != images.device.type:
            raise ValueError(
                "this backbone lies on the meta device, where it has a shape and no weights: load it anew outside of "
                'torch.device("meta"), or fill it by to_empty() and load_state_dict()'
            )

    def drop_path(self, rate: float) -> None:
        """Set stochastic depth in training, rising linearly from 0 at block 0 to ``rate`` at the last block."""
        if not 0 <= rate < 1:
            raise ValueError(f"drop_path is {rate}: it is a probability below 1")
        if rate and not self.can_drop_path():
            raise ValueError(
                f"drop_path={rate} is applied by our own walk over the blocks of timm that it knows, and this "
                f"{type(self.model).__name__} is built of another kind of block: use drop_path=0"
            )
        rates = torch.linspace(0, rate, len(self.widths), device="cpu").tolist()
        self.drops = [DropPath(r) if r > 0 else None for r in rates]  # no module of the model: they hold nothing

    def can_drop_path(self) -> bool:
        return all(type(b) in (*STANDARD, *POST_NORM) for b in self.blocks)

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


def scaled(block: nn.Module, half: int, x: Tensor) -> Tensor:
    """Return x times the block's LayerScale, if it has one: ``ls1`` and ``ls2`` of a ViT, ``gamma_1`` of EVA and BEiT."""
    if hasattr(block, f"ls{half}"):
        return getattr(block, f"ls{half}")(x)
    gamma = getattr(block, f"gamma_{half}", None)
    return x if gamma is None else gamma * x


class ViTBlocks(Blocks):
    """The parts of a timm ``VisionTransformer``; all its blocks form stage 0."""

    def __init__(self, model: VisionTransformer | Eva | Beit | VisionTransformerRelPos):
        depth, patches = len(model.blocks), model.patch_embed
        grid = tuple(patches.grid_size)
        if getattr(patches, "dynamic_img_pad", False):  # patches may hang over the right and lower edge
            grid = tuple(patches.dynamic_feat_size(patches.img_size))
        if grid != tuple(patches.grid_size) and not model.dynamic_img_size:
            raise UnsupportedBackbone(
                f"patches of {patches.patch_size} do not fill images of {patches.img_size}, and with dynamic_img_pad alone "
                "timm has no positions for those at the edge: make the model with dynamic_img_size=True besides"
            )
        super().__init__(model, model.blocks, [model.embed_dim] * depth, [0] * depth, grid)

    def embed(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W) -> tokens (B, N, d), the input of block 0."""
        m = self.model
        return m.norm_pre(m.patch_drop(m._pos_embed(m.patch_embed(images))))

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


class EvaBlocks(ViTBlocks):
    """The parts of a timm ``Eva``, whose blocks take rotary positions; "mixed" ones are trained and differ by block."""

    def __init__(self, model: Eva):
        super().__init__(model)
        self.shared = [] if model.rope is None else [model.rope]

    def embed(self, images: Tensor) -> Tensor:
        x, _ = self.model._pos_embed(self.model.patch_embed(images))
        return self.model.norm_pre(x) if hasattr(self.model, "norm_pre") else x  # timm 1.0.12 has none

    def context(self, i: int) -> dict[str, Tensor | None]:
        rope = self.model.rope
        if rope is None:
            return {}
        positions = rope.get_embed() if getattr(rope, "feat_shape", None) else rope.get_embed(shape=self.grid)
        # a copy: the positions of all blocks lie in one tensor, which the block would keep for backward
        return {"rope": positions[i].clone() if getattr(self.model, "rope_mixed", False) else positions}


class BeitBlocks(ViTBlocks):
    """The parts of a timm ``Beit``, whose blocks may share a bias for each pair of tokens."""

    def __init__(self, model: Beit):
        super().__init__(model)
        self.shared = [] if model.rel_pos_bias is None else [model.rel_pos_bias]

    def embed(self, images: Tensor) -> Tensor:
        m = self.model
        x = m.patch_embed(images)
        x = torch.cat([m.cls_token.expand(x.shape[0], -1, -1), x], dim=1)  # `len` would fix the batch of an export
        return m.pos_drop(x if m.pos_embed is None else x + m.pos_embed)

    def context(self, i: int) -> dict[str, Tensor | None]:
        bias = self.model.rel_pos_bias
        return {} if bias is None else {"shared_rel_pos_bias": bias()}


class RelPosBlocks(ViTBlocks):
    """The parts of a timm ``VisionTransformerRelPos``, whose blocks may share a bias for each pair of tokens."""

    def __init__(self, model: VisionTransformerRelPos):
        super().__init__(model)
        self.shared = [] if model.shared_rel_pos is None else [model.shared_rel_pos]

    def embed(self, images: Tensor) -> Tensor:
        x, token = self.model.patch_embed(images), self.model.cls_token
        return x if token is None else torch.cat([token.expand(len(x), -1, -1), x], dim=1)

    def context(self, i: int) -> dict[str, Tensor | None]:
        bias = self.model.shared_rel_pos
        return {} if bias is None else {"shared_rel_pos": bias.get_bias()}


class SwinBlocks(Blocks):
    """The parts of a timm ``SwinTransformer`` or ``SwinTransformerV2``; tokens are (B, H, W, C), so ``grid`` is None."""

    def __init__(self, model: SwinTransformer | SwinTransformerV2):
        blocks = [b for layer in model.layers for b in layer.blocks]
        stages = [s for s, layer in enumerate(model.layers) for _ in layer.blocks]
        super().__init__(model, blocks, [b.dim for b in blocks], stages, None)
        self.first = {stages.index(s): s for s in set(stages)}

    def embed(self, images: Tensor) -> Tensor:
        return self.model.patch_embed(images)

    def checkpointed(self, i: int) -> bool:
        return self.model.layers[self.stages[i]].grad_checkpointing

    def after(self, i: int) -> list[nn.Module]:
        """Return the modules that run after block i: later blocks and patch mergings, and the final norm."""
        merging = [self.model.layers[s].downsample for first, s in self.first.items() if first > i]
        return [*self.blocks[i + 1 :], *merging, self.model.norm]

    def readout(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) -> (B, C): final norm, then average pool."""
        return self.model.norm(x).mean(dim=(1, 2))


FAMILIES = {
    VisionTransformer: ViTBlocks,
    Eva: EvaBlocks,
    Beit: BeitBlocks,
    VisionTransformerRelPos: RelPosBlocks,
    SwinTransformer: SwinBlocks,
    SwinTransformerV2: SwinBlocks,
}


def blocks_of(model: nn.Module) -> Blocks:
    """Return a supported timm model without a classifier as embed, blocks and readout.

    Raises:
        UnsupportedBackbone: the model is not supported; the message gives the reason.
    """
    name = f"{type(model).__module__}.{type(model).__name__}"
    base = next((c for c in FAMILIES if isinstance(model, c)), None)
    if base is None:
        raise UnsupportedBackbone(f"{name} is not supported: {SUPPORTED}")
    if type(model).forward_features is not base.forward_features:
        raise UnsupportedBackbone(
            f"{name} has a forward_features of its own, which a walk over the blocks of {base.__name__} would not "
            f"follow: {SUPPORTED}"
        )
    if base is VisionTransformer and model.pos_embed is None:
        patches = model.patch_embed.num_patches
        tokens = model._pos_embed(next(model.parameters()).new_zeros(1, patches, model.embed_dim)).shape[1]
        if tokens != patches + model.num_prefix_tokens:  # timm before 1.0.26
            raise UnsupportedBackbone(
                f"timm {timm.__version__} leaves out the class token of a ViT without position embeddings: "
                "install a newer one (pip install --upgrade timm)"
            )
    head = model.head.fc if FAMILIES[base] is SwinBlocks else model.head
    if not isinstance(head, nn.Identity):
        raise ValueError("the backbone has a classifier of its own: make it with num_classes=0, DTL brings its head")
    return FAMILIES[base](model)

"""A frozen timm ViT or Swin, walked block by block: embed, blocks, readout. Also the toy and the packaged one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import timm
import torch
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from .paths import packaged_vit_weights

PACKAGED_VIT = "packaged/vit-s14"
TOYS = {
    "toy/vit": (VisionTransformer, dict(img_size=32, patch_size=8, embed_dim=48, depth=12, num_heads=3)),
    "toy/swin": (
        SwinTransformer,
        dict(img_size=64, patch_size=4, embed_dim=16, depths=(2, 2, 18, 2), num_heads=(1, 2, 4, 8), window_size=4),
    ),
}


class UnsupportedBackbone(TypeError):
    """The model is neither a timm VisionTransformer nor a timm SwinTransformer, or is one in a form we cannot walk."""


@dataclass(frozen=True)
class BackboneInfo:
    """Where a backbone came from, and what it wants of its images.

    Attributes:
        name: name for ``load_backbone``, or ``custom/<class>`` for a model that the caller built.
        sha256: over (name, dtype, shape, bytes) of the weights as loaded, before any resampling or cast.
        image_size: (H, W) in pixels.
        mean, std: per-channel normalisation of images in [0, 1].
    """

    name: str
    sha256: str
    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def weights_sha256(model: nn.Module) -> str:
    """Hex sha256 over (name, dtype, shape, bytes) of a model's state, in the order of the names."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def load_backbone(name: str, image_size: int | tuple[int, int] | None = None, pretrained: bool = True) -> nn.Module:
    """A timm model without a head, ready to be frozen by ``DTL``.

    Args:
        name: a timm model name, ``packaged/vit-s14``, ``toy/vit`` or ``toy/swin`` (random weights from a seed).
        image_size: side, or (H, W), of the input in pixels. None keeps the model's own.
        pretrained: False builds a timm model or the packaged shape with random weights and reads no file.

    Returns:
        The model in eval mode; its ``dtl_info`` is a ``BackboneInfo``.

    Raises:
        FileNotFoundError: the packaged weights have not been fetched.
        UnsupportedBackbone: the name is of another architecture.
    """
    if name in TOYS:
        cls, options = TOYS[name]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = cls(num_classes=0, **options)
    elif name == PACKAGED_VIT:
        model = timm.create_model("vit_small_patch14_dinov2", pretrained=False, num_classes=0)
        if pretrained:
            path = packaged_vit_weights()
            if not path.is_file():
                raise FileNotFoundError(f"{path} is missing: run `dtl data fetch` (or point DTL_DATA at a folder that has it)")
            model.load_state_dict(load_file(path))
    else:
        model = timm.create_model(name, pretrained=pretrained, num_classes=0)
    walk(model)  # refuse an unsupported architecture before anything else is done with it
    sha256 = weights_sha256(model)
    if image_size is not None:
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        _set_input_size(model, size, antialias=name != PACKAGED_VIT)
    cfg = model.pretrained_cfg if name not in TOYS else {}
    mean, std = cfg.get("mean") or (0.5, 0.5, 0.5), cfg.get("std") or (0.5, 0.5, 0.5)
    if cfg.get("tag", "").startswith(("orig_in21k", "ms_in22k")):
        mean = std = (0.5, 0.5, 0.5)  # the authors normalise so for both of their backbones
    model.dtl_info = BackboneInfo(name, sha256, tuple(model.patch_embed.img_size), tuple(mean), tuple(std))
    return model.eval()


def _set_input_size(model: nn.Module, size: tuple[int, int], antialias: bool) -> None:
    """timm's ``set_input_size``, with a switch for the antialiasing of the positions.

    The packaged ViT was exported with positions resampled without antialiasing; timm's method always applies it.
    """
    if any(s % p for s, p in zip(size, model.patch_embed.patch_size, strict=True)):
        raise ValueError(f"image size {size} is not a multiple of the patch size {model.patch_embed.patch_size}")
    if isinstance(model, VisionTransformer) and not antialias:
        native, old = model.pos_embed.detach(), model.patch_embed.grid_size
        model.set_input_size(img_size=size)
        prefix = 0 if model.no_embed_class else model.num_prefix_tokens
        new = resample_abs_pos_embed(native, model.patch_embed.grid_size, old, prefix, antialias=False)
        model.pos_embed = nn.Parameter(new)
    else:
        model.set_input_size(img_size=size)


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
        if not isinstance(model.head, nn.Identity):
            raise ValueError("the backbone has a classifier of its own: make it with num_classes=0, DTL brings its head")
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

    def block(self, i: int, x: Tensor, drop: nn.Module | None = None) -> Tensor:
        """Block i on tokens (B, N, d). ``drop`` is the drop path of its two residual branches."""
        b = self.model.blocks[i]
        if drop is None:
            return b(x)
        x = x + drop(b.ls1(b.attn(b.norm1(x))))
        return x + drop(b.ls2(b.mlp(b.norm2(x))))

    def can_drop_path(self) -> bool:
        return all(type(b) is Block for b in self.model.blocks)

    def readout(self, x: Tensor) -> Tensor:
        """(B, N, d) -> (B, d): mean of the patch tokens, then the pre-trained final norm. The class token is not read.

        With ``global_pool="avg"`` timm keeps that norm in ``fc_norm``, else in ``norm``; the other is an Identity.
        """
        patches = x[:, self.model.num_prefix_tokens :]
        return self.model.fc_norm(self.model.norm(patches.mean(dim=1)))


class SwinWalk:
    """The parts of a timm ``SwinTransformer``, one block at a time; tokens are (B, H, W, C).

    Attributes: as in ``ViTWalk``; ``grid`` is None, since the tokens carry it.
    """

    def __init__(self, model: SwinTransformer):
        self.model = model
        if not isinstance(model.head.fc, nn.Identity):
            raise ValueError("the backbone has a classifier of its own: make it with num_classes=0, DTL brings its head")
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

    def block(self, i: int, x: Tensor, drop: nn.Module | None = None) -> Tensor:
        b = self.blocks[i]
        if drop is None:
            return b(x)
        x = x + drop(b._attn(b.norm1(x)))
        return x + drop(b.mlp(b.norm2(x)))

    def can_drop_path(self) -> bool:
        return all(type(b) is SwinTransformerBlock for b in self.blocks)

    def readout(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, C): final norm, then average pool."""
        return self.model.norm(x).mean(dim=(1, 2))


def walk(model: nn.Module) -> ViTWalk | SwinWalk:
    """The walk over a supported timm model.

    Raises:
        UnsupportedBackbone: for anything else, with the reason.
    """
    if isinstance(model, SwinTransformer):
        return SwinWalk(model)
    if isinstance(model, VisionTransformer):
        if getattr(model, "dynamic_img_size", False):
            raise UnsupportedBackbone("this ViT was made with dynamic_img_size=True, so its patch grid is not known "
                                      "beforehand: make it with img_size=(H, W) instead")
        return ViTWalk(model)
    raise UnsupportedBackbone(
        f"{type(model).__module__}.{type(model).__name__} is not supported: DTL walks the blocks of timm's VisionTransformer "
        "(ViT, DeiT, DINOv2, SigLIP, CLIP towers) and SwinTransformer, and needs to know where a block's tokens come in and go out"
    )


def info_of(model: nn.Module) -> BackboneInfo:
    """The ``dtl_info`` of a loaded backbone; made from the model itself where the caller built it."""
    if not hasattr(model, "dtl_info"):
        cfg = getattr(model, "pretrained_cfg", None) or {}
        half = (0.5, 0.5, 0.5)
        model.dtl_info = BackboneInfo(
            f"custom/{type(model).__name__}",
            weights_sha256(model),
            tuple(model.patch_embed.img_size),
            tuple(cfg.get("mean") or half),
            tuple(cfg.get("std") or half),
        )
    size = tuple(model.patch_embed.img_size)  # the caller may have changed it since
    model.dtl_info = replace(model.dtl_info, image_size=size)
    return model.dtl_info

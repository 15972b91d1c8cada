"""Frozen backbones by name (timm's ViT and Swin, two toys, the packaged ViT), each with its identity."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed, to_2tuple
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from .blocks import blocks_of
from .files import DamagedFile
from .paths import packaged_vit_weights

PACKAGED_VIT = "packaged/vit-s14"
HALF = (0.5, 0.5, 0.5)
TOYS = {
    "toy/vit": (VisionTransformer, dict(img_size=32, patch_size=8, embed_dim=48, depth=12, num_heads=3)),
    "toy/swin": (
        SwinTransformer,
        dict(img_size=64, patch_size=4, embed_dim=16, depths=(2, 2, 18, 2), num_heads=(1, 2, 4, 8), window_size=4),
    ),
}


@dataclass(frozen=True)
class BackboneInfo:
    """Identity of a backbone, and the images it expects.

    Attributes:
        name: name for ``load_backbone``, or ``custom/<class>`` for a model that the caller built.
        sha256: hash over (name, dtype, shape, bytes) of the weights as loaded, before any resampling or cast. Empty for
            a model on the meta device.
        image_size: (H, W) in pixels.
        mean, std: per-channel normalisation of images in [0, 1].
    """

    name: str
    sha256: str
    image_size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def check(self, found: "BackboneInfo", what: str) -> None:
        """Raise ValueError if ``what``, which was trained on this backbone, does not fit the one that was found."""
        if found.sha256 != self.sha256:
            raise ValueError(
                f"{what} belongs to the backbone {self.name} (sha256 {self.sha256[:12]}…), and this is "
                f"{found.name} (sha256 {found.sha256[:12]}…): load {self.name} with the same pre-trained weights"
            )
        if found.image_size != self.image_size:
            raise ValueError(
                f"{what} was trained at {self.image_size} px, this backbone takes {found.image_size}: "
                f"load_backbone(..., image_size={self.image_size})"
            )


def weights_sha256(model: nn.Module) -> str:
    """Return the hex sha256 over (name, dtype, shape, bytes) of a model's state, sorted by name; "" on meta."""
    if any(value.is_meta for value in model.state_dict().values()):
        return ""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def load_backbone(name: str, image_size: int | tuple[int, int] | None = None, pretrained: bool = True) -> nn.Module:
    """Return a timm model without a head, in eval mode, ready to be frozen by ``DTL``.

    Args:
        name: a timm model name, ``packaged/vit-s14``, ``toy/vit`` or ``toy/swin`` (random weights from a seed).
        image_size: side, or (H, W), of the input in pixels. None keeps the model's own.
        pretrained: False builds a timm or the packaged model with random weights and reads no file.

    Raises:
        FileNotFoundError: the packaged weights have not been fetched.
        DamagedFile: the packaged weights are damaged.
        UnsupportedBackbone: the architecture is neither a supported ViT nor a supported Swin.
        ValueError: no such name, or an image size that is not a multiple of the patch size.
    """
    if name in TOYS:
        cls, options = TOYS[name]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = _built(cls, num_classes=0, **options)
    elif name == PACKAGED_VIT:
        path = packaged_vit_weights()
        if pretrained and not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing: run `dtl data fetch` (or point DTL_DATA at a folder that has it)"
            )
        model = _built(timm.create_model, "vit_small_patch14_dinov2", pretrained=False, num_classes=0)
        if pretrained:
            try:
                model.load_state_dict(load_file(path))
            except (SafetensorError, RuntimeError) as error:
                raise DamagedFile(
                    f"{path} is not the packaged ViT: delete it and run `dtl data fetch` ({error})"
                ) from error
    elif name.split("/")[0] in ("toy", "packaged") or not ("/" in name or ":" in name or timm.is_model(name)):
        own = ", ".join((PACKAGED_VIT, *TOYS))
        raise ValueError(f"no backbone is called {name!r}: choose {own}, or a name of timm.list_models()")
    else:
        model = _built(timm.create_model, name, pretrained=pretrained, num_classes=0)
    info = replace(info_of(model), name=name)  # refuses an unsupported architecture before anything is done with it
    if image_size is not None:
        size = to_2tuple(image_size)
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"image_size is {image_size}: give the side, or (H, W), in pixels")
        _set_input_size(model, size, antialias=name != PACKAGED_VIT)
    if name not in TOYS and model.pretrained_cfg.get("tag", "").startswith(("orig_in21k", "ms_in22k")):
        info = replace(info, mean=HALF, std=HALF)  # the authors normalise so for both of their backbones
    model.dtl_info = replace(info, image_size=tuple(model.patch_embed.img_size))
    return model.eval()


def _built(make: Callable[..., nn.Module], *args, **options) -> nn.Module:
    """Return ``make(...)``, built on the CPU first if it fails on the meta device.

    Older timm (1.0.12) reads numbers from tensors while building, and tensors on meta have none.
    """
    try:
        return make(*args, **options)
    except RuntimeError:
        if torch.empty(0).device.type != "meta":
            raise
    with torch.device("cpu"):
        return make(*args, **options).to("meta")


def _set_input_size(model: nn.Module, size: tuple[int, int], antialias: bool) -> None:
    """Set the input size as timm's method does, with a switch for antialiasing the position embeddings.

    The packaged ViT was exported with positions resampled without antialiasing; timm's method always antialiases.
    """
    if any(s % p for s, p in zip(size, model.patch_embed.patch_size, strict=True)):
        raise ValueError(f"image size {size} is not a multiple of the patch size {model.patch_embed.patch_size}")
    if isinstance(model, VisionTransformer) and not antialias:
        # a tower could have no positions, says pyright; those that are loaded have them
        native, old = model.pos_embed.detach(), model.patch_embed.grid_size  # pyright: ignore[reportOptionalMemberAccess]
        model.set_input_size(img_size=size)
        prefix = 0 if model.no_embed_class else model.num_prefix_tokens
        new = resample_abs_pos_embed(native, model.patch_embed.grid_size, old, prefix, antialias=False)
        model.pos_embed = nn.Parameter(new)
    else:
        model.set_input_size(img_size=size)


def info_of(model: nn.Module) -> BackboneInfo:
    """Return the ``dtl_info`` of a backbone, deriving it from the model itself if the caller built the model.

    The sha256 is computed once: weights that the caller changes afterwards keep it.
    """
    blocks_of(model)
    info = getattr(model, "dtl_info", None)
    if info is None:
        cfg = getattr(model, "pretrained_cfg", None) or {}
        mean, std = tuple(cfg.get("mean") or HALF), tuple(cfg.get("std") or HALF)
        info = BackboneInfo(f"custom/{type(model).__name__}", "", (0, 0), mean, std)
    # the caller may have set another image size since, or have loaded weights into a model made on meta
    size, sha256 = tuple(model.patch_embed.img_size), info.sha256 or weights_sha256(model)
    model.dtl_info = replace(info, image_size=size, sha256=sha256)
    return model.dtl_info

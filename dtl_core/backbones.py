"""Frozen backbones by name (timm's, two toys, the packaged ViT) or from a file, each with its identity."""

import copy
import hashlib
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from unittest.mock import patch
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import timm
import torch
from huggingface_hub import constants
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
RANDOM = "random/"  # before a name: with random weights
PATIENCE = 5  # seconds for the model hub to answer
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
        name: name for ``load_backbone``, or ``custom/...`` for a model that the caller built, changed or read from a file.
        sha256: hash over (name, dtype, shape, bytes) of the weights as loaded, before any resampling or cast; of weights
            that the caller changed since, as ``info_of`` found them. Empty for a model on the meta device.
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


def meta_copy(model: nn.Module) -> nn.Module:
    """Return a copy of any module on the meta device: its shapes without memory. What it ties stays tied."""
    memo: dict = {id(t): t.detach().to("meta") for t in model.buffers()}
    memo |= {id(p): nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, memo)


class Unchanged:
    """A note of which parameters a model had when its sha256 was taken, and how often each had been written to.

    torch counts the writes of ``load_state_dict``, of optimizers and of functions that end in an underscore, but not a
    move, a cast or what goes through ``.data``. So the note tells without reading a weight whether the sha256 still
    holds. Copies and pickles of the model carry it on.
    """

    def __init__(self, model: nn.Module):
        self.image_size = tuple(model.patch_embed.img_size)
        self._seen = {name: (weakref.ref(p), _writes(p)) for name, p in model.named_parameters()}

    def holds(self, model: nn.Module) -> bool:
        """Return whether no weight was written to or replaced, but by resampling to another image size."""
        own, resized = dict(model.named_parameters()), tuple(model.patch_embed.img_size) != self.image_size
        return own.keys() == self._seen.keys() and all(
            _writes(own[name]) == writes if parameter() is own[name] else resized
            for name, (parameter, writes) in self._seen.items()
        )

    def __getstate__(self) -> dict:
        seen = {n: (r(), (p := r()) is not None and _writes(p) == writes) for n, (r, writes) in self._seen.items()}
        return {"image_size": self.image_size, "seen": seen}

    def __setstate__(self, state: dict) -> None:
        self.image_size = state["image_size"]
        gone = nn.Parameter(torch.empty(0))
        self._seen = {
            n: (weakref.ref(gone if p is None else p), _writes(p) if same else -1)
            for n, (p, same) in state["seen"].items()
        }


def _writes(parameter: nn.Parameter) -> int:
    return 0 if parameter.is_inference() else parameter._version  # torch counts none in inference mode


def load_backbone(
    name: str, image_size: int | tuple[int, int] | None = None, pretrained: bool = True, *, arch: str | None = None
) -> nn.Module:
    """Return a timm model without a head, in eval mode, ready to be frozen by ``DTL``.

    Args:
        name: a timm model name, ``hf-hub:NAME``, the path of a ``.safetensors`` file, ``packaged/vit-s14``, ``toy/vit``
            or ``toy/swin``. ``random/`` before a name is the same as ``pretrained=False``.
        image_size: side, or (H, W), of the input in pixels. None keeps the model's own.
        pretrained: False builds a timm or the packaged model with random weights, the same each time, and reads no file.
        arch: with a file: the timm name of the architecture whose tensors it holds; those of a head are left out.

    Raises:
        FileNotFoundError: the packaged weights have not been fetched, or there is no such file.
        DamagedFile: the packaged weights or the file are damaged.
        UnsupportedBackbone: the architecture is of no supported family.
        ConnectionError: the weights are not on this machine, and the network does not answer.
        ValueError: no such name, tensors that do not fit ``arch``, or an image size that is not a multiple of the patch
            size.
    """
    if name.startswith(RANDOM):
        name, pretrained = name.removeprefix(RANDOM), False
    file = Path(name) if name.endswith(".safetensors") else None
    if (file is None) != (arch is None):
        raise ValueError(
            f"{name!r} with arch={arch!r}: a .safetensors file needs arch, the timm name of its architecture, and nothing "
            "else takes one"
        )
    if name in TOYS:
        cls, options = TOYS[name]
        # timm before 1.0.31 draws positions twice, the first time by randn and in vain: without that the weights are the same
        with _drawn_from_a_seed(), patch.object(torch, "randn", torch.zeros):
            model = _built(cls, num_classes=0, **options)
    elif name == PACKAGED_VIT:
        path = packaged_vit_weights()
        if pretrained and not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing: run `dtl data fetch` (or point DTL_DATA at a folder that has it)"
            )
        with _drawn_from_a_seed():
            model = _built(timm.create_model, "vit_small_patch14_dinov2", pretrained=False, num_classes=0)
        if pretrained:
            try:
                model.load_state_dict(load_file(path))
            except (SafetensorError, RuntimeError) as error:
                raise DamagedFile(
                    f"{path} is not the packaged ViT: delete it and run `dtl data fetch` ({error})"
                ) from error
    elif file is not None:
        model = load_backbone(arch, pretrained=False)
        if pretrained:
            _load_file(model, file, arch)
        # a name of its own, which nothing loads: an adapter asks for the model itself
        model.dtl_info, name = replace(model.dtl_info, sha256=""), f"custom/{arch}:{file.name}"
    elif Path(name).suffix in (".pth", ".pt", ".bin", ".ckpt", ".pkl"):
        raise ValueError(f"{name} may hold a pickle, which could run code: convert it to .safetensors, and give arch")
    elif name.split("/")[0] in ("toy", "packaged") or not (":" in name or timm.is_model(name.split("/")[-1])):
        own = ", ".join((PACKAGED_VIT, *TOYS))
        raise ValueError(f"no backbone is called {name!r}: choose {own}, or a name of timm.list_models()")
    else:
        with _fast_failure(name) if pretrained else _drawn_from_a_seed():
            model = _built(timm.create_model, name, pretrained=pretrained, num_classes=0)
    named = name if pretrained or name in TOYS or file is not None else RANDOM + name
    info = replace(info_of(model), name=named)  # refuses an unsupported architecture before anything is done with it
    if image_size is not None:
        size = to_2tuple(image_size)
        if len(size) != 2 or not all(isinstance(side, Integral) and side > 0 for side in size):
            raise ValueError(f"image_size is {image_size}: give the side, or (H, W), in pixels")
        _set_input_size(model, (int(size[0]), int(size[1])), antialias=PACKAGED_VIT not in (name, arch))
    card = getattr(model, "pretrained_cfg", None) or {}  # a toy has none
    if card.get("tag", "").startswith(("orig_in21k", "ms_in22k")):
        info = replace(info, mean=HALF, std=HALF)  # the authors normalise so for both of their backbones
    model.dtl_info, model.dtl_unchanged = replace(info, image_size=tuple(model.patch_embed.img_size)), Unchanged(model)
    return model.eval()


def _load_file(model: nn.Module, path: Path, arch: str) -> None:
    """Load the tensors of a safetensors file, all of which have to fit, but for those of a head."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: check the path")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise DamagedFile(f"{path} is not a whole safetensors file ({error}): copy it again") from error
    own = model.state_dict()
    tensors = {k: v for k, v in tensors.items() if k in own or k.split(".")[0] not in ("head", "head_dist")}
    shapes = [k for k in own.keys() & tensors.keys() if own[k].shape != tensors[k].shape]
    wrong = {
        "missing": own.keys() - tensors.keys(),
        "unexpected": tensors.keys() - own.keys(),
        "of another shape": shapes,
    }
    said = [f"{what}: {', '.join(sorted(which)[:5])} ({len(which)} in all)" for what, which in wrong.items() if which]
    if said:
        raise ValueError(f"{path} does not hold the weights of {arch}: {'; '.join(said)}")
    model.load_state_dict(tensors)


@contextmanager
def _drawn_from_a_seed() -> Iterator[None]:
    """Draw the same random weights each time, so that an adapter finds those that it was trained on."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@contextmanager
def _fast_failure(name: str) -> Iterator[None]:
    """Where the model hub does not answer, let it use what lies on this machine at once, and say what to do else."""
    offline = constants.HF_HUB_OFFLINE
    try:
        if not offline:
            urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=PATIENCE).close()
    except OSError as error:
        offline = not isinstance(error, HTTPError)  # which is an answer, too
    try:
        # unpickling of what the hub has in place of safetensors is confined to tensors
        with (
            patch.object(constants, "HF_HUB_OFFLINE", offline),
            patch.dict(os.environ, TORCH_FORCE_WEIGHTS_ONLY_LOAD="1"),
        ):
            yield
    except OSError as error:
        if not offline:
            raise
        raise ConnectionError(
            f"the weights of {name} are not on this machine, and {constants.ENDPOINT} does not answer: connect to the "
            "network, give a .safetensors file with arch, or pass pretrained=False for random weights"
        ) from error


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
    """Set the input size as timm's method does, the same under every version of timm.

    Positions are resampled here: timm before 1.0.31 leaves them where old and new grid have equally many patches, and
    always antialiases; the packaged ViT was exported with positions resampled without. Before 1.0.31 a Swin's windows
    would become an eighth of the grid; here as there they keep their share of it.
    """
    patches, native_size = model.patch_embed, tuple(model.patch_embed.img_size)
    if size == native_size:
        return
    if any(s % p for s, p in zip(size, patches.patch_size, strict=True)):
        raise ValueError(f"image size {size} is not a multiple of the patch size {patches.patch_size}")
    old, native, windows = tuple(patches.grid_size), getattr(model, "pos_embed", None), {}
    if hasattr(model, "layers") and not hasattr(model, "_ref_window_sizes"):
        new, window = (
            [s // p for s, p in zip(size, patches.patch_size, strict=True)],
            model.layers[0].blocks[0].window_size,
        )
        whole_stages = 2 ** (len(model.layers) - 1)
        if any(n % whole_stages for n in new):
            raise ValueError(
                f"timm {timm.__version__} runs this {type(model).__name__} on images whose sides are multiples of "
                f"{whole_stages * max(patches.patch_size)} alone: take such a size, or a newer timm"
            )
        windows["window_size"] = tuple(max(1, w * n // o) for w, n, o in zip(window, new, old, strict=True))
    try:
        model.set_input_size(img_size=size, **windows)
    except AttributeError as error:  # the family has no such method yet, or its rotary positions have none
        raise ValueError(
            f"timm {timm.__version__} cannot set the image size of this {type(model).__name__}, {native_size}: "
            "leave image_size out, or install a newer timm"
        ) from error
    if native is not None:
        prefix = 0 if getattr(model, "no_embed_class", False) else model.num_prefix_tokens
        new = resample_abs_pos_embed(native.detach(), list(patches.grid_size), list(old), prefix, antialias=antialias)
        model.pos_embed = nn.Parameter(new)


def info_of(model: nn.Module) -> BackboneInfo:
    """Return the ``dtl_info`` of a backbone, deriving it from the model itself if the caller built the model.

    The sha256 is that of the weights the model has now: it is computed anew if they were written to since. A model whose
    weights are no longer those of its name is called ``custom/<class>``.
    """
    steps = blocks_of(model)
    info, unchanged = getattr(model, "dtl_info", None), getattr(model, "dtl_unchanged", None)
    if info is None:
        cfg = getattr(model, "pretrained_cfg", None) or {}
        mean, std = tuple(cfg.get("mean") or HALF), tuple(cfg.get("std") or HALF)
        if len(mean) != steps.channels:  # timm's card speaks of RGB
            mean, std = ((sum(v) / len(v),) * steps.channels for v in (mean, std))
        info = BackboneInfo(f"custom/{type(model).__name__}", "", (0, 0), mean, std)
    if not info.sha256 or unchanged is None or not unchanged.holds(model):
        sha256 = weights_sha256(model)
        if info.sha256 not in ("", sha256):
            info = replace(info, name=f"custom/{type(model).__name__}")
        info, model.dtl_unchanged = replace(info, sha256=sha256), Unchanged(model)
    elif unchanged.image_size != steps.image_size:
        model.dtl_unchanged = Unchanged(model)
    model.dtl_info = replace(info, image_size=steps.image_size)  # the caller may have set another since
    return model.dtl_info

"""From an image file to a normalised tensor. Every reader, and ``dtl predict``, opens images here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F


class UnreadableImage(ValueError):
    """A file that Pillow cannot read as an image. The message names it."""


def open_rgb(path: str | Path) -> Image.Image:
    """Opens any image as it is meant to be seen, in 8-bit RGB.

    The EXIF rotation is applied; transparency (RGBA, LA, palette) is laid on white; 16-bit, 32-bit and floating grey
    is scaled, not clipped; CMYK and palettes are converted. Of an animation the first frame is taken.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableImage: the file is no image, or is cut short.
    """
    path = Path(path)
    try:
        with Image.open(path) as image:
            image.load()
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I") or image.mode == "F":
                return _grey_to_8_bit(image).convert("RGB")
            if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                return Image.alpha_composite(white, image).convert("RGB")
            return image.convert("RGB")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such image") from None
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableImage(f"{path} cannot be read as an image ({error}): replace the file or remove it") from error


def _grey_to_8_bit(image: Image.Image) -> Image.Image:
    """16-bit grey over its full range; 32-bit and floating grey, whose range is not known, from least to most."""
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("some of its pixels are not finite numbers")
    low, high = 0.0, 65535.0
    if image.mode == "F" or values.max() > high or values.min() < 0:
        low, high = float(values.min()), float(values.max())
    scaled = (values - low) / max(high - low, 1e-12) * 255
    return Image.fromarray(np.round(scaled).astype(np.uint8))


class EvalTransform:
    """Resize to exactly (H, W), bicubic with antialiasing; to a tensor in [0, 1]; normalise. As for VTAB-1K.

    Attributes:
        deterministic: True: the same image always gives the same tensor, so a cache of features is exact.
    """

    deterministic = True

    def __init__(self, image_size: int | tuple[int, int], mean: Sequence[float], std: Sequence[float]):
        self.size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        self.mean, self.std = tuple(mean), tuple(std)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """An RGB image -> float32 (3, H, W)."""
        resized = F.resize(image, list(self.size), InterpolationMode.BICUBIC, antialias=True)
        return F.normalize(F.to_tensor(resized), self.mean, self.std)

    def __repr__(self) -> str:
        return f"EvalTransform(size={self.size}, mean={self.mean}, std={self.std})"


def eval_transform(image_size: int | tuple[int, int], mean: Sequence[float], std: Sequence[float]) -> EvalTransform:
    """The transform for training and testing without augmentation. Values as in ``model.dtl_info``."""
    return EvalTransform(image_size, mean, std)

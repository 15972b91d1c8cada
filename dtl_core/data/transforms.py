"""The steps from an image file to a normalised tensor, for every reader and ``dtl predict``."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from timm.layers import to_2tuple
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F


class UnreadableImage(ValueError):
    """An error for a file that cannot be read as an image, whose message names the file."""


def open_rgb(path: str | Path) -> Image.Image:
    """Return an image as it is meant to be seen, in 8-bit RGB.

    The EXIF rotation is applied. Transparency (RGBA, LA, palette) is composited on white. 16-bit, 32-bit and
    floating-point grey is scaled, not clipped. CMYK and palettes are converted. For an animation, the first frame is
    used.

    Raises:
        FileNotFoundError: the file is missing.
        UnreadableImage: the file is not an image, is truncated, or has malformed metadata.
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
    except MemoryError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableImage(f"{path} cannot be read as an image ({error}): replace the file or remove it") from error
    except Exception as error:
        # When a photograph has to be rotated, Pillow rewrites its EXIF data. A malformed tag then raises an error
        # without the file name, such as struct.error, TypeError or OverflowError.
        raise UnreadableImage(
            f"{path} cannot be opened as it is meant to be seen, most likely for malformed EXIF data "
            f"({type(error).__name__}: {error}): save it again without them, or remove it"
        ) from error


def _grey_to_8_bit(image: Image.Image) -> Image.Image:
    """Scale grey values to 8 bits, from the full range of 16 bits.

    Floating-point values, and integers outside that range, are scaled from their minimum and maximum instead.
    """
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("some of its pixels are not finite numbers")
    low, high = 0.0, 65535.0
    if image.mode == "F" or values.max() > high or values.min() < 0:
        low, high = float(values.min()), float(values.max())
    scaled = (values - low) / max(high - low, 1e-12) * 255
    return Image.fromarray(np.round(scaled).astype(np.uint8))


class EvalTransform:
    """A transform that resizes to exactly (H, W), converts to [0, 1] and normalises, as for VTAB-1K.

    The interpolation is bicubic with antialiasing. The same image always gives the same tensor, so cached features are
    exact.
    """

    deterministic = True

    def __init__(self, image_size: int | tuple[int, int], mean: Sequence[float], std: Sequence[float]):
        self.size, self.mean, self.std = to_2tuple(image_size), tuple(mean), tuple(std)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return an RGB image as float32 (3, H, W)."""
        resized = F.resize(image, list(self.size), InterpolationMode.BICUBIC, antialias=True)
        return F.normalize(F.to_tensor(resized), self.mean, self.std)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(size={self.size}, mean={self.mean}, std={self.std})"


def eval_transform(image_size: int | tuple[int, int], mean: Sequence[float], std: Sequence[float]) -> EvalTransform:
    """Return the transform for training and testing without augmentation; for mean and std see ``model.dtl_info``."""
    return EvalTransform(image_size, mean, std)

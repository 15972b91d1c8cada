"""Transforms of the few-shot and domain benchmarks: random crops, flips and RandAugment, and a variant for letters.

The authors' scripts name random resized crop, flip and timm's ``rand-m9-mstd0.5-inc1`` for training. For testing they
name a resize to 256 and a centre crop of 224. They do not give the range of the crops. This module uses the default of
timm and torchvision, 0.08 to 1.
"""

from collections.abc import Sequence

import torch
from PIL import Image, ImageOps
from timm.data.auto_augment import RandAugment, rand_augment_transform
from timm.layers import to_2tuple
from torchvision.transforms import InterpolationMode, v2

from .transforms import EvalTransform

AUTHORS = "rand-m9-mstd0.5-inc1"
LETTERS = f"{AUTHORS}, letters"  # for letters and digits, see ``train_transform``
AUGMENTATIONS = ("none", AUTHORS, LETTERS)
# What RandAugment may do to a letter: nothing that turns or slants it, for an upright face would become its oblique and a
# 6 come near to a 9; colours, contrast and place leave the class as it is.
KEEPS_LETTERS = [
    "AutoContrast", "Equalize", "Invert", "PosterizeIncreasing", "SolarizeIncreasing", "SolarizeAdd", "ColorIncreasing",
    "ContrastIncreasing", "BrightnessIncreasing", "SharpnessIncreasing", "TranslateXRel", "TranslateYRel",
]  # fmt: skip
TEST_CROP = 224 / 256  # the side of the centre crop over the shorter side of the resized image


class TrainTransform:
    """A transform to a random, normalised view of an image, made by ``train_transform``.

    Each pass sees another tensor, so features cannot be cached. The random numbers come from the generators that
    ``seed_everything`` seeds.
    """

    deterministic = False

    def __init__(self, size: tuple[int, int], mean: Sequence[float], std: Sequence[float], augmentation: str):
        self.size, self.mean, self.std, self.augmentation = size, tuple(mean), tuple(std), augmentation
        letters = augmentation == LETTERS
        # mild and without distortion for letters: a narrow view of an S is no S, and a squeezed face is another face
        crop = {"scale": (0.8, 1.0), "ratio": (1.0, 1.0)} if letters else {}
        grey = {"img_mean": tuple(round(255 * m) for m in mean), "translate_pct": 0.1 if letters else 0.45}
        self._view = v2.Compose(
            [
                v2.RandomResizedCrop(size, interpolation=InterpolationMode.BICUBIC, antialias=True, **crop),
                *([] if letters else [v2.RandomHorizontalFlip()]),
                _rand_augment(grey, KEEPS_LETTERS if letters else None),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(self.mean, self.std),
            ]
        )

    def __call__(self, image: Image.Image) -> torch.Tensor:
        return self._view(image)

    def __repr__(self) -> str:
        return f"TrainTransform({self.augmentation}, size={self.size})"


def _rand_augment(grey: dict, names: list[str] | None) -> RandAugment:
    """Return timm's RandAugment with a posterize that works at its highest magnitude."""
    transform = rand_augment_transform(AUTHORS, grey, transforms=names)
    for operation in transform.ops:
        if operation.name.startswith("Posterize"):
            operation.aug_fn = _posterize
    return transform


def _posterize(image: Image.Image, bits: int, **_) -> Image.Image:
    """Keep the highest ``bits`` bits of each channel.

    At magnitude 10 timm asks for 0 bits, which Pillow refuses since version 13. Earlier versions returned a black
    image, as this function does.
    """
    if bits < 1:
        return Image.new(image.mode, image.size)
    return ImageOps.posterize(image, bits)


def train_transform(
    image_size: int | tuple[int, int], mean: Sequence[float], std: Sequence[float], augmentation: str
) -> EvalTransform | TrainTransform:
    """Return the transform for training; for mean and std see ``model.dtl_info``.

    The augmentation "none" resizes and normalises. ``AUTHORS`` is random resized crop, flip and RandAugment.
    ``LETTERS`` has no flip, rotation or shear; its crops have at least 0.8 of the area and aspect ratio 1, and its
    translations are at most a tenth of the side.
    """
    if augmentation not in AUGMENTATIONS:
        raise ValueError(f"augmentation is {augmentation!r}: choose one of {', '.join(map(repr, AUGMENTATIONS))}")
    if augmentation == "none":
        return EvalTransform(image_size, mean, std)
    return TrainTransform(to_2tuple(image_size), mean, std, augmentation)


class CropTransform(EvalTransform):
    """A transform that resizes the shorter side to 256/224 of the crop's, takes the centre and normalises.

    With a crop of 224 pixels, the shorter side becomes 256 pixels, as in the paper.
    """

    def __call__(self, image: Image.Image) -> torch.Tensor:
        height, width = self.size
        scale = max(height / image.height, width / image.width) / TEST_CROP
        larger = [max(round(image.height * scale), height), max(round(image.width * scale), width)]
        resized = v2.functional.resize(image, larger, InterpolationMode.BICUBIC, antialias=True)
        cropped = v2.functional.center_crop(resized, [height, width])
        return v2.functional.normalize(
            v2.functional.to_dtype(v2.functional.pil_to_tensor(cropped), torch.float32, scale=True), self.mean, self.std
        )

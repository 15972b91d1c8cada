"""Other looks of the same ten digits: an outline in chalk, and paint with texture and colour.

Both start from the 28 x 28 grey levels of a digit, so that the shapes are people's own and only the look changes.
"""

from __future__ import annotations

import colorsys

import numpy as np
from PIL import Image, ImageFilter

TURN = 10.0  # degrees either way: more, and a 6 comes near a 9


def _cloud(rng: np.random.Generator, cells: int, side: int) -> np.ndarray:
    """Smooth noise in [0, 1] with ``cells`` lumps a side, (side, side)."""
    coarse = Image.fromarray(np.round(255 * rng.random((cells + 1, cells + 1))).astype(np.uint8))
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32) / 255


def _shape(digit: np.ndarray, rng: np.random.Generator, side: int, blur: float) -> np.ndarray:
    """A digit enlarged, turned, a little wavy and with soft edges: (side, side) in [0, 1], 0.5 along the edge."""
    picture = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    picture = picture.rotate(rng.uniform(-TURN, TURN), Image.Resampling.BICUBIC)
    grown = np.asarray(picture.filter(ImageFilter.GaussianBlur(side / 80)), dtype=np.float32) / 255
    wavy = grown + 0.12 * (_cloud(rng, 14, side) - 0.5)
    solid = Image.fromarray(np.where(wavy > 0.42, 255, 0).astype(np.uint8))
    return np.asarray(solid.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float32) / 255


def outline(digit: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
    """The digit's outline in chalk on a board.

    Args:
        digit: (28, 28) uint8, light on dark.
        rng: turn, wobble, width and pressure of the chalk, greys.
        size: side of the picture, pixels.

    Returns:
        (size, size) uint8.
    """
    side = 4 * size
    soft = _shape(digit, rng, side, blur=rng.uniform(0.010, 0.016) * side)
    line = np.clip(2.2 * (1 - np.abs(2 * soft - 1)) - 0.8, 0, 1)  # 1 along the edge, 0 a line's width away
    line *= 0.5 + 0.5 * _cloud(rng, 24, side)  # pressure
    chalk, board = rng.uniform(190, 255), rng.uniform(10, 60)
    picture = Image.fromarray(np.round(board + (chalk - board) * line).astype(np.uint8))
    return np.asarray(picture.resize((size, size), Image.Resampling.BOX))


def _texture(rng: np.random.Generator, side: int) -> np.ndarray:
    """Stripes, checks, dots, clouds or a wash, (side, side) in [-1, 1]."""
    angle, period = rng.uniform(0, np.pi), rng.uniform(0.06, 0.16) * side
    y, x = np.mgrid[:side, :side].astype(np.float32)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    waves = np.sin(2 * np.pi * along / period), np.sin(2 * np.pi * across / period)
    kind = rng.integers(5)
    if kind == 0:
        return np.clip(3 * waves[0], -1, 1)
    if kind == 1:
        return np.clip(6 * waves[0] * waves[1], -1, 1)
    if kind == 2:
        return np.clip(4 * (waves[0] + waves[1] - 0.8), -1, 1)
    if kind == 3:
        return np.clip(2 * (_cloud(rng, 9, side) + _cloud(rng, 27, side)) - 2, -1, 1)
    return 2 * (along - along.min()) / np.ptp(along) - 1


def _paint(rng: np.random.Generator, hue: float, lightness: float, side: int) -> np.ndarray:
    """A textured colour, (side, side, 3) in [0, 1]: two tones of one hue, ``lightness`` on average."""
    swing, saturation = rng.uniform(0.06, 0.14), rng.uniform(0.35, 0.9)
    tones = [colorsys.hls_to_rgb((hue + s / 40) % 1, lightness + s * swing, saturation) for s in (-1, 1)]
    weight = (_texture(rng, side)[..., None] + 1) / 2
    return np.float32(tones[0]) * (1 - weight) + np.float32(tones[1]) * weight


def painted(digit: np.ndarray, rng: np.random.Generator, size: int) -> np.ndarray:
    """The digit in one textured colour on another.

    Hues stand 80 to 180 degrees apart and lightness 0.34 or more, beyond what either texture sways; light on dark and
    dark on light alike.

    Args:
        digit: (28, 28) uint8, light on dark.
        rng: turn, wobble, colours, textures.
        size: side of the picture, pixels.

    Returns:
        (size, size, 3) uint8.
    """
    side = 2 * size
    cover = _shape(digit, rng, side, blur=0.006 * side)[..., None]
    hue = rng.random()
    other = hue + rng.choice([-1, 1]) * rng.uniform(80, 180) / 360
    dark = rng.uniform(0.18, 0.34)
    light = rng.uniform(dark + 0.34, 0.82)
    first, second = (dark, light) if rng.random() < 0.5 else (light, dark)
    picture = _paint(rng, hue, first, side) * (1 - cover) + _paint(rng, other % 1, second, side) * cover
    picture = Image.fromarray(np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8))
    return np.asarray(picture.resize((size, size), Image.Resampling.BOX))

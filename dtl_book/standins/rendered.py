"""Flat white shapes on black in the manner of dSprites: where is the shape, and how is it turned?

dSprites: Matthey, Higgins, Hassabis and Lerchner, "dSprites: Disentanglement testing Sprites dataset" (2017). VTAB-1K
makes two tasks of it, horizontal position and orientation, each in 16 bins. These images are our own, drawn from a
seed: 112 px with smooth edges instead of 64 px in pure black and white.

In dSprites itself the orientation task cannot be solved fully, since a square looks the same after a quarter of a
turn and an ellipse after half of one. The orientation task here uses a heart, a drop and an arrowhead: each has one
axis with two different ends, so the label can always be told from the picture.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

BINS = 16
STEPS = 2 * BINS  # as in dSprites the factor takes 32 even values, two a bin, so no image is on the edge of its bin
SUBPIXELS = 6  # samples per pixel and axis: 37 levels along an edge
Shape = Callable[[np.ndarray, np.ndarray], np.ndarray]


def square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return what lies inside, in the shape's own frame, where every shape lies within the unit disc; likewise below."""
    return np.maximum(np.abs(x), np.abs(y)) <= 0.66


def ellipse(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x / 0.48) ** 2 + (y / 0.94) ** 2 <= 1


def heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return what lies in the algebraic heart (u^2 + v^2 - 1)^3 = u^2 v^3, upside down: its tip points up, like the others'."""
    u, v = x / 0.74, (0.217 - y) / 0.74
    w = u * u + v * v - 1
    return w * w * w <= u * u * v * v * v


def drop(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return what lies in a disc with a pointed hood tangent to it; the tip is at (0, 1)."""
    radius, low = 0.58, -0.36
    reach = 1 - low
    touch = low + radius**2 / reach  # height at which the hood leaves the disc
    slope = radius / np.sqrt(reach**2 - radius**2)
    return (x * x + (y - low) ** 2 <= radius**2) | ((y >= touch) & (np.abs(x) <= (1 - y) * slope))


def arrowhead(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return what lies in a dart with a notch at its back; the tip is at (0, 1)."""
    side = np.abs(x)
    return (side <= 0.72 * (1 - y) / 1.65) & (y >= -0.25 - side * (0.4 / 0.72))


LOCATION_SHAPES = (square, ellipse, heart)
ORIENTATION_SHAPES = (heart, drop, arrowhead)


def draw(shape: Shape, centre: tuple[float, float], radius: float, angle: float, size: int) -> np.ndarray:
    """Draw one white shape on black: (size, size, 3) uint8, with the covered part of a pixel as grey level.

    Args:
        shape: inside test in the shape's own frame.
        centre: (x, y) as fractions of the image's side, y downwards.
        radius: of the shape's unit disc, as a fraction of the side.
        angle: of the shape's axis, in radians, counter-clockwise from "up".
        size: side in pixels.
    """
    n = size * SUBPIXELS
    grid = (np.arange(n) + 0.5) / n
    near_x = np.flatnonzero(np.abs(grid - centre[0]) <= radius)
    near_y = np.flatnonzero(np.abs(grid - centre[1]) <= radius)
    right = ((grid[near_x] - centre[0]) / radius)[None, :]
    up = ((centre[1] - grid[near_y]) / radius)[:, None]
    c, s = np.cos(angle), np.sin(angle)
    covered = np.zeros((n, n), dtype=np.float32)
    covered[near_y[0] : near_y[-1] + 1, near_x[0] : near_x[-1] + 1] = shape(c * right + s * up, c * up - s * right)
    grey = covered.reshape(size, SUBPIXELS, size, SUBPIXELS).mean(axis=(1, 3))
    return np.repeat(np.round(grey * 255).astype(np.uint8)[:, :, None], 3, axis=2)


def _radius(rng: np.random.Generator) -> float:
    return rng.uniform(0.11, 0.20)


def _place(rng: np.random.Generator) -> float:
    return rng.uniform(0.2, 0.8)


def shape_location(label: int, rng: np.random.Generator, size: int) -> np.ndarray:
    """Return one image of the location task: the label is the bin, of 16 from left to right, of the shape's centre.

    Shape, height in the image, scale and orientation are free. Returns (size, size, 3) uint8.
    """
    step = label * 2 + rng.integers(2)
    x = 0.2 + 0.6 * (step + 0.5) / STEPS
    shape = LOCATION_SHAPES[rng.integers(len(LOCATION_SHAPES))]
    return draw(shape, (x, _place(rng)), _radius(rng), rng.uniform(0, 2 * np.pi), size)


def shape_orientation(label: int, rng: np.random.Generator, size: int) -> np.ndarray:
    """Return one image of the orientation task: the label is the bin, of 16 over the full turn, of the shape's axis.

    Bin 0 begins at "up" and the angle grows counter-clockwise. Shape, place and scale are free.
    Returns (size, size, 3) uint8.
    """
    step = label * 2 + rng.integers(2)
    angle = 2 * np.pi * (step + 0.5) / STEPS
    shape = ORIENTATION_SHAPES[rng.integers(len(ORIENTATION_SHAPES))]
    return draw(shape, (_place(rng), _place(rng)), _radius(rng), angle, size)


LOCATION_CLASSES = tuple(f"column {i + 1} of {BINS}" for i in range(BINS))
ORIENTATION_CLASSES = tuple(f"{360 * i / BINS:g} to {360 * (i + 1) / BINS:g} degrees" for i in range(BINS))

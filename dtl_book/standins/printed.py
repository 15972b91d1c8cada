"""Stand-ins for the smoke profile, which must need no fetched file: printed digits, and drawn solar cells.

They have the task names, classes and grey levels of the laptop profile's mnist and elpv, and are far easier. No result
on them says anything about those data sets.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

FACES = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSerif", "DejaVuSerif-Bold", "STIXGeneral", "cmr10")


@lru_cache(maxsize=64)
def _font(face: str, pixels: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf", pixels)


def digit(label: int, rng: np.random.Generator, size: int) -> np.ndarray:
    """One digit in one of matplotlib's own font faces, white on black, slightly turned. (size, size) uint8."""
    fine = 4 * size
    picture = Image.new("L", (fine, fine))
    font = _font(FACES[rng.integers(len(FACES))], int(fine * rng.uniform(0.6, 0.85)))
    place = fine / 2 + rng.uniform(-0.08, 0.08, size=2) * fine
    ImageDraw.Draw(picture).text(tuple(place), str(label), fill=255, font=font, anchor="mm")
    picture = picture.rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC)
    return np.asarray(picture.resize((size, size), Image.Resampling.BOX))


def solar_cell(label: int, rng: np.random.Generator, size: int) -> np.ndarray:
    """A grey cell with bus bars and grain; 0 to 3 sets how far dark cracks run over it. (size, size) uint8."""
    fine = 4 * size
    grain = Image.fromarray(rng.uniform(110, 190, size=(fine // 8, fine // 8)).astype(np.uint8))
    picture = grain.resize((fine, fine), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for bar in (0.25, 0.5, 0.75):
        pen.rectangle([0, (bar - 0.02) * fine, fine, (bar + 0.02) * fine], fill=60)
    for _ in range(2 * label):
        spot, heading = rng.uniform(0.15, 0.85, size=2) * fine, rng.uniform(0, 2 * np.pi)
        for _ in range(4 + 2 * label):
            heading += rng.normal(0, 0.5)
            end = spot + 0.08 * fine * np.array([np.cos(heading), np.sin(heading)])
            pen.line([*spot, *end], fill=15, width=max(2, fine // 32))
            spot = end
    pen.rectangle([0, 0, fine - 1, fine - 1], outline=20, width=fine // 24)
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(2)).resize((size, size), Image.Resampling.BOX))

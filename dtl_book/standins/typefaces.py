"""Typefaces: which font face drew this letter? A few-shot set of fine-grained classes, in the layout of FGFS.

The 22 classes are the Latin text faces that ship with matplotlib: roman, sans serif, typewriter, upright, slanted, light
and bold. The letters of training, validation and test are disjoint, so a face must be recognised by its serifs, weight,
slant and proportions and not by the outline of one letter. Size, place, turn and the greys of ink and paper vary alike
for all faces, and each face is set at the same height of capitals, so nothing else reveals the class.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm.auto import tqdm

from dtl_core.data.fewshot import SEEDS, SHOTS, list_name

from .seeded_folder import Album, build_folder

VERSION = 1  # raise it when the pixels or the lists that a seed gives change

# file: name. Left out: faces without Latin letters (the displays, STIX sizes and non-Unicode, cmex), with capitals only
# (cmsy) and the face of last resort.
FACES = {
    "DejaVuSans": "DejaVu Sans", "STIXGeneralItalic": "STIX General Italic", "cmtt10": "Computer Modern Typewriter",
    "DejaVuSerif-Bold": "DejaVu Serif Bold", "DejaVuSans-Bold": "DejaVu Sans Bold",
    "DejaVuSans-Oblique": "DejaVu Sans Oblique", "DejaVuSans-BoldOblique": "DejaVu Sans Bold Oblique",
    "DejaVuSansMono": "DejaVu Sans Mono", "DejaVuSansMono-Bold": "DejaVu Sans Mono Bold",
    "DejaVuSansMono-Oblique": "DejaVu Sans Mono Oblique",
    "DejaVuSansMono-BoldOblique": "DejaVu Sans Mono Bold Oblique", "DejaVuSerif": "DejaVu Serif",
    "DejaVuSerif-Italic": "DejaVu Serif Italic", "DejaVuSerif-BoldItalic": "DejaVu Serif Bold Italic",
    "STIXGeneral": "STIX General", "STIXGeneralBol": "STIX General Bold",
    "STIXGeneralBolIta": "STIX General Bold Italic", "cmr10": "Computer Modern Roman",
    "cmb10": "Computer Modern Bold", "cmti10": "Computer Modern Text Italic", "cmmi10": "Computer Modern Math Italic",
    "cmss10": "Computer Modern Sans",
}  # fmt: skip
# Both cases of a letter are in one split, since c and C, say, are one outline. Left out: F, I, L and T, which two faces
# draw alike (their ink differs by less than 6 % of what either inks); M and W, whose width would keep all letters small;
# and digits, which cmmi10 borrows from cmr10.
LETTERS = {"train": "CcHhiJjOoQqUuVvwXxYyZz", "val": "DdlmPpSs", "test": "AaBbEefGgKkNnRrt"}


@dataclass(frozen=True)
class Look:
    """The limits between which a printed character varies."""

    capitals: tuple[float, float]  # height of the face's H over the picture's side
    shift: float  # of the ink's centre from the picture's, over the side
    turn: float  # degrees either way
    ink: tuple[int, int]  # grey levels
    paper: tuple[int, int]


# The widest letter, a bold m of 1.50 times a capital's height when turned, still fits; the slanted faces lean by 11 degrees
# and more, so a turn of 4 is no slant.
LETTER = Look(capitals=(0.51, 0.61), shift=0.03, turn=4.0, ink=(0, 90), paper=(180, 255))


class Sizes(NamedTuple):
    """The size of a profile's set: faces (the first ones), pictures of each letter in each face, side in pixels."""

    faces: int
    val: int
    test: int
    pixels: int


# laptop: 3 x 16 training, 16 validation and 48 test images a face: 1,056, 352 and 1,056
SIZES = {"laptop": Sizes(22, 2, 3, 112), "smoke": Sizes(4, 1, 1, 32)}


@lru_cache(maxsize=len(FACES))
def _face(face: str) -> tuple[ImageFont.FreeTypeFont, float]:
    """Return a face, and the height of its capitals over its size."""
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"
    font = ImageFont.truetype(str(path), 1000, layout_engine=ImageFont.Layout.BASIC)
    return font, -font.getbbox("H", anchor="ls")[1] / 1000


def glyph(face: str, character: str, capitals: float, place: tuple[float, float], side: int) -> Image.Image:
    """Return a character of a face in white on black, (side, side) pixels, its ink centred on ``place``.

    ``capitals`` is the height of the face's H in pixels.
    """
    font, ratio = _face(face)
    font = font.font_variant(size=capitals / ratio)
    left, top, right, bottom = font.getbbox(character, anchor="ls")
    picture = Image.new("L", (side, side))
    corner = (place[0] - (left + right) / 2, place[1] - (top + bottom) / 2)
    ImageDraw.Draw(picture).text(corner, character, fill=255, font=font, anchor="ls")
    return picture


def printed(face: str, character: str, rng: np.random.Generator, size: int, look: Look = LETTER) -> np.ndarray:
    """Return a character in one grey on another, its height, place, turn and greys drawn from ``rng``. (size, size) uint8."""
    fine = 4 * size
    place = fine / 2 + rng.uniform(-look.shift, look.shift, size=2) * fine
    picture = glyph(face, character, rng.uniform(*look.capitals) * fine, tuple(place), fine)
    picture = picture.rotate(rng.uniform(-look.turn, look.turn), Image.Resampling.BICUBIC)
    cover = np.asarray(picture.resize((size, size), Image.Resampling.BOX)) / 255
    ink, paper = rng.uniform(*look.ink), rng.uniform(*look.paper)
    return np.round(paper + (ink - paper) * cover).astype(np.uint8)


def _fill(album: Album, sizes: Sizes, seed: int) -> dict[str, str]:
    """Draw all images. Each seed's training images are its own; fewer shots are the first of more."""
    faces = list(FACES)[: sizes.faces]
    wanted = []  # (part, draw of the training set, label, letter)
    for draw in SEEDS:
        for label in range(len(faces)):
            letters = np.random.default_rng([seed, 0, draw, label]).permutation(list(LETTERS["train"]))
            wanted += [("train", draw, label, str(letter)) for letter in letters[: max(SHOTS)]]
    for part, each in (("val", sizes.val), ("test", sizes.test)):
        wanted += [
            (part, -1, label, letter) for label in range(len(faces)) for letter in LETTERS[part] for _ in range(each)
        ]
    lines: dict[tuple[str, int, int], list[str]] = {}
    for i, (part, draw, label, letter) in enumerate(tqdm(wanted, desc="build typefaces", unit="image", leave=False)):
        name = album.add(part, printed(faces[label], letter, np.random.default_rng([seed, 1, i]), sizes.pixels))
        lines.setdefault((part, draw, label), []).append(f"{name} {label}\n")
    texts = {"classes.txt": "".join(f"{FACES[face]}\n" for face in faces)}
    for draw in SEEDS:
        for shots in SHOTS:
            chosen = [line for label in range(len(faces)) for line in lines["train", draw, label][:shots]]
            texts[f"annotations/{list_name('train', shots, draw)}"] = "".join(chosen)
    for part in ("val", "test"):
        chosen = [line for label in range(len(faces)) for line in lines[part, -1, label]]
        texts[f"annotations/{list_name(part, 0, 0)}"] = "".join(chosen)
    return texts


def build_typefaces(target: Path, sizes: Sizes, seed: int) -> bool:
    """Build the set's folder, ``few-shot/typefaces`` of a profile, see ``build_folder``."""
    return build_folder(target, "typefaces", VERSION, seed, sizes, lambda album: _fill(album, sizes, seed))

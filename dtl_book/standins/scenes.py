"""Shaded solids on a grey floor in the manner of CLEVR: how many are there, and how near is the nearest?

CLEVR: Johnson et al., "CLEVR: A Diagnostic Dataset for Compositional Language and Elementary Visual Reasoning" (CVPR
2017). VTAB-1K makes two tasks of it: the number of objects (3 to 10) and the distance of the closest one in 6 bins.
Camera, lights, colours, sizes and the rules of placement follow CLEVR's; the images are our own, traced ray by ray in
numpy from a seed (``tracing``).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .tracing import Light, Solid, primary, shade

SUBPIXELS = 3  # rays per pixel and axis; each of the nine also looks at another part of the lights
RADII = (0.7, 0.35)
COLOURS = (  # CLEVR's gray, red, blue, green, brown, purple, cyan and yellow
    (87, 87, 87), (173, 35, 35), (42, 75, 215), (29, 105, 20), (129, 74, 25), (129, 38, 192), (41, 208, 208), (255, 238, 51),
)  # fmt: skip
KINDS = ("sphere", "cube", "cylinder")
MIN_VISIBLE = 16 / 112**2  # part of the image that each object must show, about CLEVR's 200 of 480 x 320 pixels


EYE = (7.48, -6.51, 5.34)
LAMPS = (  # key, fill and back, as in CLEVR's base scene
    Light((5.20, 3.00, 6.00), 0.95, 1.3, True),
    Light((-1.50, -6.50, 5.00), 0.34, 2.4, True),
    Light((-4.50, 5.00, 8.00), 0.26, 0.0, False),
)
FIELD = 0.38  # half the width of the view at distance 1
COUNTS = tuple(range(3, 11))
# Edges of the distance bins, in CLEVR's units of the floor: sextiles of the nearest object over layouts of 3 to 10
# objects, rounded. CLEVR's own bins are 8, 8.5, 9, 9.5 and 10 for its camera.
EDGES = (8.0, 8.4, 8.75, 9.2, 9.75)


class _Camera:
    """A pinhole camera near CLEVR's, looking at the middle of the floor."""

    def __init__(self, eye: np.ndarray):
        self.eye = eye.astype(np.float32)
        target = np.array([0.0, 0.0, 0.25])
        self.forward = (target - eye) / np.linalg.norm(target - eye)
        self.right = np.cross(self.forward, [0, 0, 1])
        self.right /= np.linalg.norm(self.right)
        self.up = np.cross(self.right, self.forward)

    def depth(self, solid: Solid) -> float:
        """Return the distance of the centre along the view, as in CLEVR's ``pixel_coords``."""
        return float((solid.centre - self.eye) @ self.forward)

    def sees(self, solid: Solid) -> bool:
        """Return whether the whole solid lies inside the picture, with a little room."""
        to = solid.centre - self.eye
        depth = to @ self.forward
        room = depth * FIELD * 0.97 - solid.bound
        return bool(abs(to @ self.right) < room and abs(to @ self.up) < room)

    def rays(self, per_side: int) -> np.ndarray:
        """Return (3, per_side ** 2) unit directions, row by row from the top left."""
        across, down = _raster(per_side)
        d = self.forward[:, None] + FIELD * (across * self.right[:, None] + down * self.up[:, None])
        return (d / np.linalg.norm(d, axis=0)).astype(np.float32)


@lru_cache(maxsize=4)
def _raster(per_side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the samples in [-1, 1]: to the right, and upwards, each (per_side ** 2,)."""
    line = (np.arange(per_side) + 0.5) / per_side * 2 - 1
    down, across = np.meshgrid(-line, line, indexing="ij")
    return across.ravel(), down.ravel()


def _layout(count: int, camera: _Camera, rng: np.random.Generator) -> list[Solid] | None:
    """Return ``count`` separate solids inside the picture; None when there was no room."""
    solids: list[Solid] = []
    for _ in range(count):
        for _ in range(60):
            kind, radius = KINDS[rng.integers(3)], RADII[rng.integers(2)]
            colour = tuple((np.array(COLOURS[rng.integers(8)]) / 255) ** 2.2)
            x, y = rng.uniform(-3, 3, size=2)
            one = Solid(kind, radius, x, y, rng.uniform(0, 2 * np.pi), colour, bool(rng.integers(2)))
            if camera.sees(one) and all(np.hypot(x - o.x, y - o.y) > radius + o.radius + 0.25 for o in solids):
                solids.append(one)
                break
        else:
            return None
    return solids


def _visible(solids: list[Solid], camera: _Camera) -> bool:
    """Return whether enough of each solid is visible for it to be counted."""
    _, index = primary(solids, camera.eye[:, None], camera.rays(112))
    return all((index == k).mean() >= MIN_VISIBLE for k in range(len(solids)))


def distance_bin(depth: float) -> int:
    """Return the bin, of 6, of the nearest object's depth."""
    return int(np.searchsorted(EDGES, depth, side="right"))


def _scene(rng: np.random.Generator, count: int | None, nearest: int | None) -> tuple[list[Solid], _Camera]:
    """Return a layout with ``count`` objects and its nearest one in the bin ``nearest``; None leaves either free."""
    while True:
        camera = _Camera(np.array(EYE) + rng.uniform(-0.5, 0.5, size=3))
        solids = _layout(int(rng.choice(COUNTS)) if count is None else count, camera, rng)
        if solids is None or (nearest is not None and distance_bin(min(map(camera.depth, solids))) != nearest):
            continue
        if _visible(solids, camera):
            return solids, camera


def render(solids: list[Solid], camera: _Camera, rng: np.random.Generator, size: int) -> np.ndarray:
    """Return one picture of a scene, (size, size, 3) uint8 in sRGB."""
    per_side = size * SUBPIXELS
    rays = camera.rays(per_side)
    row, column = np.divmod(np.arange(per_side**2), per_side)
    # Each of a pixel's nine rays looks at its own ninth of a lamp; the pairing is the same in every pixel.
    cell = np.stack([(row + column) % SUBPIXELS, (row + 2 * column) % SUBPIXELS])
    sample = ((cell + rng.random(cell.shape)) / SUBPIXELS).astype(np.float32)
    lamps = [
        Light(tuple(np.array(lamp.place) + rng.uniform(-0.5, 0.5, size=3)), lamp.power, lamp.side, lamp.shadows)
        for lamp in LAMPS
    ]
    eye = camera.eye[:, None]
    distance, index = primary(solids, eye, rays)
    colour = shade(solids, lamps, eye, rays, distance, index, sample)
    fine = np.clip(colour, 0, 1).reshape(3, size, SUBPIXELS, size, SUBPIXELS)
    return np.round(255 * fine.mean(axis=(2, 4)) ** (1 / 2.2)).astype(np.uint8).transpose(1, 2, 0)


def object_count(label: int, rng: np.random.Generator, size: int) -> np.ndarray:
    """Return one image of the counting task: the label is the number of objects less three. (size, size, 3) uint8."""
    solids, camera = _scene(rng, count=COUNTS[label], nearest=None)
    return render(solids, camera, rng, size)


def object_distance(label: int, rng: np.random.Generator, size: int) -> np.ndarray:
    """Return one image of the distance task: the label is the bin of the nearest object's depth. (size, size, 3) uint8."""
    solids, camera = _scene(rng, count=None, nearest=label)
    return render(solids, camera, rng, size)


COUNT_CLASSES = tuple(f"{n} objects" for n in COUNTS)
DISTANCE_CLASSES = (
    f"nearer than {EDGES[0]:g}",
    *(f"{low:g} to {high:g}" for low, high in zip(EDGES, EDGES[1:], strict=False)),
    f"farther than {EDGES[-1]:g}",
)

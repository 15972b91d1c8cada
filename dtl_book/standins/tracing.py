"""A small ray tracer in numpy for solids on a floor: soft shadows, ambient occlusion, one mirror bounce.

Spheres, cubes and cylinders stand on the floor. Points, directions and colours are arrays (3, n) in float32: one
contiguous row for each coordinate or channel. ``scenes`` decides what stands where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FAR = np.float32(1e6)
FLOOR = (0.47, 0.46, 0.45)  # albedo of the floor, linear
SKY = (0.62, 0.63, 0.65)  # what a mirror sees overhead, linear
AMBIENT = 0.17


@dataclass(frozen=True)
class Solid:
    """One object that stands on the floor."""

    kind: str  # sphere, cube or cylinder
    # of the sphere or cylinder, which is twice as high; a cube's half edge is radius / sqrt(2), as in CLEVR
    radius: float
    x: float  # where it stands
    y: float
    angle: float  # turn about the vertical, radians
    colour: tuple[float, float, float]  # linear RGB
    metal: bool  # a tinted mirror instead of a matt surface

    @property
    def half(self) -> float:
        """Half the height, which is the height of the centre."""
        return self.radius / np.sqrt(2) if self.kind == "cube" else self.radius

    @property
    def centre(self) -> np.ndarray:
        return np.array([self.x, self.y, self.half], dtype=np.float32)

    @property
    def bound(self) -> float:
        """The radius of the sphere about the centre that holds the solid."""
        return {"sphere": self.radius, "cube": self.half * np.sqrt(3), "cylinder": self.radius * np.sqrt(2)}[self.kind]

    def rotated(self, v: np.ndarray, back: bool = False) -> np.ndarray:
        """Return vectors (3, n) in the solid's own frame, or back from it."""
        c, s = np.float32(np.cos(self.angle)), np.float32(np.sin(-self.angle if back else self.angle))
        return np.stack([c * v[0] + s * v[1], c * v[1] - s * v[0], v[2]])

    def interval(self, origin: np.ndarray, ray: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where rays enter and leave the solid: it is convex, so each ray has one interval; near > far means a miss."""
        o = origin - self.centre[:, None]
        if self.kind == "sphere":
            return _quadratic(np.float32(1), dot(o, ray), dot(o, o) - np.float32(self.radius**2))
        o, ray = self.rotated(o), self.rotated(ray)
        h = np.float32(self.half)
        inverse = 1 / np.where(np.abs(ray) < 1e-7, np.float32(1e-7), ray)
        low, high = (-h - o) * inverse, (h - o) * inverse
        enter, leave = np.minimum(low, high), np.maximum(low, high)
        if self.kind == "cube":
            return enter.max(axis=0), leave.min(axis=0)
        flat_o, flat_d = o[:2], ray[:2]
        a = np.maximum(dot(flat_d, flat_d), np.float32(1e-9))
        near, far = _quadratic(a, dot(flat_o, flat_d), dot(flat_o, flat_o) - np.float32(self.radius**2))
        return np.maximum(near, enter[2]), np.minimum(far, leave[2])

    def normal(self, points: np.ndarray) -> np.ndarray:
        """Return outward unit normals at points on the surface; the edges of cubes and cylinders are slightly rounded."""
        p = points - self.centre[:, None]
        if self.kind == "sphere":
            return p / np.float32(self.radius)
        p = self.rotated(p)
        core = np.float32(0.86 * self.half)
        if self.kind == "cube":
            n = p - np.clip(p, -core, core)
        else:
            side = np.maximum(np.sqrt(dot(p[:2], p[:2])), np.float32(1e-6))
            out = np.maximum(side - np.float32(0.86 * self.radius), 0) / side
            n = np.stack([p[0] * out, p[1] * out, p[2] - np.clip(p[2], -core, core)])
        return unit(self.rotated(n, back=True))


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = a[0] * b[0]  # row by row: three times as fast as a sum over the short axis
    for i in range(1, len(a)):
        out = out + a[i] * b[i]
    return out


def unit(v: np.ndarray) -> np.ndarray:
    return v / np.maximum(np.sqrt(dot(v, v)), np.float32(1e-9))


def _quadratic(a: np.ndarray, half_b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both roots of a t^2 + 2 half_b t + c; (FAR, -FAR) where there is none."""
    disc = half_b * half_b - a * c
    root = np.sqrt(np.maximum(disc, 0))
    miss = disc < 0
    return np.where(miss, FAR, (-half_b - root) / a), np.where(miss, -FAR, (-half_b + root) / a)


@dataclass(frozen=True)
class Light:
    """A square lamp that faces the origin."""

    place: tuple[float, float, float]
    power: float  # irradiance at the origin, for a surface that faces the lamp
    side: float  # edge of the lamp; a larger one throws softer shadows
    shadows: bool


def primary(solids: Sequence[Solid], eye: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what each ray, (3, n) unit directions from ``eye`` (3, 1) or (3, n), meets first.

    This is the distance (n,), FAR where nothing is met, and the index (n,) of the object, -1 for the floor, -2 for the sky.
    """
    down = rays[2] < -1e-4
    distance = np.where(down, -eye[2] / np.where(down, rays[2], -1), FAR).astype(np.float32)
    index = np.where(down, -1, -2).astype(np.int8)
    for k, solid in enumerate(solids):
        some = np.flatnonzero(_may_meet(solid, eye, rays))
        if not some.size:
            continue
        near, far = solid.interval(eye if eye.shape[1] == 1 else eye[:, some], rays[:, some])
        met = (near < far) & (near > 1e-3) & (near < distance[some])
        distance[some[met]] = near[met]
        index[some[met]] = k
    return distance, index


def _may_meet(solid: Solid, origin: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Return whether rays meet the solid's bounding sphere: a cheap test that rejects most of them."""
    to = solid.centre[:, None] - origin
    along = dot(to, rays)
    return (along > -solid.bound) & (dot(to, to) - along * along < np.float32(solid.bound**2))


def _lit(points: np.ndarray, normals: np.ndarray, light: Light, solids: Sequence[Solid], sample: np.ndarray):
    """Return the direction to a point of the lamp (3, n), and its irradiance there (n,), 0 in the shadow.

    ``sample`` (2, n) in [0, 1) says which point of the lamp each shading point looks at.
    """
    place = np.array(light.place, dtype=np.float32)
    axis = place / np.linalg.norm(place)
    right = np.array([-axis[1], axis[0], 0], dtype=np.float32)
    right /= np.linalg.norm(right)
    up = np.cross(axis, right)
    offset = (sample - np.float32(0.5)) * np.float32(light.side)
    to = place[:, None] + right[:, None] * offset[0] + up[:, None] * offset[1] - points
    square = dot(to, to)
    to /= np.sqrt(square)
    fall = np.float32(np.linalg.norm(place)) / np.sqrt(square)  # weaker than 1 / d^2, so the far floor is not black
    power = np.float32(light.power) * fall * np.maximum(dot(normals, to), 0)
    if light.shadows:
        origin = points + normals * np.float32(2e-3)
        for solid in solids:
            some = np.flatnonzero(_may_meet(solid, origin, to) & (power > 0))
            if some.size:
                near, far = solid.interval(origin[:, some], to[:, some])
                power[some[(near < far) & (far > 1e-3)]] = 0
    return to, power


def _openness(points: np.ndarray, normals: np.ndarray, solids: Sequence[Solid], index: np.ndarray) -> np.ndarray:
    """Return the part of the sky that a point sees, (n,): each other solid hides as much as a sphere of its size would."""
    hidden = np.zeros(points.shape[1], dtype=np.float32)
    for k, solid in enumerate(solids):
        to = solid.centre[:, None] - points
        square = np.maximum(dot(to, to), np.float32(1e-4))
        radius = np.float32(solid.bound * 0.85)
        share = np.maximum(dot(normals, to), 0) * radius**2 / (square * np.sqrt(square))
        hidden += np.where((index == k) | (square > 25 * radius**2), 0, np.minimum(share, np.float32(0.8)))
    floor = np.where(index == -1, np.float32(0), np.float32(0.5) * (1 - normals[2]) * np.float32(0.5))
    return np.clip(1 - np.minimum(hidden, np.float32(0.85)), 0, 1) * (1 - floor)


def shade(
    solids: Sequence[Solid], lights: Sequence[Light], eye: np.ndarray, rays: np.ndarray, distance: np.ndarray,
    index: np.ndarray, sample: np.ndarray, bounces: int = 1,
) -> np.ndarray:  # fmt: skip
    """Return the colour that comes back along each ray, (3, n), linear; see ``primary``.

    ``sample`` (2, n) in [0, 1) is the point of each lamp that a ray's shading point looks at, ``bounces`` the mirror
    reflections that are followed.
    """
    colour = np.empty_like(rays)
    sky = index == -2
    colour[:, sky] = _sky(rays[:, sky])
    seen = np.flatnonzero(~sky)
    index, rays, sample = index[seen], rays[:, seen], sample[:, seen]
    points = (eye if eye.shape[1] == 1 else eye[:, seen]) + rays * distance[seen]
    normals = np.zeros_like(points)
    normals[2] = 1
    albedo = np.repeat(np.array(FLOOR, dtype=np.float32)[:, None], seen.size, axis=1)
    gloss = np.zeros(seen.size, dtype=np.float32)
    for k, solid in enumerate(solids):
        mine = np.flatnonzero(index == k)
        normals[:, mine] = solid.normal(points[:, mine])
        albedo[:, mine] = np.array(solid.colour, dtype=np.float32)[:, None]
        gloss[mine] = 1 if solid.metal else 0.12
    light = np.float32(AMBIENT) * _openness(points, normals, solids, index)
    glint = np.zeros_like(light)
    on_solid = np.flatnonzero(index >= 0)
    shiny = np.where(gloss > 0.5, np.float32(140), np.float32(25))[on_solid]
    for lamp in lights:
        to, power = _lit(points, normals, lamp, solids, sample)
        light = light + power
        between = unit(to[:, on_solid] - rays[:, on_solid])
        shine = np.maximum(dot(between, normals[:, on_solid]), 0) ** shiny
        glint[on_solid] += shine * gloss[on_solid] * np.minimum(power[on_solid] * 4, 1)
    out = albedo * light
    metal = np.flatnonzero(gloss > 0.5)
    if metal.size:
        n, d = normals[:, metal], rays[:, metal]
        mirrored = d - 2 * dot(n, d) * n
        start = points[:, metal] + n * np.float32(2e-3)
        if bounces:
            length, what = primary(solids, start, mirrored)
            back = shade(solids, lights, start, mirrored, length, what, sample[:, metal], bounces - 1)
        else:
            back = _sky(mirrored)
        edge = (1 - np.clip(-dot(n, d), 0, 1)) ** 5
        tint = albedo[:, metal] + (1 - albedo[:, metal]) * (np.float32(0.06) + np.float32(0.5) * edge)
        out[:, metal] = np.float32(0.15) * out[:, metal] + np.float32(1.05) * tint * back
    colour[:, seen] = out + glint * np.float32(0.9)
    return colour


def _sky(rays: np.ndarray) -> np.ndarray:
    """Return the room as a mirror sees it: lighter overhead."""
    height = np.clip(rays[2], 0, 1)
    return np.array(SKY, dtype=np.float32)[:, None] * (np.float32(0.55) + np.float32(0.75) * height)

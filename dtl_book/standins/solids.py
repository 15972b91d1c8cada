"""Spheres, cubes and cylinders that stand on a floor: where a ray meets them, and how their surface lies.

Points and directions are arrays (3, n) in float32: one contiguous row for each coordinate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FAR = np.float32(1e6)


@dataclass(frozen=True)
class Solid:
    """One object that stands on the floor.

    Attributes:
        kind: ``sphere``, ``cube`` or ``cylinder``.
        radius: of the sphere or cylinder, which is twice as high; a cube's half edge is radius / sqrt(2), as in CLEVR.
        x, y: where it stands.
        angle: turn about the vertical, radians.
        colour: linear RGB.
        metal: a tinted mirror instead of a matt surface.
    """

    kind: str
    radius: float
    x: float
    y: float
    angle: float
    colour: tuple[float, float, float]
    metal: bool

    @property
    def half(self) -> float:
        """Half height, which is the height of the centre."""
        return self.radius / np.sqrt(2) if self.kind == "cube" else self.radius

    @property
    def centre(self) -> np.ndarray:
        return np.array([self.x, self.y, self.half], dtype=np.float32)

    @property
    def bound(self) -> float:
        """Radius of the sphere about the centre that holds the solid."""
        return {"sphere": self.radius, "cube": self.half * np.sqrt(3), "cylinder": self.radius * np.sqrt(2)}[self.kind]

    def turned(self, v: np.ndarray, back: bool = False) -> np.ndarray:
        """Vectors (3, n) in the solid's own frame, or back from it."""
        c, s = np.float32(np.cos(self.angle)), np.float32(np.sin(-self.angle if back else self.angle))
        return np.stack([c * v[0] + s * v[1], c * v[1] - s * v[0], v[2]])

    def interval(self, origin: np.ndarray, ray: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where rays enter and leave the solid: it is convex, so each ray has one interval; near > far means a miss."""
        o = origin - self.centre[:, None]
        if self.kind == "sphere":
            return _quadratic(np.float32(1), dot(o, ray), dot(o, o) - np.float32(self.radius**2))
        o, ray = self.turned(o), self.turned(ray)
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
        """Outward unit normals at points on the surface; the edges of cubes and cylinders are slightly rounded."""
        p = points - self.centre[:, None]
        if self.kind == "sphere":
            return p / np.float32(self.radius)
        p = self.turned(p)
        core = np.float32(0.86 * self.half)
        if self.kind == "cube":
            n = p - np.clip(p, -core, core)
        else:
            side = np.maximum(np.sqrt(dot(p[:2], p[:2])), np.float32(1e-6))
            out = np.maximum(side - np.float32(0.86 * self.radius), 0) / side
            n = np.stack([p[0] * out, p[1] * out, p[2] - np.clip(p[2], -core, core)])
        return unit(self.turned(n, back=True))


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = a[0] * b[0]  # row by row: three times as fast as a sum over the short axis
    for i in range(1, len(a)):
        out = out + a[i] * b[i]
    return out


def unit(v: np.ndarray) -> np.ndarray:
    return v / np.maximum(np.sqrt(dot(v, v)), np.float32(1e-9))


def _quadratic(a: np.ndarray, half_b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both roots of a t^2 + 2 half_b t + c; (FAR, -FAR) where there is none."""
    disc = half_b * half_b - a * c
    root = np.sqrt(np.maximum(disc, 0))
    miss = disc < 0
    return np.where(miss, FAR, (-half_b - root) / a), np.where(miss, -FAR, (-half_b + root) / a)

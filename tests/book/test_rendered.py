"""The drawn tasks: the label can be read off the picture."""

import numpy as np
import pytest

from dtl_book.standins import rendered, scenes
from dtl_book.standins.tracing import FAR, Solid, primary


def rng(i=0):
    return np.random.default_rng(i)


def centroid(image):
    """(x, y) of the white, as fractions of the side."""
    weight = image[:, :, 0].astype(float)
    line = (np.arange(len(weight)) + 0.5) / len(weight)
    return (weight.sum(axis=0) @ line) / weight.sum(), (weight.sum(axis=1) @ line) / weight.sum()


@pytest.mark.parametrize("size", [32, 112])
def test_location_label_is_the_column_of_the_centroid(size):
    for label in range(16):
        for i in range(4):
            image = rendered.shape_location(label, rng([label, i]), size)
            assert image.shape == (size, size, 3) and image.dtype == np.uint8
            x, _ = centroid(image)
            assert abs((x - 0.2) / 0.6 * 16 - (label + 0.5)) < 0.45


@pytest.mark.parametrize("shape", rendered.ORIENTATION_SHAPES)
def test_angle_turns_counter_clockwise_and_no_two_bins_look_alike(shape):
    upright = rendered.draw(shape, (0.5, 0.5), 0.35, 0.0, 112)
    quarter = rendered.draw(shape, (0.5, 0.5), 0.35, np.pi / 2, 112)
    assert np.abs(quarter.astype(int) - np.rot90(upright)).mean() < 1.5
    assert np.flatnonzero(upright.sum(axis=(1, 2)))[0] <= 112 * 0.5 - 0.9 * 0.35 * 112  # the tip points up
    turns = [rendered.draw(shape, (0.5, 0.5), 0.35, 2 * np.pi * k / 16, 112)[:, :, 0] / 255 for k in range(16)]
    area = turns[0].sum()
    for k in range(1, 16):
        overlap = np.minimum(turns[0], turns[k]).sum() / area
        assert overlap < 0.93, f"a turn by {k} bins looks the same"


def inside(solid, points):
    """An independent test: which points (3, n) lie in the solid."""
    x, y, z = points - solid.centre[:, None].astype(float)
    c, s = np.cos(solid.angle), np.sin(solid.angle)
    x, y = c * x + s * y, c * y - s * x
    if solid.kind == "sphere":
        return x * x + y * y + z * z <= solid.radius**2
    if solid.kind == "cube":
        return np.max(np.abs([x, y, z]), axis=0) <= solid.radius / np.sqrt(2)
    return (np.hypot(x, y) <= solid.radius) & (np.abs(z) <= solid.radius)


@pytest.mark.parametrize("kind", scenes.KINDS)
def test_rays_meet_solids_where_marching_along_them_does(kind):
    solid = Solid(kind, 0.7, 0.4, -0.3, 0.5, (1, 1, 1), False)
    generator = rng(1)
    eye = np.array([[4.0], [-3.0], [3.0]], dtype=np.float32)
    to = solid.centre[:, None] + generator.uniform(-1, 1, size=(3, 400)) - eye
    rays = (to / np.linalg.norm(to, axis=0)).astype(np.float32)
    near, far = solid.interval(eye, rays)
    steps = np.arange(3, 8, 0.004)
    met = np.zeros(400, dtype=bool)
    for i in range(400):
        within = inside(solid, eye + rays[:, i : i + 1] * steps)
        met[i] = within.any()
        if within.sum() > 3:
            assert near[i] == pytest.approx(steps[within][0], abs=0.005)
            assert far[i] == pytest.approx(steps[within][-1], abs=0.005)
        elif not within.any():
            assert near[i] >= far[i] - 0.03
    assert 50 < met.sum() < 350
    distance, index = primary([solid], eye, rays)
    clear = np.abs(far - near) > 0.02  # away from grazing rays
    assert np.array_equal((index == 0)[clear], (near < far)[clear])
    surface = (eye + rays * np.where(index == 0, distance, 0))[:, index == 0].astype(float)
    normals = solid.normal(surface.astype(np.float32))
    assert np.allclose(np.linalg.norm(normals, axis=0), 1, atol=1e-4)
    # away from the rounded edges the normal is the direction in which one leaves the solid soonest
    outward = surface + 0.02 * normals
    assert not inside(solid, outward).any() and inside(solid, surface - 0.02 * normals).all()
    plain = {"sphere": 3, "cube": 1, "cylinder": 2}[kind]  # coordinates that take part in a normal off the edges
    local = solid.rotated(normals)
    flat = np.sort(np.abs(local), axis=0)[: 3 - plain]
    assert (np.abs(flat) < 1e-4).all(axis=0).mean() > 0.6
    assert (distance[index == -2] == FAR).all()


@pytest.mark.parametrize("label", [0, 4, 7])
def test_count_label_is_the_number_of_visible_objects(label):
    solids, camera = scenes._scene(rng(label), count=scenes.COUNTS[label], nearest=None)
    _, index = primary(solids, camera.eye[:, None], camera.rays(112))
    seen = [k for k in range(20) if (index == k).mean() >= scenes.MIN_VISIBLE]
    assert len(seen) == label + 3 == len(solids)
    for a in range(len(solids)):
        for b in range(a):
            gap = np.hypot(solids[a].x - solids[b].x, solids[a].y - solids[b].y)
            assert gap > solids[a].radius + solids[b].radius


def test_distance_label_is_the_bin_of_the_nearest_depth():
    for label in range(6):
        solids, camera = scenes._scene(rng(label), count=None, nearest=label)
        forward = -camera.eye + [0, 0, 0.25]
        depths = [(s.centre - camera.eye) @ forward / np.linalg.norm(forward) for s in solids]
        low, high = (-np.inf, *scenes.EDGES)[label], (*scenes.EDGES, np.inf)[label]
        assert low <= min(depths) < high

"""Random views for training: every operation at every magnitude that can be drawn, and the letters' own form."""

import numpy as np
import pytest
import torch
from PIL import Image

from dtl_core.data.augment import AUTHORS, LETTERS, train_transform

HALF = (0.5, 0.5, 0.5)


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))


def operations(name):
    (transform,) = [t for t in train_transform(32, HALF, HALF, name)._view.transforms if hasattr(t, "ops")]
    return transform.ops


@pytest.mark.parametrize("name", [AUTHORS, LETTERS])
@pytest.mark.parametrize("magnitude", [0, 9, 10])
def test_every_operation_runs_at_every_magnitude(name, magnitude, image):
    """Magnitudes are drawn from N(9, 0.5) and cut at 10."""
    for operation in operations(name):
        assert (operation.magnitude, operation.magnitude_std) == (9, 0.5)
        operation.prob, operation.magnitude, operation.magnitude_std = 1, magnitude, 0
        changed = operation(image)
        assert (changed.mode, changed.size) == ("RGB", (32, 32)), operation.name


@pytest.mark.parametrize("magnitude, bits", [(0, 4), (9, 1), (10, 0)])
def test_posterize_keeps_the_highest_bits_and_none_at_the_highest_magnitude(magnitude, bits, image):
    (operation,) = [o for o in operations(AUTHORS) if o.name == "PosterizeIncreasing"]
    operation.prob, operation.magnitude, operation.magnitude_std = 1, magnitude, 0
    mask = 256 - (1 << (8 - bits))
    assert np.array_equal(np.asarray(operation(image)), np.asarray(image) & mask)
    assert (np.asarray(operation(image)) == 0).all() == (bits == 0)


def test_letters_are_not_turned(image):
    names = {o.name for o in operations(LETTERS)}
    assert not names & {"Rotate", "ShearX", "ShearY"} and {"Rotate", "ShearX", "ShearY"} < {
        o.name for o in operations(AUTHORS)
    }


def test_a_seed_gives_a_view_again(image):
    from dtl_core.training import seed_everything

    view = train_transform(32, HALF, HALF, AUTHORS)
    seed_everything(0)
    first, second = view(image), view(image)
    seed_everything(0)
    assert torch.equal(view(image), first) and not torch.equal(first, second)

"""Augmentation: random where it should be, seeded, and never what turns one letter into another."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torchvision.transforms import v2

from dtl_core.data.augment import AUTHORS, KEEPS_LETTERS, LETTERS, CropTransform, TrainTransform, train_transform
from dtl_core.data.transforms import EvalTransform
from dtl_core.training import seed_everything

HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture
def photo():
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((240, 180), Image.Resampling.BICUBIC)


def corner():
    """Black, with a white square in the upper left quarter: a flip would move it to the right, a turn downwards."""
    image = Image.new("RGB", (100, 100))
    ImageDraw.Draw(image).rectangle((20, 20, 44, 44), fill="white")
    return image


def operations(name):
    """Those that RandAugment draws from."""
    (transform,) = [t for t in TrainTransform((64, 64), *HALF, name)._view.transforms if hasattr(t, "ops")]
    return transform.ops


def at(operation, magnitude):
    """The operation, for certain and at this magnitude."""
    operation.prob, operation.magnitude, operation.magnitude_std = 1, magnitude, 0
    return operation


@pytest.mark.parametrize("name", [AUTHORS, LETTERS])
def test_the_same_seed_draws_the_same_view(photo, name):
    transform = train_transform((64, 96), *HALF, name)
    views = []
    for seed in (0, 0, 1):
        seed_everything(seed)
        views.append(transform(photo))
    assert views[0].shape == (3, 64, 96) and views[0].dtype == torch.float32
    assert torch.equal(views[0], views[1]) and not torch.equal(views[0], views[2])
    assert views[0].min() >= -1 and views[0].max() <= 1 and not transform.deterministic


def test_none_is_the_transform_for_testing(photo):
    plain = train_transform(64, *HALF, "none")
    assert type(plain) is EvalTransform and plain.deterministic
    with pytest.raises(ValueError, match="choose one of"):
        train_transform(64, *HALF, "mixup")


def test_letters_are_not_flipped_nor_cut():
    seed_everything(0)
    steps = {name: TrainTransform((64, 64), *HALF, name)._view.transforms for name in (LETTERS, AUTHORS)}
    flips = {name: [t for t in found if isinstance(t, v2.RandomHorizontalFlip)] for name, found in steps.items()}
    assert not flips[LETTERS] and len(flips[AUTHORS]) == 1
    for _ in range(60):  # the square stays whole, in its quarter, and square
        rows, columns = np.nonzero(np.asarray(steps[LETTERS][0](corner()).convert("L")) > 128)
        assert rows.max() < 36 and columns.max() < 36
        assert abs(np.ptp(rows) - np.ptp(columns)) <= 1 and np.ptp(rows) >= 14


def test_nothing_turns_or_slants_a_letter():
    assert not {"Rotate", "ShearX", "ShearY"} & set(KEEPS_LETTERS)
    names = [op.name for op in TrainTransform((8, 8), *HALF, LETTERS)._view.transforms[1].ops]
    assert names == KEEPS_LETTERS
    full = [op.name for op in TrainTransform((8, 8), *HALF, AUTHORS)._view.transforms[2].ops]
    assert set(full) - set(names) == {"Rotate", "ShearX", "ShearY"}


@pytest.mark.parametrize("name", [AUTHORS, LETTERS])
@pytest.mark.parametrize("magnitude", [0, 9, 10])
def test_every_operation_runs_at_every_magnitude(photo, name, magnitude):
    """Magnitudes are drawn from N(9, 0.5) and cut at 10, so 10 comes once in fifty draws."""
    for operation in operations(name):
        assert (operation.magnitude, operation.magnitude_std) == (9, 0.5)
        changed = at(operation, magnitude)(photo)
        assert (changed.mode, changed.size) == ("RGB", photo.size), operation.name


@pytest.mark.parametrize("magnitude, bits", [(0, 4), (9, 1), (10, 0)])
def test_posterize_keeps_the_highest_bits_and_none_at_the_highest_magnitude(photo, magnitude, bits):
    (posterize,) = [o for o in operations(AUTHORS) if o.name == "PosterizeIncreasing"]
    out = np.asarray(at(posterize, magnitude)(photo))
    assert np.array_equal(out, np.asarray(photo) & (256 - (1 << (8 - bits))))
    assert (out == 0).all() == (bits == 0)


@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (224, 224), (100, 500)])
def test_the_crop_is_the_centre_of_a_larger_picture(shape):
    width, height = shape
    ramp = np.broadcast_to(np.linspace(0, 255, width)[None, :, None], (height, width, 3)).astype(np.uint8)
    out = CropTransform(224, (0, 0, 0), (1, 1, 1))(Image.fromarray(ramp))
    assert out.shape == (3, 224, 224)
    seen = 224 * 224 / 256 / (224 / min(shape)) / width  # the part of the width that the crop shows
    row = out[0].mean(0)
    assert row.mean().item() == pytest.approx(0.5, abs=0.02)
    assert (row[-1] - row[0]).item() == pytest.approx(seen, abs=0.03)

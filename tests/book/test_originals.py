"""The laptop's mnist and elpv, from small packages in the form of the fetched ones."""

import io

import numpy as np
import pytest
from packages import lay, mnist_package
from PIL import Image

from dtl_book.fetch.sources import source
from dtl_book.standins import build_suite
from dtl_book.standins.suites import DRAWN, SIZES, TASKS, Sizes
from dtl_core.data import VTAB1k


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Small packages in the form of the fetched ones: 10 digits a class, 40 cells."""
    monkeypatch.setenv("DTL_DATA", str(tmp_path))
    generator = np.random.default_rng(0)
    pixels, labels = generator.integers(0, 256, (100, 784), dtype=np.uint8), np.arange(100) % 10
    mnist_package(pixels, labels)
    cells, lines = {}, ""
    for i in range(40):
        cell = io.BytesIO()
        noise = np.clip(generator.normal(128, 40, (300, 300)), 0, 255)
        Image.fromarray(noise.astype(np.uint8)).save(cell, "PNG")
        cells[f"elpv_dataset/data/images/cell{i:04d}.png"] = cell.getvalue()
        lines += f"images/cell{i:04d}.png  {i % 4 / 3}                 {'mono' if i % 2 else 'poly'}\n"
    lay(source("elpv").folder, cells | {"elpv_dataset/data/labels.csv": lines})
    monkeypatch.setitem(SIZES, "laptop", Sizes(40, 10, 20, 16))
    return {bytes(row): label for row, label in zip(pixels, labels, strict=True)}


def test_mnist_is_split_evenly_and_saved_as_it_is(packages):
    root = build_suite("laptop", ["mnist"])["mnist"].parent
    rows = packages
    for split, count in (("train800", 40), ("val200", 10), ("test", 20)):
        data = VTAB1k(root, "mnist", split)
        assert np.bincount(data.targets).tolist() == [count // 10] * 10
        for path, label in data.samples:
            image = Image.open(path)
            assert image.mode == "L" and rows.pop(image.tobytes()) == label  # found once: in no other split
    assert len(rows) == 30


def test_elpv_is_split_by_label_and_made_smaller(packages, monkeypatch):
    monkeypatch.setitem(SIZES, "laptop", Sizes(16, 8, 10, 16))
    root = build_suite("laptop", ["elpv"])["elpv"].parent
    originals = {}
    for i in range(40):
        with Image.open(source("elpv").folder / f"elpv_dataset/data/images/cell{i:04d}.png") as image:
            originals[image.resize((16, 16), Image.Resampling.LANCZOS).tobytes()] = i % 4
    for split, count in (("train800", 16), ("val200", 8), ("test", 16)):  # test is all that is left
        data = VTAB1k(root, "elpv", split)
        assert np.bincount(data.targets).tolist() == [count // 4] * 4
        assert all(originals.pop(Image.open(path).tobytes()) == label for path, label in data.samples)
    assert not originals and data.class_names[1] == "defect probability 1/3"


def test_what_is_not_fetched_is_left_out_with_a_message(packages, capsys, monkeypatch):
    (source("elpv").folder / "manifest.json").unlink()
    monkeypatch.setitem(SIZES, "laptop", Sizes(20, 10, 20, 32))
    monkeypatch.setattr("dtl_book.standins.suites.EVERYTHING", TASKS)
    built = build_suite("laptop")
    assert list(built) == ["mnist", *DRAWN]
    assert "elpv needs the package elpv-dataset" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="elpv needs the package elpv-dataset.*dtl data fetch"):
        build_suite("laptop", ["elpv"])

"""A user's own images: opened as they are meant to be seen, split evenly, and every fault named."""

import os
import struct
import warnings

import numpy as np
import pytest
from PIL import Image

from dtl_book.check.images import inspect
from dtl_core.data import ImageFolderTask, open_rgb
from dtl_core.data.lists import BadDataset
from dtl_core.data.own import plain_name
from dtl_core.data.transforms import UnreadableImage

RED, WHITE = (255, 0, 0), (255, 255, 255)


def turned_with_bad_tag(path):
    """Sound pixels, to be turned (tag 0x0112), and a resolution that is text (tag 0x011a, type 2)."""
    tags = [(0x0112, 3, 1, struct.pack("<HH", 6, 0)), (0x011A, 2, 4, b"abc\0")]
    entries = b"".join(struct.pack("<HHI", *tag[:3]) + tag[3] for tag in tags)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)
    left_right().save(path, exif=exif)


def left_right(mode="RGB", left=RED, right=WHITE):
    """Left half of one colour, right half of another: 20 wide, 10 high."""
    image = Image.new(mode, (20, 10), right)
    image.paste(left, (0, 0, 10, 10))
    return image


def palette():
    """Red on the left and blue on the right, by numbers."""
    image = Image.new("P", (20, 10), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(0, (0, 0, 10, 10))
    return image


def upside():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise to see it upright
    return exif


def grey(values, dtype):
    return Image.fromarray(np.array([values], dtype))


FINE = {"quality": 100, "subsampling": 0}
HALVES = ((3, 5), (16, 5))  # a point of the left half and one of the right
ODD = {
    "CMYK": ("x.jpg", left_right().convert("CMYK"), FINE, HALVES, (RED, WHITE)),
    "palette, clear, png": ("x.png", palette(), {"transparency": 1}, HALVES, (RED, WHITE)),
    "palette, clear, gif": ("x.gif", palette(), {"transparency": 1}, HALVES, (RED, WHITE)),
    "palette": ("x.png", palette(), {}, HALVES, (RED, (0, 0, 255))),
    "alpha on white": ("x.png", left_right("RGBA", (*RED, 255), (0, 0, 0, 0)), {}, HALVES, (RED, WHITE)),
    "half alpha": ("x.png", Image.new("RGBA", (4, 4), (0, 0, 0, 128)), {}, [(1, 1)], [(127, 127, 127)]),
    "grey with alpha": ("x.png", left_right("LA", (0, 255), (0, 0)), {}, HALVES, ((0, 0, 0), WHITE)),
    "clear colour": ("x.png", left_right("RGB", RED, (0, 255, 0)), {"transparency": (0, 255, 0)}, HALVES, (RED, WHITE)),
    "dark 16-bit grey": ("x.png", grey([6553] * 4, np.uint16), {}, [(0, 0)], [(25, 25, 25)]),
    "bilevel": ("x.png", left_right("1", 0, 1), {}, HALVES, ((0, 0, 0), WHITE)),
    "turned by EXIF": ("x.jpg", left_right(), {"exif": upside(), **FINE}, ((5, 3), (5, 16)), (RED, WHITE)),
    **{
        f"16-bit ramp, {name}": (name, grey(np.arange(256) * 257, np.uint16), {}, *zip(*[((i, 0), (i, i, i)) for i in range(256)], strict=True))
        for name in ("x.png", "x.tif")
    },
    "floating grey": ("x.tif", grey([-2, 0, 2], np.float32), {}, [(i, 0) for i in range(3)], [(v, v, v) for v in (0, 128, 255)]),
}  # fmt: skip


@pytest.mark.parametrize("name, image, options, points, colours", ODD.values(), ids=ODD)
def test_an_odd_image_is_opened_as_it_is_meant_to_be_seen(tmp_path, name, image, options, points, colours):
    image.save(tmp_path / name, **options)
    out = open_rgb(tmp_path / name)
    assert out.mode == "RGB" and out.size == (image.size[::-1] if "exif" in options else image.size)
    tolerance = 12 if name == "x.jpg" else 1
    for point, colour in zip(points, colours, strict=True):
        assert all(abs(a - b) <= tolerance for a, b in zip(out.getpixel(point), colour, strict=True)), point


def spoilt(path):
    """Write what belongs under each name of ``FAULTS``, if anything."""
    if path.name == "nan.tif":
        grey([np.nan, 1.0], np.float32).save(path)
    elif path.name == "turned.jpg":
        turned_with_bad_tag(path)
    elif path.name == "text.jpg":
        path.write_text("no image")
    elif path.name == "folder":
        path.mkdir()
    return path


FAULTS = [
    ("nan.tif", UnreadableImage, "nan.tif.*not finite"),
    ("turned.jpg", UnreadableImage, r"turned.jpg cannot be opened .* malformed EXIF data \(TypeError"),
    ("gone.png", FileNotFoundError, "gone.png: no such image"),
    ("text.jpg", UnreadableImage, "text.jpg cannot be read as an image"),
    ("folder", UnreadableImage, "cannot be read"),
]


@pytest.mark.parametrize("name, error, message", FAULTS, ids=[name for name, _, _ in FAULTS])
def test_a_file_that_is_no_sound_image_is_named(tmp_path, name, error, message):
    path = spoilt(tmp_path / name)
    with pytest.raises(error, match=message):
        open_rgb(path)
    if name == "turned.jpg":
        assert inspect(str(path)).problem == "unreadable_image"


def make_folder(root, counts):
    """One folder a class, with so many images; each image has a colour of its own."""
    number = 0
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (9, 7), (number, 255 - number, 40)).save(root / name / f"{i:03d}.png")
            number += 1
    return root


@pytest.fixture
def pets(tmp_path):
    return make_folder(tmp_path / "pets", {"dog": 20, "cat": 10, "bird of prey": 3})


def paths_of(data):
    return {p for p, _ in data.samples}


def test_splits_are_disjoint_whole_and_hold_every_class(pets):
    parts = {s: ImageFolderTask(pets, s) for s in ("train", "val", "trainval", "test")}
    for data in parts.values():
        assert data.class_names == ("bird of prey", "cat", "dog") and data.classes == 3 and data.task == "pets"
        assert data.targets == [y for _, y in data.samples]
        assert all(p.parent.name == data.class_names[y] for p, y in data.samples)
    assert np.bincount(parts["train"].targets).tolist() == [1, 6, 12]
    assert np.bincount(parts["val"].targets).tolist() == np.bincount(parts["test"].targets).tolist() == [1, 2, 4]
    train, val, test = (paths_of(parts[s]) for s in ("train", "val", "test"))
    assert not train & val and not train & test and not val & test and len(train | val | test) == 33
    assert paths_of(parts["trainval"]) == train | val
    image, label = parts["test"][0]
    assert image.size == (9, 7) and label == 0


def test_fractions_and_seed(pets):
    assert np.bincount(ImageFolderTask(pets, "val", val_fraction=0.5).targets).tolist() == [1, 5, 10]
    one, same, other = (ImageFolderTask(pets, "train", seed=s) for s in (0, 0, 1))
    assert one.samples == same.samples and one.digest == same.digest
    assert one.samples != other.samples and one.digest != other.digest
    assert one.digest != ImageFolderTask(pets, "test").digest
    for bad in ({"val_fraction": 0}, {"test_fraction": 0.8}, {"val_fraction": -0.1}):
        with pytest.raises(ValueError, match="must be above 0 and sum to less than 1"):
            ImageFolderTask(pets, "train", **bad)


@pytest.mark.parametrize("count", [3, 4, 5, 7])
def test_small_classes_keep_an_image_in_each_split(tmp_path, count):
    make_folder(tmp_path, {"a": count, "b": count})
    sizes = [len(ImageFolderTask(tmp_path, s, val_fraction=0.45, test_fraction=0.45)) for s in ("train", "val", "test")]
    assert min(sizes) >= 2 and sum(sizes) == 2 * count


def test_transform_and_deeper_folders(pets):
    (pets / "cat" / "more").mkdir()
    Image.new("RGB", (5, 5)).save(pets / "cat" / "more" / "deep.PNG")
    assert sum(len(ImageFolderTask(pets, s)) for s in ("train", "val", "test")) == 34
    assert ImageFolderTask(pets, "val", transform=lambda image: image.size)[0] == ((9, 7), 0)


def test_broken_images_are_named_and_left_out(pets):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), dtype=np.uint8))
    noise.save(pets / "dog" / "cut.jpg")
    whole = (pets / "dog" / "cut.jpg").read_bytes()
    (pets / "dog" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (pets / "cat" / "text.png").write_text("no image")
    with pytest.warns(UserWarning, match="of 35 images") as caught:
        data = ImageFolderTask(pets, "trainval")
    message = str(caught[0].message)
    assert "2 of 35 images" in message and "cut.jpg" in message and "text.png" in message
    assert caught[0].filename == __file__
    everything = paths_of(data)
    with pytest.warns(UserWarning, match="images"):
        everything |= paths_of(ImageFolderTask(pets, "test"))
    assert len(everything) == 33


def test_other_files_are_passed_over_in_silence(pets):
    (pets / ".git").mkdir()
    (pets / "notes.txt").write_text("x")
    (pets / "cat" / "Thumbs.db").write_text("x")
    (pets / "cat" / ".hidden.png").write_text("x")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ImageFolderTask(pets, "train").classes == 3


def split_folder(root, **counts):
    """Given splits: ``train=dict(cat=3)`` makes root/train/cat with three images."""
    for part, classes in counts.items():
        make_folder(root / part, classes)
    return root


def test_given_splits_are_kept(tmp_path):
    root = split_folder(tmp_path, Train=dict(cat=5, dog=4), valid=dict(cat=1, dog=1), test=dict(cat=2, dog=3))
    parts = {s: ImageFolderTask(root, s) for s in ("train", "val", "trainval", "test")}
    assert {s: np.bincount(d.targets).tolist() for s, d in parts.items()} == {
        "train": [5, 4], "val": [1, 1], "trainval": [6, 5], "test": [2, 3],
    }  # fmt: skip
    for split, folder in (("train", "Train"), ("val", "valid"), ("test", "test")):
        assert {p.parent.parent.name for p, _ in parts[split].samples} == {folder}
        assert parts[split].class_names == ("cat", "dog")
    assert parts["train"].summary() == "2 classes: cat (8), dog (8); train 9, val 2, test 5"


@pytest.mark.parametrize("given, cut", [("train val", "test"), ("train test", "val"), ("train", "val and test")])
def test_a_missing_split_is_cut_from_the_training_images(tmp_path, given, cut):
    split_folder(tmp_path, **{part: dict(cat=10, dog=20) for part in given.split()})
    parts = {s: ImageFolderTask(tmp_path, s) for s in ("train", "val", "test")}
    trained, cut_from = parts["train"], len(cut.split(" and "))
    assert np.bincount(trained.targets).tolist() == [10 - 2 * cut_from, 20 - 4 * cut_from]
    for part in cut.split(" and "):
        assert {p.parent.parent.name for p, _ in parts[part].samples} == {"train"} and len(parts[part]) == 6
    assert not paths_of(trained) & (paths_of(parts["val"]) | paths_of(parts["test"]))
    assert f"({cut} cut from the training images by seed 0)" in trained.summary()


def test_what_is_only_tested_on_needs_no_training_images(tmp_path):
    data = ImageFolderTask(split_folder(tmp_path, test=dict(cat=1, dog=2)), "test")
    assert data.targets == [0, 1, 1] and data.summary() == "2 classes: cat (1), dog (2); train 0, val 0, test 3"
    for split in ("train", "val", "trainval"):
        with pytest.raises(BadDataset, match="has test, but no train: there is nothing to train on"):
            ImageFolderTask(tmp_path, split)


TWO = dict(cat=3, dog=3)
LAYOUTS = {
    "one level too high": (("pets/train/cat", "pets/train/dog", "pets/test/cat"), "is too high: .*/pets holds test, train. Give that folder"),
    "two data sets": (("a/train/cat", "a/train/dog", "b/train/cat"), "is too high: .*/a holds train"),
    "classes one level down": (("pets/cat", "pets/dog"), "1 sub-folders: .*two at least, or give .*/pets"),
    "splits inside classes": (("cat/train", "cat/test", "dog/train"), r"put the classes into the splits \(test/cat\)"),
    "no folder per class": (("train", "test"), "test, train has no folder of images for each class"),
    "a test without labels": (("train/cat", "train/dog", "test"), "test has no folder of images for each class"),
    "one split twice": (("train/cat", "train/dog", "val/cat", "val/dog", "valid/cat", "valid/dog"), "val, valid name one split"),
    "something beside": (("train/cat", "train/dog", "extra/cat"), "has train, as for splits, beside extra"),
    "nothing to train on": (("val/cat", "val/dog", "test/cat", "test/dog"), "has test and val, but no train"),
    "other classes": (("train/cat", "train/dog", "test/cat", "test/dgo"), "test lacks 'dog' and test has 'dgo', which train lacks"),
    "a class too few": (("train/cat", "train/dog", "val/cat"), "val lacks 'dog'. Every split needs the same classes"),
    "one class": (("train/cat", "test/cat"), r"has 1 classes to train on \(cat\): two at least"),
}  # fmt: skip


@pytest.mark.parametrize("folders, message", LAYOUTS.values(), ids=LAYOUTS)
def test_what_looks_like_splits_is_never_read_as_classes(tmp_path, folders, message):
    make_folder(tmp_path, dict.fromkeys(folders, 3))
    with pytest.raises(BadDataset, match=message):
        ImageFolderTask(tmp_path, "train")


def test_a_train_is_also_a_vehicle(tmp_path):
    make_folder(tmp_path, dict(bus=3, train=3))
    assert ImageFolderTask(tmp_path, "train").class_names == ("bus", "train")


def test_a_class_too_small_for_the_cut_is_named(tmp_path):
    split_folder(tmp_path, train=dict(cat=2, dog=1), val=dict(cat=1, dog=1))
    (tmp_path / "val/dog/000.png").write_text("no image")
    with pytest.warns(UserWarning, match="000.png"), pytest.raises(BadDataset) as caught:
        ImageFolderTask(tmp_path, "train")
    assert "two readable images, one each to train and test. Too few in: dog (1), dog in val (0)" in str(caught.value)


def test_few_images_a_class_are_drawn_by_seed(tmp_path):
    root = make_folder(tmp_path, {"cat": 30, "dog": 10})
    few, same, more, other = (
        ImageFolderTask(root, "train", per_class=n, draw=d) for n, d in ((2, 0), (2, 0), (5, 0), (2, 1))
    )
    assert np.bincount(few.targets).tolist() == [2, 2] and few.samples == same.samples and few.digest == same.digest
    assert paths_of(few) < paths_of(more) < paths_of(ImageFolderTask(root, "train"))
    assert paths_of(few) != paths_of(other) and few.digest != other.digest
    assert len(ImageFolderTask(root, "trainval", per_class=8)) == 16
    assert len(ImageFolderTask(root, "test", per_class=2)) == 8, "what is tested on stays whole"
    assert other.summary().endswith("; 2 a class to train on, by seed 1")
    for bad in (7, 0):
        with pytest.raises(ValueError, match=f"per_class is {bad}, and (dog has 6|cat has 18) images to train on"):
            ImageFolderTask(root, "train", per_class=bad)


def test_links_are_followed_and_circles_are_not(pets, tmp_path):
    deep = make_folder(tmp_path / "elsewhere", {"a/b": 4})
    (pets / "owl").mkdir()
    (pets / "owl" / "linked").symlink_to(deep)
    (deep / "a" / "back").symlink_to(pets / "owl")
    assert ImageFolderTask(pets, "train").counts["owl"] == 4


def test_names_that_are_no_utf8(pets):
    odd = os.fsdecode(b"gr\xfcn.png")
    try:
        Image.new("RGB", (4, 4), (1, 2, 3)).save(pets / "cat" / odd)
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    data = ImageFolderTask(pets, "trainval")
    assert data.counts["cat"] == 11 and len(data.digest) == 64
    (pets / "cat").rename(pets / os.fsdecode(b"k\xe4fer"))
    with pytest.raises(BadDataset, match=r"the folder 'k\\udce4fer' names a class, and is no UTF-8: rename it"):
        ImageFolderTask(pets, "train")
    pets.rename(pets.with_name(os.fsdecode(b"b\xfccher")))
    make_folder(pets.with_name(os.fsdecode(b"b\xfccher")) / "x", TWO)
    assert ImageFolderTask(pets.with_name(os.fsdecode(b"b\xfccher")) / "x", "train").task == "x"
    assert plain_name(pets.with_name(os.fsdecode(b"b\xfccher"))) == r"b\xfccher"


def test_the_digest_tells_other_pixels_of_the_same_names_and_sizes(tmp_path):
    """Two folders of one layout, one of them with another picture in one file of as many bytes."""
    one, other = (make_folder(tmp_path / name / "images", TWO) for name in ("anna", "ben"))
    assert ImageFolderTask(one, "train").digest == ImageFolderTask(other, "train").digest
    path = ImageFolderTask(other, "train").samples[0][0]
    raw = Image.new("RGB", (9, 7), (200, 1, 1))
    raw.save(path.with_suffix(".bmp"))
    path.with_suffix(".bmp").rename(path)
    Image.new("RGB", (9, 7), (200, 1, 2)).save(one / path.relative_to(other), format="BMP")
    assert (one / path.relative_to(other)).stat().st_size == path.stat().st_size
    assert ImageFolderTask(one, "train").digest != ImageFolderTask(other, "train").digest


def test_too_few_images_or_classes(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone is no folder"):
        ImageFolderTask(tmp_path / "gone", "train")
    make_folder(tmp_path / "one", {"a": 5})
    with pytest.raises(BadDataset, match="1 sub-folders: put the images of each class into one"):
        ImageFolderTask(tmp_path / "one", "train")
    make_folder(tmp_path / "two", {"a": 5, "b": 2, "c": 0})
    with pytest.raises(BadDataset, match=r"three readable images.*Too few in: b \(2\), c \(0\)"):
        ImageFolderTask(tmp_path / "two", "train")
    with pytest.raises(ValueError, match="no split is called 'training'"):
        ImageFolderTask(tmp_path / "two", "training")

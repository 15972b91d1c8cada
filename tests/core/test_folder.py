"""A user's own images: opened as they are meant to be seen, split evenly, and every fault named."""

import struct
import warnings

import numpy as np
import pytest
from PIL import Image

from dtl_book.check.images import inspect
from dtl_core.data import ImageFolderTask, open_rgb
from dtl_core.data.lists import BadDataset
from dtl_core.data.transforms import UnreadableImage

RED, WHITE = (255, 0, 0), (255, 255, 255)


def near(pixel, expected, tolerance=3):
    return all(abs(a - b) <= tolerance for a, b in zip(pixel, expected, strict=True))


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


class TestOddImages:
    def opened(self, tmp_path, image, name="x.png", **options):
        image.save(tmp_path / name, **options)
        out = open_rgb(tmp_path / name)
        assert out.mode == "RGB"
        return out

    def test_cmyk(self, tmp_path):
        out = self.opened(tmp_path, left_right().convert("CMYK"), "x.jpg", quality=100, subsampling=0)
        assert near(out.getpixel((3, 5)), RED, 12) and near(out.getpixel((16, 5)), WHITE, 12)

    @pytest.mark.parametrize("name", ["x.png", "x.gif"])
    def test_palette_with_transparency(self, tmp_path, name):
        image = Image.new("P", (20, 10), 1)
        image.putpalette([255, 0, 0, 0, 0, 255])
        image.paste(0, (0, 0, 10, 10))
        out = self.opened(tmp_path, image, name, transparency=1)
        assert out.getpixel((3, 5)) == RED and out.getpixel((16, 5)) == WHITE

    def test_palette_without_transparency(self, tmp_path):
        image = Image.new("P", (20, 10), 1)
        image.putpalette([255, 0, 0, 0, 0, 255])
        assert self.opened(tmp_path, image).getpixel((16, 5)) == (0, 0, 255)

    def test_alpha_is_laid_on_white(self, tmp_path):
        out = self.opened(tmp_path, left_right("RGBA", (255, 0, 0, 255), (0, 0, 0, 0)))
        assert out.getpixel((3, 5)) == RED and out.getpixel((16, 5)) == WHITE
        half = self.opened(tmp_path, Image.new("RGBA", (4, 4), (0, 0, 0, 128)))
        assert near(half.getpixel((1, 1)), (127, 127, 127))

    def test_grey_with_alpha(self, tmp_path):
        out = self.opened(tmp_path, left_right("LA", (0, 255), (0, 0)))
        assert out.getpixel((3, 5)) == (0, 0, 0) and out.getpixel((16, 5)) == WHITE

    def test_transparent_colour_of_rgb(self, tmp_path):
        out = self.opened(tmp_path, left_right("RGB", RED, (0, 255, 0)), transparency=(0, 255, 0))
        assert out.getpixel((3, 5)) == RED and out.getpixel((16, 5)) == WHITE

    @pytest.mark.parametrize("name", ["x.png", "x.tif"])
    def test_16_bit_grey_is_scaled_not_clipped(self, tmp_path, name):
        ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, axis=0)
        out = np.asarray(self.opened(tmp_path, Image.fromarray(ramp), name))
        assert np.abs(out[0, :, 0].astype(int) - np.arange(256)).max() <= 1

    def test_dark_16_bit_grey_keeps_its_level(self, tmp_path):
        dark = Image.fromarray(np.full((4, 4), 6553, np.uint16))
        assert self.opened(tmp_path, dark).getpixel((0, 0)) == (25, 25, 25)

    def test_floating_grey_goes_from_its_least_to_its_most(self, tmp_path):
        values = np.array([[-2.0, 0.0, 2.0]], np.float32)
        out = np.asarray(self.opened(tmp_path, Image.fromarray(values), "x.tif"))
        assert out[0, :, 1].tolist() == [0, 128, 255]

    def test_floating_grey_that_is_not_a_number_is_no_picture(self, tmp_path):
        Image.fromarray(np.array([[np.nan, 1.0]], np.float32)).save(tmp_path / "nan.tif")
        with pytest.raises(UnreadableImage, match="nan.tif.*not finite"):
            open_rgb(tmp_path / "nan.tif")

    def test_bilevel(self, tmp_path):
        assert self.opened(tmp_path, left_right("1", 0, 1)).getpixel((16, 5)) == WHITE

    def test_exif_rotation_is_applied(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6  # turn a quarter clockwise to see it upright
        out = self.opened(tmp_path, left_right(), "x.jpg", exif=exif, quality=100, subsampling=0)
        assert out.size == (10, 20)
        assert near(out.getpixel((5, 3)), RED, 12) and near(out.getpixel((5, 16)), WHITE, 12)

    def test_a_malformed_tag_of_a_turned_photograph_is_named(self, tmp_path):
        turned_with_bad_tag(tmp_path / "turned.jpg")
        with pytest.raises(UnreadableImage, match=r"turned.jpg cannot be opened .* malformed EXIF data \(TypeError"):
            open_rgb(tmp_path / "turned.jpg")
        assert inspect(str(tmp_path / "turned.jpg")).problem == "unreadable_image"
        left_right().save(tmp_path / "plain.png")
        assert open_rgb(tmp_path / "plain.png").size == (20, 10)

    def test_missing_and_broken_files_are_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="gone.png: no such image"):
            open_rgb(tmp_path / "gone.png")
        (tmp_path / "text.jpg").write_text("no image")
        with pytest.raises(UnreadableImage, match="text.jpg cannot be read as an image"):
            open_rgb(tmp_path / "text.jpg")
        with pytest.raises(UnreadableImage, match="cannot be read"):
            open_rgb(tmp_path)


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

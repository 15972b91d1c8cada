"""The VTAB-1K reader on the built and the official layout, and on everything that can be wrong with a folder."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from dtl_core.data import VTAB1k, eval_transform
from dtl_core.data.lists import BadDataset
from dtl_core.data.vtab import SPLITS, official_tasks


def make_task(folder, entries, splits=SPLITS):
    """Writes images for (name, label) entries, and the same list under every split's name."""
    for name, label in entries:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (10 * label, 0, 0)).save(path)
    for split in splits:
        (folder / SPLITS[split]).write_text("".join(f"{name} {label}\n" for name, label in entries))


@pytest.fixture
def root(tmp_path):
    make_task(tmp_path / "vtab-1k" / "mine", [(f"images/{i}.png", i % 3) for i in range(6)])
    return tmp_path / "vtab-1k"


def test_reads_images_and_labels(root):
    data = VTAB1k(root, "mine", "train800")
    assert (len(data), data.task, data.split, data.classes) == (6, "mine", "train800", 3)
    assert data.class_names == ("0", "1", "2") and data.targets == [0, 1, 2, 0, 1, 2]
    assert data.samples[1] == (root / "mine/images/1.png", 1)
    image, label = data[4]
    assert label == 1 and image.mode == "RGB" and image.getpixel((0, 0)) == (10, 0, 0)


def test_transform_gives_normalised_tensors(root):
    data = VTAB1k(root, "mine", "test", eval_transform((14, 28), (0.5, 0.25, 0.5), (0.5, 0.25, 0.5)))
    tensor, label = data[2]
    assert tensor.shape == (3, 14, 28) and str(tensor.dtype) == "torch.float32" and data.transform.deterministic
    assert tensor[0].numpy() == pytest.approx((20 / 255 - 0.5) / 0.5, abs=1e-5)
    assert tensor[1].numpy() == pytest.approx(-1, abs=1e-5)
    assert label == 2


@pytest.mark.parametrize("name", sorted({r[k] for r in official_tasks().values() for k in ("folder", "script_name")}))
def test_official_tasks_by_either_name(tmp_path, name):
    assert len({row["folder"] for row in official_tasks().values()}) == 19
    row = official_tasks()[name]
    top = int(row["classes"]) - 1
    make_task(tmp_path / row["folder"], [("images/test/0.jpg", 0), ("images/test/1.jpg", top)], ["test"])
    data = VTAB1k(tmp_path, name, "test")
    assert data.task == row["folder"] and data.classes == top + 1 == len(data.class_names)


def test_paths_may_hold_spaces_and_lines_may_end_as_on_windows(tmp_path):
    make_task(tmp_path / "t", [("my images/a b 7.png", 1), ("c.png", 0)])
    (tmp_path / "t" / "val200.txt").write_bytes(b"my images/a b 7.png 1\r\nc.png 0\r\n\r\n")
    data = VTAB1k(tmp_path, "t", "val200")
    assert data.samples[0] == (tmp_path / "t/my images/a b 7.png", 1) and len(data) == 2


def test_class_count_comes_from_all_lists_unless_classes_txt_says(root):
    (root / "mine/train800.txt").write_text("images/0.png 0\n")
    assert VTAB1k(root, "mine", "train800").classes == 3
    (root / "mine/classes.txt").write_text("cat\ndog\nhen with a hat\nowl\n")
    assert VTAB1k(root, "mine", "train800").class_names == ("cat", "dog", "hen with a hat", "owl")


def test_digest_follows_list_task_and_split(root):
    digest = VTAB1k(root, "mine", "train800").digest
    text = (root / "mine/train800.txt").read_text()
    assert digest == hashlib.sha256(f"mine\ntrain800\n{text}".encode()).hexdigest()
    assert digest != VTAB1k(root, "mine", "val200").digest
    (root / "mine/train800.txt").write_text(text.replace("images/0.png 0", "images/0.png 1"))
    assert digest != VTAB1k(root, "mine", "train800").digest


def test_unreadable_image_is_named_when_read(root):
    list(VTAB1k(root, "mine", "test"))
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "mine/images/1.png")
    whole = (root / "mine/images/1.png").read_bytes()
    (root / "mine/images/1.png").write_bytes(whole[: len(whole) // 2])
    (root / "mine/images/5.png").write_text("no image")
    data = VTAB1k(root, "mine", "test")
    for i in (1, 5):
        with pytest.raises(ValueError, match=rf"images/{i}.png cannot be read as an image"):
            data[i]


@pytest.mark.parametrize(
    "task, split, spoil, error, message",
    [
        ("cifar_100", "test", {}, FileNotFoundError, "no folder for the task 'cifar_100'; it has mine"),
        ("mine", "train", {}, ValueError, "no split is called 'train': choose one of train800"),
        ("mine", "val200", {"val200.txt": None}, FileNotFoundError, "val200.txt is missing; the folder has test.txt, train"),
        ("mine", "test", {"images/3.png": None}, FileNotFoundError, r"test.txt, line 4: .*3.png is missing \(1 of 6"),
        ("mine", "test", {"test.txt": "\n"}, BadDataset, "test.txt is empty"),
        *(("mine", "test", {"test.txt": f"images/0.png 0\nimages/1.png {label}\n", "classes.txt": "a\nb\nc\n"}, BadDataset,
           f"test.txt, line 2: label {label} is out of range, mine has 3 classes") for label in ("7", "-1")),
        *(("mine", "test", {"test.txt": f"images/0.png 0\n{line}\n"}, BadDataset, "line 2: expected '<relative path> <label>'")
          for line in ("images/1.png", "images/1.png one", "images/1.png 1.0", "5")),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(root, task, split, spoil, error, message):
    for name, text in spoil.items():
        if text is None:
            (root / "mine" / name).unlink()
        else:
            (root / "mine" / name).write_text(text)
    with pytest.raises(error, match=message):
        VTAB1k(root, task, split)
    with pytest.raises(FileNotFoundError, match="nowhere is no folder.*dtl data build"):
        VTAB1k(root / "nowhere", task, "test")

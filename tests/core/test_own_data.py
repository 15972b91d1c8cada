"""Images of one's own by one word: a table, torchvision's sets on small stand-ins of their files, and lists from Windows."""

import functools
import hashlib
import http.server
import json
import pickle
import tarfile
import threading
import time

import numpy as np
import pytest
import scipy.io
import torch
import torchvision
from PIL import Image

from dtl_core import DTL
from dtl_core.data import CsvTask, VTAB1k, eval_transform, open_images, parse_spec, torchvision_sets
from dtl_core.data.lists import BadDataset
from dtl_core.data.torchvision_sets import SETS
from dtl_core.training import PrefixCache


def picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def birds(tmp_path):
    """Twelve pictures in images/, and the rows that name them: two labels."""
    for i in range(12):
        picture(tmp_path / f"images/{i}.png", i)
    return tmp_path


def table(folder, rows, head="path,label", encoding="utf-8", name="birds.csv"):
    (folder / name).write_bytes("\n".join([head, *rows, ""]).encode(encoding))
    return folder / name


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("windows", [False, True])
def test_a_table_of_paths_and_labels(birds, mark, windows):
    rows = [[f"images/{i}.png", "wren" if i % 2 else 'a "crow", grey'] for i in range(12)]
    if windows:
        rows = [[path.replace("/", "\\"), label] for path, label in rows]
    quoted = [f'x{mark}{path}{mark}"{label.replace(chr(34), chr(34) * 2)}"' for path, label in rows]
    file = table(birds, quoted, mark.join(("id", "Path", " LABEL ")), "utf-8-sig" if windows else "utf-8")
    if windows:
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    data = CsvTask(file, "trainval")
    assert data.class_names == ('a "crow", grey', "wren") and data.task == "birds"
    assert all(int(path.stem) % 2 == label for path, label in data.samples)
    assert data.summary().endswith("train 8, val 2, test 2 (val and test cut from the training images by seed 0)")
    assert data.digest == CsvTask(file, "trainval").digest != CsvTask(file, "test").digest


def test_a_table_with_splits(birds):
    split = ["train", "Train", "train", "train", "train", "train", "valid", "validation", "test", "test", "val", "test"]
    file = table(birds, [f"{row},{part}" for row, part in zip(table_rows(), split, strict=True)], "path,label,split")
    numbers = {
        s: sorted(int(p.stem) for p, _ in CsvTask(file, s).samples) for s in ("train", "val", "trainval", "test")
    }
    assert numbers == {"train": [0, 1, 2, 3, 4, 5], "val": [6, 7, 10], "test": [8, 9, 11], "trainval": [*range(8), 10]}
    absolute = [f"{birds / 'images'}/{i}.png,{i % 2}" for i in range(12)]
    assert len(CsvTask(table(birds / "images", absolute), "trainval")) == 10, "and a path may be absolute"


def table_rows():
    return [f"images/{i}.png,{i % 2}" for i in range(12)]


TABLES = {
    "no header": ("images/1.png,wren", [], "first line is 'images/1.png,wren', and should name the columns path,label"),
    "gone": ("path,label", ["images/1.png,a", "images/99.png,b", "images/98.png,b"], r"line 3: .*99.png is missing \(2 of 3"),
    "no label": ("path,label", ["images/1.png,a", "images/2.png,"], "line 3: expected 2 cells with a path and a label"),
    "one cell": ("path,label", ["images/1.png"], "line 2: expected 2 cells"),
    "too many cells": ("path,label", ["images/1.png,a,b"], "line 2: expected 2 cells"),
    "odd split": ("path,label,split", ["images/1.png,a,tset"], "line 2: the split is 'tset': write train, val or test"),
    "no split": ("path,label,split", ["images/1.png,a"], "line 2: the split is ''"),
    "two labels": ("path,label", ["images/1.png,a", "images/1.png,b"], r"line 3: images/1.png is b \(train\), and in line 2 a \(train\)"),
    "two splits": ("path,label,split", ["images/1.png,a,train", "images/1.png,a,test"], r"is a \(test\), and in line 2 a \(train\)"),
    "one class": ("path,label", ["images/1.png,a", "images/2.png,a"], r"1 classes to train on \(a\)"),
    "no rows": ("path,label", [], "names no image below its first line"),
    "another class": ("path,label,split", ["images/1.png,a,train", "images/2.png,b,train", "images/3.png,c,test"], "test lacks 'a', 'b' and test has 'c'"),
    "a long cell": ("path,label", ['"' + "x" * 200_000], "line 2: field larger than field limit.*quotation mark"),
}  # fmt: skip


@pytest.mark.parametrize("head, rows, message", TABLES.values(), ids=TABLES)
def test_a_bad_row_is_named(birds, head, rows, message):
    with pytest.raises((BadDataset, FileNotFoundError), match=message):
        CsvTask(table(birds, rows, head), "train")


def test_a_table_in_another_encoding_is_named(birds):
    file = table(birds, [*table_rows(), "images/grün.png,1"], encoding="latin-1")
    with pytest.raises(BadDataset, match="birds.csv, line 14: this is no UTF-8.*save the file again as UTF-8"):
        CsvTask(file, "train")
    with pytest.raises(FileNotFoundError, match="no.csv is no file: give a CSV file with the columns path,label"):
        CsvTask(birds / "no.csv", "train")


def test_unreadable_images_of_a_table_are_left_out(birds):
    (birds / "images/3.png").write_text("no image")
    with pytest.warns(UserWarning, match=r"(?s)1 of 12 images .*birds.csv .*3.png"):
        data = CsvTask(table(birds, table_rows()), "trainval")
    assert data.counts == {"0": 6, "1": 5}


@pytest.mark.parametrize("word, message", [
    ("images", "'images' names no images: write folder:PATH"), ("folder:", "write folder:PATH"), ("zip:x", "csv:FILE"),
    (r"C:\images", "torchvision:NAME"), ("torchvision:ImageNet", "choose one of CIFAR10, CIFAR100, Caltech101"),
])  # fmt: skip
def test_a_bad_word_says_what_to_write(word, message):
    with pytest.raises(ValueError, match=message):
        open_images(word, "train")


def test_names_of_what_is_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse_spec("folder:.") == ("folder", ".", tmp_path.name)
    assert (
        parse_spec("csv:lists/my birds.v2.csv")[2] == "my birds.v2"
        and parse_spec("torchvision:cifar10")[2] == "CIFAR10"
    )


# the files of torchvision's sets, made small


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def cifar(root, kind, monkeypatch):
    """The pickles of CIFAR with six images each, and their MD5 in the place of the published ones."""
    home, fine = root / kind.base_folder, "100" in kind.__name__
    home.mkdir(parents=True)
    names = [[file for file, _ in lists] for lists in (kind.train_list, kind.test_list)]
    for number, file in enumerate(sum(names, [])):
        pixels = np.random.default_rng(number).integers(0, 255, (12, 3072), dtype=np.uint8)
        labels = {"fine_labels" if fine else "labels": [i % 3 for i in range(12)]}
        (home / file).write_bytes(pickle.dumps({"data": pixels, **labels}))
    (home / kind.meta["filename"]).write_bytes(pickle.dumps({kind.meta["key"]: ["apple", "bee", "cup"]}))
    for name, files in zip(("train_list", "test_list"), names, strict=True):
        monkeypatch.setattr(kind, name, [[file, md5(home / file)] for file in files])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5(home / kind.meta["filename"])})


def svhn(root, kind, monkeypatch):
    root.mkdir(parents=True)
    lists = {}
    for split in ("train", "test"):
        pixels = np.random.default_rng(len(split)).integers(0, 255, (32, 32, 3, 40), dtype=np.uint8)
        file = root / f"{split}_32x32.mat"
        scipy.io.savemat(file, {"X": pixels, "y": np.arange(40)[:, None] % 10 + 1})  # 10 stands for the digit 0
        lists[split] = [kind.split_list[split][0], file.name, md5(file)]
    monkeypatch.setattr(kind, "split_list", {**kind.split_list, **lists})


def flowers(root, kind, monkeypatch):
    home = root / "flowers-102"
    for i in range(1, 613):
        if i == 1:
            picture(home / "jpg/image_00001.jpg")
        else:
            (home / f"jpg/image_{i:05d}.jpg").hardlink_to(home / "jpg/image_00001.jpg")
    ids = np.arange(1, 613)
    scipy.io.savemat(home / "imagelabels.mat", {"labels": (ids - 1) % 102 + 1})
    scipy.io.savemat(home / "setid.mat", {"trnid": ids[:102], "valid": ids[102:204], "tstid": ids[204:]})
    files = {
        key: (name, md5(home / name) if name.endswith("mat") else old) for key, (name, old) in kind._file_dict.items()
    }
    monkeypatch.setattr(kind, "_file_dict", files)


def pet(root, *_):
    home = root / "oxford-iiit-pet"
    (home / "annotations").mkdir(parents=True)
    for split in ("trainval", "test"):
        lines = []
        for i in range(12):
            breed = ("Abyssinian", "great_pyrenees")[i % 2]
            name = f"{breed}_{i + 100 * (split == 'test')}"
            picture(home / f"images/{name}.jpg", i)
            lines.append(f"{name} {i % 2 + 1} {i % 2 + 1} 1\n")
        (home / f"annotations/{split}.txt").write_text("".join(lines))


def dtd(root, *_):
    home = root / "dtd/dtd"
    (home / "labels").mkdir(parents=True)
    for split in ("train", "val", "test"):
        names = [f"{kind}/{kind}_{split}{i}.jpg" for kind in ("banded", "zigzagged") for i in range(2)]
        (home / f"labels/{split}1.txt").write_text("\n".join(names) + "\n")
        for i, name in enumerate(names):
            picture(home / "images" / name, i)


def food(root, *_):
    home = root / "food-101"
    for split, count in (("train", 6), ("test", 2)):
        names = {dish: [f"{dish}/{split}{i}" for i in range(count)] for dish in ("waffles", "apple_pie")}
        for name in sum(names.values(), []):
            picture(home / f"images/{name}.jpg")
        (home / "meta").mkdir(exist_ok=True)
        (home / f"meta/{split}.json").write_text(json.dumps(names))


def aircraft(root, *_):
    home = root / "fgvc-aircraft-2013b/data"
    home.mkdir(parents=True)
    (home / "variants.txt").write_text("707-320\nCessna 172\n")
    for number, split in enumerate(("train", "val", "test")):
        lines = [f"{1000 * number + i:07d} {('707-320', 'Cessna 172')[i % 2]}\n" for i in range(4)]
        (home / f"images_variant_{split}.txt").write_text("".join(lines))
        for line in lines:
            picture(home / f"images/{line[:7]}.jpg")


def cars(root, *_):
    home = root / "stanford_cars"
    (home / "devkit").mkdir(parents=True)
    scipy.io.savemat(home / "devkit/cars_meta.mat", {"class_names": np.array(["Audi S5", "Fiat 500"], object)})
    for split, file in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        rows = np.array([(i % 2 + 1, f"{i:05d}.jpg") for i in range(6)], [("class", "O"), ("fname", "O")])
        scipy.io.savemat(home / file, {"annotations": rows})
        for i in range(6):
            picture(home / f"cars_{split}/{i:05d}.jpg", i)


def caltech(root, *_):
    for name in ("BACKGROUND_Google", "Faces", "anchor"):
        for i in range(1, 11):
            picture(root / f"caltech101/101_ObjectCategories/{name}/image_{i:04d}.jpg", i)


def eurosat(root, *_):
    for name in ("Forest", "River"):
        for i in range(10):
            picture(root / f"eurosat/2750/{name}/{name}_{i}.jpg", i)


MADE = {  # how, and the images in train, val and test; how many classes, and the first
    "CIFAR10": (cifar, (48, 12, 12), 3, "apple"), "CIFAR100": (cifar, (9, 3, 12), 3, "apple"), "SVHN": (svhn, (30, 10, 40), 10, "0"),
    "Flowers102": (flowers, (102, 102, 408), 102, None), "OxfordIIITPet": (pet, (10, 2, 12), 2, "Abyssinian"),
    "DTD": (dtd, (4, 4, 4), 2, "banded"), "Food101": (food, (10, 2, 4), 2, "apple_pie"),
    "FGVCAircraft": (aircraft, (4, 4, 4), 2, "707-320"), "StanfordCars": (cars, (4, 2, 6), 2, "Audi S5"),
    "Caltech101": (caltech, (12, 4, 4), 2, "Faces"), "EuroSAT": (eurosat, (12, 4, 4), 2, "Forest"),
}  # fmt: skip


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """Where torchvision's sets lie; no set of another test is held in memory."""
    monkeypatch.setenv("DTL_DATA", str(tmp_path / "data"))
    torchvision_sets._parts_of.cache_clear()
    yield tmp_path / "data" / "torchvision"
    torchvision_sets._parts_of.cache_clear()


def lay(shelf, name, monkeypatch):
    MADE[name][0](shelf, getattr(torchvision.datasets, name), monkeypatch)


def no_download(*_, **__):
    raise AssertionError("the set is there: nothing is to be downloaded")


@pytest.mark.parametrize("name", SETS)
def test_a_set_of_torchvision(shelf, monkeypatch, name):
    _, sizes, classes, first = MADE[name]
    lay(shelf, name, monkeypatch)
    monkeypatch.setattr(torchvision_sets, "_download", no_download)
    look = eval_transform(8, (0.5,) * 3, (0.5,) * 3)
    parts = {s: open_images(f"torchvision:{name.lower()}", s, look) for s in ("train", "val", "test")}
    assert tuple(map(len, parts.values())) == sizes
    train = parts["train"]
    assert (train.task, train.classes, train.split) == (name, classes, "train") and len(train.class_names) == classes
    assert first in (None, train.class_names[0]) and set(train.targets) == set(range(classes))
    assert len({data.digest for data in parts.values()}) == 3
    given = SETS[name]
    cut = [part for part in ("val", "test") if part not in given]
    assert (f"({' and '.join(cut)} cut from" in train.summary()) == bool(cut)
    official = torchvision.datasets.__dict__[name](str(shelf), **given["test" if "test" in given else "train"])
    for number in (0, -1):
        image, label = parts["test"][number]
        assert image.shape == (3, 8, 8) and 0 <= label < classes
        whole = [look(image.convert("RGB")) for image, y in official if y == label] if name != "Flowers102" else [image]
        assert any(torch.equal(image, other) for other in whole), "the pixels and the label are torchvision's own"
    assert hasattr(train, "samples") == (name not in ("CIFAR10", "CIFAR100", "SVHN"))
    assert all(path.is_file() for path, _ in getattr(train, "samples", ()))
    few = open_images(f"torchvision:{name}", "trainval", per_class=2, seed=3)
    assert np.bincount(few.targets).tolist() == [2] * classes


def test_pixels_in_memory_can_be_stored_as_features(shelf, monkeypatch, tmp_path):
    lay(shelf, "CIFAR10", monkeypatch)
    model = DTL("toy/vit", 3)
    look = eval_transform(model.info.image_size, model.info.mean, model.info.std)
    draws = [open_images("torchvision:CIFAR10", "train", look, per_class=2, seed=s) for s in (0, 1)]
    stored = [PrefixCache(model, data, root=tmp_path / "prefix", progress=False) for data in draws]
    assert stored[0].path != stored[1].path and stored[0].labels.tolist() == draws[0].targets


@pytest.mark.parametrize("name", ["CIFAR10", "DTD", "SVHN", "Flowers102"])
def test_without_a_network_a_sentence_says_what_to_do_at_once(shelf, monkeypatch, name):
    kind, closed = getattr(torchvision.datasets, name), "http://127.0.0.1:9/x.tar.gz"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    changes = {"url": closed, "_URL": closed, "_download_url_prefix": closed[:-8]}
    for attribute in changes.keys() & vars(kind).keys() | ({"url"} if name == "CIFAR10" else set()):
        monkeypatch.setattr(kind, attribute, changes[attribute])
    if name == "SVHN":
        monkeypatch.setattr(kind, "split_list", {s: [closed, *rest] for s, (_, *rest) in kind.split_list.items()})
    start = time.monotonic()
    with pytest.raises(
        FileNotFoundError,
        match=f"(?s)torchvision:{name} is not in .*could not be downloaded.*run this with a network, or lay",
    ):
        open_images(f"torchvision:{name}", "train")
    assert time.monotonic() - start < 10 and not list(shelf.glob(".*.part"))


def test_half_a_set_that_torchvision_takes_for_a_whole_one_is_named(shelf):
    dtd(shelf)
    (shelf / "dtd/dtd/images/banded/banded_val1.jpg").unlink()
    with pytest.raises(
        BadDataset, match=r"banded_val1.jpg is missing \(1 of 4 images are\): remove the folder of the set"
    ):
        open_images("torchvision:DTD", "train")


def test_a_set_that_nobody_can_download_says_so(shelf):
    with pytest.raises(FileNotFoundError, match="can no longer download StanfordCars: lay stanford_cars/ with devkit/"):
        open_images("torchvision:StanfordCars", "train")


class Quiet(http.server.SimpleHTTPRequestHandler):
    asked = 0

    def log_message(self, *_):
        type(self).asked += 1


def test_a_set_is_downloaded_once_and_whole(shelf, monkeypatch, tmp_path, capsys):
    dtd(tmp_path / "made")
    with tarfile.open(tmp_path / "dtd.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "made/dtd/dtd", "dtd")
    (shelf / "dtd/dtd/images").mkdir(parents=True)  # half of it: torchvision sees a whole set
    (shelf / ".DTD.part/dtd").mkdir(parents=True)  # of a run that was killed
    eurosat(shelf)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(torchvision.datasets.DTD, "_URL", f"http://127.0.0.1:{server.server_port}/dtd.tar.gz")
    monkeypatch.setattr(torchvision.datasets.DTD, "_MD5", md5(tmp_path / "dtd.tar.gz"))
    try:
        assert len(open_images("torchvision:DTD", "test")) == 4
        asked = Quiet.asked
        torchvision_sets._parts_of.cache_clear()
        assert len(open_images("torchvision:DTD", "train")) == 4 and Quiet.asked == asked > 0
    finally:
        server.shutdown()
    assert "torchvision:DTD is not in" in capsys.readouterr().out and not list(shelf.glob(".*.part"))
    assert len(open_images("torchvision:EuroSAT", "test")) == 4, "what lies beside it stays"


# lists in the layout of VTAB-1K, of a task of one's own


@pytest.fixture
def task(tmp_path):
    for i in range(4):
        picture(tmp_path / "vtab-1k/mine/images" / f"{i}.png", i)
    write_lists(tmp_path / "vtab-1k/mine", [f"images/{i}.png {i % 2}" for i in range(4)])
    return tmp_path / "vtab-1k/mine"


def write_lists(folder, lines, encoding="utf-8", end="\n"):
    for name in ("train800", "val200", "train800val200", "test"):
        (folder / f"{name}.txt").write_bytes(end.join([*lines, ""]).encode(encoding))


def test_lists_made_on_windows(task):
    plain = VTAB1k(task.parent, "mine", "test")
    write_lists(task, [f"images\\{i}.png {i % 2}" for i in range(4)], "utf-8-sig", "\r\n")
    (task / "classes.txt").write_bytes("\ufeffKatze\r\nKäfer\r\n\r\n".encode())
    data = VTAB1k(task.parent, "mine", "test")
    assert data.samples == plain.samples and data.class_names == ("Katze", "Käfer")


LISTS = {
    "label of another size": (["images/0.png 0", "images/1.png 4000000"], "utf-8", "labels of its lists go up to 4000000, and no image has 1:"),
    "labels from 1": (["images/0.png 1", "images/1.png 2"], "utf-8", "go up to 2, and no image has 0: number the classes from 0"),
    "outside": (["images/0.png 0", "images/../../x.png 0"], "utf-8", r"test.txt, line 2: images/../../x.png leads out of the folder"),
    "outside, on windows": (["..\\x.png 0"], "utf-8", "line 1: ../x.png leads out of the folder"),
    "latin-1": (["images/0.png 0", "images/grün.png 0"], "latin-1", "test.txt, line 2: this is no UTF-8"),
    "raised": (["images/0.png ²"], "utf-8", "line 1: expected '<relative path> <label>'"),
    "minus minus": (["images/0.png --1"], "utf-8", "line 1: expected '<relative path> <label>'"),
}  # fmt: skip


@pytest.mark.parametrize("lines, encoding, message", LISTS.values(), ids=LISTS)
def test_what_is_wrong_with_a_list_is_named(task, lines, encoding, message):
    write_lists(task, lines, encoding)
    start = time.monotonic()
    with pytest.raises(BadDataset, match=message):
        VTAB1k(task.parent, "mine", "test")
    assert time.monotonic() - start < 2


def test_a_path_may_go_up_and_come_back(task):
    write_lists(task, ["images/../images/0.png 0", "images/1.png 1"])
    assert len(VTAB1k(task.parent, "mine", "test")) == 2

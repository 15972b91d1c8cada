"""The few-shot reader on folders of the official shape, and on what can be wrong with them."""

import hashlib

import official
import pytest

from dtl_core.data import FewShot, eval_transform
from dtl_core.data.fewshot import SETS, SHOTS, official_set


@pytest.fixture(scope="module", params=[False, True], ids=["authors", "noah"])
def root(request, tmp_path_factory):
    return official.few_shot(tmp_path_factory.mktemp("FGFS"), noah=request.param)


@pytest.fixture
def own(tmp_path):
    """A set of one's own, writable: two classes, one image each."""
    for label, name in enumerate(("a b.jpg", "c.jpg")):
        official.picture(tmp_path / "mine" / name, label, label)
    lists = tmp_path / "mine/annotations"
    lists.mkdir()
    for name in ("train_meta.list.num_shot_1.seed_0", "val_meta.list", "test_meta.list"):
        (lists / name).write_text("a b.jpg 0\nc.jpg 1\n")
    return tmp_path


@pytest.mark.parametrize("task", SETS)
def test_every_list_of_every_set(root, task):
    for seed in (0, 1, 2):
        for shots in SHOTS:
            data = FewShot(root, task, "train", shots=shots, seed=seed)
            assert len(data) == 3 * shots * (2 if task == "oxford-pets" and shots == 1 else 1)
            assert data.classes == SETS[task][0] == len(data.class_names) and set(data.targets) == {0, 1, 2}
            assert all(path.is_file() for path, _ in data.samples)
    splits = {split: FewShot(root, task, split) for split in ("train", "val", "test")}
    assert len(splits["val"]) == len(splits["test"]) == 6
    paths = [path for data in splits.values() for path, _ in data.samples]
    assert len(set(paths)) == len(paths) == 60
    for data in splits.values():
        list(data)
        assert data.task == task


def test_an_image_is_that_of_its_line(root):
    data = FewShot(root, "food101", "test", eval_transform(8, (0.5,) * 3, (0.5,) * 3))
    path, label = data.samples[-1]
    assert path.parent.name == "club sandwich 2" and label == 2 == data.targets[-1]
    tensor, same = data[5]
    low = [67 * 2 % 190, 131 * 2 % 190, 29 * 2 % 190]  # the label's own colour, with at most 60 added
    levels = (tensor * 0.5 + 0.5).mean(dim=(1, 2)) * 255
    assert same == 2 and all(a < level < a + 60 for a, level in zip(low, levels.tolist(), strict=True))


def test_pets_hold_every_image_twice_at_one_shot(root):
    data = FewShot(root, "oxford-pets", "train", shots=1)
    assert data.samples[::2] == data.samples[1::2] and len(set(data.samples)) == 3


@pytest.mark.parametrize("name", [n for key, (_, others) in SETS.items() for n in (key, f"{key}-FS", *others)])
def test_sets_by_any_of_their_names(root, name):
    data = FewShot(root, name, "val")
    assert data.task == official_set(name) in SETS
    assert data.digest == FewShot(root, data.task, "val").digest


def test_digest_follows_set_and_list(root):
    one, other = (FewShot(root, "food101", "train", shots=4, seed=seed) for seed in (0, 1))
    name = "train_meta.list.num_shot_4.seed_0"
    assert one.digest == hashlib.sha256(f"food101\n{name}\n{one.list_path.read_text()}".encode()).hexdigest()
    assert len({one.digest, other.digest, FewShot(root, "food101", "val").digest}) == 3


def test_a_set_of_ones_own_counts_its_labels_or_reads_their_names(own):
    assert FewShot(own, "mine", "test").class_names == ("0", "1")
    (own / "mine/annotations/val_meta.list").write_text("c.jpg 2\n")
    assert FewShot(own, "mine", "test").classes == 3
    (own / "mine/classes.txt").write_text("cat\ndog\n")
    data = FewShot(own, "mine", "train", shots=1)
    assert data.class_names == ("cat", "dog")
    assert repr(data) == f"FewShot(mine, train, 1 shots, seed 0: 2 images, 2 classes, {own})"


def test_missing_root_set_and_list_say_what_there_is(own, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is no folder.*dtl data build"):
        FewShot(tmp_path / "nowhere", "mine", "test")
    with pytest.raises(FileNotFoundError, match="no folder for the set 'oxford_pets' with annotations/.*it has mine"):
        FewShot(own, "oxford_pets", "test")
    with pytest.raises(
        FileNotFoundError, match="num_shot_2.seed_0 is missing; the folder has test_meta.list, train_meta"
    ):
        FewShot(own, "mine", "train", shots=2)
    with pytest.raises(ValueError, match="no split is called 'train800': choose one of train, val, test"):
        FewShot(own, "mine", "train800")


def test_missing_images_are_named_where_most_of_them_lie(own):
    (own / "mine/images").mkdir()
    (own / "mine/c.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"val_meta.list, line 2: .*mine/c.jpg is missing \(1 of 2"):
        FewShot(own, "mine", "val")

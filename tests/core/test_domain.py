"""The domain reader on folders of the official shape, and on what can be wrong with them."""

import official
import pytest

from dtl_core.data import DomainShift
from dtl_core.data.domain import OFFICIAL, VAL_LIST, official_domain
from dtl_core.data.lists import BadDataset

TARGETS = tuple(official.TARGET_PATHS)


@pytest.fixture(scope="module", params=[False, True], ids=["authors", "noah"])
def root(request, tmp_path_factory):
    return official.domains(tmp_path_factory.mktemp("DG"), noah=request.param)


@pytest.fixture
def spoilt(tmp_path):
    return official.domains(tmp_path)


def test_source(root):
    splits = [DomainShift(root, "imagenet", "train", seed=seed) for seed in (0, 1, 2)]
    splits += [DomainShift(root, "imagenet", split) for split in ("val", "test")]
    assert [len(data) for data in splits] == [48, 48, 48, 6, 6]
    for data in splits:
        list(data)
        assert data.classes == 1000 == len(data.class_names) and data.present_classes == official.LABELS
    assert len({data.digest for data in splits}) == 5
    train, val, test = ({path for path, _ in splits[i].samples} for i in (0, 3, 4))
    assert not train & val and not (train | val) & test
    assert {path.parents[1].name for path in train | val} == {"train"} and {path.parent.name for path in test} == {
        "val"
    }


@pytest.mark.parametrize("domain", TARGETS)
def test_targets(root, domain):
    data = DomainShift(root, domain, "test")
    list(data)
    assert (len(data), data.task, data.classes, data.list_path.name) == (4, domain, 1000, "val_meta.list")
    assert data.present_classes == (736, 999) == tuple(sorted(set(data.targets)))
    image, label = data[3]
    red, green, blue = image.resize((1, 1), 4).getpixel((0, 0))
    assert label == 999 and all(
        a - 5 < level < a + 65
        for a, level in zip((67 * 999 % 190, 131 * 999 % 190, 29 * 999 % 190), (red, green, blue), strict=True)
    )


def test_paths_hold_spaces(root):
    names = [path.name for path, _ in DomainShift(root, "imagenet-adversarial", "test").samples]
    assert all(" _ bow tie" in name for name in names)


@pytest.mark.parametrize("name", [n for key, others in OFFICIAL.items() for n in (key, *others)])
def test_domains_by_any_of_their_names(root, name):
    data = DomainShift(root, name, "test")
    assert data.task == official_domain(name) and data.digest == DomainShift(root, data.task, "test").digest


def test_folders_by_any_of_their_names(spoilt):
    before = DomainShift(spoilt, "imagenet-a", "test")
    (spoilt / "imagenet-adversarial").rename(spoilt / "imagenet_a")
    after = DomainShift(spoilt, "imagenet-adversarial", "test")
    assert after.digest == before.digest and after.samples[0][0].is_relative_to(spoilt / "imagenet_a")


def test_targets_have_nothing_to_train_on(root):
    with pytest.raises(
        FileNotFoundError, match="num_shot_16.seed_0 is missing; the folder has val_meta.list. Only the source"
    ):
        DomainShift(root, "imagenetv2", "train")
    with pytest.raises(FileNotFoundError, match=f"{VAL_LIST} is missing.*Only the source"):
        DomainShift(root, "imagenet-sketch", "val")


def test_what_is_missing_is_named(spoilt):
    with pytest.raises(
        FileNotFoundError, match="no folder for the domain 'uci'; it has imagenet, imagenet-adversarial"
    ):
        DomainShift(spoilt, "uci", "test")
    with pytest.raises(ValueError, match="no split is called 'dev': choose one of train, val, test"):
        DomainShift(spoilt, "imagenet", "dev")
    (spoilt / "imagenet/annotations/val_meta.list").unlink()
    with pytest.raises(
        FileNotFoundError, match="val_meta.list is missing.*NOAH publishes none for ImageNet: write one"
    ):
        DomainShift(spoilt, "imagenet", "test")
    (spoilt / "imagenet-rendition/imagenet-r/n00000736/cartoon_1.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"val_meta.list, line 2: .*cartoon_1.jpg is missing \(1 of 4"):
        DomainShift(spoilt, "imagenet-r", "test")


def test_a_label_beyond_the_thousand_is_named(spoilt):
    path = spoilt / "imagenetv2/annotations/val_meta.list"
    path.write_text(path.read_text().replace(" 999\n", " 1000\n", 1))
    with pytest.raises(BadDataset, match="line 3: label 1000 is out of range, imagenetv2 has 1000 classes"):
        DomainShift(spoilt, "imagenetv2", "test")

"""Many tasks over one backbone: the answers of the separate models, at the cost of one prefix."""

import pytest
import torch
from families import FAMILIES, backbone_of
from serve import KINDS, images_of, mixed, task_of, toy
from timm.models.swin_transformer import SwinTransformer

from dtl_core import DTLConfig, UnsupportedBackbone, load_backbone
from dtl_core.files import DamagedFile
from dtl_core.serving import MultiTask

TOYS = ("toy/vit", "toy/swin")


def worst(answers, models, images):
    """The largest distance of a logit from the separate model's, against the largest logit of its task."""
    with torch.no_grad():
        expected = {name: models[name](images) for name in answers}
    assert all(answers[k].shape == expected[k].shape and answers[k].dtype == expected[k].dtype for k in answers)
    spread = min(float(v.std()) for v in expected.values())
    assert spread > 0.05, "logits that are all alike would show nothing"
    return max(float((answers[k] - v).abs().max() / v.abs().max()) for k, v in expected.items())


@pytest.mark.parametrize("chunk, cache_bytes", [(1, 0), (4, 0), (7, 0), (1000, 0), (2, 2**26)])
@pytest.mark.parametrize("name", TOYS)
def test_the_answers_are_those_of_the_separate_models(name, chunk, cache_bytes):
    backbone = toy(name, torch.float64)
    models, images = mixed(backbone, name, torch.float64), images_of(backbone)
    server = MultiTask(backbone, models, chunk=chunk, cache_bytes=cache_bytes)
    for order in ([0, 1, 2, 3, 4], [4, 1], [0, 1, 2, 3, 4]):  # with a cache: new, known, and both
        answers = server.predict(images[order])
        assert list(answers) == list(models)
        assert worst(answers, models, images[order]) < 1e-10
    some = server.predict(images[:3], ["late", "DTL"] if name == "toy/vit" else ["next stage", "early"])
    assert len(some) == 2 and worst(some, models, images[:3]) < 1e-10


@pytest.mark.parametrize(
    "family", ["DINOv2, 4 registers", "SigLIP", "Swin, non-square, padded windows", "CLIP, average pool"]
)
def test_other_families(family):
    backbone = backbone_of(family)
    kinds = "family" if FAMILIES[family][0] is not SwinTransformer else None
    if kinds:
        models = mixed(backbone, kinds, torch.float64)
    else:
        models = {k: task_of(backbone, v, 3).double() for k, v in {"a": (2, 4, 6, 3), "b": (1, 0, 1, 0)}.items()}
    images = images_of(backbone, 3)
    assert worst(MultiTask(backbone, models, chunk=4).predict(images), models, images) < 1e-10


@pytest.mark.parametrize("name", TOYS)
def test_a_backbone_in_bf16(name):
    """The same operations in the same type; only the sums over another batch may round otherwise."""
    backbone = toy(name)
    models = mixed(backbone, name)
    backbone.to(torch.bfloat16)
    images = images_of(backbone).float()
    assert worst(MultiTask(backbone, models).predict(images), models, images) < 0.02


def test_adapter_files(tmp_path):
    models = mixed(load_backbone("toy/vit"), "toy/vit")
    models["DTL"].class_names = ("cat", "dog")
    for name, model in models.items():
        model.save_adapter(tmp_path / f"{name}.safetensors")
    server = MultiTask("toy/vit", {name: tmp_path / f"{name}.safetensors" for name in models})
    images = images_of(server.backbone)
    assert worst(server.predict(images), models, images) < 1e-5
    task = server.tasks["DTL"]
    assert (task.class_names, task.num_classes, task.config) == (("cat", "dog"), 2, models["DTL"].config)
    frozen = sum(p.numel() for p in server.backbone.parameters())
    assert server.weight_bytes == 4 * (frozen + sum(len_(m) for m in models.values()))


def len_(model):
    return sum(p.numel() for p in model.trainable_parameters())


def test_no_task_and_no_image():
    backbone = toy("toy/vit")
    server = MultiTask(backbone, cache_bytes=2**20)
    assert server.predict(images_of(backbone)) == {} and dict(server.tasks) == {}
    server.load("a", task_of(backbone, KINDS["toy/vit"]["DTL"], 3))
    assert server.predict(images_of(backbone, 0))["a"].shape == (0, 3)
    assert server.predict(images_of(backbone), []) == {}


def test_a_model_that_trains_on_does_not_change_the_server():
    backbone = toy("toy/vit")
    model = task_of(backbone, KINDS["toy/vit"]["DTL+"])
    server, images = MultiTask(backbone, {"a": model}), images_of(backbone)
    before = server.predict(images)["a"]
    with torch.no_grad():
        for p in model.trainable_parameters():
            p.add_(1)
    assert torch.equal(server.predict(images)["a"], before)
    server.load("a", model)
    assert worst(server.predict(images), {"a": model}, images) < 1e-5
    assert all(p.requires_grad for p in model.trainable_parameters())


def test_another_backbone_is_refused_by_name(tmp_path):
    backbone, other = load_backbone("toy/vit"), load_backbone("toy/vit")
    del other.dtl_info
    with torch.no_grad():
        other.blocks[0].norm1.bias += 1e-3
    model = task_of(other, KINDS["toy/vit"]["DTL"])
    model.save_adapter(tmp_path / "other.safetensors")
    server = MultiTask(backbone)
    with pytest.raises(
        ValueError, match="task 'moths' belongs to the backbone custom/VisionTransformer.*this is toy/vit"
    ):
        server.load("moths", model)
    with pytest.raises(ValueError, match="task 'moths': .*other.safetensors belongs to the backbone custom/Vis"):
        server.load("moths", tmp_path / "other.safetensors")
    wide = task_of(load_backbone("toy/vit", image_size=(32, 48)), KINDS["toy/vit"]["DTL"])
    with pytest.raises(ValueError, match=r"task 'wide' was trained at \(32, 48\) px.*image_size=\(32, 48\)"):
        server.load("wide", wide)
    assert dict(server.tasks) == {}
    same = load_backbone("toy/vit")  # another object with the same weights will do
    server.load("moths", task_of(same, KINDS["toy/vit"]["DTL"]))
    assert list(server.tasks) == ["moths"]


def test_mistakes_are_told(tmp_path):
    backbone = toy("toy/vit")
    server = MultiTask(backbone, {"a": task_of(backbone, KINDS["toy/vit"]["DTL"])})
    with pytest.raises(ValueError, match="no task is called 'b'; loaded are: a"):
        server.predict(images_of(backbone), ["a", "b"])
    with pytest.raises(ValueError, match="no task is called 'b'"):
        server.unload("b")
    with pytest.raises(ValueError, match=r"takes \(B, 3, 32, 32\): resize them"):
        server.predict(torch.randn(2, 3, 32, 40))
    with pytest.raises(ValueError, match="inject_from=12, but the last block is 11"):
        server.prefix_features(images_of(backbone), DTLConfig(inject_from=12))
    with pytest.raises(ValueError, match="chunk is 0"):
        MultiTask(backbone, chunk=0)
    with pytest.raises(FileNotFoundError, match="task 'c': no adapter at"):
        server.load("c", tmp_path / "c.safetensors")
    (tmp_path / "c.safetensors").write_text("no adapter")
    with pytest.raises(DamagedFile, match="task 'c': .*not a whole safetensors file"):
        server.load("c", tmp_path / "c.safetensors")
    with pytest.raises(UnsupportedBackbone):
        MultiTask(torch.nn.Linear(2, 2))
    assert list(server.tasks) == ["a"]


@pytest.mark.parametrize("cache_bytes", [0, 2**30])
@pytest.mark.parametrize("name", TOYS)
def test_features_for_a_new_task_are_those_of_its_own_prefix(name, cache_bytes):
    backbone = toy(name, torch.float64)
    server = MultiTask(backbone, chunk=2, cache_bytes=cache_bytes)
    images = images_of(backbone)
    for kind in KINDS[name].values():
        model = task_of(backbone, kind).double()
        theirs, ours = model.prefix(images), server.prefix_features(images, model.config)
        assert list(theirs.taps) == list(ours.taps)
        for a, b in zip([theirs.tokens, *theirs.taps.values()], [ours.tokens, *ours.taps.values()], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
        model.suffix(ours).sum().backward()  # they can be trained on
        assert all(p.grad is not None for p in model.trainable_parameters())

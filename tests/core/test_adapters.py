"""Adapter files: there and back, another backbone, damage, and a kill in the middle of writing."""

import json
import math
import os
import signal

import pytest
import torch
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer

from dtl_core import DTL, DTLConfig, UnsupportedBackbone, adapters, load_backbone
from dtl_core.backbones import TOYS
from dtl_core.files import DamagedFile

SMALL = dict(img_size=32, patch_size=8, embed_dim=24, depth=4, num_heads=3, num_classes=0)


def own_vit(seed=0):
    torch.manual_seed(seed)
    return VisionTransformer(**SMALL)


def trained(backbone, plus=True, num_classes=5):
    """As after some training: no parameter at its start."""
    torch.manual_seed(1)
    model = DTL(backbone, num_classes, DTLConfig.for_backbone(backbone, plus=plus))
    with torch.no_grad():
        for p in model.trainable_parameters():
            p.normal_(std=0.3)
    return model.eval()


@pytest.fixture
def saved(tmp_path):
    model = trained(load_backbone("toy/vit", image_size=(32, 48)))
    path = tmp_path / "adapter.safetensors"
    model.save_adapter(path)
    return model, path


@pytest.mark.parametrize("plus", [False, True], ids=["DTL", "DTL+"])
@pytest.mark.parametrize("name", TOYS)
def test_there_and_back(name, plus, tmp_path):
    model = trained(load_backbone(name), plus)
    model.class_names = ("a", "b", "c", "d", "naïve, “quoted”")
    path = tmp_path / "new folder" / "adapter.safetensors"
    model.save_adapter(path)
    images = torch.randn(2, 3, *model.info.image_size)
    for backbone in (None, name, load_backbone(name)):
        again = DTL.from_adapter(path, backbone).eval()
        assert torch.equal(again(images), model(images))
        again = DTL.from_adapter(path, backbone, recompute="none").eval()
        torch.testing.assert_close(again(images), model(images))
        assert again.config == model.config and again.info == model.info and again.class_names == model.class_names
        assert again.recompute == "none"
    again.save_adapter(tmp_path / "again.safetensors")
    first, second = load_file(path), load_file(tmp_path / "again.safetensors")
    assert first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
    assert adapters.read_metadata(path) == adapters.read_metadata(tmp_path / "again.safetensors")
    assert list(path.parent.iterdir()) == [path]  # no temporary file stays


def test_another_image_size_travels_with_the_file(saved):
    model, path = saved
    again = DTL.from_adapter(path).eval()
    assert again.info.image_size == (32, 48)
    images = torch.randn(2, 3, 32, 48)
    assert torch.equal(again(images), model(images)) and again.class_names is None


def test_what_the_file_says(saved):
    model, path = saved
    metadata = adapters.read_metadata(path)
    assert json.loads(metadata["config"]) == dict(rank=2, tap_from=0, inject_from=6, beta=100.0, dwconv_kernel=3)
    assert json.loads(metadata["backbone"]) == {
        "name": "toy/vit",
        "sha256": load_backbone("toy/vit").dtl_info.sha256,
        "image_size": [32, 48],
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }
    names = {f"csn.maps.{i}.{part}" for i in range(12) for part in ("down", "up")}
    assert load_file(path).keys() == names | {"csn.dwconvs.0.weight", "head.weight", "head.bias"}


def test_a_gate_of_relu_is_written_as_strict_json(tmp_path):
    model, path = DTL("toy/vit", 3, DTLConfig(beta=math.inf)), tmp_path / "relu.safetensors"
    model.save_adapter(path)
    written = adapters.read_metadata(path)["config"]
    json.loads(written, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert DTL.from_adapter(path).config == model.config


def test_a_cast_backbone_keeps_the_identity_of_its_weights(tmp_path):
    model = DTL("toy/vit", 3, backbone_dtype=torch.bfloat16)
    model.save_adapter(tmp_path / "a.safetensors")
    again = DTL.from_adapter(tmp_path / "a.safetensors")
    assert again.info == model.info and next(again.backbone.parameters()).dtype == torch.float32
    assert {v.dtype for v in load_file(tmp_path / "a.safetensors").values()} == {torch.float32}


def test_size_for_a_vit_small(tmp_path):
    """No weight of the backbone is in it: a few hundred KB with 100 classes."""
    with torch.device("meta"):
        backbone = load_backbone("vit_small_patch16_224", pretrained=False)
    model = DTL(backbone, 100, DTLConfig.paper("vit", plus=True))
    model.save_adapter(tmp_path / "a.safetensors")
    numbers = 12 * 2 * 2 * 384 + 9 * 384 + 100 * 385
    assert numbers == sum(p.numel() for p in model.trainable_parameters())
    assert 0 <= (tmp_path / "a.safetensors").stat().st_size - 4 * numbers < 5_000
    assert 4 * numbers < 300_000


def test_another_backbone_or_image_size_is_refused(saved):
    _, path = saved
    with pytest.raises(
        ValueError, match=r"trained at \(32, 48\) px, this backbone takes \(32, 32\).*image_size=\(32, 48"
    ):
        DTL.from_adapter(path, load_backbone("toy/vit"))
    wanted = load_backbone("toy/vit").dtl_info.sha256[:12]
    with pytest.raises(ValueError, match=f"belongs to the backbone toy/vit .sha256 {wanted}.*this is toy/swin"):
        DTL.from_adapter(path, load_backbone("toy/swin"))
    changed = load_backbone("toy/vit", image_size=(32, 48))
    del changed.dtl_info
    with torch.no_grad():
        changed.blocks[0].norm1.bias += 1e-3
    with pytest.raises(ValueError, match="this is custom/VisionTransformer.*load toy/vit with the same pre-trained"):
        DTL.from_adapter(path, changed)
    with pytest.raises(UnsupportedBackbone, match="Linear is not supported"):
        DTL.from_adapter(path, torch.nn.Linear(2, 2))


def test_a_backbone_of_the_callers_own(tmp_path):
    with pytest.warns(UserWarning, match="ours, not the paper's"):
        model = trained(own_vit())
    path = tmp_path / "a.safetensors"
    model.save_adapter(path)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(DTL.from_adapter(path, own_vit()).eval()(images), model(images))
    with pytest.raises(ValueError, match="custom/VisionTransformer.*pass it as backbone="):
        DTL.from_adapter(path)
    with pytest.raises(ValueError, match="belongs to the backbone custom/VisionTransformer"):
        DTL.from_adapter(path, own_vit(seed=1))


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, -1], ids=["empty", "4 bytes", "100 bytes", "half", "one byte short"])
def test_a_truncated_file(saved, keep):
    _, path = saved
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(DamagedFile, match="not a whole safetensors file.*copy it again or train again") as error:
        DTL.from_adapter(path)
    assert str(path) in str(error.value)


def test_files_of_another_kind(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(FileNotFoundError, match="no adapter at .*a.safetensors"):
        DTL.from_adapter(path)
    path.write_text("This is a text, and a long one, and no adapter at all.\n" * 20)
    with pytest.raises(DamagedFile, match="not a whole safetensors file"):
        DTL.from_adapter(path)
    torch.save({"head.weight": torch.ones(2)}, path)
    with pytest.raises(DamagedFile, match="not a whole safetensors file"):
        DTL.from_adapter(path)
    save_file({"head.weight": torch.ones(2)}, path)
    with pytest.raises(DamagedFile, match="but no DTL adapter"):
        DTL.from_adapter(path)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t, m: t["csn.maps.3.up"][0].fill_(float("nan")), r"csn.maps.3.up has the wrong shape or holds NaN"),
        (lambda t, m: t.update({"head.bias": torch.zeros(6)}), "head.bias has the wrong shape"),
        (lambda t, m: t.pop("csn.maps.0.down"), "csn.maps.0.down is missing"),
        (lambda t, m: t.update({"csn.maps.12.up": torch.zeros(2)}), "csn.maps.12.up is not part of this model"),
        (lambda t, m: m.pop("backbone"), "metadata cannot be read.*backbone"),
        (lambda t, m: m.update(config='{"rank": 2, "depth": 9}'), "metadata cannot be read.*another version"),
        (lambda t, m: m.update(num_classes="five"), "metadata cannot be read"),
        (lambda t, m: m.update(backbone='{"name": '), "metadata cannot be read"),
    ],
    ids=["NaN", "shape", "missing", "surplus", "no backbone", "unknown field", "no number", "broken JSON"],
)
def test_contents_that_do_not_fit(saved, change, message):
    _, path = saved
    tensors, metadata = load_file(path), adapters.read_metadata(path)
    change(tensors, metadata)
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(DamagedFile, match=message) as error:
        DTL.from_adapter(path)
    assert str(path) in str(error.value)


def die_while_saving(path, moment):
    """Runs in a process of its own: saves another adapter over ``path`` and is killed on the way."""
    model = trained(load_backbone("toy/vit", image_size=(32, 48)), plus=False)

    def half(tensors, temporary, metadata):
        save_file(tensors, temporary, metadata=metadata)
        whole = temporary.read_bytes()
        temporary.write_bytes(whole[: len(whole) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    if moment == "half written":
        adapters.save_file = half
    else:
        os.replace = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
    model.save_adapter(path)


@pytest.mark.parametrize("moment", ["half written", "not yet renamed"])
def test_a_kill_in_the_middle_of_saving_leaves_the_old_file_whole(saved, processes, moment):
    model, path = saved
    before = path.read_bytes()
    process = processes.Process(target=die_while_saving, args=(path, moment))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert [p.suffix for p in path.parent.iterdir() if p != path] == [".part"]  # it was killed with the new file open
    assert path.read_bytes() == before
    images = torch.randn(2, 3, 32, 48)
    assert torch.equal(DTL.from_adapter(path).eval()(images), model(images))
    trained(load_backbone("toy/vit", image_size=(32, 48)), plus=False).save_adapter(path)
    assert path.read_bytes() != before and DTL.from_adapter(path).config.dwconv_kernel == 0

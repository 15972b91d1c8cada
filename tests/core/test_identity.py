"""The identity of a backbone is that of the weights that DTL or a rival gets; weights from a file of one's own."""

import copy
import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file
from toys import ToyImages

from dtl_core import DTL, load_backbone
from dtl_core.backbones import info_of, weights_sha256
from dtl_core.baselines import build
from dtl_core.files import DamagedFile
from dtl_core.serving import MultiTask
from dtl_core.training import PrefixCache

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:timm.layers.interpolate")  # timm's own, on a resized Swin
ARCH = "vit_tiny_patch16_224"


def other_weights(name="toy/vit"):
    """A checkpoint of one's own."""
    generator = torch.Generator().manual_seed(9)
    state = load_backbone(name).state_dict()
    return {
        k: v + 0.1 * torch.randn(v.shape, generator=generator) if v.is_floating_point() else v for k, v in state.items()
    }


def with_other_weights(name="toy/vit"):
    model = load_backbone(name)
    model.load_state_dict(other_weights(name))
    return model


@pytest.mark.parametrize("method", ["dtl", "linear", "lora"])
@pytest.mark.parametrize("name", ["toy/vit", "toy/swin"])
def test_a_checkpoint_of_ones_own_is_another_backbone(name, method):
    own = load_backbone(name).dtl_info
    model = build(method, with_other_weights(name), 3)
    assert model.info.sha256 != own.sha256 and model.info.name.startswith("custom/")
    assert model.info.sha256 == weights_sha256(with_other_weights(name))
    assert model.info == build(method, with_other_weights(name), 3).info  # in the next session, too


def test_an_adapter_and_a_cache_belong_to_the_weights_they_were_made_with(tmp_path):
    torch.manual_seed(0)
    mine, theirs = (DTL(b, 4) for b in (with_other_weights(), load_backbone("toy/vit")))
    mine.save_adapter(tmp_path / "mine.safetensors")
    data = ToyImages(4, deterministic=True)
    paths = [PrefixCache(m, data, root=tmp_path, progress=False).path for m in (mine, theirs)]
    assert paths[0] != paths[1]
    assert DTL.from_adapter(tmp_path / "mine.safetensors", with_other_weights()).info.sha256 == mine.info.sha256
    with pytest.raises(ValueError, match="a backbone that its author built .* pass it as backbone="):
        DTL.from_adapter(tmp_path / "mine.safetensors")
    for refused in (
        lambda: DTL.from_adapter(tmp_path / "mine.safetensors", load_backbone("toy/vit")),
        lambda: MultiTask(load_backbone("toy/vit"), {"mine": tmp_path / "mine.safetensors"}),
        lambda: MultiTask(with_other_weights(), {"theirs": theirs}),
    ):
        with pytest.raises(ValueError, match="belongs to the backbone"):
            refused()


def trained(model):
    optimizer = torch.optim.AdamW(model.requires_grad_(True).parameters(), lr=0.1)
    model(torch.ones(1, 3, 32, 32)).sum().backward()
    optimizer.step()


def replaced(model):
    model.norm.weight = torch.nn.Parameter(torch.zeros(48))


def assigned(model):
    model.load_state_dict(other_weights(), assign=True)


def deep(model):
    with torch.no_grad():
        model.blocks[7].mlp.fc1.bias[3] += 1


@pytest.mark.parametrize("change", [trained, replaced, assigned, deep, lambda m: build("lora", m, 3, inplace=True)])
def test_whatever_writes_to_the_weights_changes_the_identity(change):
    model = load_backbone("toy/vit")
    before = info_of(model)
    change(model)
    after = info_of(model)
    assert after.sha256 == weights_sha256(model) != before.sha256 and after.name == "custom/VisionTransformer"
    assert info_of(copy.deepcopy(model)) == after


SAME = {
    "as it is": lambda m: m,
    "cast": lambda m: m.to(torch.bfloat16),
    "cast and back": lambda m: m.half().float(),
    "copied": copy.deepcopy,
    "pickled": lambda m: pickle.loads(pickle.dumps(m)),  # our own pickle
    "cast and copied twice": lambda m: copy.deepcopy(copy.deepcopy(m.double())),
    "run and frozen": lambda m: (m(torch.zeros(1, 3, *m.dtl_info.image_size)), m.requires_grad_(False).train())[1],
    "resized by its owner": lambda m: (m.set_input_size(img_size=(96, 96)), m)[1],
}


@pytest.mark.parametrize("what", SAME)
@pytest.mark.parametrize("name, size", [("toy/vit", None), ("toy/vit", (48, 24)), ("toy/swin", (96, 64))])
def test_a_move_a_cast_a_copy_and_another_size_keep_it(name, size, what, monkeypatch):
    recorded = load_backbone(name).dtl_info.sha256
    model = SAME[what](load_backbone(name, image_size=size))
    monkeypatch.setattr("dtl_core.backbones.weights_sha256", lambda _: pytest.fail("no weight need be read"))
    info = DTL(model, 3).info
    assert info.sha256 == recorded and info.name == name


def test_a_copy_of_changed_weights_is_changed():
    model = with_other_weights()
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert info_of(again) == info_of(with_other_weights())


def test_the_same_weights_loaded_again_are_the_same_backbone():
    model = load_backbone("toy/vit")
    before = model.dtl_info
    model.load_state_dict(load_backbone("toy/vit").state_dict())
    assert info_of(model) == before


def tensors_of(arch, **changes):
    torch.manual_seed(3)
    state = timm.create_model(arch, num_classes=7).state_dict()
    return {k: v.contiguous() for k, v in {**state, **changes}.items() if v is not None}


def test_weights_from_a_file(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_file(tensors_of(ARCH), path)  # with a head, which is left out
    model = load_backbone(str(path), image_size=(32, 48), arch=ARCH)
    assert torch.equal(model.blocks[3].mlp.fc1.weight, tensors_of(ARCH)["blocks.3.mlp.fc1.weight"])
    assert model.dtl_info.name == f"custom/{ARCH}:mine.safetensors" and model.dtl_info.image_size == (32, 48)
    whole = load_backbone(str(path), arch=ARCH)
    assert model.dtl_info.sha256 == whole.dtl_info.sha256 == weights_sha256(whole)
    adapted = DTL(model, 3)
    adapted.save_adapter(tmp_path / "adapter.safetensors")
    with pytest.raises(ValueError, match=f"its author built .custom/{ARCH}:mine.safetensors.: pass it as backbone="):
        DTL.from_adapter(tmp_path / "adapter.safetensors")
    again = DTL.from_adapter(tmp_path / "adapter.safetensors", load_backbone(str(path), (32, 48), arch=ARCH))
    images = torch.randn(1, 3, 32, 48)
    assert torch.equal(again(images), adapted(images))


def test_weights_of_a_toy_from_a_file(tmp_path):
    """Without a card of timm's, and of the caller's own training."""
    save_file(other_weights(), tmp_path / "mine.safetensors")
    model = load_backbone(str(tmp_path / "mine.safetensors"), image_size=48, arch="toy/vit")
    assert model.dtl_info.name == "custom/toy/vit:mine.safetensors" and model.dtl_info.mean == (0.5, 0.5, 0.5)
    assert model.dtl_info.sha256 == info_of(with_other_weights()).sha256


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"norm.bias": None}, "missing: norm.bias .1 in all"),
        ({"extra.weight": torch.ones(2)}, "unexpected: extra.weight .1 in all"),
        ({"norm.bias": torch.ones(3)}, "of another shape: norm.bias .1 in all"),
        ({"cls_token": None, "mlp": torch.ones(1)}, "missing: cls_token .*; unexpected: mlp "),
    ],
)
def test_a_file_that_does_not_fit(changes, words, tmp_path):
    path = tmp_path / "mine.safetensors"
    save_file(tensors_of(ARCH, **changes), path)
    with pytest.raises(ValueError, match=f"does not hold the weights of {ARCH}: .*{words}"):
        load_backbone(str(path), arch=ARCH)


def test_a_file_that_is_not_there_damaged_or_a_pickle(tmp_path):
    path = tmp_path / "mine.safetensors"
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_backbone(str(path), arch=ARCH)
    path.write_bytes(b"<html>")
    with pytest.raises(DamagedFile, match="not a whole safetensors file"):
        load_backbone(str(path), arch=ARCH)
    for name, arch in ((str(path), None), ("toy/vit", ARCH)):
        with pytest.raises(ValueError, match="a .safetensors file needs arch"):
            load_backbone(name, arch=arch)
    with pytest.raises(ValueError, match="no backbone is called 'vit_nano'"):
        load_backbone(str(path), arch="vit_nano")
    with pytest.raises(ValueError, match="may hold a pickle, which could run code: convert it to .safetensors"):
        load_backbone(str(tmp_path / "mine.pth"))

"""Adapter files: there and back, another backbone, damage, and a kill in the middle of writing."""

import json
import math
import os
import re
import signal
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer

from dtl_core import DTL, DTLConfig, UnsupportedBackbone, adapter_file, adapters, load_backbone
from dtl_core.backbones import TOYS, weights_sha256
from dtl_core.baselines import METHODS, build, lora
from dtl_core.baselines.support import ON_A_SWIN
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
    assert metadata["method"] == "dtl+" and metadata["checksum"] == adapter_file.checksum(metadata, load_file(path))
    assert json.loads(metadata["options"])["config"] == dict(
        rank=2, tap_from=0, inject_from=6, beta=100.0, dwconv_kernel=3
    )
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
    written = adapters.read_metadata(path)["options"]
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


def rewrite(path, change, sealed=True):
    """Change an adapter file's tensors and metadata in place; ``sealed`` with a checksum that fits."""
    tensors, metadata = load_file(path), adapters.read_metadata(path)
    change(tensors, metadata)
    if sealed:
        metadata["checksum"] = adapter_file.checksum(metadata, tensors)
    save_file(tensors, path, metadata=metadata)


def edit(key, **fields):
    """A change of some fields of a JSON object in the metadata."""
    return lambda t, m: m.update({key: json.dumps(json.loads(m[key]) | fields)})


SETTING = dict(rank=2, tap_from=0, inject_from=6, beta=100.0, dwconv_kernel=3)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t, m: t["csn.maps.3.up"][0].fill_(float("nan")), r"csn.maps.3.up has the wrong type or holds NaN"),
        (lambda t, m: t.update({"head.bias": torch.zeros(6)}), "head.bias has the wrong shape"),
        (lambda t, m: t.pop("csn.maps.0.down"), "csn.maps.0.down is missing"),
        (lambda t, m: t.update({"csn.maps.12.up": torch.zeros(2)}), "csn.maps.12.up is not part of this model"),
        (lambda t, m: m.pop("backbone"), "metadata cannot be read.*backbone"),
        (edit("options", config={"rank": 2, "depth": 9}), "metadata cannot be read.*another version"),
        (lambda t, m: m.update(num_classes="five"), "metadata cannot be read"),
        (lambda t, m: m.update(backbone='{"name": '), "metadata cannot be read"),
        (lambda t, m: m.update(view="upside down"), "metadata cannot be read.*upside down"),
        (edit("backbone", std=[0.5, 0.0, 0.5]), "metadata cannot be read"),
        (edit("backbone", image_size=[32, "48"]), "metadata cannot be read"),
        (edit("backbone", name="toy/\x1b[2J"), r"metadata cannot be read.*\\x1b"),
        (lambda t, m: m.update(num_classes="6"), "6 classes, no class names, and a head of shape .5, 48."),
        (lambda t, m: m.update(num_classes="1" + "0" * 15), "1000000000000000 classes"),
        (lambda t, m: m.update(class_names='["a", "b"]'), "5 classes, 2 class names"),
        (lambda t, m: m.update(class_names='["a", "b", "c", "d", 5]'), "metadata cannot be read"),
        (edit("options", config=SETTING | {"rank": 10**12}), "csn.maps.0.down has the wrong shape"),
        (edit("options", config=SETTING | {"rank": 10**30}), "no dtl. can be built as it says"),
        (edit("options", config=SETTING | {"dwconv_kernel": 10**6}), "csn.dwconvs.0.weight has the wrong shape"),
        (edit("options", config=SETTING | {"inject_from": 12}), "no dtl. can be built.*choose a smaller M"),
        (lambda t, m: m.update(method="lora", options='{"rank": 8}'), "csn.* is not part of|lora.* is missing|missing"),
    ],
)
def test_contents_that_do_not_fit(saved, change, message):
    _, path = saved
    rewrite(path, change)
    for backbone in (None, load_backbone("toy/vit", image_size=(32, 48))):
        with pytest.raises(DamagedFile, match=message) as error:
            adapters.load_adapter(path, backbone)
        assert str(path) in str(error.value)


def test_a_flipped_bit_or_an_edited_number_is_found(saved):
    _, path = saved
    whole = path.read_bytes()
    for at in (-1, -500, whole.index(b"inject_from") + 15, whole.index(b"sha256") + 12, whole.index(b'"resize"') + 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + (whole[at:][1:]))
        with pytest.raises(DamagedFile, match="not as it was written|cannot be read"):
            DTL.from_adapter(path)
    path.write_bytes(whole)
    rewrite(
        path, lambda t, m: m.update(options=m["options"].replace('"inject_from": 6', '"inject_from": 5')), sealed=False
    )
    with pytest.raises(DamagedFile, match="does not fit its checksum"):
        DTL.from_adapter(path)


def test_a_file_of_version_0_1(saved):
    """It has a config, no method and no checksum."""
    model, path = saved
    images = torch.randn(2, 3, 32, 48)

    def as_then(tensors, metadata):
        metadata.update(format="dtl-adapter-1", config=json.dumps(json.loads(metadata.pop("options"))["config"]))
        del metadata["method"], metadata["checksum"]

    rewrite(path, as_then, sealed=False)
    assert sorted(adapters.read_metadata(path)) == sorted("format config num_classes class_names backbone view".split())
    for again in (DTL.from_adapter(path), adapters.load_adapter(path)):
        assert again.method == "dtl+" and torch.equal(again.eval()(images), model(images))


def test_nothing_is_built_or_fetched_on_the_word_of_a_file(saved, monkeypatch):
    _, path = saved
    whole, asked = path.read_bytes(), []

    def spy(name, image_size=None, pretrained=True):
        asked.append((name, image_size))
        return load_backbone("toy/vit", image_size=(32, 48))

    monkeypatch.setattr(adapter_file, "load_backbone", spy)
    for size in ([65536, 65536], [32, 4096]):
        rewrite(path, edit("backbone", image_size=size))
        with pytest.raises(ValueError, match="is not built on a file's word: load the backbone yourself"):
            DTL.from_adapter(path)
        path.write_bytes(whole)
    names = "hf-hub:someone/model", "hf_hub:x", "local-dir:/etc", "/etc/passwd", "../x", "someone/model", "toy/../x", ""
    for name in names:
        rewrite(path, edit("backbone", name=name))
        with pytest.raises(ValueError, match="name it yourself"):
            adapters.load_adapter(path)
        assert asked == []
        assert adapters.load_adapter(path, name or "named").method == "dtl+"  # its user trusts it
        assert {a for a, _ in asked} == {name or "named"}
        asked.clear()


RIVALS = [("toy/vit", m, {}) for m in METHODS if not m.startswith("dtl")] + [
    ("toy/swin", m, {}) for m in ON_A_SWIN.split(", ") if not m.startswith("dtl")
]
RIVALS += [
    ("toy/vit", "bitfit", dict(first_block=3, readout="cls")), ("toy/vit", "lora", dict(alpha=2.5, rank=3, separate=True)),
    ("toy/vit", "vpt-shallow", dict(prompts=3)), ("toy/vit", "vpt-deep", dict(prompts=2, first_block=5)),
    ("toy/vit", "adaptformer", dict(bottleneck=5, scale=0.3)), ("toy/vit", "fact", dict(rank=4, scale=2.0)),
    ("toy/vit", "repadapter", dict(hidden=4, groups=4, first_block=7)), ("toy/vit", "lst", dict(reduction=4)),
    ("toy/vit", "noah", dict(adapter=3, rank=2, prompts=4)), ("toy/swin", "linear", dict(taps=True)),
    ("toy/swin", "ssf", dict(first_block=8)),
]  # fmt: skip


def rival(name, backbone, options):
    torch.manual_seed(2)
    model = build(name, load_backbone(backbone), 5, inplace=True, **options)
    with torch.no_grad():
        for p in model.trainable_parameters():
            p.add_(0.1 * torch.randn_like(p))
    model.class_names = tuple("abcde")
    return model.eval()


@pytest.mark.parametrize("backbone, name, options", RIVALS, ids=[f"{b} {n} {o or ''}" for b, n, o in RIVALS])
def test_every_method_there_and_back(backbone, name, options, tmp_path):
    model, path = rival(name, backbone, options), tmp_path / "a.safetensors"
    model.requires_grad_(False).save_adapter(path)  # frozen, to answer: what it was trained by is still known
    images, fresh = torch.randn(2, 3, *model.info.image_size), load_backbone(backbone)
    before = weights_sha256(fresh)
    for given in (None, fresh):
        again = adapters.load_adapter(path, given)
        assert torch.equal(again.eval()(images), model(images))
        assert again.info == model.info and again.class_names == model.class_names
        assert (again.method, again.options) == (name, again.options | options)
    assert weights_sha256(fresh) == before, "the caller's backbone stays as it was"
    again.save_adapter(tmp_path / "again.safetensors")
    assert adapters.read_metadata(tmp_path / "again.safetensors") == adapters.read_metadata(path)
    counted = sum(p.numel() for p in again.trainable_parameters())
    assert sum(t.numel() for t in load_file(path).values()) == counted, "what is trained, and nothing else"
    with pytest.raises(ValueError, match=f"was trained by {name}, not by DTL: dtl_core.adapters.load_adapter"):
        DTL.from_adapter(path)


def test_random_weights_are_found_again(tmp_path):
    model = rival("lora", "random/vit_tiny_patch16_224", {})
    model.save_adapter(tmp_path / "a.safetensors")
    images = torch.randn(1, 3, 224, 224)
    assert torch.equal(adapters.load_adapter(tmp_path / "a.safetensors").eval()(images), model(images))


def test_a_cast_rival_has_the_names_of_one_that_is_not(tmp_path):
    torch.manual_seed(0)
    for name in ("lora", "lst", "full"):
        model = build(name, load_backbone("toy/vit"), 3, backbone_dtype=torch.bfloat16)
        plain = build(name, load_backbone("toy/vit"), 3)
        model.save_adapter(tmp_path / "a.safetensors")
        tensors = load_file(tmp_path / "a.safetensors")
        assert tensors.keys() == {n for n, p in plain.named_parameters() if p.requires_grad}
        assert {t.dtype for t in tensors.values()} == {torch.float32}
        again = adapters.load_adapter(tmp_path / "a.safetensors", backbone_dtype=torch.bfloat16)
        images = torch.randn(2, 3, 32, 32)
        assert torch.equal(again.eval()(images), model.eval()(images))


def test_what_cannot_be_saved_whole(tmp_path):
    model = lora(load_backbone("toy/vit"), 3)
    with pytest.raises(ValueError, match="does not know its method: make it with dtl_core.baselines.build"):
        model.save_adapter(tmp_path / "a")
    for model in (DTL("toy/vit", 3), build("lora", load_backbone("toy/vit"), 3)):
        model.backbone.norm.requires_grad_(True)
        with pytest.raises(ValueError, match=r"backbone.norm.weight is trained, though \w+ does not train it"):
            model.save_adapter(tmp_path / "a")
        model.backbone.norm.requires_grad_(False)
        model.class_names = ("a", "b")
        with pytest.raises(ValueError, match="3 classes and 2 class names"):
            model.save_adapter(tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", ["lora", "dtl+"])
def test_training_goes_on_from_a_file(name, tmp_path):
    model, path = rival(name, "toy/vit", {}), tmp_path / "a.safetensors"
    model.save_adapter(path)

    def fresh(method=name, classes=5, image_size=None, **options):
        made = build(method, load_backbone("toy/vit", image_size=image_size), classes, **options)
        made.class_names = tuple("abcdef"[:classes])
        return made

    again, images = fresh(), torch.randn(2, 3, 32, 32)
    adapters.start_from(again, path)
    assert torch.equal(again.eval()(images), model(images)) and len(again.trainable_parameters()) > 3
    own = dict(rank=9) if name == "lora" else dict(config=DTLConfig(rank=9, dwconv_kernel=3))
    another = fresh()
    another.class_names = tuple("abcdz")
    greyed = fresh()
    greyed.info = replace(greyed.info, mean=(0.1, 0.1, 0.1))
    unnamed = fresh(classes=4)
    for other, message in [
        (fresh("bitfit"), f"it differs in method, '{re.escape(name)}' there and 'bitfit' here"),
        (
            fresh(**own),
            "it differs in (rank, 8 there and 9 here|config, DTLConfig.*rank=2.* there and DTLConfig.*rank=9)",
        ),
        (unnamed, "it differs in class names"),
        (another, "it differs in class names, .*'e'.* there and .*'z'.* here"),
        (greyed, "it differs in mean"),
        (fresh(image_size=64), "trained at .32, 32. px"),
    ]:
        with pytest.raises(ValueError, match=message):
            adapters.start_from(other, path)
    model.class_names = unnamed.class_names = None
    model.save_adapter(path)
    with pytest.raises(ValueError, match="its 5 classes are not as many here"):
        adapters.start_from(unnamed, path)


def die_while_saving(path, moment):
    """Runs in a process of its own: saves another adapter over ``path`` and is killed on the way."""
    model = trained(load_backbone("toy/vit", image_size=(32, 48)), plus=False)

    def half(tensors, temporary, metadata):
        save_file(tensors, temporary, metadata=metadata)
        whole = temporary.read_bytes()
        temporary.write_bytes(whole[: len(whole) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    if moment == "half written":
        safetensors.torch.save_file = half
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

"""Backbones by name: identity, sizes, what is missing or wrong. The families are in ``test_families``."""

import time

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from huggingface_hub import constants
from safetensors.torch import save_file
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer

from dtl_core import DTL, DTLConfig, UnsupportedBackbone, load_backbone
from dtl_core.backbones import TOYS, _set_input_size, info_of, weights_sha256
from dtl_core.baselines import METHODS, build
from dtl_core.blocks import blocks_of
from dtl_core.files import DamagedFile
from dtl_core.memory import plan

VIT = dict(img_size=32, patch_size=8, embed_dim=24, depth=4, num_heads=3)
SWIN = dict(img_size=64, patch_size=4, embed_dim=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 4, 8), window_size=4)

# the toys are drawn from a seed; the paper's own depths, so that M = 6 and M = 14 mean what they mean there
TOY_DEPTH = {"toy/vit": 12, "toy/swin": 24}


@pytest.mark.parametrize("name", TOYS)
def test_a_toy_is_the_same_at_every_call(name):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = load_backbone(name)
    assert torch.equal(torch.rand(3), expected)  # the caller's random numbers are left alone
    torch.manual_seed(6)
    second = load_backbone(name)
    assert first.dtl_info == second.dtl_info and first.dtl_info.name == name
    assert len(first.dtl_info.sha256) == 64
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert len(blocks_of(first).widths) == TOY_DEPTH[name] and not first.training
    assert first.dtl_info.mean == first.dtl_info.std == (0.5, 0.5, 0.5)


@pytest.mark.filterwarnings("ignore::UserWarning:timm.layers.interpolate")
@pytest.mark.parametrize(
    "name, size", [("toy/vit", (48, 24)), ("toy/vit", 16), ("toy/swin", (96, 64)), ("toy/swin", 128)]
)
def test_another_image_size_is_the_same_backbone(name, size):
    native, model = load_backbone(name), load_backbone(name, image_size=size)
    size = (size, size) if isinstance(size, int) else size
    assert model.dtl_info.sha256 == native.dtl_info.sha256
    assert model.dtl_info.image_size == blocks_of(model).image_size == size != native.dtl_info.image_size
    assert weights_sha256(model) != native.dtl_info.sha256  # resampled, and yet the same by name
    assert DTL(model, 3)(torch.randn(1, 3, *size)).shape == (1, 3)


def test_the_identity_is_over_names_types_shapes_and_bytes():
    model = load_backbone("toy/vit")
    sha256 = weights_sha256(model)
    assert weights_sha256(load_backbone("toy/vit").requires_grad_(False).train()) == sha256
    assert weights_sha256(load_backbone("toy/vit").double()) != sha256
    with torch.no_grad():
        model.blocks[3].mlp.fc1.bias[2] += 1e-6
    assert weights_sha256(model) != sha256


def test_a_model_of_the_callers_own():
    torch.manual_seed(0)
    model = VisionTransformer(num_classes=0, **VIT)
    info = info_of(model)
    assert (
        info.name == "custom/VisionTransformer" and info.image_size == (32, 32) and info.sha256 == weights_sha256(model)
    )
    model.set_input_size(img_size=(16, 24))
    assert info_of(model).image_size == (16, 24) and info_of(model).sha256 == info.sha256
    assert info_of(timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32)).mean == (0.5, 0.5, 0.5)


def test_a_timm_name():
    model = load_backbone("vit_tiny_patch16_224", image_size=(32, 48), pretrained=False)
    assert model.dtl_info.image_size == (32, 48) and blocks_of(model).grid == (2, 3)
    assert model(torch.randn(1, 3, 32, 48)).shape == (1, 192)


@pytest.mark.parametrize("name", ["vit_base_patch16_224.orig_in21k", "swin_base_patch4_window7_224.ms_in22k"])
def test_the_papers_backbones_on_meta(name):
    """They are normalised as the authors do, whatever timm's card says. Weights on meta have no identity."""
    with torch.device("meta"):
        model = load_backbone(name, pretrained=False)
    assert model.dtl_info.mean == model.dtl_info.std == (0.5, 0.5, 0.5)
    assert model.dtl_info.sha256 == "" == info_of(model).sha256 and info_of(model).name == f"random/{name}"
    assert DTL(model, 3).config == DTLConfig.paper(name[: name.index("_")])


def test_weights_given_to_a_meta_model_give_it_its_identity():
    with torch.device("meta"):
        model = load_backbone("toy/vit")
    assert info_of(model).sha256 == ""
    model.to_empty(device="cpu").load_state_dict(load_backbone("toy/vit").state_dict())
    assert info_of(model).sha256 == load_backbone("toy/vit").dtl_info.sha256


@pytest.mark.parametrize(
    "name, size, message",
    [
        ("toy/vit", 33, r"\(33, 33\) is not a multiple of the patch size \(8, 8\)"),
        ("toy/vit", (32, 20), r"\(32, 20\) is not a multiple"),
        ("toy/swin", 66, r"\(66, 66\) is not a multiple of the patch size \(4, 4\)"),
        ("toy/vit", 0, "image_size is 0"),
        ("toy/vit", (32, -8), r"image_size is \(32, -8\)"),
        ("toy/vit", (32, 32, 3), r"image_size is \(32, 32, 3\): give the side, or \(H, W\)"),
    ],
)
def test_image_sizes_that_do_not_fit(name, size, message):
    with pytest.raises(ValueError, match=message):
        load_backbone(name, image_size=size)


@pytest.mark.parametrize("name", ["toy/vitt", "packaged/vit-b16", "vit_basse_patch16_224", "mine/vit_basse"])
def test_a_name_that_does_not_exist(name):
    with pytest.raises(ValueError, match=f"no backbone is called '{name}': choose packaged/vit-s14, toy/vit, toy/swin"):
        load_backbone(name)


def test_a_name_of_another_architecture():
    with pytest.raises(UnsupportedBackbone, match="ResNet is not supported"):
        load_backbone("test_resnet", pretrained=False)


def test_packaged_weights_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("DTL_DATA", str(tmp_path))
    path = tmp_path / "weights" / "packaged-vit-s14.safetensors"
    with pytest.raises(FileNotFoundError, match="dtl data fetch") as error:
        load_backbone("packaged/vit-s14", image_size=98)
    assert str(path) in str(error.value)
    path.parent.mkdir()
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(DamagedFile, match="delete it and run `dtl data fetch`") as error:
        load_backbone("packaged/vit-s14")
    assert str(path) in str(error.value)
    save_file({"norm.weight": torch.ones(384)}, path)
    with pytest.raises(DamagedFile, match="delete it and run `dtl data fetch`"):
        load_backbone("packaged/vit-s14")


def test_packaged_shape_without_weights():
    model = load_backbone("packaged/vit-s14", image_size=98, pretrained=False)
    assert blocks_of(model).grid == (7, 7) and blocks_of(model).widths == [384] * 12
    assert len(model.state_dict()) == 174


@pytest.mark.parametrize("options", [{}, dict(reg_tokens=4, no_embed_class=True)], ids=["class", "registers"])
def test_positions_without_antialiasing(options):
    """The packaged ViT wants its positions resampled by plain bicubic interpolation, and timm always antialiases."""
    model = VisionTransformer(num_classes=0, **VIT, **options)
    native = model.pos_embed.detach().clone()
    _set_input_size(model, (16, 24), antialias=False)
    prefix = 0 if options else 1
    grid = native[:, prefix:].unflatten(1, (4, 4)).permute(0, 3, 1, 2)
    plain = F.interpolate(grid, (2, 3), mode="bicubic", antialias=False).flatten(2).mT
    assert torch.equal(model.pos_embed[:, :prefix], native[:, :prefix])
    torch.testing.assert_close(model.pos_embed[:, prefix:], plain, rtol=0, atol=1e-7)
    smooth = F.interpolate(grid, (2, 3), mode="bicubic", antialias=True).flatten(2).mT
    assert (model.pos_embed[:, prefix:] - smooth).abs().max() > 1e-3


class OwnForward(VisionTransformer):
    def forward_features(self, x):
        return super().forward_features(x) + 1


class WithoutClassToken(VisionTransformer):
    """As timm before 1.0.26 makes a ViT without position embeddings."""

    def _pos_embed(self, x):
        return x


@pytest.mark.parametrize(
    "make, reason",
    [
        (lambda: timm.create_model("test_resnet", num_classes=0), "timm.models.resnet.ResNet is not supported.*VisionTransformer.*SwinTransformer"),
        (lambda: VisionTransformer(num_classes=0, dynamic_img_pad=True, **{**VIT, "img_size": (28, 32)}), "do not fill images of .* besides"),
        (lambda: WithoutClassToken(num_classes=0, pos_embed="none", **VIT), "leaves out the class token.*--upgrade timm"),
        (lambda: OwnForward(num_classes=0, **VIT), "OwnForward has a forward_features of its own"),
        (lambda: torch.nn.Linear(3, 3), "Linear is not supported"),
    ],
    ids=["ResNet", "padding alone", "no class token", "own forward", "no timm model"],
)  # fmt: skip
def test_unsupported(make, reason):
    model = make()
    for use in (blocks_of, info_of, lambda m: DTL(m, 3), DTLConfig.for_backbone):
        with pytest.raises(UnsupportedBackbone, match=reason):
            use(model)


@pytest.mark.parametrize("cls, options", [(VisionTransformer, VIT), (SwinTransformer, SWIN)])
def test_a_model_with_a_classifier_is_refused(cls, options):
    with pytest.raises(ValueError, match="num_classes=0"):
        DTL(cls(num_classes=7, **options), 3)


def test_positions_follow_a_grid_of_equally_many_patches(monkeypatch):
    """timm before 1.0.31 leaves them where they are then."""
    native = load_backbone("toy/vit").pos_embed.detach()

    def older(self, img_size):
        self.patch_embed.set_input_size(img_size=img_size)

    monkeypatch.setattr(VisionTransformer, "set_input_size", older)
    model = load_backbone("toy/vit", image_size=(16, 64))
    grid = native[:, 1:].unflatten(1, (4, 4)).permute(0, 3, 1, 2)
    expected = F.interpolate(grid, (2, 8), mode="bicubic", antialias=True).flatten(2).mT
    torch.testing.assert_close(model.pos_embed[:, 1:], expected, rtol=0, atol=1e-6)
    assert torch.equal(model.pos_embed[:, :1], native[:, :1]) and (expected - native[:, 1:]).abs().max() > 0.01


def test_a_swins_windows_keep_their_share_of_the_grid(monkeypatch):
    """timm before 1.0.31 makes them an eighth of the grid, at the model's own size, too."""
    expected = [layer.blocks[0].window_size for layer in load_backbone("toy/swin", image_size=(96, 64)).layers]
    cls, options = TOYS["toy/swin"]

    def older_swin(**kwargs):
        model = cls(**kwargs)
        vars(model).pop("_ref_window_sizes", None)
        return model

    monkeypatch.setattr(SwinTransformer, "set_input_size", lambda *_, **__: pytest.fail("called at its own size"))
    assert load_backbone("toy/swin", image_size=64).layers[0].blocks[0].window_size == (4, 4)
    calls = []
    monkeypatch.setattr(SwinTransformer, "set_input_size", lambda self, img_size, **k: calls.append(k))
    monkeypatch.setitem(TOYS, "toy/swin", (older_swin, options))
    load_backbone("toy/swin", image_size=(96, 64))
    assert calls == [{"window_size": expected[0]}] and expected[0] == (6, 4)
    with pytest.raises(ValueError, match="multiples of 32 alone: take such a size, or a newer timm"):
        load_backbone("toy/swin", image_size=(72, 64))


def test_a_family_whose_size_this_timm_cannot_set(monkeypatch):
    monkeypatch.delattr(VisionTransformer, "set_input_size")
    assert load_backbone("toy/vit", image_size=32).dtl_info.image_size == (32, 32)
    with pytest.raises(ValueError, match="cannot set the image size of this VisionTransformer.* newer timm"):
        load_backbone("toy/vit", image_size=64)


def test_a_toy_whose_positions_timm_draws_twice(monkeypatch):
    """As timm before 1.0.31 does."""
    expected, (cls, options) = load_backbone("toy/vit").dtl_info, TOYS["toy/vit"]

    def older(**kwargs):
        torch.randn(1, 17, 48)
        return cls(**kwargs)

    monkeypatch.setitem(TOYS, "toy/vit", (older, options))
    assert load_backbone("toy/vit").dtl_info == expected


def test_a_model_of_any_size_takes_the_one_it_was_made_for():
    torch.manual_seed(0)
    fixed, dynamic = (VisionTransformer(num_classes=0, dynamic_img_size=d, **VIT) for d in (False, True))
    dynamic.load_state_dict(fixed.state_dict())
    models = []
    for backbone in (fixed, dynamic):
        torch.manual_seed(0)
        models.append(DTL(backbone, 3, DTLConfig(inject_from=2)))
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(models[0](images), models[1](images))
    for use in (models[1], build("linear", dynamic, 3)):
        with pytest.raises(ValueError, match=r"\(2, 3, 48, 32\); this backbone takes \(B, 3, 32, 32\): resize them"):
            use(torch.randn(2, 3, 48, 32))


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_channels(channels, monkeypatch):
    cls, options = TOYS["toy/vit"]
    monkeypatch.setitem(TOYS, "toy/vit", (cls, {**options, "in_chans": channels}))
    model = DTL("toy/vit", 3)
    assert len(model.info.mean) == len(model.info.std) == channels == model.blocks.channels
    assert model(torch.randn(2, channels, 32, 32)).shape == (2, 3)
    with pytest.raises(ValueError, match=rf"takes \(B, {channels}, 32, 32\)"):
        model(torch.randn(2, 3, 32, 32))
    plan._shape.cache_clear()
    planned = plan.plan_training("dtl", "toy/vit", batch_size=128, image_size=32)
    assert planned.by_kind["input"] == 128 * channels * 32 * 32 * 4 + 128 * 8
    plan._shape.cache_clear()


def test_a_backbone_that_lies_elsewhere():
    """On meta there are no weights to answer with."""
    with torch.device("meta"):
        shape = load_backbone("toy/vit")
    with pytest.raises(ValueError, match="meta device, where it has a shape and no weights"):
        DTL(shape, 3)(torch.zeros(1, 3, 32, 32))


@pytest.mark.gpu
def test_what_is_trained_lies_where_the_backbone_lies():
    for method in METHODS:
        model = build(method, load_backbone("toy/vit").cuda(), 3, inplace=True)
        assert model(torch.zeros(1, 3, 32, 32, device="cuda")).shape == (1, 3)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: DTLConfig(rank=2.5), "rank is 2.5: give a whole number"),
        (lambda: DTLConfig(inject_from="6"), "inject_from is '6': give a whole number"),
        (lambda: DTLConfig(dwconv_kernel=3.0), "dwconv_kernel is 3.0"),
        (lambda: DTL("toy/vit", 2.5), "num_classes is 2.5"),
        (lambda: build("linear", load_backbone("toy/vit"), "ten"), "num_classes is 'ten'"),
        (lambda: build("lora", load_backbone("toy/vit"), 3, rank=1.5), "rank is 1.5"),
        (lambda: build("vpt-deep", load_backbone("toy/vit"), 3, prompts=2.5), "prompts is 2.5"),
        (lambda: build("full", load_backbone("toy/vit"), 3, first_block=0.5), "first_block is 0.5"),
        (lambda: load_backbone("toy/vit", image_size=32.5), "image_size is 32.5"),
    ],
)
def test_a_count_that_is_no_whole_number(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_numpys_integers_are_whole_numbers(tmp_path):
    model = DTL("toy/vit", np.int64(3), DTLConfig(rank=np.int64(2), inject_from=np.int32(5)))
    model.save_adapter(tmp_path / "adapter.safetensors")  # JSON knows no NumPy
    assert DTL.from_adapter(tmp_path / "adapter.safetensors").config == DTLConfig(rank=2, inject_from=5)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "hf-hub:nobody/nothing"])
def test_without_a_network_the_words_come_at_once(name, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    started = time.perf_counter()
    with pytest.raises(ConnectionError, match=f"the weights of {name} are not on this machine, .* pretrained=False"):
        load_backbone(name)
    assert time.perf_counter() - started < 20 and not constants.HF_HUB_OFFLINE


def test_a_shape_is_had_where_timm_reads_numbers_off_tensors_while_it_builds(monkeypatch):
    """As timm 1.0.12 does: on the meta device there are no numbers to read."""
    cls, options = TOYS["toy/vit"]

    def older(**kwargs):
        torch.linspace(0, 0.1, 12)[1].item()
        return cls(**kwargs)

    monkeypatch.setitem(TOYS, "toy/vit", (older, options))
    with torch.device("meta"):
        shape = load_backbone("toy/vit", image_size=64)
    assert {p.device.type for p in shape.parameters()} == {"meta"} and shape.patch_embed.grid_size == (8, 8)
    assert torch.empty(0).device.type == "cpu" and load_backbone("toy/vit").pos_embed.device.type == "cpu"


def test_random_weights_are_the_same_each_time_and_say_so(tmp_path):
    """So an adapter that was trained on them finds them again by the name in its file."""
    torch.manual_seed(7)
    first = load_backbone("test_vit", pretrained=False)
    torch.manual_seed(8)
    again = load_backbone("random/test_vit")
    assert first.dtl_info == again.dtl_info and again.dtl_info.name == "random/test_vit"
    model = DTL(first, 3)
    model.save_adapter(tmp_path / "a.safetensors")
    images = torch.randn(2, 3, *first.dtl_info.image_size)
    assert torch.equal(DTL.from_adapter(tmp_path / "a.safetensors").eval()(images), model.eval()(images))

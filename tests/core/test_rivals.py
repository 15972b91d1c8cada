"""The rivals as methods: how many parameters they train, that they train, what they leave alone, where they go."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from families import backbone_of, images_for
from test_baselines import VIT_ONLY
from timm.layers import SwiGLU
from timm.models.vision_transformer import VisionTransformer
from toys import ToyImages, toy_model, trained

from dtl_core import UnsupportedBackbone, load_backbone
from dtl_core.baselines import METHODS, build
from dtl_core.baselines.support import ON_A_SWIN

RIVALS = [m for m in METHODS if not m.startswith("dtl")]
ON = [(m, "toy/vit") for m in RIVALS] + [(m, "toy/swin") for m in RIVALS if m not in VIT_ONLY]
# ViT-B/16 without the head: exactly ours, and the field's figure in millions
COUNTS = {
    "full": (85_798_656, 85.8),
    "linear": (0, 0.0),
    "bitfit": (102_912, 0.10),
    "vpt-shallow": (76_800, 0.08),
    "vpt-deep": (562_176, 0.56),
    "adaptformer": (156_768, 0.16),
    "lora": (294_912, 0.29),
    "ssf": (205_824, 0.21),
    "fact": (86_528, 0.09),  # the field's 0.07 is a mean over ranks, see below
    "repadapter": (239_808, 0.24),
    "lst": (2_376_300, 2.38),
    "res-tuning-bypass": (313_548, None),  # its width is our choice
    "noah": (433_248, 0.43),
    "dtl": (36_864, 0.04),
    "dtl+": (43_776, 0.04),
}


@pytest.fixture(scope="module")
def vit_b():
    with torch.device("meta"):
        return load_backbone("vit_base_patch16_224", pretrained=False)


def beside_the_head(model):
    return sum(p.numel() for p in model.trainable_parameters()) - sum(p.numel() for p in model.head.parameters())


def test_the_methods_and_their_order():
    order = "full linear bitfit vpt-shallow vpt-deep adaptformer lora ssf fact repadapter lst res-tuning-bypass noah dtl dtl+"
    assert list(METHODS) == order.split() == list(COUNTS)


@pytest.mark.parametrize("method", METHODS)
def test_parameters_on_vit_b(method, vit_b):
    ours, field = COUNTS[method]
    model = build(method, vit_b, 100)
    assert beside_the_head(model) == ours
    if method.startswith("dtl"):  # a figure of one digit: 0.037 is 0.04
        assert round(ours / 1e6, 2) == field
    elif field is not None:
        assert abs(ours / 1e6 - field) <= 0.05 * field


def test_other_sizes_on_vit_b(vit_b):
    by_rank = {r: beside_the_head(build("fact", vit_b, 100, rank=r)) for r in (32, 16)}
    assert (13 * by_rank[32] + 6 * by_rank[16]) / 19 == pytest.approx(68_985, abs=1)  # 19 tasks of VTAB-1K: 0.069 M
    assert beside_the_head(build("lora", vit_b, 100, separate=True)) == beside_the_head(build("lora", vit_b, 100))
    assert beside_the_head(build("vpt-deep", vit_b, 100, prompts=50)) == 12 * 50 * 768
    assert beside_the_head(build("adaptformer", vit_b, 100, bottleneck=64)) == 12 * (2 * 64 * 768 + 64 + 768)
    model = build("repadapter", vit_b, 100)
    biases = sum(
        p.numel() for n, p in model.named_parameters() if p.requires_grad and n.endswith(("down_bias", "up_bias"))
    )
    assert beside_the_head(model) - biases == 221_184


@pytest.mark.parametrize("method", METHODS)
def test_a_step_on_meta(method, vit_b, monkeypatch):
    monkeypatch.setattr(
        torch, "meta", SimpleNamespace(), raising=False
    )  # torch 2.4's checkpoint asks for such a module
    model = build(method, vit_b, 100).to("meta").train()
    with torch.device("meta"):
        logits = model(torch.empty(2, 3, 224, 224))
        F.cross_entropy(logits, torch.zeros(2, dtype=torch.long)).backward()
    assert logits.shape == (2, 100)
    assert all(p.grad.is_meta and p.grad.shape == p.shape for p in model.trainable_parameters())


@pytest.mark.parametrize("method, backbone", ON)
def test_each_trains_what_it_says_and_nothing_else(method, backbone):
    model = toy_model(method, backbone).train()
    data = ToyImages(8, model.info.image_size[0])
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    buffers = {n: b.clone() for n, b in model.named_buffers()}
    before = trained(model)
    # no weight decay, which would move a parameter that nothing depends on
    optimizer = torch.optim.Adam(model.trainable_parameters(), lr=1e-3 if method == "full" else 1e-2)
    losses = []
    for _ in range(6):
        loss = F.cross_entropy(model(data.images), data.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.05, losses
    after = trained(model)
    assert not [n for n in before if torch.equal(before[n], after[n])]
    now = dict(model.named_parameters())
    assert all(torch.equal(p.view(torch.uint8), now[n].detach().view(torch.uint8)) for n, p in frozen.items())
    assert all(torch.equal(b, dict(model.named_buffers())[n]) for n, b in buffers.items())
    assert len(frozen) + len(before) == len(now) and (len(frozen) > 0) == (method != "full")
    assert all(now[n].grad is None for n in frozen)
    norms = [n for n in before if "norm" in n and n.endswith("weight") and n.startswith("backbone")]
    assert bool(norms) == (method == "full")


@pytest.mark.parametrize("method", sorted(VIT_ONLY))
def test_a_swin_is_refused_and_left_as_it_was(method):
    backbone = backbone_of("Swin-T")
    modules = [type(m) for m in backbone.modules()]
    with pytest.raises(
        UnsupportedBackbone, match="built for timm's VisionTransformer, not for a SwinTransformer: its "
    ) as error:
        build(method, backbone, 3, inplace=True)
    assert f"Methods for a Swin: {ON_A_SWIN}" in str(error.value)
    assert [type(m) for m in backbone.modules()] == modules and all(p.requires_grad for p in backbone.parameters())


def test_what_a_swin_can_take():
    assert ON_A_SWIN.split(", ") == [m for m in METHODS if m not in VIT_ONLY]


@pytest.mark.parametrize("method", ["adaptformer", "ssf", "fact", "repadapter", "lst", "noah"])
def test_other_blocks_are_refused(method):
    with pytest.raises(UnsupportedBackbone, match="timm's standard block .* use full, linear, bitfit or dtl"):
        build(method, backbone_of("ViT, parallel blocks"), 3)


@pytest.mark.parametrize("method", ["full", "linear", "bitfit", "vpt-shallow", "vpt-deep"])
def test_other_blocks_that_are_left_whole(method):
    backbone = backbone_of("ViT, parallel blocks")
    assert build(method, backbone, 3).double()(images_for(backbone)).shape == (2, 3)


def test_layers_that_are_not_there_or_do_not_fit():
    own = dict(img_size=16, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=0)
    gated = VisionTransformer(**own, mlp_layer=SwiGLU)
    with pytest.raises(UnsupportedBackbone, match="RepAdapter changes the linear layer mlp.fc1, and block 0 .* SwiGLU"):
        build("repadapter", gated, 3)
    with pytest.raises(
        UnsupportedBackbone, match="FacT cuts every layer into pieces of 16 x 16, .* has a layer of 40 x 16"
    ):
        build("fact", VisionTransformer(**own, mlp_ratio=2.5), 3)
    with pytest.raises(ValueError, match="has no biases for BitFit"):
        unbiased = VisionTransformer(**own)
        for module in unbiased.modules():
            module.bias = None
        build("bitfit", unbiased, 3)


@pytest.mark.parametrize(
    "method, options, message",
    [
        ("vpt-deep", dict(prompts=0), "prompts is 0: VPT needs at least 1"),
        ("noah", dict(rank=0), "rank is 0: LoRA needs a rank of at least 1"),
        ("adaptformer", dict(bottleneck=0), "bottleneck is 0 wide: it needs a width of at least 1"),
        ("fact", dict(rank=0), "rank is 0: FacT needs a rank of at least 1"),
        ("repadapter", dict(hidden=9), "hidden=9 and groups=2 on tokens of width 24: both .* multiples of groups"),
        ("lst", dict(reduction=5), "reduction=5 of tokens of width 24: .* multiple of its 3 heads"),
        ("lst", dict(reduction=0), "reduction=0 of tokens"),
    ],
)
def test_sizes_that_cannot_be(method, options, message):
    with pytest.raises(ValueError, match=message):
        build(method, backbone_of("ViT"), 3, **options)
    with pytest.raises(ValueError, match="num_classes is 0: a head needs at least one class"):
        build(method, backbone_of("ViT"), 0)


@pytest.mark.parametrize("method, backbone", ON)
def test_the_switch_of_the_fused_attention(method, backbone):
    model = toy_model(method, backbone).double()
    images = ToyImages(2, model.info.image_size[0], torch.float64).images
    with torch.no_grad():
        fused = model(images)
        attentions = [m for m in model.modules() if hasattr(m, "fused_attn")]
        assert len(attentions) == len(model.blocks.widths) * (2 if method == "lst" else 1)
        for attention in attentions:
            attention.fused_attn = not attention.fused_attn
        torch.testing.assert_close(model(images), fused, rtol=1e-10, atol=1e-12)


def test_lst_keeps_nothing_of_the_backbone_for_backward():
    model = toy_model("lst").train()
    grads = []
    for block in model.backbone.blocks:
        block.register_forward_hook(lambda module, args, out: grads.append(out.requires_grad))
    model(ToyImages(2).images.requires_grad_()).sum().backward()  # images that would carry a graph into the backbone
    assert grads == [False] * 12 and model.side.up.weight.grad is not None


def test_the_table_names_the_parts():
    parts = {m: {r["part"] for r in toy_model(m).parameter_table() if r["trained"]} - {"head"} for m in RIVALS}
    inside = {"in the backbone"}
    assert parts == {
        "full": inside, "linear": set(), "bitfit": inside, "vpt-shallow": {"prompts"}, "vpt-deep": {"prompts"},
        "adaptformer": inside, "lora": inside, "ssf": inside, "fact": {"shared factors"},
        "repadapter": inside, "lst": {"side network"}, "res-tuning-bypass": {"side network"}, "noah": inside | {"prompts"},
    }  # fmt: skip


def test_a_methods_own_dropout_trains_and_the_frozen_networks_does_not():
    backbone = VisionTransformer(
        img_size=32,
        patch_size=8,
        embed_dim=48,
        depth=2,
        num_heads=3,
        num_classes=0,
        proj_drop_rate=0.5,
        attn_drop_rate=0.5,
    )
    images = ToyImages(4).images
    for method, options in (("fact", {}), ("lst", dict(dropout=0.5))):
        model = build(method, backbone, 3, **options)
        with torch.no_grad():
            for p in model.trainable_parameters():
                p.add_(0.1)
            still = [model.eval()(images) for _ in range(2)]
            moving = [model.train()(images) for _ in range(2)]
        assert torch.equal(*still) and not torch.equal(*moving), method
        drops = [m for m in model.modules() if isinstance(m, torch.nn.Dropout) and m.p > 0 and m.training]
        own = [m for m in model.drops or model.side.modules() if isinstance(m, torch.nn.Dropout)]
        assert drops and {id(m) for m in drops} <= {id(m) for m in own}, method
        none = build(method, backbone, 3, dropout=0.0).train()
        assert torch.equal(none(images), none(images)), method

"""The methods that DTL is compared with: what each trains, one readout, and LoRA against peft."""

import copy

import pytest
import torch
import torch.nn.functional as F
from families import backbone_of, images_for
from timm.models.swin_transformer import SwinTransformer

from dtl_core import DTL, DTLConfig
from dtl_core.baselines import METHODS, Classifier, LinearProbe, LoRALinear, build
from dtl_core.baselines.lora import merge
from dtl_core.walks import walk

KINDS = ["ViT", "DINOv2, 4 registers", "SigLIP", "Swin-T"]
M2 = DTLConfig(inject_from=2)


def options_of(method):
    return {"dtl": dict(config=M2), "dtl+": dict(config=DTLConfig(inject_from=2, dwconv_kernel=3))}.get(method, {})


@torch.no_grad()
def frozen_features(backbone, images):
    """By timm's own forward: mean of the patch tokens that leave the last block, then the final norm."""
    seen = []
    last = backbone.layers[-1] if isinstance(backbone, SwinTransformer) else backbone.blocks[-1]
    handle = last.register_forward_hook(lambda module, args, out: seen.append(out))
    out = backbone.forward_features(images)
    handle.remove()
    if isinstance(backbone, SwinTransformer):
        return out.mean(dim=(1, 2))
    return backbone.fc_norm(backbone.norm(seen[0][:, backbone.num_prefix_tokens :].mean(dim=1)))


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_starts_from_the_same_features(method, family):
    backbone = backbone_of(family)
    images = images_for(backbone)
    model = build(method, backbone, 3, **options_of(method)).double()
    read = []
    model.head.register_forward_pre_hook(lambda module, args: read.append(args[0].detach()))
    logits = model.train()(images)
    assert torch.equal(read[0], frozen_features(backbone, images)) and logits.shape == (2, 3)
    assert model.class_names is None and model.info.image_size == backbone.patch_embed.img_size
    if hasattr(model, "prefix"):
        assert torch.equal(model.suffix(model.prefix(images)), logits)


def test_what_has_a_frozen_prefix():
    backbone = backbone_of("ViT")
    with_prefix = {m for m in METHODS if hasattr(build(m, backbone, 3, **options_of(m)), "prefix")}
    assert with_prefix == {"linear", "dtl", "dtl+"}


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_what_each_method_trains(method, family):
    backbone = backbone_of(family)
    steps, total = walk(backbone), sum(p.numel() for p in backbone.parameters())
    model = build(method, backbone, 3, **options_of(method))
    head = 3 * steps.widths[-1] + 3
    expected = {
        "linear": head,
        "full": head + total,
        "lora": head + sum(8 * (d + 3 * d) for d in steps.widths),  # A is (8, d), B is (3 d, 8)
    }.get(method)
    trained = sum(p.numel() for p in model.trainable_parameters())
    if expected is None:
        expected = head + sum(p.numel() for p in model.csn.parameters())
    assert trained == expected
    table = model.parameter_table()
    assert sum(row["parameters"] for row in table if row["trained"]) == trained
    assert sum(row["parameters"] for row in table) == sum(p.numel() for p in model.parameters())
    assert {p.data_ptr() for p in model.trainable_parameters()} == {
        p.data_ptr() for p in model.parameters() if p.requires_grad
    }
    # and a step trains exactly that
    before = {n: p.detach().clone() for n, p in model.double().named_parameters()}
    images = images_for(model.backbone, 4)
    optimizer = torch.optim.SGD(model.trainable_parameters(), lr=1.0)
    F.cross_entropy(model.train()(images), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed <= {n for n, p in model.named_parameters() if p.requires_grad} and "head.weight" in changed
    if method == "linear":
        assert changed == {"head.weight", "head.bias"}
    if method == "lora":  # A has no gradient while B is 0
        assert changed == {n for n, p in model.named_parameters() if n.endswith("qkv.B") or n.startswith("head.")}
    if method == "full" and family == "ViT":
        assert changed == set(before)


def test_build_copies_unless_told_otherwise():
    for method in METHODS:
        backbone = backbone_of("ViT")
        state = copy.deepcopy(backbone.state_dict())
        model = build(method, backbone, 3, **options_of(method))
        with torch.no_grad():
            for p in model.parameters():
                p.add_(1)
        assert model.backbone is not backbone
        assert all(p.requires_grad for p in backbone.parameters())
        assert backbone.state_dict().keys() == state.keys()
        assert all(torch.equal(v, state[k]) for k, v in backbone.state_dict().items())
        assert build(method, backbone, 3, inplace=True, **options_of(method)).backbone is backbone


def test_an_unknown_method_or_option():
    with pytest.raises(ValueError, match="no method is called 'lorra': choose one of .*linear.*lora.*dtl"):
        build("lorra", backbone_of("ViT"), 3)
    with pytest.raises(ValueError, match="readout is 'max': choose 'mean' or 'cls'"):
        build("linear", backbone_of("ViT"), 3, readout="max")
    with pytest.raises(ValueError, match="rank is 0"):
        build("lora", backbone_of("ViT"), 3, rank=0)
    with pytest.raises(ValueError, match="dtl.* has a depthwise convolution: give a config with dwconv_kernel > 0"):
        build("dtl+", backbone_of("ViT"), 3, config=M2)


def test_kinds():
    backbone = backbone_of("ViT")
    kinds = {m: type(build(m, backbone, 3, **options_of(m))) for m in METHODS}
    assert kinds["dtl"] is kinds["dtl+"] is DTL and kinds["linear"] is LinearProbe
    assert kinds["full"] is kinds["lora"] is Classifier
    assert build("dtl+", backbone_of("ViT", depth=12), 3).config == DTLConfig.paper("vit", plus=True)


@pytest.mark.parametrize("family", ["ViT", "ViT, average pool", "DINOv2, 4 registers", "DeiT, distilled"])
@pytest.mark.parametrize("method", ["linear", "full", "lora"])
def test_the_class_token_as_readout(method, family):
    backbone = backbone_of(family)
    images = images_for(backbone)
    model = build(method, backbone, 3, readout="cls").double()
    tokens = []
    handle = backbone.blocks[-1].register_forward_hook(lambda module, args, out: tokens.append(out))
    with torch.no_grad():
        backbone.forward_features(images)
    handle.remove()
    expected = backbone.fc_norm(backbone.norm(tokens[0][:, 0]))
    assert torch.equal(model.features(images), expected)
    assert not torch.equal(expected, frozen_features(backbone, images)) and model.readout == "cls"


@pytest.mark.parametrize("family", ["SigLIP", "Swin-T"])
def test_no_class_token_to_read(family):
    with pytest.raises(ValueError, match="has no class token to read: use readout='mean'"):
        build("linear", backbone_of(family), 3, readout="cls")


@pytest.mark.parametrize("family", ["ViT", "DINOv2, 4 registers", "Swin-T"])
@pytest.mark.parametrize("rank, alpha", [(8, 8), (4, 16)])
def test_lora_is_pefts(family, rank, alpha):
    peft = pytest.importorskip("peft", reason="the reference for LoRA, and it is not installed")
    backbone = backbone_of(family)
    images = images_for(backbone)
    ours = build("lora", backbone, 3, rank=rank, alpha=alpha).double()
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=["qkv"], bias="none")
    theirs = peft.get_peft_model(copy.deepcopy(backbone), config).double()
    peft_layers = {n: m for n, m in theirs.base_model.model.named_modules() if hasattr(m, "lora_A")}
    layers = {n: m for n, m in ours.backbone.named_modules() if isinstance(m, LoRALinear)}
    assert layers.keys() == peft_layers.keys() and len(layers) == len(walk(backbone).widths)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, layer in layers.items():
            a, b = peft_layers[name].lora_A["default"].weight, peft_layers[name].lora_B["default"].weight
            assert torch.equal(b, torch.zeros_like(b)) and torch.equal(layer.B, b)
            assert layer.A.shape == a.shape and layer.B.shape == b.shape
            layer.A.copy_(0.3 * torch.randn(a.shape, generator=generator))
            layer.B.copy_(0.3 * torch.randn(b.shape, generator=generator))
            a.copy_(layer.A)
            b.copy_(layer.B)

    tokens = []
    inner = theirs.base_model.model
    last = inner.layers[-1] if isinstance(inner, SwinTransformer) else inner.blocks[-1]
    last.register_forward_hook(lambda module, args, out: tokens.append(out))
    inner.eval().forward_features(images)
    logits = ours.head(walk(inner).readout(tokens[0]))
    mine = ours(images)
    torch.testing.assert_close(mine, logits, rtol=1e-12, atol=1e-12)
    assert (mine - ours.head(frozen_features(backbone, images))).abs().max() > 1e-3  # the update does something
    weights = torch.randn(logits.shape, generator=generator, dtype=torch.float64)
    (logits * weights).sum().backward()
    ours.head.zero_grad()
    (mine * weights).sum().backward()
    for name, layer in layers.items():
        a, b = peft_layers[name].lora_A["default"].weight, peft_layers[name].lora_B["default"].weight
        torch.testing.assert_close(layer.A.grad, a.grad, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(layer.B.grad, b.grad, rtol=1e-9, atol=1e-12)
        assert layer.A.grad.abs().max() > 0 and layer.base.weight.grad is None


@pytest.mark.parametrize("family", ["ViT", "Swin-T"])
def test_merged_lora_computes_the_same(family):
    model = build("lora", backbone_of(family), 3, rank=4, alpha=16).double()
    images = images_for(model.backbone)
    for layer in model.modules():
        if isinstance(layer, LoRALinear):
            torch.nn.init.normal_(layer.B, std=0.3)
    before = model(images).detach()
    merge(model)
    assert not any(isinstance(m, LoRALinear) for m in model.modules())
    assert model.backbone.state_dict().keys() == backbone_of(family).state_dict().keys()
    torch.testing.assert_close(model(images).detach(), before, rtol=1e-11, atol=1e-11)


def test_lora_without_a_fused_qkv_is_refused():
    from timm.models.vision_transformer import ParallelScalingBlock, VisionTransformer

    backbone = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=0, block_fn=ParallelScalingBlock
    )
    with pytest.raises(ValueError, match="no attention with a fused qkv"):
        build("lora", backbone, 2)

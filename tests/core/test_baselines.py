"""The methods that DTL is compared with: what each trains, and one readout."""

import copy

import pytest
import torch
from families import backbone_of, images_for
from timm.models.swin_transformer import SwinTransformer

from dtl_core import DTLConfig
from dtl_core.baselines import METHODS, build
from dtl_core.blocks import blocks_of

KINDS = ["ViT", "DINOv2, 4 registers", "SigLIP", "Swin-T"]
VIT_ONLY = {"vpt-shallow", "vpt-deep", "fact", "lst", "res-tuning-bypass", "noah"}
# prompts take part in attention from the start, and a bypass starts from a mean over the blocks
MOVED = {"vpt-shallow", "vpt-deep", "noah", "res-tuning-bypass"}
WITHOUT_SIDE_NETWORK = [m for m in METHODS if not m.startswith("dtl")]
ON = [(m, f) for m in METHODS for f in KINDS if not (m in VIT_ONLY and f.startswith("Swin"))]
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


@pytest.mark.parametrize("method, family", ON)
def test_every_method_starts_from_the_same_features(method, family):
    backbone = backbone_of(family)
    images = images_for(backbone)
    # DTL's default takes the last block in parts of the batch, and a matrix product rounds by its size
    whole = dict(recompute="none") if method.startswith("dtl") else {}
    model = build(method, backbone, 3, **options_of(method), **whole).double()
    read = []
    model.head.register_forward_pre_hook(lambda module, args: read.append(args[0].detach()))
    logits = model.train()(images)
    frozen = frozen_features(backbone, images)
    assert torch.equal(read[0], frozen) != (method in MOVED) and read[0].shape == frozen.shape
    assert logits.shape == (2, 3)
    assert model.class_names is None and model.info.image_size == backbone.patch_embed.img_size
    if hasattr(model, "prefix"):
        assert torch.equal(model.suffix(model.prefix(images)), logits)


def test_what_has_a_frozen_prefix():
    backbone = backbone_of("ViT")
    with_prefix = {m for m in METHODS if hasattr(build(m, backbone, 3, **options_of(m)), "prefix")}
    assert with_prefix == {"linear", "res-tuning-bypass", "dtl", "dtl+"}


@pytest.mark.parametrize("method, family", ON)
def test_what_each_method_trains(method, family):
    backbone = backbone_of(family)
    steps, total = blocks_of(backbone), sum(p.numel() for p in backbone.parameters())
    model = build(method, backbone, 3, **options_of(method))
    head = 3 * steps.widths[-1] + 3
    expected = {
        "linear": head,
        "full": head + total,
        "lora": head + sum(8 * (d + 3 * d) for d in steps.widths),  # A is (8, d), B is (3 d, 8)
        "vpt-shallow": head + 100 * steps.widths[0],
        "vpt-deep": head + 61 * sum(steps.widths),
        "adaptformer": head + sum(2 * 8 * d + 8 + d for d in steps.widths),
        "fact": head + 32 * 2 * steps.widths[0] + 32**3 + 32 * 12 * len(steps.widths),
        # qkv and fc1 of every block read tokens of width d
        "repadapter": head + sum(2 * (8 * d + 8 + 8 * d // 2 + d) for d in steps.widths),
        "noah": head + sum(10 * d + 5 * 4 * d + 2 * 8 * d + 8 + d for d in steps.widths),
    }.get(method)
    trained = sum(p.numel() for p in model.trainable_parameters())
    if method.startswith("dtl"):
        expected = head + sum(p.numel() for p in model.csn.parameters())
    assert expected is None or trained == expected  # the counts of all are in test_rivals.py
    table = model.parameter_table()
    assert sum(row["parameters"] for row in table if row["trained"]) == trained
    assert sum(row["parameters"] for row in table) == sum(p.numel() for p in model.parameters())
    assert {p.data_ptr() for p in model.trainable_parameters()} == {
        p.data_ptr() for p in model.parameters() if p.requires_grad
    }


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


@pytest.mark.parametrize("family", ["ViT", "ViT, average pool", "DINOv2, 4 registers", "DeiT, distilled"])
@pytest.mark.parametrize("method", WITHOUT_SIDE_NETWORK)
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
    features = model.features(images)
    assert torch.equal(features, expected) != (method in MOVED) and features.shape == expected.shape
    assert not torch.equal(expected, frozen_features(backbone, images)) and model.readout == "cls"


@pytest.mark.parametrize("family", ["SigLIP", "Swin-T"])
def test_no_class_token_to_read(family):
    with pytest.raises(ValueError, match="has no class token to read: use readout='mean'"):
        build("linear", backbone_of(family), 3, readout="cls")

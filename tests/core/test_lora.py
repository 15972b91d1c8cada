"""LoRA against peft on the same weights, and where it has no place."""

import copy

import pytest
import torch
from families import backbone_of, images_for
from test_baselines import frozen_features
from timm.models.swin_transformer import SwinTransformer

from dtl_core.baselines import LoRALinear, build
from dtl_core.blocks import blocks_of


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
    assert layers.keys() == peft_layers.keys() and len(layers) == len(blocks_of(backbone).widths)
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
    logits = ours.head(blocks_of(inner).readout(tokens[0]))
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


def test_lora_without_a_fused_qkv_is_refused():
    from timm.models.vision_transformer import ParallelScalingBlock, VisionTransformer

    backbone = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=0, block_fn=ParallelScalingBlock
    )
    with pytest.raises(ValueError, match="no attention with a fused qkv"):
        build("lora", backbone, 2)

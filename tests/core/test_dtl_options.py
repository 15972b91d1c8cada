"""How DTL runs: recomputation and stochastic depth."""

import pytest
import torch
import torch.nn.functional as F
from families import backbone_of, dtl_of, images_for, toy
from timm.models.vision_transformer import ParallelScalingBlock, VisionTransformer

from dtl_core import DTL, DTLConfig
from dtl_core.lean import PARTS

KINDS = ["ViT", "DINOv2, 4 registers", "Swin-T"]


@pytest.mark.parametrize("drop_path", [0.0, 0.3])
@pytest.mark.parametrize("plus", [False, True], ids=["DTL", "DTL+"])
@pytest.mark.parametrize("family", KINDS)
def test_recomputation_changes_no_gradient(family, plus, drop_path):
    gradients = {}
    for recompute in ("none", "side", "blocks"):
        model = dtl_of(backbone_of(family), plus, up=0.5, recompute=recompute, drop_path=drop_path).train()
        torch.manual_seed(9)
        images = images_for(model.backbone, 2 * PARTS + 1)  # the parts of a batch are uneven
        loss = F.cross_entropy(model(images), torch.arange(len(images)) % 5)
        loss.backward()
        gradients[recompute] = [loss.detach()] + [p.grad for p in model.trainable_parameters()]
    for recompute in ("side", "blocks"):
        for ours, plain in zip(gradients[recompute], gradients["none"], strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-13 * plain.abs().max().item())


@pytest.mark.parametrize("family", [*KINDS, "CLIP", "DeiT-III"])
def test_drop_path_is_what_timm_does(family):
    """At the start DTL adds nothing, so in training mode it must draw and drop as timm built with that rate."""
    rate = 0.6
    twin = backbone_of(family, drop_path_rate=rate)
    model = dtl_of(backbone_of(family), plus=True, drop_path=rate)
    images, read = images_for(model.backbone, 16), []
    model.head.register_forward_pre_hook(lambda module, args: read.append(args[0]))
    last = twin.layers[-1] if family.startswith("Swin") else twin.blocks[-1]
    with torch.no_grad():
        for seed in range(2):
            torch.manual_seed(seed)
            model.train()(images)
            tokens = []
            handle = last.register_forward_hook(lambda module, args, out, tokens=tokens: tokens.append(out))
            torch.manual_seed(seed)
            twin.train().forward_features(images)
            handle.remove()
            assert torch.equal(read.pop(), model.blocks.readout(tokens[0]))
        model.eval()(images)
        dropped, plain = read.pop(), dtl_of(backbone_of(family), plus=True).eval()
        plain.head.register_forward_pre_hook(lambda module, args: read.append(args[0]))
        plain(images)
        assert torch.equal(dropped, read.pop())  # off in eval mode
        torch.manual_seed(0)
        model.train()(images)
        assert not torch.equal(dropped, read.pop())


@pytest.mark.parametrize("name, depth", [("toy/vit", 12), ("toy/swin", 24)])
def test_drop_path_rises_linearly_from_zero(name, depth):
    model = toy(name, drop_path=0.1)
    rates = [d.drop_prob if d else 0.0 for d in model.blocks.drops]
    assert rates == pytest.approx([0.1 * i / (depth - 1) for i in range(depth)], rel=1e-6)
    assert model.drop_path == pytest.approx(0.1) and toy(name).drop_path == 0


def test_drop_path_is_refused_on_other_blocks():
    backbone = VisionTransformer(img_size=32, patch_size=8, embed_dim=24, depth=4, num_heads=3, num_classes=0, block_fn=ParallelScalingBlock)  # fmt: skip
    with pytest.raises(ValueError, match="drop_path=0.1 .* another kind of block: use drop_path=0"):
        DTL(backbone, 3, DTLConfig(inject_from=2), drop_path=0.1)
    assert DTL(backbone, 3, DTLConfig(inject_from=2))(torch.zeros(1, 3, 32, 32)).shape == (1, 3)

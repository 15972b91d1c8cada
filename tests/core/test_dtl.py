"""DTL itself: wrong input, what stays frozen, and what is trained."""

import hashlib

import pytest
import torch
import torch.nn.functional as F
from families import backbone_of, config_of, dtl_of, toy, toy_images
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer

from dtl_core import DTL, DTLConfig, load_backbone
from dtl_core.backbones import TOYS


def sha256(module):
    digest = hashlib.sha256()
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        digest.update(name.encode() + value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize(
    "config, num_classes, options, message",
    [
        (DTLConfig(inject_from=12), 4, {}, "inject_from=12, but the backbone has blocks 0 to 11: choose a smaller M"),
        (DTLConfig(), 0, {}, "num_classes is 0"),
        (DTLConfig(), 4, dict(recompute="all"), "recompute is 'all': choose 'side', 'blocks' or 'none'"),
        (DTLConfig(), 4, dict(drop_path=1.0), "drop_path is 1.0: it is a probability below 1"),
        (DTLConfig(), 4, dict(drop_path=-0.1), "drop_path is -0.1"),
    ],
)
def test_what_does_not_fit_is_refused(config, num_classes, options, message):
    backbone = load_backbone("toy/vit")
    with pytest.raises(ValueError, match=message):
        DTL(backbone, num_classes, config, **options)
    assert all(p.requires_grad for p in backbone.parameters())  # refused before anything was changed


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(value):
    backbone = load_backbone("toy/swin")
    with torch.no_grad():
        backbone.layers[2].blocks[3].mlp.fc1.weight[0, 0] = value
    with pytest.raises(
        ValueError, match=r"not finite in layers.2.blocks.3.mlp.fc1.weight \(1 tensors\): load it again"
    ):
        DTL(backbone, 4)


@pytest.mark.parametrize("shape", [(2, 3, 32, 40), (2, 3, 40, 32), (3, 32, 32), (2, 1, 32, 32), (2, 32, 32, 3)])
def test_images_of_another_size(shape):
    with pytest.raises(
        ValueError, match=r"this backbone takes \(B, 3, 32, 32\): resize them.*image_size=\(H, W\)"
    ) as error:
        DTL("toy/vit", 4)(torch.zeros(shape))
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("drop_path", [0.0, 0.2])
@pytest.mark.parametrize("name", TOYS)
def test_training_changes_no_byte_of_the_backbone(name, drop_path):
    model = toy(name, up=0.0, drop_path=drop_path).train()
    backbone, task = sha256(model.backbone), sha256(model.csn) + sha256(model.head)
    images, labels = toy_images(model, 8), torch.arange(8) % 4
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.5)  # all of them, as a reader might
    losses = []
    for _ in range(4):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] and sha256(model.csn) + sha256(model.head) != task
    assert all((low_rank.up != 0).any() for low_rank in model.csn.maps.values())
    assert sha256(model.backbone) == backbone
    norms = [m for m in model.backbone.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert norms and not any(p.requires_grad for m in norms for p in m.parameters())


@pytest.mark.parametrize("cls, options", [
    (VisionTransformer, dict(img_size=32, patch_size=8, embed_dim=24, depth=4, num_heads=3)),
    (SwinTransformer, dict(img_size=32, embed_dim=8, depths=(2, 2), num_heads=(1, 2), window_size=4)),
])  # fmt: skip
def test_the_backbone_stays_in_eval(cls, options):
    """Its own dropout and drop path, which timm turns on in training mode, stay off."""
    backbone = cls(num_classes=0, drop_path_rate=0.5, proj_drop_rate=0.5, attn_drop_rate=0.5, **options)
    model = DTL(backbone, 3, DTLConfig(inject_from=2)).train()
    assert model.training and model.csn.training and model.head.training
    assert not any(m.training for m in model.backbone.modules())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(images), model(images))
    assert torch.equal(model(images), model.eval()(images)) and not model.training


@pytest.mark.parametrize("recompute", ["side", "blocks", "none"])
@pytest.mark.parametrize("name", TOYS)
def test_the_prefix_runs_without_autograd(name, recompute):
    model, packed = toy(name, recompute=recompute), []
    images = toy_images(model).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t):
        features = model.prefix(images)
        assert not packed
        assert not any(t.requires_grad for t in (features.tokens, *features.taps.values()))
        model.suffix(features)
        assert packed  # and so the hook does see what is saved


@pytest.mark.parametrize("name", TOYS)
def test_the_prefix_holds_no_task_parameter(name):
    model = toy(name)
    images = toy_images(model)
    before = model.prefix(images)
    for p in model.trainable_parameters():
        p.data.fill_(float("nan"))
    after = model.prefix(images)
    assert torch.equal(before.tokens, after.tokens) and before.taps.keys() == after.taps.keys()
    assert all(torch.equal(before.taps[i], after.taps[i]) for i in before.taps)
    assert model.suffix(after).isnan().all()


@pytest.mark.parametrize("family", ["ViT", "Swin-T"])
def test_the_table_of_parameters(family):
    model = dtl_of(backbone_of(family), plus=True)
    table = {row["part"]: row for row in model.parameter_table()}
    assert [p for p, row in table.items() if row["trained"]] == ["low-rank maps", "depthwise convolution", "head"]
    assert sum(row["parameters"] for row in table.values()) == sum(p.numel() for p in model.parameters())
    trained = sum(row["parameters"] for row in table.values() if row["trained"])
    assert trained == sum(p.numel() for p in model.trainable_parameters())
    assert model.config == config_of(model.backbone, plus=True)


def test_the_head_at_the_start():
    model = DTL("toy/vit", 500)
    assert torch.equal(model.head.bias, torch.zeros(500))
    assert model.head.weight.std().item() == pytest.approx(0.02, rel=0.02)

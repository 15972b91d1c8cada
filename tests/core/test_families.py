"""Each timm family by a small instance: the walk is timm's own forward, and DTL on it is what hooks on timm compute."""

import math
from functools import partial

import pytest
import timm
import torch
import torch.nn.functional as F
from families import FAMILIES, OTHER_SIZES, SWINS, VIT, backbone_of, dtl_of, images_for, timm_blocks
from timm.layers import Mlp, SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer

from dtl_core import DTL
from dtl_core.blocks import blocks_of
from dtl_core.lean import can_pool, pooled_block

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:timm.layers.interpolate")  # timm's own, on a resized Swin
CASES = [pytest.param(n, None, id=n) for n in FAMILIES]
CASES += [pytest.param(n, size, id=f"{n}, resized") for n, size in OTHER_SIZES.items()]


def walked(model, images):
    """Every block's (input, output), by the walk."""
    steps, x, seen = blocks_of(model), blocks_of(model).embed(images), []
    for i in range(len(steps.widths)):
        x = steps.enter(i, x)
        seen.append((x, steps.block(i, x)))
        x = seen[-1][1]
    return seen


def recorded(model, images):
    """Every block's (input, output), by hooks on timm's own forward; and what timm returns."""
    seen = []
    handles = [
        b.register_forward_hook(lambda module, args, out: seen.append((args[0], out))) for b in timm_blocks(model)
    ]
    out = model.forward_features(images)
    for handle in handles:
        handle.remove()
    return seen, out


@pytest.mark.parametrize("family, size", CASES)
@torch.no_grad()
def test_the_walk_is_timms_own_forward(family, size):
    model = backbone_of(family, size)
    images = images_for(model)
    seen, out = recorded(model, images)
    ours = walked(model, images)
    assert len(seen) == len(ours) == len(blocks_of(model).stages)
    for i, (theirs, mine) in enumerate(zip(seen, ours, strict=True)):
        assert torch.equal(theirs[0], mine[0]) and torch.equal(theirs[1], mine[1]), i
        assert not torch.equal(mine[0], mine[1]), i  # a block that does nothing would show nothing
    assert torch.equal(model.norm(ours[-1][1]), out)


@pytest.mark.parametrize("family, size", CASES)
@torch.no_grad()
def test_the_readout(family, size):
    model = backbone_of(family, size)
    images = images_for(model)
    tokens = recorded(model, images)[0][-1][1]
    ours = blocks_of(model).readout(tokens)
    if isinstance(model, SWINS):
        assert torch.equal(ours, model(images))  # timm with num_classes=0 reads out the same way
        return
    mean = tokens[:, model.num_prefix_tokens :].mean(dim=1)
    norms = [m for m in (model.norm, model.fc_norm) if not isinstance(m, torch.nn.Identity)]
    assert len(norms) == (family != "ViT, no final norm")
    for norm in norms:
        mean = norm(mean)
    assert torch.equal(ours, mean)
    if model.global_pool == "avg" and norms == [model.fc_norm]:
        assert torch.equal(ours, model(images))


@pytest.mark.parametrize("plus", [False, True], ids=["DTL", "DTL+"])
@pytest.mark.parametrize("family, size", CASES)
def test_at_the_start_the_features_are_the_frozen_ones(family, size, plus):
    model = backbone_of(family, size).requires_grad_(False)  # with a trained bias torch takes another kernel
    images = images_for(model)
    frozen = blocks_of(model).readout(recorded(model, images)[0][-1][1]).detach()
    dtl, read = dtl_of(model, plus), []
    dtl.head.register_forward_pre_hook(lambda module, args: read.append(args[0]))
    for mode in (True, False):
        with torch.no_grad():
            dtl.train(mode)(images)
        assert torch.equal(read.pop(), frozen)
        dtl.recompute = "none"
        dtl(images)  # with gradients, and nothing lean about it
        assert torch.equal(read.pop(), frozen)
        dtl.recompute = "side"
        dtl(images)  # with gradients the last block goes in parts and takes the mean early: sums round otherwise
        torch.testing.assert_close(read.pop(), frozen, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("family", [f for f in FAMILIES if "Swin" not in f])
@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_the_last_block_may_take_the_mean_before_its_last_layer(family, rate):
    model = backbone_of(family).eval()
    steps, last = blocks_of(model), len(model.blocks) - 1
    if not can_pool(steps):
        assert "parallel" in family or "post-norm" in family or not isinstance(model.blocks[-1].mlp, Mlp)
        return
    steps.drop_path(rate)
    steps.training = True
    x = torch.randn(3, model.num_prefix_tokens + math.prod(steps.grid), model.embed_dim, dtype=torch.float64)
    torch.manual_seed(1)
    whole = steps.block(last, x)
    torch.manual_seed(1)
    pooled = pooled_block(steps, x)
    assert pooled.shape == (3, model.embed_dim)
    torch.testing.assert_close(pooled, whole[:, model.num_prefix_tokens :].mean(dim=1), rtol=1e-12, atol=1e-12)
    assert torch.equal(steps.readout(pooled), model.fc_norm(model.norm(pooled)))


def test_another_kind_of_mlp_is_not_pooled_early():
    model = VisionTransformer(**VIT, num_classes=0, mlp_layer=SwiGLUPacked).double()
    assert not can_pool(blocks_of(model))
    gradients = []
    for mode in ("none", "side"):
        torch.manual_seed(0)
        dtl = dtl_of(model, False, up=0.5, recompute=mode)
        dtl(images_for(model)).square().sum().backward()
        gradients.append([p.grad for p in dtl.trainable_parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def by_hooks(dtl, images):
    """DTL computed by hooks on timm's own forward, with no code of ours: logits."""
    model, csn, m = dtl.backbone, dtl.csn, dtl.config.inject_from
    swin = isinstance(model, SWINS)
    stages = [s for s, layer in enumerate(model.layers) for _ in layer.blocks] if swin else [0] * len(model.blocks)
    state = {"h": None, "stage": None, "last": None}

    def before(i, module, args):
        if i < dtl.config.tap_from:
            return
        if stages[i] not in stages[m:]:
            return  # cannot reach an injection
        delta = args[0] @ csn.maps[str(i)].down.T @ csn.maps[str(i)].up.T
        state["h"] = delta if state["stage"] != stages[i] else state["h"] + delta
        state["stage"] = stages[i]

    def after(i, module, args, out):
        if i >= m:
            h = state["h"]
            added = h * torch.sigmoid(dtl.config.beta * h)
            if dtl.config.dwconv_kernel:
                prefix = added[:, :0] if swin else added[:, : model.num_prefix_tokens]
                patches = added if swin else added[:, model.num_prefix_tokens :].unflatten(1, blocks_of(model).grid)
                weight = csn.dwconvs[str(stages[i])].weight
                patches = F.conv2d(patches.permute(0, 3, 1, 2), weight, padding="same", groups=len(weight))
                patches = patches.permute(0, 2, 3, 1)
                added = patches if swin else torch.cat([prefix, patches.flatten(1, 2)], dim=1)
            out = out + added
        state["last"] = out
        return out

    handles = []
    for i, block in enumerate(timm_blocks(model)):
        handles += [block.register_forward_pre_hook(partial(before, i)), block.register_forward_hook(partial(after, i))]
    out = model.forward_features(images)
    for handle in handles:
        handle.remove()
    if swin:
        return dtl.head(out.mean(dim=(1, 2)))
    return dtl.head(model.fc_norm(model.norm(state["last"][:, model.num_prefix_tokens :].mean(dim=1))))


@pytest.mark.parametrize("plus", [False, True], ids=["DTL", "DTL+"])
@pytest.mark.parametrize("family, size", CASES)
def test_dtl_is_what_hooks_on_timm_compute(family, size, plus):
    dtl = dtl_of(backbone_of(family, size), plus, up=0.5).eval()
    images = images_for(dtl.backbone)
    logits = dtl(images)
    torch.testing.assert_close(logits, by_hooks(dtl, images), rtol=1e-11, atol=1e-11)
    with torch.no_grad():
        for low_rank in dtl.csn.maps.values():
            low_rank.up.zero_()
        assert (dtl(images) - logits).abs().max() > 1e-3  # the injections did matter


@pytest.mark.parametrize("family, size", CASES)
def test_prefix_and_suffix(family, size):
    model = backbone_of(family, size).requires_grad_(False)
    images = images_for(model)
    seen, _ = recorded(model, images)
    dtl = dtl_of(model, plus=True, up=0.5)
    m = dtl.config.inject_from
    features = dtl.prefix(images)
    assert torch.equal(features.tokens, seen[m][1])
    first = next(i for i, s in enumerate(blocks_of(model).stages) if s == blocks_of(model).stages[m])
    assert list(features.taps) == list(range(max(first, dtl.config.tap_from), m + 1))
    assert all(torch.equal(tap, seen[i][0]) for i, tap in features.taps.items())
    assert torch.equal(dtl(images), dtl.suffix(features))


@pytest.mark.parametrize("family, size", CASES)
def test_gradients_reach_the_side_network_and_nothing_else(family, size):
    dtl = dtl_of(backbone_of(family, size), plus=True, up=0.5)
    F.cross_entropy(dtl(images_for(dtl.backbone)), torch.tensor([1, 3])).backward()
    for name, p in dtl.named_parameters():
        if name.startswith("backbone."):
            assert p.grad is None and not p.requires_grad, name
        else:
            assert p.grad is not None and p.grad.abs().max() > 0 and torch.isfinite(p.grad).all(), name


def test_a_real_timm_hybrid():
    """A ViT whose patches come from a small ResNet: timm's own class, and so walked."""
    model = timm.create_model("vit_tiny_r_s16_p8_224", num_classes=0, img_size=64).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.norm(walked(model, images)[-1][1]), model.forward_features(images))
    assert DTL(model, 3)(images).shape == (1, 3)

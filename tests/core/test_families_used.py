"""Each timm family in use: gradients, lean forms, drop path, checkpointing, adapter files, serving, plans, rivals."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from families import FAMILIES, backbone_of, config_of, dtl_of, images_for
from timm.layers import DropPath

from dtl_core import DTL, UnsupportedBackbone, load_backbone
from dtl_core.baselines import METHODS, build
from dtl_core.blocks import blocks_of
from dtl_core.memory import plan_training
from dtl_core.serving import MultiTask

NEW = [n for n, (cls, _) in FAMILIES.items() if cls.__name__ not in ("VisionTransformer", "SwinTransformer")]
NEW += ["ViT, 1 channel", "ViT, dynamic", "ViT, patches over the edge"]
REAL = [
    "vit_small_patch16_dinov3", "eva02_tiny_patch14_224", "beit_base_patch16_224", "swinv2_tiny_window8_256",
    "vit_relpos_small_patch16_224", "vit_pe_core_tiny_patch16_384", "vit_small_patch16_rope_mixed_224",
]  # fmt: skip


def shaken(family, recompute="none", **options):
    """A small DTL+ in float64 whose side network does something, its images, and its loss."""
    dtl = dtl_of(backbone_of(family), True, up=0.3, recompute=recompute, **options)
    images = images_for(dtl.backbone)
    return dtl, images, lambda: F.cross_entropy(dtl(images), torch.tensor([1, 3]))


@pytest.mark.parametrize("family", NEW)
def test_gradients_are_finite_differences(family):
    """In three random directions through all that is trained."""
    dtl, _, loss = shaken(family, "side")
    trained = dtl.trainable_parameters()
    grads = torch.autograd.grad(loss(), trained)
    generator = torch.Generator().manual_seed(7)
    for _ in range(3):
        along = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in trained]
        ends = []
        with torch.no_grad():
            for step in (1e-6, -2e-6, 1e-6):
                for p, d in zip(trained, along, strict=True):
                    p.add_(d, alpha=step)
                ends.append(loss().item())
        slope = sum((g * d).sum().item() for g, d in zip(grads, along, strict=True))
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(slope, rel=1e-5, abs=1e-7) and abs(slope) > 1e-4


@pytest.mark.parametrize("family", NEW)
def test_the_lean_forms_agree(family):
    found = {}
    for mode in ("none", "side", "blocks"):
        dtl, images, loss = shaken(family, mode)
        found[mode] = [dtl(images), *torch.autograd.grad(loss(), dtl.trainable_parameters())]
    for mode in ("side", "blocks"):
        for a, b in zip(found["none"], found[mode], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("family", ["ViT", "DeiT-III", "ViT, post-norm blocks", "Swin-T", *NEW])
def test_drop_path_is_timms_own(family):
    model = backbone_of(family)
    steps = blocks_of(model)
    steps.drop_path(0.5)
    last = len(steps.widths) - 1
    with torch.no_grad():
        x = steps.embed(images_for(model, 6))
        for i in range(last):
            x = steps(i, steps.enter(i, x))
        steps.training = True
        torch.manual_seed(3)
        ours = steps(last, x)
        block = steps.blocks[last]
        block.drop_path1, block.drop_path2 = DropPath(0.5).train(), DropPath(0.5).train()
        torch.manual_seed(3)
        theirs = block(x, **steps.context(last))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    steps.training = False
    with torch.no_grad():
        assert not torch.allclose(ours, steps(last, x))  # some rows did lose a branch


@pytest.mark.parametrize("family", ["ViT", "EVA-02", "ViT, mixed rope", "BEiT", "ViT, relative positions", "Swin V2"])
@pytest.mark.parametrize("method", ["dtl none", "dtl side", "dtl blocks", "full"])
def test_blocks_are_checkpointed_if_the_owner_said_so(family, method):
    """A block that a gradient crosses runs twice, the prefix of a DTL once, and the gradients are the same."""
    found = []
    for switched in (False, True):
        model = backbone_of(family)
        model.set_grad_checkpointing(switched)
        runs = []
        if method == "full":
            torch.manual_seed(0)
            net = build("full", model, 5, inplace=True).double()
        else:
            net = dtl_of(model, True, up=0.3, recompute=method.split()[1])
        for i, block in enumerate(net.blocks.blocks):
            block.norm1.register_forward_hook(partial(lambda runs, i, *_: runs.append(i), runs, i))
        images = images_for(model, 1)
        net(images).square().sum().backward()
        found.append([p.grad for p in net.parameters() if p.grad is not None])
        again = switched or method == "dtl blocks"
        first = 0 if method == "full" else net.config.inject_from + 1
        depth = len(net.blocks.widths)
        assert [runs.count(i) for i in range(depth)] == [1 + (again and i >= first) for i in range(depth)]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("family", ["ViT", "EVA", "Perception Encoder", "BEiT", "ViT, relative positions"])
def test_unfused_attention_stays_unfused(family, monkeypatch):
    model, calls = backbone_of(family).requires_grad_(False), []
    fused, steps, images = F.scaled_dot_product_attention, blocks_of(model), images_for(model)
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or fused(*a, **k))
    dtl = dtl_of(model, False)
    logits = dtl(images)
    assert len(calls) >= len(steps.widths)
    for block in steps.blocks:
        block.attn.fused_attn = False
    calls.clear()
    torch.testing.assert_close(dtl(images), logits, rtol=1e-9, atol=1e-11)
    assert not calls


@pytest.mark.parametrize("family", NEW)
def test_an_adapter_is_saved_loaded_and_served(family, tmp_path):
    dtl, images, _ = shaken(family)
    path = tmp_path / "adapter.safetensors"
    dtl.save_adapter(path)
    with torch.no_grad():
        loaded = DTL.from_adapter(path, backbone_of(family)).double()
        torch.testing.assert_close(loaded(images), dtl(images), rtol=1e-4, atol=1e-5)  # the new maps are fp32
        server = MultiTask(backbone_of(family), {"a": dtl, "b": dtl}, chunk=3)
        for logits in server.predict(images).values():
            torch.testing.assert_close(logits, dtl(images), rtol=1e-9, atol=1e-11)
    with pytest.raises(ValueError, match="belongs to the backbone custom/"):
        other = backbone_of(family)
        torch.nn.init.zeros_(next(other.parameters()))
        DTL.from_adapter(path, other)


@pytest.mark.parametrize("name", REAL)
def test_a_real_backbone_is_planned(name):
    full, dtl = (plan_training(m, name, batch_size=2, num_classes=5) for m in ("full", "dtl"))
    assert dtl.peak_bytes < 0.5 * full.peak_bytes and dtl.saved_bytes < 0.5 * full.saved_bytes
    assert sum(full.by_block.values()) == full.peak_bytes and "block 11" in full.by_block


@pytest.mark.parametrize("name", ["eva02_tiny_patch14_224", "vit_pe_core_tiny_patch16_384"])
def test_a_real_backbone_is_walked(name):
    torch.manual_seed(0)
    model = load_backbone(name, image_size=(112, 112) if "14" in name else (96, 64), pretrained=False)
    images = torch.randn(1, 3, *model.dtl_info.image_size)
    steps = blocks_of(model)
    with torch.no_grad():
        x = steps.embed(images)
        for i in range(len(steps.widths)):
            x = steps(i, steps.enter(i, x))
        assert torch.equal(model.norm(x), model.forward_features(images))
    assert DTL(model, 3)(images).shape == (1, 3)


SIZES = {
    "adaptformer": dict(bottleneck=4), "vpt-shallow": dict(prompts=3), "vpt-deep": dict(prompts=3), "noah": dict(prompts=3),
    "fact": dict(rank=2), "lora": dict(rank=2), "repadapter": dict(hidden=4), "lst": dict(reduction=4),
}  # fmt: skip
INSIDE = ("adaptformer", "ssf", "fact", "repadapter", "noah")
BIASED = "a trained bias for each pair of its own tokens"
APART = "adds the bias of query and value outside of its qkv layer"
NOT_THERE = {
    "EVA": {"ssf": APART},
    "EVA-02": {"fact": "a layer of 64 x 24", **dict.fromkeys(("repadapter", "noah"), "has none in its EvaAttention")},
    "EVA, post-norm blocks": dict.fromkeys((*INSIDE, "lst"), "built of another kind"),
    "DINOv3": {},
    "ViT, mixed rope": {"ssf": APART},
    "ViT, axial rope, patch drop": {},
    "BEiT": {"ssf": APART, **dict.fromkeys(("vpt-shallow", "vpt-deep", "noah"), BIASED)},
    "ViT, shared relative positions": dict.fromkeys(("vpt-shallow", "vpt-deep", "noah"), BIASED),
    "Swin V2": {
        **dict.fromkeys(("adaptformer", "ssf", "repadapter"), "built of another kind"),
        **dict.fromkeys(("vpt-shallow", "vpt-deep", "fact", "lst", "res-tuning-bypass", "noah"), "Methods for a Swin: full, linear, bitfit, lora, dtl"),
    },
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", NOT_THERE)
def test_a_rival_trains_all_it_should_or_says_why_not(family, method):
    model = backbone_of(family)
    options = dict(config=config_of(model, method == "dtl+")) if "dtl" in method else SIZES.get(method, {})
    if reason := NOT_THERE[family].get(method):
        with pytest.raises(UnsupportedBackbone, match=reason):
            build(method, model, 3, **options)
        return
    net, images = build(method, model, 3, **options).double(), images_for(model)
    linear = build("linear", model, 3).double()
    if not method.startswith(("vpt", "noah", "res-tuning", "dtl")):  # which do not start at the frozen function
        torch.testing.assert_close(net.features(images), linear.features(images), rtol=1e-9, atol=1e-10)
    before = net(images)
    before.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.trainable_parameters())
    torch.optim.SGD(net.trainable_parameters(), lr=0.05).step()
    assert not torch.equal(net(images), before)


def test_prompts_have_no_rotary_position():
    """Prompts are what timm's own register tokens are, which stand between class token and patches as well."""
    model = backbone_of("ViT, axial rope, patch drop", no_embed_class=True)
    twin = backbone_of("ViT, axial rope, patch drop", no_embed_class=True, num_reg_tokens=3)
    vpt = build("vpt-shallow", model, 3, prompts=3).double()
    twin.load_state_dict({**model.state_dict(), "reg_token": vpt.prompts[0].tokens.detach()[None]})
    images = images_for(model)
    torch.testing.assert_close(vpt.features(images), blocks_features(twin, images), rtol=1e-10, atol=1e-11)


def blocks_features(model, images):
    steps = blocks_of(model)
    x = steps.embed(images)
    for i in range(len(steps.widths)):
        x = steps(i, x)
    return steps.readout(x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["ViT", "DINOv3", "ViT, mixed rope", "BEiT", "ViT, relative positions", "Swin V2"])
def test_a_backbone_that_came_in_half_precision(family, dtype):
    wide, half = backbone_of(family).float(), backbone_of(family).to(dtype)
    images = images_for(wide).float()
    models = []
    for model in (wide, half):
        torch.manual_seed(0)
        models.append(DTL(model, 4, config_of(model, True)))
    logits = [m(images) for m in models]
    assert logits[1].dtype == torch.float32 and {p.dtype for p in models[1].csn.parameters()} == {torch.float32}
    assert (logits[0] - logits[1]).norm() < 0.1 * logits[0].norm()
    logits[1].square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in models[1].trainable_parameters())


def test_shared_positions_move_with_the_suffix():
    """Training from stored features runs on a device that holds all that the later blocks read, and no more."""
    for family in ("DINOv3", "ViT, mixed rope", "BEiT, shared bias", "ViT, shared relative positions"):
        for net in (dtl_of(backbone_of(family), False), build("lora", backbone_of(family), 3, rank=2, first_block=2)):
            inside = {id(t) for part in net.suffix_parts() for t in (*part.parameters(), *part.buffers())}
            shared = [t for m in net.blocks.shared for t in (*m.parameters(), *m.buffers())]
            assert shared and all(id(t) in inside for t in shared)
            assert id(net.backbone.patch_embed.proj.weight) not in inside
    late = build("full", backbone_of("ViT, mixed rope"), 3, first_block=2)
    assert not late.backbone.rope.freqs.requires_grad  # the frozen blocks read it, too

"""Frozen weights and tokens in another type, what is trained in fp32: for every method, on a ViT and a Swin."""

import copy

import pytest
import torch
import torch.nn.functional as F
from test_baselines import VIT_ONLY
from torch.nn.utils import parametrize
from toys import ToyImages, toy_model

from dtl_core.baselines import METHODS

ON = [(m, "toy/vit") for m in METHODS] + [(m, "toy/swin") for m in METHODS if m not in VIT_ONLY]
PLAIN = [(m, b) for m, b in ON if not m.startswith("dtl")]


def plain_name(name):
    return name.replace("parametrizations.", "").replace(".original", "")


def by_name(model):
    """What is trained, sorted: a parametrized module lists its parameters behind its children's."""
    return sorted((plain_name(n), p) for n, p in model.named_parameters() if p.requires_grad)


def stirred(method, backbone, **options):
    """A model whose trained parameters all do something."""
    model = toy_model(method, backbone, **options)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _, p in by_name(model):
            p.add_(0.02 * torch.randn(p.shape, generator=generator))
    return model


def bits(p):
    return p.detach().clone().view(torch.uint8 if p.ndim else p.dtype)


@pytest.mark.parametrize("method, backbone", ON)
def test_a_step_in_bf16(method, backbone):
    reference = stirred(method, backbone)
    model = stirred(method, backbone, backbone_dtype=torch.bfloat16).train()
    assert {plain_name(n): p.shape for n, p in model.named_parameters()} == {
        n: p.shape for n, p in reference.named_parameters()
    }
    leaves = model.trainable_parameters()
    assert all(p.dtype == torch.float32 and p.is_leaf for p in leaves) and leaves
    frozen = {n: p for n, p in model.named_parameters() if not p.requires_grad}
    assert all(p.dtype == torch.bfloat16 for p in frozen.values()) and len(frozen) + len(leaves) == len(
        list(model.parameters())
    )
    assert all(b.dtype == torch.bfloat16 for b in model.backbone.buffers() if b.is_floating_point())

    types = []
    steps = model.blocks
    for block in steps.blocks if backbone == "toy/swin" else model.backbone.blocks:
        block.register_forward_hook(lambda module, args, out: types.append(out.dtype))
    model.head.register_forward_hook(lambda module, args, out: types.append(out.dtype))
    data = ToyImages(8, model.info.image_size[0])
    before = {n: bits(p) for n, p in frozen.items()}
    logits = model(data.images)
    assert set(types[:-1]) == {torch.bfloat16} and types[-1] == torch.float32
    expected = reference(data.images)
    # bf16 keeps 8 bits: an error of 0.4 % a rounding, and the roundings of 12 or 24 blocks add up
    assert (logits - expected).norm() < 0.04 * expected.norm()

    F.cross_entropy(logits, data.labels).backward()
    F.cross_entropy(expected, data.labels).backward()
    assert all(p.grad.dtype == torch.float32 and torch.isfinite(p.grad).all() for p in leaves)
    mine, theirs = (torch.cat([p.grad.flatten() for _, p in by_name(m)]) for m in (model, reference))
    assert F.cosine_similarity(mine, theirs, dim=0) > 0.999
    optimizer = torch.optim.AdamW(leaves, lr=1e-2)
    optimizer.step()
    assert all(s["exp_avg"].dtype == torch.float32 for s in optimizer.state.values()) and len(optimizer.state) == len(
        leaves
    )
    assert all(torch.equal(bits(p), before[n]) for n, p in frozen.items())
    assert not torch.equal(model(data.images), logits)


@pytest.mark.parametrize("method, backbone", PLAIN)
def test_what_is_trained_is_cast_and_not_rounded(method, backbone):
    """With frozen weights in float64 the features are those of the whole model in float64, to its precision."""
    model, whole = stirred(method, backbone, backbone_dtype=torch.float64), stirred(method, backbone).double()
    images = ToyImages(4, model.info.image_size[0], torch.float64).images
    mine, theirs = model.features(images), whole.features(images)
    assert mine.dtype == torch.float64
    torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-11)
    if method == "linear":
        return
    weights = torch.randn(mine.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (mine * weights).sum().backward()
    (theirs * weights).sum().backward()
    grads = {n: p.grad for n, p in whole.named_parameters() if p.grad is not None}
    own = {plain_name(n): p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert own.keys() == grads.keys() and own
    for name, grad in own.items():  # the one rounding is that of the gradient to fp32
        assert grad.dtype == torch.float32
        torch.testing.assert_close(grad, grads[name].float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method, backbone", PLAIN)
def test_only_what_is_trained_is_parametrized(method, backbone):
    model = toy_model(method, backbone, backbone_dtype=torch.bfloat16)
    cast = sum(len(m.parametrizations) for m in model.modules() if parametrize.is_parametrized(m))
    assert cast == len(model.trainable_parameters()) - 2 and not parametrize.is_parametrized(model.head)
    assert not any(parametrize.is_parametrized(m) for m in toy_model(method, backbone).modules())


@pytest.mark.parametrize("method", [m for m, b in PLAIN if b == "toy/vit"])
def test_a_copy_in_bf16_trains_by_itself(method):
    model = stirred(method, "toy/vit", backbone_dtype=torch.bfloat16)
    twin, images = copy.deepcopy(model), ToyImages(4).images
    with torch.no_grad():
        before = model(images)
        assert torch.equal(twin(images), before)
        for p in twin.trainable_parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))
        assert torch.equal(model(images), before) and not torch.equal(twin(images), before)


def test_training_the_frozen_function_starts_at_its_bf16():
    """What begins at the frozen function begins at it in bf16 too: a zero update is cast to a zero update."""
    for method in ("bitfit", "adaptformer", "lora", "ssf", "fact", "repadapter", "lst"):
        model = toy_model(method, backbone_dtype=torch.bfloat16)
        linear = toy_model("linear", backbone_dtype=torch.bfloat16)
        images = ToyImages(2).images
        with torch.no_grad():
            assert torch.equal(model.features(images), linear.features(images)), method

"""Each rival's equation against a computation of its own: merged into plain weights, or written out block by block."""

import math

import pytest
import torch
import torch.nn.functional as F
from families import backbone_of, images_for, timm_blocks
from torch import nn

from dtl_core.baselines import build
from dtl_core.baselines.adaptformer import Bottleneck
from dtl_core.baselines.fact import FacTLinear
from dtl_core.baselines.lora import LoRALinear, LoRAQueryValue
from dtl_core.baselines.repadapter import RepAdapter
from dtl_core.baselines.ssf import ScaledShifted
from dtl_core.blocks import blocks_of

FAMILIES = ["ViT", "DINOv2, 4 registers", "ViT with qk norm", "Swin-T", "Swin, non-square, padded windows"]
VITS = FAMILIES[:2]


def rival_of(method, family, **options):
    """A model whose every trained parameter does something, the frozen backbone it was made from, and images."""
    backbone = backbone_of(family)
    model = build(method, backbone, 3, **options).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.trainable_parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    images = images_for(backbone)
    frozen = build("linear", backbone, 3).double()
    with torch.no_grad():
        assert (model.features(images) - frozen.features(images)).abs().max() > 1e-2
    return model, backbone, images


def modules_of(model, kind):
    return {n.removeprefix("backbone."): m for n, m in model.named_modules() if isinstance(m, kind)}


@torch.no_grad()
def assert_computes(model, images, backbone, run_block=None, embed=None, last=None):
    """That a plain run over the blocks of this backbone reads what the model reads."""
    steps = blocks_of(backbone)
    x = steps.embed(images)
    x = embed(x) if embed else x
    for i, block in enumerate(timm_blocks(backbone)):
        x = steps.enter(i, x)
        x = run_block(i, block, x) if run_block else block(x)
    x = last(x) if last else x
    torch.testing.assert_close(model.features(images), steps.readout(x), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_ssf_merged(family):
    """gamma (W x + b) + beta = (gamma W) x + (gamma b + beta), for norms and convolutions too."""
    model, backbone, images = rival_of("ssf", family)
    layers = modules_of(model, ScaledShifted)
    ran = [n for n, m in backbone.named_modules() if next(m.parameters(recurse=False), None) is not None]
    without = ("relative", "ls1", "ls2", "attn")  # tables and LayerScales are no operations
    assert set(layers) == {n for n in ran if n and n.split(".")[-1] not in without}
    for name, layer in layers.items():
        plain = backbone.get_submodule(name)
        plain.weight.copy_(layer.scale.view(-1, *[1] * (plain.weight.ndim - 1)) * plain.weight)
        if getattr(plain, "bias", None) is not None:
            plain.bias.copy_(layer.scale * plain.bias + layer.shift)
        else:  # RMS norms and the merging of a Swin have no bias to take the shift
            plain.register_forward_hook(lambda module, args, out, shift=layer.shift: out + shift)
    assert_computes(model, images, backbone)


@pytest.mark.parametrize("family", VITS)
@pytest.mark.parametrize("rank, scale", [(17, 1.0), (3, 0.5)])
@torch.no_grad()
def test_fact_merged(family, rank, scale):
    """W_i + s V C_i U for each d x d piece W_i, with the same U and V everywhere; C_i mixes the slices of one core."""
    model, backbone, images = rival_of("fact", family, rank=rank, scale=scale)
    d, layers = backbone.embed_dim, modules_of(model, FacTLinear)
    factors = model.shared_factors
    pieces = 0
    for name in layers:
        weight = backbone.get_submodule(name).weight
        for a in range(weight.shape[0] // d):
            for b in range(weight.shape[1] // d):
                core = sum(factors.mix[pieces, k] * factors.core[k] for k in range(rank))
                weight[a * d : (a + 1) * d, b * d : (b + 1) * d] += scale * factors.V @ core @ factors.U
                pieces += 1
    assert pieces == 12 * len(backbone.blocks)
    assert_computes(model, images, backbone)


@pytest.mark.parametrize("family", VITS)
@torch.no_grad()
def test_lora_of_query_and_value_merged(family):
    """W_q + (alpha / r) B_q A_q and W_v + (alpha / r) B_v A_v; the key stays."""
    model, backbone, images = rival_of("lora", family, rank=4, alpha=6, separate=True)
    d, layers = backbone.embed_dim, modules_of(model, LoRAQueryValue)
    assert len(layers) == len(backbone.blocks)
    for name, layer in layers.items():
        weight = backbone.get_submodule(name).weight
        for i, start in enumerate((0, 2 * d)):
            weight[start : start + d] += 6 / 4 * layer.B[i] @ layer.A[i]
    assert_computes(model, images, backbone)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("groups, scale", [(2, 1.0), (4, 0.5)])
@torch.no_grad()
def test_repadapter_merged(family, groups, scale):
    """W (x + s (up (down x + a) + b)) + c = W (1 + s up down) x + (c + s W (up a + b)), up block-diagonal."""
    model, backbone, images = rival_of("repadapter", family, groups=groups, scale=scale)
    adapters = modules_of(model, RepAdapter)
    assert len(adapters) == 2 * len(timm_blocks(backbone))
    for name, adapter in adapters.items():
        layer = backbone.get_submodule(name.removesuffix(".0"))
        d, hidden = layer.in_features, adapter.down.shape[0]
        up = torch.zeros(d, hidden, dtype=torch.float64)
        for i in range(d):
            for j in range(hidden):
                if i // (d // groups) == j // (hidden // groups):
                    up[i, j] = adapter.up[i // (d // groups), i % (d // groups), j % (hidden // groups)]
        shift = scale * (up @ adapter.down_bias + adapter.up_bias)
        layer.bias.add_(layer.weight @ shift)
        layer.weight.copy_(layer.weight @ (torch.eye(d, dtype=torch.float64) + scale * up @ adapter.down))
    assert_computes(model, images, backbone)


def bottleneck(adapter, y):
    return (y @ adapter.down.T + adapter.down_bias).clamp(min=0) @ adapter.up.T + adapter.up_bias


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scale", [0.1, 2.0])
def test_adaptformer_written_out(family, scale):
    model, backbone, images = rival_of("adaptformer", family, bottleneck=5, scale=scale)
    adapters = list(modules_of(model, Bottleneck).values())

    def run_block(i, block, x):
        ls1, ls2 = getattr(block, "ls1", nn.Identity()), getattr(block, "ls2", nn.Identity())
        x = x + (ls1(block.attn(block.norm1(x))) if hasattr(block, "ls1") else block._attn(block.norm1(x)))
        y = block.norm2(x)
        return x + ls2(block.mlp(y)) + ls2(scale * bottleneck(adapters[i], y))

    assert_computes(model, images, backbone, run_block)


@pytest.mark.parametrize("family", VITS)
@pytest.mark.parametrize("method", ["vpt-shallow", "vpt-deep"])
def test_vpt_written_out(family, method):
    """Prompts behind class token and registers; deep: those of the block before are dropped. They are not read."""
    model, backbone, images = rival_of(method, family, prompts=3)
    p, prompts = backbone.num_prefix_tokens, [m.tokens for m in model.prompts]
    assert len(prompts) == (4 if method == "vpt-deep" else 1)

    def run_block(i, block, x):
        if i < len(prompts):
            prefix, rest = x[:, :p], x[:, p + (3 if i else 0) :]
            x = torch.cat([prefix, prompts[i][None].repeat(2, 1, 1), rest], dim=1)
        return block(x)

    n = len(blocks_of(backbone).embed(images)[0])
    order = [*range(p), *range(p + 3, n + 3)]
    assert_computes(model, images, backbone, run_block, last=lambda x: x[:, order])


def test_the_start_of_the_prompts():
    bound = math.sqrt(6 / (3 * 8 * 8 + 24))
    tokens = build("vpt-shallow", backbone_of("ViT"), 3, prompts=1000).prompts[0].tokens.detach()
    assert tokens.abs().max() <= bound and tokens.abs().max() > 0.99 * bound and tokens.mean().abs() < 0.02 * bound


@pytest.mark.parametrize("family", VITS)
def test_lst_written_out(family):
    """s_i = block_i(mu_i s_(i-1) + (1 - mu_i) down_i x_i), mu_i = sigmoid(gate_i / 0.1), and x_L + up s_L is read."""
    model, backbone, images = rival_of("lst", family)
    side = model.side
    state = []

    def embed(x):
        state.append(x @ side.first.weight.T + side.first.bias)
        return x

    def run_block(i, block, x):
        x, rung = block(x), side.rungs[i]
        mu = 1 / (1 + math.exp(-rung.gate.item() / 0.1))
        state.append(side.blocks[i](mu * state[-1] + (1 - mu) * (x @ rung.down.weight.T + rung.down.bias)))
        return x

    def last(x):
        return x + state[-1] @ side.up.weight.T + side.up.bias

    assert_computes(model, images, backbone, run_block, embed, last)
    assert len({r.gate.item() for r in side.rungs}) == 4 and state[-1].shape[-1] == backbone.embed_dim // 8


@pytest.mark.parametrize("family", VITS)
@torch.no_grad()
def test_noah_written_out(family):
    """LoRA merged into qkv, prompts in front of each block, and an adapter behind the MLP, inside its residual branch."""
    model, backbone, images = rival_of("noah", family, prompts=2, rank=3, adapter=4)
    p, adapters = backbone.num_prefix_tokens, list(modules_of(model, Bottleneck).values())
    updates = modules_of(model, LoRALinear)
    assert len(updates) == len(adapters) == len(model.prompts) == 4
    for name, update in updates.items():
        backbone.get_submodule(name).weight.add_(update.B @ update.A)  # alpha = r

    def run_block(i, block, x):
        x = torch.cat([x[:, :p], model.prompts[i].tokens.expand(2, 2, -1), x[:, p + (2 if i else 0) :]], dim=1)
        x = x + block.ls1(block.attn(block.norm1(x)))
        y = block.mlp(block.norm2(x))
        return x + block.ls2(y + bottleneck(adapters[i], y))

    assert_computes(model, images, backbone, run_block, last=lambda x: torch.cat([x[:, :p], x[:, p + 2 :]], dim=1))


@pytest.mark.parametrize("family", FAMILIES)
def test_bitfit_has_the_gradients_of_full_fine_tuning(family):
    backbone = backbone_of(family)
    images, labels = images_for(backbone), torch.tensor([0, 2])
    grads = {}
    for method in ("bitfit", "full"):
        torch.manual_seed(0)
        model = build(method, backbone, 3).double()
        F.cross_entropy(model(images), labels).backward()
        grads[method] = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    assert {n for n in grads["full"] if n.endswith(".bias")} | {"head.weight"} == grads["bitfit"].keys()
    for name, grad in grads["bitfit"].items():
        torch.testing.assert_close(grad, grads["full"][name], rtol=1e-9, atol=1e-13)

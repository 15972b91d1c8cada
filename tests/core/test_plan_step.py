"""Plans of anybody's step: a real step costs what was planned, and the wrong ones say what to do."""

from functools import partial

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from toys import storage_bytes

from dtl_core import load_backbone
from dtl_core.baselines import build
from dtl_core.memory import measure_step, plan_step, plan_training
from dtl_core.memory.batches import as_batch, default_loss
from dtl_core.memory.plan import CudaKernels
from dtl_core.memory.regions import parts_of
from dtl_core.memory.step import run_step, step_setting

SGD = partial(torch.optim.SGD, lr=0.1)  # has no temporary tensors of all parameters, so the peak is the activations'
IMAGES = ((8, 3, 32, 32), (8,))


class Block(nn.Module):
    """A block of a GPT: causal attention and an MLP, with dropout in both."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out, self.drop = nn.Linear(width, 3 * width), nn.Linear(width, width), nn.Dropout(dropout)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x, heads=4):
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in self.qkv(self.norm1(x)).chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.drop(self.out(mixed))
        return x + self.drop(self.mlp(self.norm2(x)))


class GPT(nn.Module):
    """Three blocks between an embedding and a head that share their weights."""

    def __init__(self, dropout: float = 0.1, tied: bool = True, reads: bool = False, words: int = 50, width: int = 64):
        super().__init__()
        rates = torch.full((3,), dropout).tolist() if reads else 3 * [dropout]
        self.embed, self.places = nn.Embedding(words, width), nn.Parameter(torch.zeros(1, 128, width))
        self.blocks = nn.ModuleList(Block(width, rate) for rate in rates)
        self.head = nn.Linear(width, words, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, words):
        x = self.embed(words) + self.places[:, : words.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(x)


WORDS = (torch.zeros(4, 32, dtype=torch.int64),) * 2
CONVNEXT = partial(timm.create_model, "convnext_atto")
STEPS = {
    "resnet-50": (torchvision.models.resnet50, IMAGES, SGD),
    "convnext-tiny": (torchvision.models.convnext_tiny, ((2, 3, 32, 32), (2,)), SGD),
    "timm's convnext": (CONVNEXT, IMAGES, None),
    "gpt": (partial(GPT, dropout=0.0), WORDS, None),
}


@pytest.mark.parametrize(
    "name, checkpointing", [*((name, False) for name in STEPS), ("timm's convnext", True), ("gpt", True)]
)
def test_a_real_step_costs_what_was_planned(name, checkpointing):
    make, batch, optimizer = STEPS[name]
    setting = dict(optimizer=optimizer, checkpointing=checkpointing)
    plan, real = plan_step(make, batch, **setting), measure_step(make(), batch, **setting)
    assert real.peak_bytes == pytest.approx(plan.peak_bytes, rel=0.02)
    assert real.saved_bytes == pytest.approx(plan.saved_bytes, rel=0.02)
    assert real.by_block == pytest.approx(plan.by_block, rel=0.02) and real.parameters == plan.parameters
    assert sum(plan.by_kind.values()) == sum(plan.by_block.values()) == plan.peak_bytes
    if checkpointing:
        assert plan.saved_bytes < 0.8 * plan_step(make, batch, optimizer=optimizer).saved_bytes


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "amp"])
@pytest.mark.parametrize(
    "make", [torchvision.models.resnet50, torchvision.models.convnext_tiny], ids=["resnet", "convnext"]
)
def test_cuda_costs_what_was_planned(make, precision):
    batch = ((32, 3, 224, 224), (32,))
    plan = plan_step(make, batch, precision=precision)
    real = measure_step(make().cuda(), batch, precision=precision)
    assert real.cuda_peak_bytes == pytest.approx(plan.peak_bytes, rel=0.05)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    "make", [GPT, partial(torchvision.models.VisionTransformer, 32, 8, 3, 4, 64, 128, dropout=0.1)]
)
def test_dropout_costs_what_cudas_does(make, checkpointing):
    """The CPU keeps its factors in full; with the kernel that CUDA has, a byte a number, it costs what was planned."""
    batch = as_batch(WORDS if make is GPT else IMAGES, "cpu")
    plan, model = plan_step(make, batch, checkpointing=checkpointing), make().train()
    setting = step_setting(model, batch, "fp32", checkpointing)
    real = run_step(model, batch, setting, "measured", kernels=CudaKernels())
    assert (real.peak_bytes, real.saved_bytes) == pytest.approx((plan.peak_bytes, plan.saved_bytes), rel=0.02)


def test_dropout_in_place_keeps_its_factors_on_cuda_too():
    """Only ``native_dropout`` has a byte a number; in place CUDA multiplies by factors of four bytes, which it keeps."""

    def saved(inplace):
        make = lambda: nn.Sequential(nn.Linear(64, 512), nn.Dropout(0.5, inplace=inplace))  # noqa: E731
        return plan_step(make, ((32, 64),)).saved_bytes

    assert saved(False) == 32 * 512 + 512 and saved(True) == 4 * 32 * 512 + 512


def test_a_method_written_by_hand_has_the_plan_of_its_name():
    for method, precision in (("dtl", "fp32"), ("full", "amp")):
        named = plan_training(method, "toy/vit", batch_size=8, image_size=32, num_classes=4, precision=precision)
        mine = plan_step(lambda: build(method, load_backbone("toy/vit"), 4), IMAGES, precision=precision)  # noqa: B023
        assert {**vars(mine), "setting": None} == {**vars(named), "setting": None}


def test_blocks_have_the_paths_of_their_modules():
    parts = [part.path for part in parts_of(torchvision.models.resnet18())]
    assert parts == [
        "conv1",
        "bn1",
        "relu",
        "maxpool",
        *(f"layer{i}.{j}" for i in range(1, 5) for j in (0, 1)),
        "avgpool",
        "fc",
    ]
    assert {p.path for p in parts_of(CONVNEXT()) if p.repeated} > {"stages.0.blocks.1", "stages.2.blocks.5"}
    plan = plan_step(GPT, WORDS)
    assert {f"blocks.{i}" for i in range(3)} < plan.saved_by_block.keys()
    back = [row["region"] for row in plan.profile if row["phase"] == "backward"]
    assert back[-4:] == ["blocks.2", "blocks.1", "blocks.0", "embed"]
    assert "Planned: GPT, batch of 4x32, 4x32, fp32: peak" in plan.sentence() and plan.sentence() in plan._repr_html_()
    assert plan.setting["batch_size"] == 4 and plan.setting["optimizer"] == "adamw"


def test_a_module_may_checkpoint_by_itself():
    def make(own):
        model = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=4, proj_drop_rate=0.1)
        model.set_grad_checkpointing(own)
        return model

    kept, own = (plan_step(partial(make, own), IMAGES, optimizer=SGD, precision="amp") for own in (False, True))
    ours = plan_step(partial(make, False), IMAGES, optimizer=SGD, precision="amp", checkpointing=True)
    assert ours.saved_bytes == own.saved_bytes < 0.5 * kept.saved_bytes and ours.peak_bytes == own.peak_bytes


def test_autocast_reaches_into_the_attention_of_torch():
    """``nn.MultiheadAttention`` is one function to a mode, of linear layers and a product, which CUDA lowers."""

    class Own(nn.MultiheadAttention):
        def forward(self, x, *_, **__):
            q, k, v = (
                F.linear(x, self.in_proj_weight, self.in_proj_bias).unflatten(-1, (3, 4, 16)).permute(2, 0, 3, 1, 4)
            )
            return [self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))]

    class Layer(nn.Module):
        def __init__(self, kind):
            super().__init__()
            self.attention = kind(64, 4, batch_first=True)

        def forward(self, x):
            return self.attention(x, x, x, need_weights=False)[0]

    torchs, own, whole = (
        plan_step(partial(Layer, kind), ((8, 128, 64),), precision=precision).by_operation
        for kind, precision in ((nn.MultiheadAttention, "amp"), (Own, "amp"), (nn.MultiheadAttention, "fp32"))
    )
    flash = "aten._scaled_dot_product_flash_attention_for_cpu"
    assert torchs[flash] == own[flash] and torchs[flash] < 0.6 * whole[flash]
    assert sum(torchs.values()) < 0.8 * sum(whole.values())


def test_what_gets_no_gradient_has_no_state():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(256, 256), nn.Linear(256, 256)

        def forward(self, x):
            return self.used(x)

    plan, numbers = plan_step(Half, ((4, 256),)), 256 * 257
    assert plan.by_kind["trainable parameters"] == 2 * 4 * numbers
    assert plan.by_kind["optimizer state"] == pytest.approx(2 * 4 * numbers, abs=4096)
    assert measure_step(Half(), ((4, 256),)).peak_bytes == plan.peak_bytes


@pytest.mark.parametrize("optimizer, states", [(SGD, 0), (partial(SGD, momentum=0.9), 1), (torch.optim.Adam, 2)])
def test_the_optimizer_is_ones_own_in_the_form_of_cuda(optimizer, states):
    plan, said = (plan_step(GPT, WORDS, optimizer=o) for o in (optimizer, partial(optimizer, foreach=True)))
    trained = storage_bytes(GPT().parameters())
    assert plan.by_kind["optimizer state"] == pytest.approx(
        states * trained, rel=0.15
    )  # counters have blocks of their own
    assert plan.peak_bytes == said.peak_bytes and plan.setting["optimizer"] in ("SGD", "Adam")


def test_a_module_that_is_there_is_left_as_it_was():
    model = torchvision.models.resnet18().eval()
    model.layer1.train()
    modes = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plan, real = plan_step(lambda: model, IMAGES), measure_step(model, IMAGES)
    assert real.peak_bytes == pytest.approx(plan.peak_bytes, rel=0.02)
    assert [module.training for module in model.modules()] == modes and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_weights_stay_tied_whatever_device_the_module_is_built_on():
    plain, read, apart = (
        plan_step(partial(GPT, reads=r, tied=t), WORDS) for r, t in ((False, True), (True, True), (False, False))
    )
    assert plain.peak_bytes == read.peak_bytes < apart.peak_bytes and plain.parameters == read.parameters


def test_a_batch_is_tensors_or_shapes_and_a_dict_goes_by_names():
    class Named(GPT):
        def forward(self, ids):
            return super().forward(ids)

    ids, labels = WORDS
    named = plan_step(Named, {"labels": labels, "ids": ids})
    assert named.peak_bytes == plan_step(GPT, WORDS).peak_bytes and named.setting["batch"]["ids"] == [4, 32]
    resnet = torchvision.models.resnet18
    assert plan_step(resnet, (torch.zeros(8, 3, 32, 32), torch.zeros(8).long())) == plan_step(resnet, IMAGES)
    assert plan_step(resnet, IMAGES[0]).by_kind["input"] == 8 * 3 * 32 * 32 * 4
    with pytest.raises(TypeError, match="the batch holds a str"):
        plan_step(resnet, "images")


def test_the_loss_by_default():
    scores, labels = torch.randn(2, 5, 3), torch.tensor([[0, 1, 2, 0, 1], [2, 1, 0, 2, 1]])
    expected = F.cross_entropy(scores.reshape(10, 3), labels.reshape(10))
    assert default_loss(scores, (None, labels)) == default_loss(scores, {"targets": labels}) == expected
    assert default_loss(scores.transpose(1, 2), (None, labels)) == pytest.approx(expected.item())
    assert default_loss(scores, (None, labels.float())) == default_loss(scores, (None,)) == scores.mean()
    assert default_loss(expected, (None, labels)) is expected
    with pytest.raises(TypeError, match="returns a list: say what its loss is"):
        default_loss([scores], (None, labels))
    mine, given = plan_step(GPT, WORDS), plan_step(GPT, WORDS, loss=lambda output, batch: output[:, -1].mean())
    assert mine.by_operation["aten._log_softmax"] > 0 and "aten._log_softmax" not in given.by_operation


def test_wrong_steps_are_named():
    class Reads(nn.Linear):
        def forward(self, x):
            return super().forward(x) * (2 if x.sum().item() > 0 else 1)

    with pytest.raises(ValueError, match=r"(?s)Reads reads numbers.*measure_step counts a real step"):
        plan_step(partial(Reads, 4, 4), ((2, 4),))
    assert measure_step(Reads(4, 4), ((2, 4),)).peak_bytes > 0
    with pytest.raises(TypeError, match="give a function that returns the module"):
        plan_step(nn.Linear(4, 4), ((2, 4),))
    with pytest.raises(ValueError, match="no parameter of this Linear is trained"):
        plan_step(lambda: nn.Linear(4, 4).requires_grad_(False), ((2, 4),))
    with pytest.raises(ValueError, match="this Linear has no list of blocks of one class"):
        plan_step(lambda: nn.Linear(4, 4), ((2, 4),), checkpointing=True)
    with pytest.raises(ValueError, match=r"precision is 'bf16'.*model.bfloat16\(\)"):
        plan_step(GPT, WORDS, precision="bf16")
    with pytest.raises(ValueError, match="and plan_step the step of any module"):
        measure_step(GPT(), WORDS, precision="amp")

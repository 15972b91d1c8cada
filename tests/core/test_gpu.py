"""On a CUDA device: fp16 with its gradient scaler, the cut in prefix and suffix, the cache, and resuming."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from torch.utils.data import TensorDataset
from toys import SHORT, SIZES, ToyImages, toy_model, trained

from dtl_core import DTL, DTLConfig, load_backbone
from dtl_core.baselines import build
from dtl_core.training import NonFiniteLoss, PrefixCache, Recipe, evaluate, fit

pytestmark = pytest.mark.gpu
CUDA = dict(device="cuda", progress=False)
FP16 = replace(SHORT, lr=1e-2, precision="auto")


@pytest.fixture(autouse=True)
def plain_fp32():
    """No TF32 in convolutions, where it is the default, and the same algorithm every time."""
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield


@pytest.mark.parametrize("method", ["linear", "lora", "dtl", "dtl+"])
def test_fp16_with_the_scaler_learns_and_leaves_the_frozen_alone(method):
    model = toy_model(method)
    free = {n for n, p in model.named_parameters() if p.requires_grad}
    before = {n: v.clone() for n, v in model.state_dict().items() if n not in free}
    record = fit(model, ToyImages(), FP16, **CUDA)
    assert (record.device, record.precision) == ("cuda", "fp16")
    assert record.peak_bytes > sum(p.numel() * p.element_size() for p in model.parameters())
    assert record.history["loss"].iloc[-1] < 0.8 * record.history["loss"].iloc[0]
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in model.trainable_parameters())
    for name, value in model.state_dict().items():
        assert name in free or torch.equal(value.cpu(), before[name]), name


@pytest.mark.parametrize("backbone", ["toy/vit", "toy/swin"])
@pytest.mark.parametrize("method", ["dtl", "dtl+"])
def test_the_model_is_exactly_its_suffix_after_its_prefix(method, backbone):
    model, images = toy_model(method, backbone), ToyImages(8, SIZES[backbone]).images
    fit(model, ToyImages(8, SIZES[backbone]), replace(FP16, precision="fp32"), **CUDA)  # so that the maps are not 0
    model.eval()
    with torch.no_grad():
        whole = model(images.cuda())
        assert torch.equal(whole, model.suffix(model.prefix(images.cuda())))
        torch.testing.assert_close(model.cpu()(images), whole.cpu(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("method", ["linear", "dtl+"])
def test_training_from_the_cache_is_training_from_images(method, tmp_path):
    data, recipe, losses = ToyImages(16), replace(SHORT, precision="fp32"), []
    for cached in (False, True):
        model = toy_model(method)
        source = PrefixCache(model, data, root=tmp_path, **CUDA) if cached else data
        losses.append(fit(model, source, recipe, **CUDA).history["loss"].tolist())
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    score = evaluate(model, source, **CUDA)
    assert score.loss == pytest.approx(evaluate(model, data, **CUDA).loss, rel=1e-3)


@pytest.mark.parametrize("method", ["linear", "dtl+"])
def test_training_from_the_cache_leaves_the_weights_of_the_prefix_on_the_cpu(method, tmp_path):
    backbone = load_backbone("vit_small_patch16_224", pretrained=False)
    data, recipe, peaks = ToyImages(16, 224), replace(SHORT, precision="fp32", epochs=1), []
    for cached in (False, True):
        model = build(method, backbone, ToyImages.classes)
        source = PrefixCache(model, data, root=tmp_path, **CUDA) if cached else data
        model.cpu()
        torch.cuda.empty_cache()
        peaks.append(fit(model, source, recipe, **CUDA).peak_bytes)
        assert {p.device.type for p in model.parameters()} == {"cuda"}, "whole again, for images"
    run = {id(p) for part in model.suffix_parts() for p in part.parameters()}
    prefix = sum(p.numel() * 4 for p in model.parameters() if id(p) not in run)
    assert peaks[1] < peaks[0] - 0.3 * prefix, "less by the weights, more by the features that are its input"


class Breaks(ToyImages):
    """Yields an infinite image in the third epoch."""

    seen = 0

    def __getitem__(self, i):
        self.seen += 1
        image, label = super().__getitem__(i)
        return (image.clone().fill_(torch.inf) if self.seen == 2 * len(self) + 10 else image), label


def test_a_stopped_run_goes_on_with_its_scaler(tmp_path):
    state, whole, resumed = tmp_path / "state.safetensors", toy_model("dtl+"), toy_model("dtl+", seed=1)
    with pytest.raises(NonFiniteLoss, match="epoch 3"):
        fit(toy_model("dtl+"), Breaks(), FP16, checkpoint=state, **CUDA)
    with safe_open(state, framework="pt") as file:
        scaler = json.loads(file.metadata()["scaler"])
    assert scaler["scale"] > 0 and "_growth_tracker" in scaler
    record = fit(resumed, ToyImages(), FP16, checkpoint=state, **CUDA)
    expected = fit(whole, ToyImages(), FP16, **CUDA)
    assert record.history["epoch"].tolist() == expected.history["epoch"].tolist()
    # atomic sums on a GPU come in no fixed order, so here the bits may differ
    assert record.history["loss"].tolist() == pytest.approx(expected.history["loss"].tolist(), rel=2e-2)
    for name, value in trained(whole).items():
        torch.testing.assert_close(
            trained(resumed)[name], value, rtol=5e-2, atol=5e-3, msg=lambda m, n=name: f"{n}: {m}"
        )
    with safe_open(state, framework="pt") as file:
        after = json.loads(file.metadata()["scaler"])
    assert after["_growth_tracker"] > scaler["_growth_tracker"], "the tracker was counted on, not begun again"


def test_two_steps_of_a_vit_b():
    """The paper profile's shape: ViT-B/16 at 224 px with random weights, batches of 32 stand-in images, fp16."""
    backbone = load_backbone("vit_base_patch16_224.orig_in21k", pretrained=False)
    model = DTL(backbone, 10, DTLConfig.paper("vit", plus=True))
    images = TensorDataset(torch.randn(64, 3, 224, 224), torch.arange(64) % 10)
    record = fit(model, images, Recipe(epochs=1, warmup_epochs=0, cooldown_epochs=0), **CUDA)
    assert (record.precision, len(record.history)) == ("fp16", 1)
    assert all(torch.isfinite(p).all() for p in model.trainable_parameters())

"""The field's pitfalls as switches: each changes what it says, and nothing else."""

import pytest
import torch
from asked import prepare

from dtl_book.experiments import Pitfalls
from dtl_book.predict import predict
from dtl_core import DTL, load_backbone
from dtl_core.data import eval_transform, open_rgb
from dtl_core.serving import MultiTask


@pytest.fixture(autouse=True)
def own_place(place):
    """Data, cache and results of the tests' own."""


def first_image(**switches):
    ready = prepare("linear", "shape_location", profile="smoke", pitfalls=Pitfalls(**switches))
    return ready, ready.data.test[0][0]


def test_the_defaults_change_nothing():
    assert Pitfalls().active() == {}
    ready, switched = first_image()
    plain = eval_transform(32, ready.info.mean, ready.info.std)(open_rgb(ready.data.test.samples[0][0]))
    assert torch.equal(plain, switched) and ready.info == load_backbone("toy/vit").dtl_info


@pytest.mark.parametrize("name, mean, std", [("half", 0.5, 0.5), ("imagenet", 0.485, 0.229)])
def test_normalisation(name, mean, std):
    ready, own = first_image()
    _, other = first_image(normalisation=name)
    pixels = own[0] * ready.info.std[0] + ready.info.mean[0]
    torch.testing.assert_close(other[0], (pixels - mean) / std, rtol=1e-5, atol=1e-5)


def test_jpeg_loses_a_little_and_is_the_same_each_time():
    ready, plain = first_image()
    (jpeg, lossy), (_, again) = first_image(jpeg=75), first_image(jpeg=75)
    assert torch.equal(lossy, again) and not torch.equal(lossy, plain)
    assert (lossy - plain).abs().mean() < 0.2
    assert jpeg.cacheable and repr(jpeg.data.test.transform) != repr(ready.data.test.transform), "another cache file"
    worse = first_image(jpeg=5)[1]
    assert (worse - plain).abs().mean() > (lossy - plain).abs().mean()


def test_readout_and_weights():
    ready, _ = first_image(readout="cls")
    assert ready.model.readout == "cls"
    with pytest.raises(ValueError, match="reads the mean"):
        prepare("dtl", "shape_location", profile="smoke", pitfalls=Pitfalls(readout="cls"))
    with pytest.raises(Exception, match="no/such"):
        first_image(weights="no/such-model")


def test_an_adapter_carries_the_normalisation_it_was_trained_with(tmp_path):
    path, imagenet = tmp_path / "other.safetensors", (0.485, 0.456, 0.406)
    ready = prepare("dtl", "shape_location", profile="smoke", pitfalls=Pitfalls(normalisation="imagenet"))
    ready.model.save_adapter(path)
    own = load_backbone("toy/vit", image_size=32)
    assert own.dtl_info.mean != imagenet and DTL.from_adapter(path, own).info.mean == imagenet
    with pytest.raises(ValueError, match="task 'other' was trained on images of mean"):
        MultiTask(own, {"other": path})
    picture = ready.data.test.samples[0][0]
    seen = eval_transform(32, imagenet, (0.229, 0.224, 0.225))(open_rgb(picture))
    wanted = DTL.from_adapter(path, own).eval()(seen[None]).softmax(1).max().item()
    assert predict(path, [picture], device="cpu")["probability_1"].item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("wrong", [dict(normalisation="none"), dict(readout="max"), dict(jpeg=100), dict(jpeg=-1)])
def test_mistakes_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Pitfalls(**wrong)

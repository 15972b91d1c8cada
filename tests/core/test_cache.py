"""The frozen-prefix cache: the same losses as from images, files that are whole, and nothing stored that is not exact."""

import shutil
from collections import namedtuple
from dataclasses import replace

import pytest
import torch
from toys import SHORT, SIZES, ToyImages, toy_model

from dtl_core import DTL, load_backbone
from dtl_core.blocks import blocks_of
from dtl_core.dtl import suffix_to
from dtl_core.training import InexactCache, PrefixCache, evaluate, fit

ONE_EPOCH = replace(SHORT, epochs=1, warmup_epochs=0, cooldown_epochs=0)
QUIET = dict(device="cpu", progress=False)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DTL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "prefix"


def losses(model, data, monkeypatch):
    """The loss of each step of one epoch."""
    seen, plain = [], torch.nn.functional.cross_entropy
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", lambda *a: seen.append(plain(*a)) or seen[-1])
    fit(model, data, ONE_EPOCH, **QUIET)
    monkeypatch.undo()
    return torch.stack([loss.detach().double() for loss in seen])


@pytest.mark.parametrize("backbone", ["toy/vit", "toy/swin"])
@pytest.mark.parametrize("method", ["linear", "dtl", "dtl+"])
@pytest.mark.parametrize("dtype, rtol", [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=["fp32", "fp64"])
def test_the_losses_of_an_epoch_are_those_without(method, backbone, dtype, rtol, tmp_path, monkeypatch):
    data = ToyImages(16, SIZES[backbone], dtype)
    plain = losses(toy_model(method, backbone).to(dtype), data, monkeypatch)
    model = toy_model(method, backbone).to(dtype)
    cached = losses(model, PrefixCache(model, data, dtype=dtype, root=tmp_path, **QUIET), monkeypatch)
    assert len(plain) == 2 and plain[0] != plain[1]
    torch.testing.assert_close(cached, plain, rtol=rtol, atol=0)


def test_bf16_is_half_the_size_and_trains():
    model, data = toy_model("dtl"), ToyImages(16)
    full, half = PrefixCache(model, data, **QUIET), PrefixCache(model, data, dtype=torch.bfloat16, **QUIET)
    assert full.path != half.path
    assert full.path.stat().st_size == 2 * half.path.stat().st_size
    features, _ = half[3]
    assert features.tokens.dtype == torch.float32, "the suffix gets the type that the prefix computes in"
    assert torch.equal(features.tokens, full[3][0].tokens.bfloat16().float())
    record = fit(model, half, replace(SHORT, lr=1e-2), **QUIET)
    assert record.history["loss"].iloc[-1] < 0.8 * record.history["loss"].iloc[0]


@pytest.mark.parametrize("frozen, stored", [(torch.bfloat16, torch.bfloat16), (torch.float64, torch.float32)], ids=str)
def test_features_come_back_in_the_type_of_the_backbone(frozen, stored):
    model = DTL(load_backbone("toy/vit"), 4, backbone_dtype=frozen).eval()
    data = ToyImages(2)
    features, _ = PrefixCache(model, data, dtype=stored, **QUIET).__getitems__([0, 1])
    assert {features.tokens.dtype, *(t.dtype for t in features.taps.values())} == {frozen}
    torch.testing.assert_close(model.suffix(features), model(data.images), rtol=1e-4, atol=1e-4)


def test_a_vit_of_12_blocks_has_8_tensors_an_image():
    model, data = toy_model("dtl"), ToyImages(4)
    cache = PrefixCache(model, data, **QUIET)
    features, labels = cache.__getitems__([2, 0])
    assert sorted(features.taps) == list(range(7)) and len(features.taps) + 1 == 8
    assert labels.tolist() == [2, 0]
    expected = model.eval().prefix(data.images[[2, 0]])
    torch.testing.assert_close(features.tokens, expected.tokens, rtol=1e-5, atol=1e-6)
    for i, tap in expected.taps.items():
        torch.testing.assert_close(features.taps[i], tap, rtol=1e-5, atol=1e-6)
    assert cache.bytes_per_image == 8 * 17 * 48 * 4  # 16 patches and the class token, 48 wide, fp32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("method, backbone", [("linear", "toy/vit"), ("dtl", "toy/vit"), ("dtl+", "toy/swin")])
def test_the_planned_size_is_the_real_one(method, backbone, dtype, cache_folder):
    model, data = toy_model(method, backbone), ToyImages(3, SIZES[backbone])
    planned = PrefixCache.plan_bytes(model, data[0][0], len(data), dtype)
    assert not cache_folder.exists(), "a plan writes nothing"
    assert PrefixCache(model, data, dtype=dtype, **QUIET).path.stat().st_size == planned > 0


@pytest.mark.parametrize(
    "options, data, reason",
    [
        ({"drop_path": 0.1}, ToyImages(4), r"drop path \(0.1\) is active in the prefix"),
        ({}, ToyImages(4, deterministic=False), "the transform is not marked deterministic"),
        ({"drop_path": 0.1}, ToyImages(4, deterministic=False), r"drop path .* and the transform"),
    ],
    ids=["drop path", "transform", "both"],
)
def test_what_would_not_be_exact_is_refused(options, data, reason, cache_folder):
    model = toy_model("dtl", **options)
    with pytest.raises(InexactCache, match=f"{reason}.*train without a cache"):
        PrefixCache(model, data, **QUIET)
    assert not cache_folder.exists()


def test_a_model_without_a_prefix_is_refused():
    for method in ("full", "lora"):
        with pytest.raises(TypeError, match="has no frozen prefix"):
            PrefixCache(toy_model(method), ToyImages(4), **QUIET)


def test_data_that_cannot_be_told_from_other_data_is_refused():
    nameless, addressed = ToyImages(4), ToyImages(4)
    del nameless.digest

    def transform(image):
        return image

    transform.deterministic = True
    addressed.transform = transform  # its repr is an address, which another function may have tomorrow
    for data in (nameless, addressed):
        with pytest.raises(TypeError, match="could not be told from another's.*digest"):
            PrefixCache(toy_model(), data, **QUIET)


def test_no_images_and_a_wrong_type_are_refused():
    with pytest.raises(ValueError, match="no images"):
        PrefixCache(toy_model(), ToyImages(0), **QUIET)
    with pytest.raises(ValueError, match="torch.int32.*torch.bfloat16"):
        PrefixCache(toy_model(), ToyImages(4), dtype=torch.int32, **QUIET)


def test_a_short_disk_is_refused_before_a_byte_is_written(cache_folder, monkeypatch):
    model, data = toy_model(), ToyImages(40)
    needed = PrefixCache.plan_bytes(model, data[0][0], 40)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(0, 0, needed))  # none would be left for anyone else
    with pytest.raises(
        OSError, match="needs 1020 KiB in .* and 1020 KiB are free.*dtl data clean.*bfloat16.*without a cache"
    ):
        PrefixCache(model, data, **QUIET)
    assert {p.suffix for p in cache_folder.iterdir()} == {".lock"}, "an empty lock, and nothing else"
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(0, 0, 2 * needed))
    assert PrefixCache(model, data, **QUIET).path.exists()


@pytest.mark.parametrize("backbone", ["toy/vit", "toy/swin"])
@pytest.mark.parametrize("method", ["linear", "dtl", "dtl+"])
def test_training_and_scoring_from_the_cache_do_not_touch_the_weights_of_the_prefix(method, backbone):
    """So these need not be on the device: here they are not even numbers."""
    data = ToyImages(16, SIZES[backbone])
    records = []
    for spoilt in (False, True):
        model = toy_model(method, backbone)
        cache = PrefixCache(model, data, **QUIET)
        run = {id(t) for part in model.suffix_parts() for t in (*part.parameters(), *part.buffers())}
        outside = [p for p in model.parameters() if id(p) not in run]
        assert outside and not any(p.requires_grad for p in outside)
        if spoilt:
            for p in outside:
                p.data.fill_(torch.nan)
        record = fit(
            model, cache, SHORT, score=lambda m, c=cache: -evaluate(m, c, **QUIET).loss, score_every=1, **QUIET
        )
        records.append((record.history[["loss", "score"]], evaluate(model, cache, **QUIET).loss))
    assert records[0][0].equals(records[1][0]) and records[0][1] == records[1][1]


@pytest.mark.parametrize("backbone", ["toy/vit", "toy/swin"])
def test_only_what_the_suffix_runs_goes_to_the_device(backbone, monkeypatch):
    model, sent = toy_model("dtl+", backbone), {}
    names = {t.data_ptr(): n for n, t in (*model.named_parameters(), *model.named_buffers())}
    monkeypatch.setattr(torch.Tensor, "to", lambda t, device: sent.setdefault(names[t.data_ptr()], device) and t)
    suffix_to(model, "cuda")
    monkeypatch.undo()
    there, here = ({n for n, device in sent.items() if device == d} for d in ("cuda", "cpu"))
    assert there | here == set(names.values())
    first = model.config.inject_from
    walked = blocks_of(model.backbone)
    late = {t.data_ptr() for b in walked.after(first) for t in (*b.parameters(), *b.buffers())}
    own = {n for n in names.values() if n.startswith(("csn.", "head."))}
    assert there == own | {names[i] for i in late} and here
    if backbone == "toy/vit":
        assert {n.split(".")[2] for n in there if n.startswith("backbone.blocks")} == {
            str(i) for i in range(first + 1, 12)
        }
    else:
        merged = {n.split(".")[2] for n in there if "downsample" in n}
        stages = walked.stages
        assert merged == {str(s) for s in set(stages) if stages.index(s) > first}

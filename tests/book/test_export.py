"""Adapters in ONNX, held to the models in onnxruntime, and the forms of torch: export, compile, int8."""

import copy
import json
import warnings

import numpy as np
import pytest
import torch
from families import backbone_of
from torch import nn

from dtl_book import cli, export
from dtl_book.export import export_onnx
from dtl_core import DTL, DTLConfig, load_backbone
from dtl_core.adapters import load_adapter
from dtl_core.baselines import build
from dtl_core.dtl import Features


def adapter(folder, name, method, backbone="toy/vit", classes=3, **options):
    torch.manual_seed(len(name))
    model = build(method, load_backbone(backbone), classes, inplace=True, **options)
    with torch.no_grad():
        for p in model.trainable_parameters():
            p.add_(0.1 * torch.randn_like(p))
    model.save_adapter(folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


def answers(path, **inputs):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install -e '.[export]'")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    wanted = {i.name for i in session.get_inputs()}
    return dict(
        zip([o.name for o in session.get_outputs()], session.run(None, {k: inputs[k] for k in wanted}), strict=True)
    )


def test_adapters_of_one_backbone_share_a_prefix(tmp_path, capsys):
    paths = [adapter(tmp_path, "birds", "dtl"), adapter(tmp_path, "moods", "dtl+", classes=4)]
    paths.append(adapter(tmp_path, "late", "dtl", config=DTLConfig(inject_from=9, tap_from=2)))
    out = tmp_path / "new" / "out"
    cli.main(["export", *(word for p in paths for word in ("--adapter", str(p))), "--out", str(out)])
    said = capsys.readouterr().out
    about = {p.stem: json.loads((out / f"{p.stem}.json").read_text()) for p in paths}
    prefixes = {name: facts["files"]["prefix"] for name, facts in about.items()}
    assert prefixes["birds"] == prefixes["moods"] != prefixes["late"] and len(list(out.glob("*prefix.onnx"))) == 2
    assert len(list(out.iterdir())) == 3 * 3 + 2 and all(p.name in said for p in out.iterdir())
    images = np.random.default_rng(0).normal(size=(5, 3, 32, 32)).astype(np.float32)  # a batch that was not traced
    shared = answers(out / prefixes["birds"], images=images)
    for path in paths[:2]:
        files = about[path.stem]["files"]
        with torch.no_grad():
            wanted = load_adapter(path).eval()(torch.tensor(images)).numpy()
        for got in (answers(out / files["suffix"], **shared), answers(out / files["whole"], images=images)):
            assert got["logits"] == pytest.approx(wanted, abs=1e-4)
    facts = about["moods"]
    assert facts["class_names"] == list("0123") and facts["mean"] == [0.5] * 3 and facts["view"] == "resize"
    assert facts["image_size"] == [32, 32] and "resize to exactly 32 x 32" in facts["preprocessing"][1]


@pytest.mark.parametrize(
    "method, backbone, options, prefix",
    [
        ("lora", "toy/vit", dict(first_block=7), "before-7-prefix"),
        ("linear", "toy/vit", dict(taps=True), "features-mean-taps-prefix"),
        ("res-tuning-bypass", "toy/vit", {}, "all-blocks-prefix"),
        ("repadapter", "toy/vit", {}, None),
        ("noah", "toy/vit", {}, None),
        ("dtl+", "toy/swin", {}, "dtl-4-14-prefix"),
    ],
)
def test_methods(method, backbone, options, prefix, tmp_path):
    path = adapter(tmp_path, "a", method, backbone, **options)
    written = export_onnx([path], tmp_path / "out", progress=False)
    assert len(written) == (4 if prefix else 2)
    assert not prefix or any(prefix in name for name in written)
    size = load_backbone(backbone).dtl_info.image_size
    images = np.random.default_rng(0).normal(size=(2, 3, *size)).astype(np.float32)
    with torch.no_grad():
        wanted = load_adapter(path).eval()(torch.tensor(images)).numpy()
    assert answers(tmp_path / "out" / "a.onnx", images=images)["logits"] == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("family", ["BEiT", "Perception Encoder"])
def test_a_family_of_backbones_with_a_walk_of_its_own(family, tmp_path, monkeypatch):
    """For a batch that was not traced; ``export_onnx`` compares one and three images."""
    backbone = backbone_of(family)
    build("dtl+", backbone, 3).save_adapter(tmp_path / "a.safetensors")
    monkeypatch.setattr(export, "open_adapter", lambda path, *_: load_adapter(path, backbone))
    assert len(export_onnx([tmp_path / "a.safetensors"], tmp_path / "out", progress=False)) == 4


def test_a_file_that_computes_something_else_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_difference", lambda *_: (0.02, 3.0))
    with pytest.raises(export.Mismatch, match="a.onnx differs from the model by 2.0e-02"):
        export_onnx([adapter(tmp_path, "a", "dtl")], tmp_path / "out", progress=False)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_operation_that_the_exporter_lacks_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(export, "_block_diag", torch.block_diag)
    path = adapter(tmp_path, "a", "repadapter")
    with pytest.raises(SystemExit):
        cli.main(["export", "--adapter", str(path), "--out", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert "a.onnx: torch" in error and "block_diag" in error and "Traceback" not in error
    assert list((tmp_path / "out").iterdir()) == []


class Part(nn.Module):
    def __init__(self, model, name):
        super().__init__()
        self.model, self.name = model, name

    def forward(self, inputs):
        return getattr(self.model, self.name)(inputs)


def tuned(**options):
    torch.manual_seed(0)
    model = DTL("toy/vit", 3, DTLConfig(dwconv_kernel=3), **options)
    with torch.no_grad():
        for p in model.trainable_parameters():
            p.normal_(std=0.2)
    return model.eval()


def test_torch_export_of_the_whole_and_of_each_part():
    """A batch of any size; ``Features`` goes in and out."""
    model, images = tuned(), torch.randn(5, 3, 32, 32)
    any_batch = {0: torch.export.Dim("batch")}
    for part, example in (("forward", images[:2]), ("prefix", images[:2]), ("suffix", model.prefix(images[:2]))):
        shapes = (any_batch,) if part != "suffix" else None
        with torch.no_grad():
            again = torch.export.export(Part(model, part), (example,), dynamic_shapes=shapes).module()
        if part == "suffix":
            torch.testing.assert_close(again(example), model.suffix(example))
        elif part == "prefix":
            wanted, got = model.prefix(images), again(images)
            assert isinstance(got, Features) and list(got.taps) == list(wanted.taps)
            torch.testing.assert_close(vars(got), vars(wanted))
        else:
            torch.testing.assert_close(again(images), model(images))


@pytest.mark.parametrize("recompute", ["none", "side"])
def test_torch_compile_keeps_answers_and_gradients(recompute):
    """The docstring of ``DTL`` says which form to train: the others are correct, and slow to compile."""
    plain, images = tuned(recompute=recompute), torch.randn(2, 3, 32, 32)
    twin = copy.deepcopy(plain)
    compiled = torch.compile(twin, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(images), plain(images))
    if recompute == "none":
        for model, call in ((plain, plain), (twin, compiled)):
            model.train()
            call(images).square().sum().backward()
        for ours, theirs in zip(plain.trainable_parameters(), twin.trainable_parameters(), strict=True):
            torch.testing.assert_close(theirs.grad, ours.grad)
    torch.compiler.reset()


@pytest.mark.parametrize("method", ["dtl", "lora", "linear"])
def test_int8_dynamic_quantization_gives_nearly_the_same_answers(method, tmp_path):
    if not torch.backends.quantized.supported_engines or not hasattr(torch.ao, "quantization"):
        pytest.skip("this torch has no int8 kernels")
    model, images = load_adapter(adapter(tmp_path, "a", method)).eval(), torch.randn(8, 3, 32, 32)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
        wanted, got = model(images), small(images)
    assert callable(small.head.weight), "the head is quantized too"
    assert 0 < (got - wanted).abs().max() < 0.2 * wanted.abs().max()

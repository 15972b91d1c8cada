"""The file of an adapter: what a method trained, in safetensors, and what is needed to build the model again.

What a file says is checked against its own tensors before a model is built or weights are fetched. The checksum finds
damage and edits; it is no signature and does not say who made the file.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from .backbones import PACKAGED_VIT, RANDOM, TOYS, BackboneInfo, info_of, load_backbone, meta_copy
from .config import DTLConfig
from .files import DamagedFile, save_tensors

FORMAT = "dtl-adapter-2"
FIRST = "dtl-adapter-1"  # of version 0.1: DTL alone, its config in place of options, no checksum
VIEWS, FLOATS = ("resize", "crop"), (torch.float32, torch.float64, torch.float16, torch.bfloat16)
LARGEST_SIDE = 2048  # pixels; for larger images a file alone does not get a backbone built


def mark(model: nn.Module, method: str, options: Mapping[str, Any]) -> None:
    """Note in a new model by which method and options it was built and what it trains, for its adapter file."""
    model.method, model.options = method, dict(options)
    model.trained = frozenset(n for n, p in model.named_parameters() if p.requires_grad)


def trained_tensors(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return what the method of a marked model trains, by the names that ``cast_frozen`` does not change."""
    named = {n.replace("parametrizations.", "").removesuffix(".original"): p for n, p in model.named_parameters()}
    return {n: p for n, p in named.items() if n in model.trained}


def save_adapter(model: nn.Module, path: str | Path) -> None:
    """Write what was trained to a safetensors file, whole or not at all: a few hundred KB for DTL, all weights for "full".

    The metadata holds the method and its options, the class names, the backbone's identity and, if set, ``model.view``:
    "crop" if the model was tested on the centre of each photograph, "resize" (the default) if on the whole of it.

    Raises:
        ValueError: the model was not made by ``DTL`` or ``baselines.build``, trains what its method does not, or has
            other class names than classes.
    """
    if not hasattr(model, "trained"):
        raise ValueError(f"this {type(model).__name__} does not know its method: make it with dtl_core.baselines.build")
    tensors = trained_tensors(model)
    kept = {id(p) for p in tensors.values()}
    lost = [n for n, p in model.named_parameters() if p.requires_grad and id(p) not in kept]
    if lost:
        raise ValueError(
            f"{lost[0]} is trained, though {model.method} does not train it ({len(lost)} tensors): a file would lose it"
        )
    names, classes = list(model.class_names) if model.class_names else None, len(tensors["head.weight"])
    if names and len(names) != classes:
        raise ValueError(f"the model has {classes} classes and {len(names)} class names: set class_names anew")
    metadata = {
        "format": FORMAT,
        "method": model.method,
        "options": json.dumps({k: _to_json(v) for k, v in model.options.items()}, allow_nan=False),
        "num_classes": str(classes),
        "class_names": json.dumps(names),
        "backbone": json.dumps(asdict(model.info)),
        "view": getattr(model, "view", "resize"),
    }
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    save_tensors(tensors, path, metadata | {"checksum": checksum(metadata, tensors)})


def _to_json(value: Any) -> Any:
    if isinstance(value, DTLConfig):
        value = asdict(value)
        # JSON has no infinity, and readers in other languages refuse Python's
        return value | {"beta": "inf"} if math.isinf(value["beta"]) else value
    return value.item() if hasattr(value, "item") else value  # NumPy's numbers


def checksum(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """Return the hex sha256 over the metadata but for a checksum, and each tensor's name, type, shape and bytes."""
    about = {k: v for k, v in metadata.items() if k != "checksum"}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"\n{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the metadata of an adapter file, without its tensors and unchecked.

    Raises:
        FileNotFoundError: no such file.
        DamagedFile: the file is truncated, not safetensors, or not an adapter.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no adapter at {path}: `dtl train` writes one, or check the path")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, struct.error) as error:
        raise DamagedFile(f"{path} is not a whole safetensors file ({error}): copy it again or train again") from error
    if metadata.get("format") not in (FORMAT, FIRST):
        raise DamagedFile(
            f"{path} is a safetensors file, but no DTL adapter (format {metadata.get('format')!r}, wanted {FORMAT!r})"
        )
    return metadata


@dataclass(frozen=True)
class AdapterFile:
    """The checked content of an adapter file.

    Attributes:
        method, options: of ``baselines.build``.
        backbone: the backbone that it was trained on, with the size and normalisation of its images.
        view: "crop" for the centre of a photograph, "resize" for the whole.
        tensors: what was trained, by name.
    """

    path: Path
    method: str
    options: dict[str, Any]
    num_classes: int
    class_names: tuple[str, ...] | None
    backbone: BackboneInfo
    view: str
    tensors: dict[str, Tensor]

    @classmethod
    def read(cls, path: str | Path) -> AdapterFile:
        """Read a file and check that it is whole, and that its classes are those of its head.

        Raises:
            FileNotFoundError: no such file.
            DamagedFile: see ``read_metadata``; or the content was changed or does not fit together.
        """
        metadata, tensors = read_metadata(path), load_file(path)
        if metadata["format"] == FORMAT and metadata.get("checksum") != checksum(metadata, tensors):
            raise DamagedFile(
                f"{path} is not as it was written: its content does not fit its checksum. Copy it again or train again"
            )
        try:
            options = json.loads(metadata.get("options") or json.dumps({"config": json.loads(metadata["config"])}))
            if "config" in options:
                options["config"] = DTLConfig(**options["config"] | {"beta": float(options["config"]["beta"])})
            method = metadata.get("method") or ("dtl+" if options["config"].dwconv_kernel else "dtl")
            names, view = json.loads(metadata["class_names"]), metadata.get("view", "resize")
            classes, backbone = int(metadata["num_classes"]), _backbone_info(json.loads(metadata["backbone"]))
            if view not in VIEWS or not (names is None or all(isinstance(name, str) for name in names)):
                raise ValueError(f"view {view!r}, class names {names!r}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedFile(
                f"{path}: its metadata cannot be read ({error!r}); it was written by another version, or is damaged: "
                "train again"
            ) from error
        bad = [k for k, v in tensors.items() if v.dtype not in FLOATS or not torch.isfinite(v).all()]
        if bad:
            raise DamagedFile(f"{path}: {bad[0]} has the wrong type or holds NaN; train again")
        head = tensors.get("head.weight", torch.empty(0))
        if head.ndim != 2 or len(head) != classes or len(names or range(classes)) != classes:
            named = "no class names" if names is None else f"{len(names)} class names"
            raise DamagedFile(
                f"{path}: {classes} classes, {named}, and a head of shape {tuple(head.shape)}; train again"
            )
        return cls(Path(path), method, options, classes, tuple(names) if names else None, backbone, view, tensors)

    def restore(self, make: Callable[..., nn.Module], backbone: nn.Module | str | None = None, **running) -> nn.Module:
        """Return the trained model.

        Args:
            make: builds the untrained model from a backbone, the number of classes and the options.
            backbone: a timm model with the same pre-trained weights, or its name; None loads the name in the file.
            **running: further options for ``make``, which say how the model runs and not what it computes.

        Raises:
            ValueError: the backbone's weights or image size differ from the file's, or the file's backbone is not
                loaded by name unless the caller names it.
            DamagedFile: the tensors do not fit the model.
        """
        if isinstance(backbone, nn.Module):
            found = info_of(backbone)
            self.backbone.check(found, str(self.path))
            self._check_tensors(make, meta_copy(backbone))
        else:
            name, size = self._name(backbone), self.backbone.image_size
            with torch.device("meta"):
                outline = load_backbone(name, image_size=size, pretrained=False)
            self._check_tensors(make, outline)
            backbone = load_backbone(name, image_size=size)
            found = info_of(backbone)
            self.backbone.check(found, str(self.path))
        model = make(backbone, self.num_classes, **self.options, **running)
        with torch.no_grad():
            for tensor_name, parameter in trained_tensors(model).items():
                parameter.copy_(self.tensors[tensor_name])
        model.class_names, model.view = self.class_names, self.view
        # its images were normalised so, whatever the backbone's own is
        model.info = replace(found, mean=self.backbone.mean, std=self.backbone.std)
        return model

    def _name(self, asked: str | None) -> str:
        """Return the name of the backbone to load: a file alone decides on timm's own names and ours, no address or path."""
        name, size = self.backbone.name, self.backbone.image_size
        if asked is None and name.startswith("custom/"):
            raise ValueError(
                f"{self.path} was trained on a backbone that its author built ({name}): pass it as backbone="
            )
        plain = name.removeprefix(RANDOM)
        if asked is None and not (plain in (PACKAGED_VIT, *TOYS) or re.fullmatch(r"[\w.]+", plain)):
            raise ValueError(
                f"{self.path} names the backbone {name}, which would be read from elsewhere than timm's list: if you "
                f"trust it, name it yourself (backbone={name!r}, or --backbone on the command line)"
            )
        if max(size) > LARGEST_SIDE:
            raise ValueError(
                f"{self.path} wants images of {size} px, and more than {LARGEST_SIDE} a side is not built on a file's word: "
                "load the backbone yourself and pass it as backbone="
            )
        return asked or name

    def _check_tensors(self, make: Callable[..., nn.Module], outline: nn.Module) -> None:
        """Raise DamagedFile unless the model as the metadata has it, built without memory, trains the file's tensors."""
        try:
            with torch.device("meta"):
                model = make(outline, self.num_classes, **self.options)
            own = {k: v.shape for k, v in trained_tensors(model).items()}
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise DamagedFile(
                f"{self.path}: no {self.method} can be built as it says ({error}); train again"
            ) from error
        for name in sorted(own.keys() ^ self.tensors.keys()):
            there = "missing" if name in own else "not part of this model"
            raise DamagedFile(f"{self.path}: {name} is {there}; train again")
        for name, shape in own.items():
            if shape != self.tensors[name].shape:
                got = tuple(self.tensors[name].shape)
                raise DamagedFile(f"{self.path}: {name} has the wrong shape, {got} for {tuple(shape)}; train again")


def _backbone_info(facts: dict[str, Any]) -> BackboneInfo:
    """Return the identity in a file's metadata; raise ValueError where it cannot be one."""
    info = BackboneInfo(
        **{k: v if isinstance(v, str) else tuple(v) for k, v in facts.items()}
    )  # JSON has lists for tuples
    sizes = len(info.image_size) == 2 and all(isinstance(s, int) and s > 0 for s in info.image_size)
    normal = len(info.mean) == len(info.std) and all(map(math.isfinite, info.mean + info.std)) and min(info.std) > 0
    if not (sizes and normal and info.name.isprintable() and re.fullmatch("[0-9a-f]*", info.sha256)):
        raise ValueError(f"no backbone is like {info}")
    return info

"""Adapter files: the trained side network and head in safetensors, with the metadata needed to load them again."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from .backbones import BackboneInfo, info_of, load_backbone
from .config import DTLConfig
from .files import DamagedFile, written_whole

if TYPE_CHECKING:
    from .dtl import DTL

FORMAT = "dtl-adapter-1"


def save_adapter(model: DTL, path: str | Path) -> None:
    """Write the side network and head to a safetensors file of a few hundred KB, whole or not at all.

    The metadata holds the config, the class names, the backbone's identity and, if set, ``model.view``: "crop" if the
    model was tested on the centre of each photograph, "resize" (the default) if on the whole of it.
    """
    config = asdict(model.config)
    if math.isinf(config["beta"]):
        config["beta"] = "inf"  # JSON has no infinity, and readers in other languages refuse Python's
    metadata = {
        "format": FORMAT,
        "config": json.dumps(config, allow_nan=False),
        "num_classes": str(model.head.out_features),
        "class_names": json.dumps(list(model.class_names) if model.class_names else None),
        "backbone": json.dumps(asdict(model.info)),
        "view": getattr(model, "view", "resize"),
    }
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items() if not k.startswith("backbone.")}
    with written_whole(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the metadata of an adapter file.

    Raises:
        FileNotFoundError: no such file.
        DamagedFile: the file is truncated, not safetensors, or not a DTL adapter.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no adapter at {path}: `dtl train` writes one, or check the path")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, struct.error) as error:
        raise DamagedFile(f"{path} is not a whole safetensors file ({error}): copy it again or train again") from error
    if metadata.get("format") != FORMAT:
        raise DamagedFile(
            f"{path} is a safetensors file, but no DTL adapter (format {metadata.get('format')!r}, wanted {FORMAT!r})"
        )
    return metadata


def load_adapter(make: type[DTL], path: str | Path, backbone: nn.Module | str | None = None, **options) -> DTL:
    """Return the model that ``save_adapter`` wrote.

    Args:
        make: the class of the model.
        path: adapter file.
        backbone: a timm model with the same pre-trained weights, or its name; None loads the name in the file.
        **options: run-time options of ``DTL``: ``recompute``, ``backbone_dtype``, ``drop_path``.

    Raises:
        ValueError: the backbone's weights or image size differ from the file's, or a custom backbone was not given.
        DamagedFile: see ``read_metadata``; or the metadata or tensors do not fit the model.
        FileNotFoundError: no such file.
    """
    metadata = read_metadata(path)
    try:
        backbone_facts, values = json.loads(metadata["backbone"]), json.loads(metadata["config"])
        # JSON has lists for tuples
        wanted = BackboneInfo(**{k: v if isinstance(v, str) else tuple(v) for k, v in backbone_facts.items()})
        config = DTLConfig(**values | {"beta": float(values["beta"])})
        num_classes, names = int(metadata["num_classes"]), json.loads(metadata["class_names"])
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFile(
            f"{path}: its metadata cannot be read ({error!r}); it was written by another version, or is damaged: "
            "train again"
        ) from error
    if backbone is None and wanted.name.startswith("custom/"):
        raise ValueError(
            f"{path} was trained on a backbone that its author built ({wanted.name}): pass it as backbone="
        )
    if backbone is None or isinstance(backbone, str):
        backbone = load_backbone(backbone or wanted.name, image_size=wanted.image_size)
    found = info_of(backbone)
    wanted.check(found, str(path))
    model = make(backbone, num_classes, config, **options)
    tensors = load_file(path)
    own = {k: v for k, v in model.state_dict().items() if not k.startswith("backbone.")}
    for name in own.keys() ^ tensors.keys():
        raise DamagedFile(f"{path}: {name} is {'missing' if name in own else 'not part of this model'}; train again")
    bad = [k for k, v in tensors.items() if v.shape != own[k].shape or not torch.isfinite(v).all()]
    if bad:
        raise DamagedFile(f"{path}: {bad[0]} has the wrong shape or holds NaN; train again")
    model.load_state_dict(tensors, strict=False)
    model.class_names = tuple(names) if names else None
    model.view = metadata.get("view", "resize")
    # its images were normalised so, whatever the backbone's own is
    model.info = replace(found, mean=wanted.mean, std=wanted.std)
    return model

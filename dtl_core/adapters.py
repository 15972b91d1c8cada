"""What is trained, in a file and back: ``model.save_adapter(path)``, ``load_adapter(path)``, ``start_from(model, path)``."""

from __future__ import annotations

import reprlib
from functools import partial
from pathlib import Path

import torch
from torch import nn

from .adapter_file import AdapterFile, read_metadata, save_adapter, trained_tensors
from .baselines import METHODS, build
from .files import DamagedFile

SHORT = reprlib.Repr()
SHORT.maxother = 200  # of a configuration
__all__ = ["AdapterFile", "load_adapter", "read_metadata", "save_adapter", "start_from"]


def load_adapter(path: str | Path, backbone: nn.Module | str | None = None, **options) -> nn.Module:
    """Return the model that an adapter file holds: a ``DTL``, or a rival as ``baselines.build`` makes it.

    Args:
        path: adapter file, of any method.
        backbone: a timm model with the same pre-trained weights, or its name; None loads the name in the file. A name
            that timm would read from a hub or a folder is loaded only if it is given here. A model is used as it is by
            DTL, which leaves it unchanged, and copied by the rivals.
        **options: how the model runs: ``backbone_dtype``; for DTL also ``recompute`` and ``drop_path``.

    Raises:
        ValueError: the backbone's weights or image size differ from the file's, or it has to be given.
        DamagedFile: the file is damaged or was changed, or its parts do not fit together.
        FileNotFoundError: no such file.
    """
    file = AdapterFile.read(path)
    if file.method not in METHODS:
        raise DamagedFile(f"{path} was trained by {file.method!r}, which this version does not know: update dtl_core")
    inplace = file.method in ("dtl", "dtl+") or not isinstance(backbone, nn.Module)
    return file.restore(partial(build, file.method, inplace=inplace), backbone, **options)


@torch.no_grad()
def start_from(model: nn.Module, path: str | Path) -> None:
    """Copy an adapter's tensors into a freshly built model of the same method, options, classes and backbone.

    Raises:
        ValueError: the model differs from the file's; the message says in what.
        DamagedFile, FileNotFoundError: see ``load_adapter``.
    """
    file = AdapterFile.read(path)
    file.backbone.check(model.info, str(path))
    ours = {"method": model.method, **model.options, "class names": model.class_names}
    theirs = {"method": file.method, **file.options, "class names": file.class_names}
    for info, facts in ((model.info, ours), (file.backbone, theirs)):
        facts |= {"mean": info.mean, "std": info.std}
    for what in ours | theirs:
        if ours.get(what) != theirs.get(what):
            was, now = (SHORT.repr(facts.get(what)) for facts in (theirs, ours))
            raise ValueError(f"training cannot go on from {path}: it differs in {what}, {was} there and {now} here")
    own = trained_tensors(model)
    if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in file.tensors.items()}:  # without class names
        raise ValueError(f"training cannot go on from {path}: its {file.num_classes} classes are not as many here")
    for name, parameter in own.items():
        parameter.copy_(file.tensors[name])

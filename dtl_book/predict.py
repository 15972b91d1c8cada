"""Predict classes of image files, with one adapter file or several."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from dtl_core.adapters import AdapterFile, load_adapter
from dtl_core.backbones import load_backbone
from dtl_core.data import open_rgb
from dtl_core.data.augment import CropTransform
from dtl_core.data.folder import images_below
from dtl_core.data.transforms import EvalTransform
from dtl_core.serving import MultiTask
from dtl_core.training import pick_device

BATCH = 32  # images a step


@dataclass(frozen=True)
class Tasks:
    """Adapters that see the same tensor of an image: DTLs over one prefix, or one model of another method."""

    transform: EvalTransform
    classes: dict[str, tuple[str, ...]]  # of each task
    answer: Callable[[Tensor], dict[str, Tensor]]  # images -> logits of each task


def predict(
    adapter: str | Path | Sequence[str | Path],
    images: Sequence[str | Path],
    *,
    top: int = 3,
    device: str | None = None,
    backbone: str | None = None,
    arch: str | None = None,
) -> pd.DataFrame:
    """Predict the most probable classes of images.

    Args:
        adapter: a file written by ``save_adapter``, or several. Those of DTL on one backbone run its first blocks once.
        images: files, folders and patterns such as ``photos/*.jpg``, see ``image_files``.
        top: classes a row.
        device: see ``pick_device``.
        backbone, arch: see ``open_adapter``.

    Returns:
        A row per image, or with several adapters per image and task: image, task (name of the adapter file, with several),
        class_1, probability_1, ..., error (empty, or why there is no answer).
    """
    if top < 1:
        raise ValueError(f"top is {top}: a row has at least one class")
    paths = [Path(a) for a in ([adapter] if isinstance(adapter, str | Path) else adapter)]
    if not paths or len({p.stem for p in paths}) < len(paths):
        raise ValueError(
            f"give at least one adapter, each with a name of its own: {', '.join(map(str, paths)) or 'none'}"
        )
    files, opened = image_files(images), open_tasks(paths, torch.device(pick_device(device)), backbone, arch)
    rows: list[dict] = []
    with tqdm(total=len(files), desc="predicting", unit="image", leave=False, disable=len(files) < 2 * BATCH) as bar:
        for start in range(0, len(files), BATCH):
            rows += _answers(files[start : start + BATCH], [p.stem for p in paths], opened, top)
            bar.update(min(BATCH, len(files) - start))
    table = pd.DataFrame(rows).drop(columns=[] if len(paths) > 1 else "task")
    return table[[c for c in table.columns if c != "error"] + ["error"]]


def _answers(files: list[Path], names: list[str], opened: list[Tasks], top: int) -> list[dict]:
    """Return the rows of a batch of files, the tasks of each image together."""
    rows = {(path, name): {"image": str(path), "task": name, "error": ""} for path in files for name in names}
    images = {}
    for path in files:
        try:
            images[path] = open_rgb(path)
        except (OSError, ValueError) as error:  # one bad file must not cost the answers for the others
            for name in names:
                rows[path, name]["error"] = str(error)
    for tasks in opened if images else []:
        for name, logits in tasks.answer(torch.stack([tasks.transform(image) for image in images.values()])).items():
            classes, logits = tasks.classes[name], logits.float().cpu()
            best = logits.softmax(1).topk(min(top, len(classes)), dim=1)
            for path, row, p, c in zip(images, logits, best.values.tolist(), best.indices.tolist(), strict=True):
                if not row.isfinite().all():
                    rows[path, name]["error"] = (
                        "its answer is NaN or infinite: look at the adapter's and backbone's weights"
                    )
                    continue
                for k in range(len(c)):
                    rows[path, name] |= {f"class_{k + 1}": classes[c[k]], f"probability_{k + 1}": p[k]}
    return list(rows.values())


def image_files(places: Sequence[str | Path]) -> list[Path]:
    """Return the files that are meant, each once: as given, all images below a folder, or what a pattern matches.

    A file that is given by name is taken whatever it is; in folders, hidden files and other kinds are left out.

    Raises:
        ValueError: nothing is given, or a folder or pattern has no image.
    """
    found: dict[Path, None] = {}
    for place in map(str, places):
        pattern = glob.has_magic(place) and not Path(place).exists()
        matches = sorted(glob.glob(place, recursive=True)) if pattern else [place]
        files = [f for match in map(Path, matches) for f in (images_below(match) if match.is_dir() else [match])]
        if not files:
            raise ValueError(f"no image is found at {place}: name files, folders, or a pattern such as 'photos/*.jpg'")
        found |= dict.fromkeys(files)
    if not found:
        raise ValueError("no image was given: name image files, folders, or a pattern such as 'photos/*.jpg'")
    return list(found)


def transform_of(model: torch.nn.Module) -> EvalTransform:
    """Return the transform from a photograph to what an adapter's model was tested on."""
    info = model.info
    return (CropTransform if model.view == "crop" else EvalTransform)(info.image_size, info.mean, info.std)


def class_names_of(model: torch.nn.Module) -> tuple[str, ...]:
    """Return the names of a model's classes, or their numbers."""
    return model.class_names or tuple(map(str, range(model.head.out_features)))


def open_adapter(path: str | Path, backbone: str | None = None, arch: str | None = None) -> torch.nn.Module:
    """Return the model of an adapter file.

    Args:
        path: adapter file.
        backbone: name of the backbone, where the file's own is not to be loaded, see ``load_adapter``; or a .safetensors file.
        arch: timm name of the architecture of a .safetensors file.
    """
    if arch is None:
        return load_adapter(path, backbone)
    size = AdapterFile.read(path).backbone.image_size
    return load_adapter(path, load_backbone(backbone or "", image_size=size, arch=arch))


def open_tasks(
    paths: Sequence[Path], device: torch.device, backbone: str | None = None, arch: str | None = None
) -> list[Tasks]:
    """Load adapter files. Those of DTL that were trained on one backbone, and see images alike, share it."""
    groups: dict[object, list[Path]] = {}
    for path in paths:
        file = AdapterFile.read(path)
        together = (file.backbone, file.view) if file.method.startswith("dtl") else path
        groups.setdefault(together, []).append(path)
    opened = []
    for together, members in groups.items():
        first = open_adapter(members[0], backbone, arch).to(device).eval()
        if isinstance(together, Path):
            name = together.stem
            answer = torch.no_grad()(lambda images, name=name, model=first: {name: model(images.to(device))})
            opened.append(Tasks(transform_of(first), {name: class_names_of(first)}, answer))
            continue
        first.backbone.dtl_info = first.info  # with the normalisation that it was trained with
        server = MultiTask(first.backbone, {p.stem: first if p == members[0] else p for p in members})
        classes = {name: t.class_names or tuple(map(str, range(t.num_classes))) for name, t in server.tasks.items()}
        opened.append(Tasks(transform_of(first), classes, server.predict))
    return opened

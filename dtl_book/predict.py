"""Predict classes of image files, with one adapter file or several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from tqdm.auto import tqdm

from dtl_core.adapters import read_metadata
from dtl_core.data import open_rgb
from dtl_core.data.augment import CropTransform
from dtl_core.data.transforms import EvalTransform
from dtl_core.dtl import DTL
from dtl_core.serving import MultiTask
from dtl_core.training import pick_device

BATCH = 32  # images a step


def predict(
    adapter: str | Path | Sequence[str | Path], images: Sequence[str | Path], *, top: int = 3, device: str | None = None
) -> pd.DataFrame:
    """Predict the most probable classes of each image.

    ``adapter`` is a file written by ``DTL.save_adapter``, or several of one backbone, which is loaded by name.

    Returns:
        A row per image, or with several adapters per image and task: image, task (name of the adapter file, with several),
        class_1, probability_1, ..., error (empty, or why the file could not be read).
    """
    if not images:
        raise ValueError("no image was given: name one or more image files")
    paths = [Path(a) for a in ([adapter] if isinstance(adapter, str | Path) else adapter)]
    if not paths or len({p.stem for p in paths}) < len(paths):
        raise ValueError(
            f"give at least one adapter, each with a name of its own: {', '.join(map(str, paths)) or 'none'}"
        )
    first = DTL.from_adapter(paths[0]).to(pick_device(device))
    first.backbone.dtl_info = first.info  # with the normalisation that it was trained with
    server = MultiTask(first.backbone, {p.stem: first if p == paths[0] else p for p in paths})
    views = {read_metadata(p).get("view", "resize") for p in paths}
    if len(views) > 1:
        raise ValueError(
            "some of these adapters see the centre of a photograph and some the whole: ask them one by one"
        )
    view = CropTransform if views == {"crop"} else EvalTransform
    transform = view(server.info.image_size, server.info.mean, server.info.std)
    rows, waiting = [], []

    def flush() -> None:
        if waiting:
            answers = server.predict(torch.stack([x for _, x in waiting]))
            for name, logits in answers.items():
                classes = server.tasks[name].class_names or tuple(map(str, range(logits.shape[1])))
                best = logits.float().softmax(1).topk(min(top, len(classes)), dim=1)
                for (row, _), p, c in zip(waiting, best.values.tolist(), best.indices.tolist(), strict=True):
                    for k in range(len(c)):
                        row[name] |= {f"class_{k + 1}": classes[c[k]], f"probability_{k + 1}": p[k]}
            waiting.clear()

    for path in tqdm([Path(p) for p in images], desc="predicting", leave=False, disable=len(images) < 2 * BATCH):
        about = [{"image": str(path)} | ({"task": p.stem} if len(paths) > 1 else {}) | {"error": ""} for p in paths]
        rows += about
        try:
            waiting.append((dict(zip([p.stem for p in paths], about, strict=True)), transform(open_rgb(path))))
        except (OSError, ValueError) as error:  # one bad file must not cost the answers for the others
            for row in about:
                row["error"] = str(error)
        if len(waiting) == BATCH:
            flush()
    flush()
    table = pd.DataFrame(rows)
    return table[[c for c in table.columns if c != "error"] + ["error"]]

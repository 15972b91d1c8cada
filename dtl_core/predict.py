"""Classes for image files, from an adapter file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from tqdm.auto import tqdm

from .data import eval_transform, open_rgb
from .dtl import DTL
from .training import pick_device


@torch.no_grad()
def predict(
    adapter: str | Path, images: Sequence[str | Path], *, top: int = 3, batch_size: int = 32, device: str | None = None
) -> pd.DataFrame:
    """The most probable classes of each image.

    Args:
        adapter: file written by ``DTL.save_adapter``. Its backbone is loaded by name.
        images: image files of any size and mode.
        top: classes a row.
        batch_size: images a step.
        device: chosen if None.

    Returns:
        A row per image: image, class_1, probability_1, ..., error (empty, or why the file could not be read).
    """
    model = DTL.from_adapter(adapter)
    device = pick_device(device)
    model.to(device).eval()
    transform = eval_transform(model.info.image_size, model.info.mean, model.info.std)
    names = model.class_names or tuple(str(i) for i in range(model.head.out_features))
    top, rows, waiting = min(top, len(names)), [], []

    def flush() -> None:
        if waiting:
            probabilities = model(torch.stack([x for _, x in waiting]).to(device)).float().softmax(1)
            best = probabilities.topk(top, dim=1)
            for (row, _), p, c in zip(waiting, best.values.tolist(), best.indices.tolist(), strict=True):
                for k in range(top):
                    row |= {f"class_{k + 1}": names[c[k]], f"probability_{k + 1}": p[k]}
            waiting.clear()

    for path in tqdm([Path(p) for p in images], desc="predicting", leave=False, disable=len(images) < 2 * batch_size):
        row = {"image": str(path), "error": ""}
        rows.append(row)
        try:
            waiting.append((row, transform(open_rgb(path))))
        except (OSError, ValueError) as error:  # one bad file must not cost the answers for the others
            row["error"] = str(error)
        if len(waiting) == batch_size:
            flush()
    flush()
    table = pd.DataFrame(rows)
    return table[[c for c in table.columns if c != "error"] + ["error"]]

"""Evaluate an adapter on images with known classes: the numbers as tables, two pictures, and every answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from dtl_core.data import open_images
from dtl_core.training import Evaluation, evaluate

from .json_files import write_json
from .predict import class_names_of, open_adapter, transform_of
from .printing import printable, to_text, write_table

if TYPE_CHECKING:
    from .experiments.run import Run

SHOWN = 20  # classes in the table on the terminal


@dataclass(frozen=True)
class Report:
    """What an adapter makes of a data set.

    Attributes:
        about: adapter, method, backbone, data, split and the data's digest.
        files: path of each image, where the data have paths.
    """

    about: dict[str, str]
    names: tuple[str, ...]
    files: list[str] | None
    score: Evaluation

    @property
    def summary(self) -> dict[str, float | int]:
        score = self.score
        return {
            "images": len(score.labels),
            "classes": len(self.names),
            "accuracy": score.accuracy,
            "balanced_accuracy": score.balanced_accuracy,
            "loss": score.loss,
            "calibration_error": score.calibration_error(),
        }

    def predictions(self) -> pd.DataFrame:
        """Return a row per image: image, class, predicted, right, and the probability of each of the two classes."""
        score, p = self.score, self.score.probabilities
        rows = range(len(p))
        return pd.DataFrame({
            "image": self.files or list(rows),
            "class": [self.names[i] for i in score.labels],
            "predicted": [self.names[i] for i in score.predictions],
            "right": score.labels == score.predictions,
            "probability": p[rows, score.predictions],
            "probability_of_class": p[rows, score.labels],
        })  # fmt: skip

    def confusion(self) -> pd.DataFrame:
        """Return the counts of images, a row per class and a column per answer."""
        counts = pd.DataFrame(self.score.confusion(), columns=[f"predicted {name}" for name in self.names])
        counts.insert(0, "class", self.names)
        return counts

    def text(self) -> str:
        """Return the numbers for a terminal, of many classes the ones with the lowest recall."""
        table, s = self.score.per_class(self.names), self.summary
        worst = table.sort_values("recall", kind="stable")[:SHOWN] if len(table) > SHOWN else table
        some = f"; the {SHOWN} classes of lowest recall" if len(table) > SHOWN else ""
        about = "\n".join(f"{name}: {printable(value)}" for name, value in self.about.items())
        return (
            f"{about}\n{s['images']:,} images: accuracy {s['accuracy']:.3f}, balanced {s['balanced_accuracy']:.3f}, "
            f"loss {s['loss']:.3f}, calibration error {s['calibration_error']:.3f} (15 bins){some}\n\n{to_text(worst)}"
        )

    def write(self, folder: Path) -> list[Path]:
        """Write evaluation.json, four tables as CSV and two pictures."""
        from .figures.evaluation import plot_calibration, plot_confusion
        from .lab.plots import use_style, write_png

        use_style()
        calibration, title = self.score.calibration(), f"{self.summary['images']:,} images"
        tables = {"per_class": self.score.per_class(self.names), "confusion": self.confusion()}
        tables |= {"calibration": calibration, "predictions": self.predictions()}
        pictures = {
            "confusion": plot_confusion(self.score.confusion(), self.names, title),
            "calibration": plot_calibration(calibration, self.summary["calibration_error"], title),
        }
        return [
            write_json(folder / "evaluation.json", self.about | self.summary),
            *(write_table(frame, folder / f"{name}.csv") for name, frame in tables.items()),
            *(write_png(figure, folder / f"{name}.png") for name, figure in pictures.items()),
        ]


def evaluate_adapter(
    adapter: str | Path,
    images: str | Run,
    split: str = "test",
    *,
    backbone: str | None = None,
    arch: str | None = None,
    device: str | None = None,
    progress: bool = True,
) -> Report:
    """Evaluate an adapter of any method.

    Args:
        adapter: a file written by ``save_adapter``.
        images: ``folder:PATH`` and the like, see ``open_images``; or a ``Run``, whose test images are taken.
        split: of images of one's own.
        backbone, arch: see ``open_adapter``.
        device: see ``pick_device``.
        progress: show a bar.

    Raises:
        ValueError: the images' classes are not the adapter's; the message names the difference.
    """
    model = open_adapter(adapter, backbone, arch)
    transform = transform_of(model)
    if isinstance(images, str):
        data = open_images(images, split, transform)
    else:
        from .experiments.run_data import open_data

        data = open_data(images, model.info).test
        data.transform, split = transform, data.split
    score = evaluate(model, data, device=device, progress=progress, logits=True)
    about = {
        "adapter": str(adapter), "method": model.method, "backbone": model.info.name,
        "data": images if isinstance(images, str) else f"{images.benchmark}: {images.where} ({images.profile})",
        "split": split, "digest": data.digest,
    }  # fmt: skip
    files = [str(path) for path, _ in data.samples] if hasattr(data, "samples") else None
    return Report(about, class_names_of(model), files, score)

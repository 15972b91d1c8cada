"""The commands about what was trained: predict, evaluate, export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .experiments.run import Benchmark, ProfileName

Adapters = tyro.conf.UseAppendAction[tuple[Path, ...]]


def predict(
    adapter: Adapters,
    images: Annotated[tuple[str, ...], tyro.conf.Positional],
    top: int = 3,
    out: Path | None = None,
    backbone: str | None = None,
    arch: str | None = None,
) -> None:
    """Print the most probable classes of each image, or write them to a file. End with 1 where a file could not be read.

    Args:
        adapter: file written by `dtl train`, of any method. Give it again for more tasks: `--adapter a --adapter b`. Those of
            DTL on one backbone share its blocks before the first injection, which run once for all of them.
        images: files, folders (all images below), and patterns such as 'photos/*.jpg'.
        top: classes a row.
        out: write the rows here, a .csv or .json file, instead of printing them.
        backbone: its name, where it is not one of timm's list or of ours, e.g. `hf-hub:...` or a .safetensors file: neither is
            read because an adapter says so.
        arch: timm name of the architecture of a .safetensors file.
    """
    from dtl_core.files import check_writable

    from .predict import predict as predict_images
    from .printing import to_text, write_table

    out = out and check_writable(out)
    table = predict_images(adapter, images, top=top, backbone=backbone, arch=arch)
    bad = table["image"][table["error"] != ""].nunique()
    if out:
        print(f"{table['image'].nunique():,} images, {bad:,} without an answer; written: {write_table(table, out)}")
    else:
        print(to_text(table))
    if bad:
        sys.exit(1)


def evaluate(
    adapter: Path,
    data: str | None = None,
    split: str = "test",
    task: str | None = None,
    benchmark: Benchmark = "vtab-1k",
    profile: ProfileName | None = None,
    out: Path | None = None,
    backbone: str | None = None,
    arch: str | None = None,
) -> None:
    """Evaluate an adapter of any method on images whose classes are known: accuracy, classes, mistakes, calibration.

    Args:
        adapter: file written by `dtl train`.
        data: your own images: `folder:PATH`, `csv:FILE` or `torchvision:NAME`. Their classes are matched by name.
        split: of them: `train`, `val`, `trainval` or `test`.
        task: a task of a benchmark instead, whose test images are taken.
        benchmark: which one the task is of.
        profile: whose data; `DTL_PROFILE`, else laptop.
        out: folder for evaluation.json, the tables as CSV (classes, confusion, calibration, every prediction) and two
            pictures.
        backbone: its name, where it is not one of timm's list or of ours.
        arch: timm name of the architecture of a .safetensors file.
    """
    from dtl_core.files import check_writable

    from .evaluation import evaluate_adapter
    from .experiments.run import Run
    from .printing import printable

    if (data is None) == (task is None):
        raise ValueError("say what to evaluate on: either --data folder:PATH (your own images) or --task NAME")
    if out:
        check_writable(out / "evaluation.json")
    images = data or Run(task or "", benchmark=benchmark, profile=profile)
    report = evaluate_adapter(adapter, images, split, backbone=backbone, arch=arch)
    print(report.text())
    if out:
        print("\nwritten: " + ", ".join(printable(path) for path in report.write(out)))


def export(
    adapter: Adapters,
    to: Literal["onnx"] = "onnx",
    out: Path | None = None,
    backbone: str | None = None,
    arch: str | None = None,
) -> None:
    """Export adapters for other runtimes, each file checked against this model's numbers.

    An adapter gives its whole model and, where its method has a frozen prefix, prefix and suffix apart. Adapters with
    the same prefix share one file of it. A JSON beside says how an image becomes the input, and the classes. Needs the
    extra `export`.

    Args:
        adapter: file written by `dtl train`, of any method. Give it again for more.
        to: `onnx`, with a batch of any size.
        out: folder for the files; build/export if not given.
        backbone: its name, where it is not one of timm's list or of ours.
        arch: timm name of the architecture of a .safetensors file.
    """
    from dtl_core.files import check_writable

    from .export import export_onnx
    from .paths import build_dir
    from .printing import printable

    out = out or build_dir() / "export"
    check_writable(out / "prefix.onnx")
    for name, difference in export_onnx(adapter, out, backbone=backbone, arch=arch).items():
        print(
            f"written: {printable(out / name)}"
            + ("" if difference is None else f" (differs by at most {difference:.1e})")
        )

"""The commands about memory and time: planned on any machine, and measured on a GPU."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .experiments.run import Method


def memory(
    method: Method = "dtl",
    backbone: str = "vit_base_patch16_224",
    batch_size: int = 32,
    image_size: int = 224,
    num_classes: int = 100,
    precision: Literal["fp32", "amp", "amp-bf16", "bf16"] = "fp32",
    attention: Literal["fused", "math"] = "fused",
    optimizer: Literal["adamw", "sgd"] = "adamw",
    checkpointing: bool = False,
    cached: bool = False,
    recompute: Literal["side", "blocks", "none"] = "side",
    compare: Literal["none", "all", "late"] = "none",
    gpu: float | None = None,
    largest_backbone: bool = False,
    out: Path | None = None,
    json: bool = False,
) -> None:
    """Plan the memory of a training step: no weights, no download and no GPU are needed.

    Args:
        method: how to adapt.
        backbone: a name of timm, `packaged/vit-s14`, `toy/vit` or `toy/swin`; only its shape is used.
        batch_size: images in a step.
        image_size: side in pixels.
        num_classes: classes of the head.
        precision: `amp` and `amp-bf16` are CUDA's autocast, `bf16` a frozen backbone and activations in bf16.
        attention: one fused kernel, or written out.
        optimizer: whose state is counted; `sgd` is without momentum.
        checkpointing: gradient checkpointing of every block.
        cached: from the stored features of the frozen prefix, whose weights are then not on the device (dtl, dtl+, linear).
        recompute: what a DTL computes again in backward (dtl and dtl+ alone).
        compare: `all` prints a table of all methods that run on this backbone, each plain and with checkpointing, DTL
            plain and in its lean forms; with `--checkpointing` each with it alone. `late` compares DTL with rivals that
            adapt the blocks after M alone, all from the stored prefix too.
        gpu: memory of a GPU in GiB; adds the largest batch that fits it.
        largest_backbone: of each family (ViT, Swin, DINOv3) the largest backbone that trains on `--gpu` at this batch, for
            each compared method and form: a table and a picture.
        out: the picture of `--largest-backbone`, a .png, with its rows beside it as .csv; build/largest-backbone.png if
            not given.
        json: print JSON instead of tables.
    """
    from .tables.memory import compare_text, plan_text

    if largest_backbone and (gpu is None or compare != "none" or cached):
        raise ValueError(
            "--largest-backbone wants --gpu GIB, plans every method and form by itself, and a cached prefix too"
        )
    if out is not None and not largest_backbone:
        raise ValueError("--out is where --largest-backbone writes its picture: add that, or leave out --out")
    if compare != "none" and cached:
        raise ValueError("--cached plans one method; --compare has a row for each method that can be cached")
    if compare != "none" and gpu is not None:
        raise ValueError("--gpu tells the largest batch of one method: leave it out, or leave out --compare")
    setting = dict(
        batch_size=batch_size, image_size=image_size, num_classes=num_classes, precision=precision, attention=attention,
        optimizer=optimizer, checkpointing=checkpointing,
    )  # fmt: skip
    if largest_backbone:
        from .figures.largest_backbone import backbones_text

        print(backbones_text(gpu, out, as_json=json, **setting))
        return
    print(
        compare_text(backbone, recompute=recompute, late=compare == "late", as_json=json, **setting)
        if compare != "none"
        else plan_text(method, backbone, recompute=recompute, gpu_gib=gpu, as_json=json, cached=cached, **setting)
    )


def figure1(write: bool = False) -> None:
    """Plan the memory axis of the paper's Figure 1 for all its methods, beside what was read off the figure.

    Args:
        write: record the card under results/, draw the picture, and put the table into RESULTS.md between its marks.
    """
    from .tables import figure1 as f

    card = f.plan_figure1()
    print(f.figure1_frame(card).round(3).to_string())
    print(f.figure1_summary(card))
    if write:
        from .figures.figure1_memory import save_picture

        for path in (f.save_figure1(card), save_picture(card), f.write_figure1(card)):
            print(f"written: {path}")


def explorer(port: int | None = None, browser: bool = True) -> None:
    """Serve the memory explorer as a page on this machine: will it fit, and what would save me the most?

    Args:
        port: of the page; a free one if not given.
        browser: open it in the browser.
    """
    from .explorer.panel import serve_explorer

    serve_explorer(port, open_browser=browser)


def measure(
    parts: Annotated[
        tuple[Literal["all", "tests", "memory", "time", "notebooks", "paper"], ...], tyro.conf.Positional
    ] = ("all",),
    device: Literal["cuda", "cpu"] = "cuda",
    minutes: float = 10.0,
    out: Path | None = None,
    backbone: str = "vit_base_patch16_224",
) -> None:
    """Measure what needs a GPU: tests, memory beside its plan, time of a step, notebooks, a rehearsal of the paper profile.

    Each part writes a card under results/measured/, row by row. The same command again goes on where it stopped.

    Args:
        parts: which of them; `all` in order of worth.
        device: `cpu` tries it out without a GPU (with `--backbone toy/vit`): tests are skipped, bytes are the ledger's.
        minutes: for all parts together; what they do not reach is named in the cards.
        out: folder for the cards; results/measured/ if not given.
        backbone: a name of timm, `packaged/vit-s14`, `toy/vit` or `toy/swin`; its weights are random. Tests and notebooks
            have their own.
    """
    from .measured.run import MEASURE
    from .measured.run import measure as measure_parts

    status = measure_parts([p for p in MEASURE if {p, "all"} & set(parts)], device, minutes, out, backbone)
    if status:
        sys.exit(status)


def measure_pack(
    out: Path, python: str = "3.12", platform: Literal["manylinux-x86-64", "manylinux-aarch64"] = "manylinux-x86-64"
) -> None:
    """Gather in one folder the packages that a GPU machine lacks which has PyTorch, timm and pytest, and no network.

    Args:
        out: the folder; its `site/` is put on that machine's PYTHONPATH.
        python: version of the machine's Python.
        platform: of the machine.
    """
    from .measured.pack import pack

    print(pack(out, python, platform))

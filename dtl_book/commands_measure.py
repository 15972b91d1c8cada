"""The commands that measure what needs a GPU."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

Device = Literal["cuda", "cpu"]
BACKBONE = "vit_base_patch16_224"


def _measure(parts: tuple[str, ...], device: str, minutes: float, out: Path | None, backbone: str) -> None:
    from .measured.run import measure

    try:
        status = measure(parts, device, minutes, out, backbone)
    except KeyboardInterrupt:
        print("dtl: stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    if status:
        sys.exit(status)


def measure_all(
    device: Device = "cuda", minutes: float = 10.0, out: Path | None = None, backbone: str = BACKBONE
) -> None:
    """Measure all that needs a GPU within some minutes: tests, memory, time, notebooks and a rehearsal of the paper profile.

    Each part writes a card under results/measured/, row by row. The same command again goes on where it stopped.

    Args:
        device: `cpu` tries it out without a GPU (with `--backbone toy/vit`).
        minutes: for all parts together; what they do not reach is named in the cards.
        out: folder for the cards; results/measured/ if not given.
        backbone: a name of timm, `packaged/vit-s14`, `toy/vit` or `toy/swin`; its weights are random.
    """
    _measure(("tests", "memory", "time", "notebooks", "paper"), device, minutes, out, backbone)


def tests(device: Device = "cuda", minutes: float = 10.0, out: Path | None = None, backbone: str = BACKBONE) -> None:
    """Run the tests that need a GPU, and count them.

    Args:
        device: on `cpu` they are all skipped, and counted so.
        minutes: the tests that run then are stopped.
        out: folder for the card; results/measured/ if not given.
        backbone: noted on the card; the tests have their own.
    """
    _measure(("tests",), device, minutes, out, backbone)


def memory(device: Device = "cuda", minutes: float = 10.0, out: Path | None = None, backbone: str = BACKBONE) -> None:
    """Measure the peak memory of training steps beside what is planned for them.

    Args:
        device: on `cpu` the bytes are the ledger's, and autocast is left out.
        minutes: what is not reached is named in the card.
        out: folder for the card; results/measured/ if not given.
        backbone: a name of timm, `packaged/vit-s14`, `toy/vit` or `toy/swin`; its weights are random.
    """
    _measure(("memory",), device, minutes, out, backbone)


def seconds(device: Device = "cuda", minutes: float = 10.0, out: Path | None = None, backbone: str = BACKBONE) -> None:
    """Time training steps side by side, as ratios to the plain DTL of the paper.

    Args:
        device: on `cpu` in fp32, by the clock.
        minutes: as many rounds as fit, up to 30.
        out: folder for the card; results/measured/ if not given.
        backbone: a name of timm, `packaged/vit-s14`, `toy/vit` or `toy/swin`; its weights are random.
    """
    _measure(("time",), device, minutes, out, backbone)


def notebooks(
    device: Device = "cuda", minutes: float = 10.0, out: Path | None = None, backbone: str = BACKBONE
) -> None:
    """Run notebooks and solutions on the GPU, in the smoke profile. Needs nbval.

    Args:
        device: on `cpu` a few of them.
        minutes: the notebook that runs then is stopped.
        out: folder for the card; results/measured/ if not given.
        backbone: noted on the card; the notebooks have their own.
    """
    _measure(("notebooks",), device, minutes, out, backbone)


def paper(device: Device = "cuda", minutes: float = 10.0, out: Path | None = None, backbone: str = BACKBONE) -> None:
    """Rehearse the paper profile on a few stand-in images with random weights; one run is killed and goes on.

    Args:
        device: on `cpu` the precision is that of the CPU.
        minutes: the run that goes on then is stopped.
        out: folder for the card; results/measured/ if not given.
        backbone: a name of timm, `toy/vit` or `toy/swin`; its weights are random.
    """
    _measure(("paper",), device, minutes, out, backbone)


def pack(
    out: Path,
    python: str = "3.12",
    platform: Literal["manylinux-x86-64", "manylinux-aarch64"] = "manylinux-x86-64",
) -> None:
    """Gather in one folder the packages that a GPU machine lacks which has PyTorch, timm and pytest, and no network.

    Args:
        out: the folder; its `site/` is put on that machine's PYTHONPATH.
        python: version of the machine's Python.
        platform: of the machine.
    """
    from .measured.pack import pack as pack_wheels

    print(pack_wheels(out, python, platform))


COMMANDS = {
    "all": measure_all, "tests": tests, "memory": memory, "time": seconds, "notebooks": notebooks, "paper": paper, "pack": pack,
}  # fmt: skip

"""The commands that measure what needs a GPU."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

SUMMARIES = {
    "all": "Measure all that needs a GPU within some minutes: tests, memory, time, notebooks and a rehearsal of the paper profile.",
    "tests": "Run the tests that need a GPU, and count them.",
    "memory": "Measure the peak memory of training steps beside what is planned for them.",
    "time": "Time training steps side by side, as ratios to the plain DTL of the paper.",
    "notebooks": "Run notebooks and solutions on the GPU, in the smoke profile. Needs nbval.",
    "paper": "Rehearse the paper profile on a few stand-in images with random weights; one run is killed and resumed.",
}
OPTIONS = """

    Each part writes a card under results/measured/, row by row. The same command again continues where it stopped.

    Args:
        device: `cpu` tries it out without a GPU (with `--backbone toy/vit`): tests are skipped, bytes are the ledger's.
        minutes: for all parts together; what they do not reach is listed in the cards.
        out: folder for the cards; results/measured/ if not given.
        backbone: a name of timm, `packaged/vit-s14`, `toy/vit` or `toy/swin`; its weights are random. Tests and notebooks
            have their own.
    """


def _command(name: str) -> Callable[..., None]:
    def command(
        device: Literal["cuda", "cpu"] = "cuda",
        minutes: float = 10.0,
        out: Path | None = None,
        backbone: str = "vit_base_patch16_224",
    ) -> None:
        from .measured.run import MEASURE, measure

        try:
            status = measure(tuple(MEASURE) if name == "all" else (name,), device, minutes, out, backbone)
        except KeyboardInterrupt:
            print("dtl: stopped; the same command goes on from here", file=sys.stderr)
            status = 130
        if status:
            sys.exit(status)

    command.__doc__ = SUMMARIES[name] + OPTIONS
    return command


def pack(
    out: Path, python: str = "3.12", platform: Literal["manylinux-x86-64", "manylinux-aarch64"] = "manylinux-x86-64"
) -> None:
    """Gather in one folder the packages that a GPU machine lacks which has PyTorch, timm and pytest, and no network.

    Args:
        out: the folder; its `site/` is put on that machine's PYTHONPATH.
        python: version of the machine's Python.
        platform: of the machine.
    """
    from .measured.pack import pack as pack_wheels

    print(pack_wheels(out, python, platform))


COMMANDS = {name: _command(name) for name in SUMMARIES} | {"pack": pack}

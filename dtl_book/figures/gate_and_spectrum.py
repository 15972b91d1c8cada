"""Pictures of two parts of the side network: the gate, and how few directions the side state has."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from dtl_core.csn import swish

from ..lab.plots import PALETTE

DASHES = ("-", "--", "-.", ":")  # a colour never stands alone


def draw_gate(betas: tuple[float, ...] = (10.0, 30.0, 100.0), reach: float = 0.15) -> Figure:
    """Draw the swish gate for up to four beta beside ReLU, and its distance from ReLU, for h from -reach to reach."""
    h = torch.linspace(-reach, reach, 2001, dtype=torch.float64)
    fig, (above, below) = plt.subplots(2, 1, figsize=(6.4, 6.6))
    above.plot(h, h.relu(), color="#000000", lw=1.4, label="ReLU")
    for beta, color, dash in zip(betas, PALETTE, DASHES, strict=False):
        above.plot(h, swish(h, beta), color=color, ls=dash, label=rf"$\beta$ = {beta:g}")
        below.plot(h, h.relu() - swish(h, beta), color=color, ls=dash)
        top = (h.relu() - swish(h, beta)).max().item()
        below.annotate(f"{top:.4f}", (1.278 / beta, top), xytext=(6, 4), textcoords="offset points", color=color)
    above.set(title="swish(h)")
    above.legend(loc="upper left", handlelength=2.2)
    below.set(xlabel="h", title="ReLU(h) − swish(h)")
    below.set_ylim(top=1.15 * below.get_ylim()[1])
    return fig


def draw_spectrum(tensors: dict[str, Tensor], rank: int) -> Figure:
    """Draw the singular values of tokens, largest first: how many directions they really have.

    Args:
        tensors: label -> tokens (..., d); each is read as a matrix with a row per token.
        rank: a bound to mark on the axis.
    """
    fig, ax = plt.subplots(figsize=(6.4, 3.8))
    for (label, x), color, dash in zip(tensors.items(), PALETTE, DASHES, strict=False):
        values = torch.linalg.svdvals(x.detach().flatten(0, -2).double()).numpy()
        values = np.maximum(values / values[0], 1e-18)
        ax.semilogy(np.arange(1, len(values) + 1), values, color=color, ls=dash, marker="o", ms=4, label=label)
    ax.axvline(rank, color="#6B6B6B", lw=1.4, ls=":")
    ax.annotate(f"rank ≤ {rank}", (rank, 1e-4), xytext=(8, 0), textcoords="offset points", color="#4A5058")
    ax.set(xlabel="singular value, largest first", ylabel="size, largest = 1", xlim=(0, None))
    ax.legend(loc="center right")
    return fig

"""Pictures of DTL+'s depthwise convolution: its receptive field, its filters, and its effect on the side state."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from dtl_core.csn import DepthwiseConv
from dtl_core.dtl import DTL
from dtl_core.paths import RESOURCES


def authors_kernels() -> pd.DataFrame:
    """Return the kernels that the authors chose for DTL+ on ViT-B/16: a row per VTAB-1K task, with columns task, group, kernel."""
    recipes = pd.read_csv(RESOURCES / "recipes.csv")
    mine = (
        recipes["backbone"].str.startswith("vit") & (recipes["benchmark"] == "vtab-1k") & (recipes["method"] == "DTL+")
    )
    groups = pd.read_csv(RESOURCES / "vtab_tasks.csv").set_index("script_name")["group"]
    frame = recipes.loc[mine, ["dataset", "fusion_size"]].set_axis(["task", "kernel"], axis=1)
    return frame.assign(group=frame["task"].map(groups))[["task", "group", "kernel"]].reset_index(drop=True)


def patches_seen(kernel: int, grid: tuple[int, int], patch: tuple[int, int]) -> Tensor:
    """Return which patches one output (row, column) of the convolution depends on, according to autograd: (H, W) of booleans."""
    conv = DepthwiseConv(1, kernel)
    torch.nn.init.ones_(conv.weight)
    x = torch.zeros(1, *grid, 1, requires_grad=True)
    conv(x)[0, patch[0], patch[1], 0].backward()
    return x.grad[0, :, :, 0] != 0


def draw_reach(kernels: Sequence[int] = (3, 4, 5)) -> Figure:
    """Draw for each kernel the patches that the output of the middle patch sees."""
    side, middle = 7, (3, 3)
    fig, axes = plt.subplots(1, len(kernels), figsize=(6.4, 2.4))
    for ax, kernel in zip(axes, kernels, strict=True):
        seen = patches_seen(kernel, (side, side), middle).float().numpy()
        ax.imshow(seen, cmap="Blues", vmin=0, vmax=1.8)
        ax.plot(middle[1], middle[0], marker="*", color="#D55E00", mec="#1b1f24", ms=15)
        ax.set(title=f"k = {kernel}", xticks=np.arange(side + 1) - 0.5, yticks=np.arange(side + 1) - 0.5)
        ax.tick_params(labelbottom=False, labelleft=False, length=0)
        ax.grid(color="#8A9099", linewidth=0.8)
        ax.set_axisbelow(False)
        ax.spines[["top", "right"]].set_visible(True)
    return fig


def draw_filters(before: Tensor, after: Tensor, channels: int = 6) -> Figure:
    """Draw the filters, (d, 1, k, k), that training changed most: at the start, after training, and the change."""
    before, after = (w.detach().float().cpu()[:, 0].numpy() for w in (before, after))
    change = after - before
    chosen = np.argsort(-np.linalg.norm(change, axis=(1, 2)))[:channels]
    fig, axes = plt.subplots(3, channels, figsize=(6.4, 3.1))
    rows = (("at the start", before), ("trained", after), ("change", change))
    limit = max(np.abs(w[chosen]).max() for _, w in rows)
    for line, (label, weights) in zip(axes, rows, strict=True):
        for ax, channel in zip(line, chosen, strict=True):
            image = ax.imshow(weights[channel], cmap="RdBu_r", vmin=-limit, vmax=limit)
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
            ax.spines[["top", "right"]].set_visible(True)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=6)
    for ax, channel in zip(axes[0], chosen, strict=True):
        ax.set_title(f"{channel}", fontsize=12.5)
    fig.colorbar(image, ax=axes, shrink=0.9, pad=0.02)
    return fig


def filter_table(before: Tensor, after: Tensor) -> pd.DataFrame:
    """Return the mean absolute weight by place: the middle, the rest of its row and column, and the corners.

    ``before`` and ``after`` are weights (d, 1, 3, 3).
    """
    row, column = np.indices((3, 3))
    away = np.abs(row - 1) + np.abs(column - 1)  # 0 in the middle, 1 beside it, 2 in a corner
    b, a = (w.detach().float().cpu()[:, 0].numpy() for w in (before, after))
    places = {"middle": away == 0, "beside the middle": away == 1, "corner": away == 2}
    columns = {"at the start": b, "trained": a, "change": a - b}
    return pd.DataFrame(
        [{"place": p, **{c: np.abs(w[:, at]).mean() for c, w in columns.items()}} for p, at in places.items()]
    )


@torch.no_grad()
def added_by_side(model: DTL, images: Tensor) -> dict[int, Tensor]:
    """Return what the side network of a DTL on a ViT adds to the tokens: injecting block -> tensor (B, N, d)."""
    seen, gate = {}, model.csn.gate
    model.csn.gate = lambda i, h: seen.setdefault(i, gate(i, h))  # hides the method for this call
    try:
        model.eval()(images)
    finally:
        del model.csn.gate
    return seen


def draw_added(models: dict[str, DTL], image: Tensor, block: int) -> Figure:
    """Draw a normalised image, and for each DTL the length of what its side network adds to every patch after one block."""
    fig, axes = plt.subplots(1, 1 + len(models), figsize=(6.4, 2.1))
    picture = image.detach().cpu().float()
    picture = (picture - picture.min()) / (picture.max() - picture.min()).clamp(min=1e-6)
    axes[0].imshow(picture.permute(1, 2, 0).numpy())
    axes[0].set_title("image")
    for ax, (label, model) in zip(axes[1:], models.items(), strict=True):
        device = next(model.parameters()).device
        height, width = model.blocks.grid
        added = added_by_side(model, image[None].to(device))[block][0]
        lengths = added[-height * width :].norm(dim=1).unflatten(0, (height, width)).cpu().numpy()
        shown = ax.imshow(lengths, cmap="viridis", vmin=0)
        ax.set_title(label)
        fig.colorbar(shown, ax=ax, shrink=0.75, pad=0.03)
    for ax in axes:
        ax.set(xticks=[], yticks=[])
        ax.grid(False)
    return fig

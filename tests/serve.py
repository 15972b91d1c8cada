"""Tasks of every kind over a small backbone, for the tests of the server."""

import torch
from families import timm_blocks

from dtl_core import DTL, DTLConfig, load_backbone
from dtl_core.blocks import blocks_of

KINDS = {  # rank, tap_from, M, kernel; on the toy Swin blocks 0-1, 2-3, 4-21 and 22-23 are a stage
    "toy/vit": {
        "DTL": (2, 0, 6, 0), "DTL+": (2, 0, 6, 3), "late": (4, 2, 9, 3), "early": (1, 3, 3, 0), "last": (2, 0, 11, 4),
    },
    "toy/swin": {
        "DTL": (4, 4, 14, 0), "DTL+": (4, 4, 14, 5), "stage's end": (2, 0, 3, 3), "early": (1, 0, 0, 0),
        "stage's last": (2, 6, 21, 0), "next stage": (3, 22, 22, 3), "last": (2, 22, 23, 2),
    },
    "family": {"DTL": (2, 0, 2, 0), "DTL+": (3, 1, 1, 3), "last": (1, 0, 3, 2)},
}  # fmt: skip


def task_of(backbone, kind, classes=3, seed=0, **options):
    """A side network that does something: no parameter at its start."""
    torch.manual_seed(seed)
    rank, tap_from, m, kernel = kind
    model = DTL(backbone, classes, DTLConfig(rank, tap_from, m, 100.0, kernel), **options)
    with torch.no_grad():
        for p in model.trainable_parameters():
            p.normal_(std=0.3)
    return model.eval()


def mixed(backbone, kinds, dtype=torch.float32):
    """A task of each kind, with 2, 3, 4, … classes."""
    models = {name: task_of(backbone, kind, 2 + i, seed=i) for i, (name, kind) in enumerate(KINDS[kinds].items())}
    for model in models.values():
        model.csn.to(dtype)
        model.head.to(dtype)
    return models


def toy(name, dtype=torch.float32):
    return load_backbone(name).to(dtype)


def images_of(backbone, n=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    size, dtype = blocks_of(backbone).image_size, next(backbone.parameters()).dtype
    return torch.randn(n, 3, *size, generator=generator, dtype=torch.float64).to(dtype)


class Calls:
    """Counts how often each frozen block is called, and with how many rows."""

    def __init__(self, backbone):
        self.rows = [[] for _ in timm_blocks(backbone)]
        for seen, block in zip(self.rows, timm_blocks(backbone), strict=True):
            block.register_forward_pre_hook(lambda module, args, seen=seen: seen.append(len(args[0])))

    def __call__(self):
        counts = [list(seen) for seen in self.rows]
        for seen in self.rows:
            seen.clear()
        return counts

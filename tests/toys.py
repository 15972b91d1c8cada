"""Toy data and models for the tests, and what compares them."""

from __future__ import annotations

from dataclasses import asdict, replace

import torch
from torch.utils.data import Dataset

from dtl_core import load_backbone
from dtl_core.baselines import build
from dtl_core.memory.ledger import BLOCK
from dtl_core.training import Recipe, seed_everything

SIZES = {"toy/vit": 32, "toy/swin": 64}
SHORT = Recipe(
    lr=3e-3, batch_size=8, epochs=4, warmup_epochs=1, warmup_lr=1e-4, cooldown_epochs=1, precision="fp32", seed=3
)


class ToyTransform:
    """Says of itself whether it is deterministic, as the project's transforms do."""

    def __init__(self, deterministic: bool = True):
        self.deterministic = deterministic

    def __repr__(self) -> str:
        return f"ToyTransform({self.deterministic})"


class ToyImages(Dataset):
    """Noise with a tint, and the tint is the class: red, green, blue or grey. A few epochs learn it."""

    classes = 4

    def __init__(
        self, n: int = 24, size: int = 32, dtype: torch.dtype = torch.float32, deterministic: bool = True, seed: int = 0
    ):
        self.labels = torch.arange(n) % 4
        self.images = 0.5 * torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed)).to(dtype)
        tints = torch.cat([torch.eye(3), torch.ones(1, 3)]).to(dtype)  # (4, 3)
        self.images += tints[self.labels][:, :, None, None]
        self.transform = ToyTransform(deterministic)
        self.digest = f"toy images, n={n}, size={size}, seed={seed}"

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.images[i], int(self.labels[i])


def toy_model(method: str = "dtl", backbone: str = "toy/vit", seed: int = 0, **options) -> torch.nn.Module:
    """A model of ``build`` on a toy backbone, initialised from a seed."""
    seed_everything(seed)
    return build(method, load_backbone(backbone), ToyImages.classes, inplace=True, **options)


def trained(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of what the model trains."""
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two copies hold the same names and the same bits."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def shaken(method: str, backbone: str, recompute: str) -> torch.nn.Module:
    """A toy DTL in double precision whose maps have left 0, so that every parameter has a gradient."""
    model = toy_model(method, backbone, recompute=recompute).double()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in model.trainable_parameters():
            p += 0.05 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return model.train()


def only_cpu(patch) -> None:
    """No accelerator is found, while a ``MonkeyPatch`` lasts: where bits are compared, they are the CPU's."""
    for accelerator in (torch.cuda, torch.backends.mps):
        patch.setattr(accelerator, "is_available", lambda: False)


def timeless(card) -> dict:
    """A card without what the clock says."""
    epochs = [{k: v for k, v in row.items() if k != "seconds"} for row in card.epochs]
    return asdict(replace(card, seconds=0, cache_seconds=0, created="", epochs=epochs))


def storage_bytes(tensors) -> int:
    """Bytes of the distinct storages of some tensors, in whole blocks of the ledger."""
    sizes = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
    return sum(-(-n // BLOCK) * BLOCK for n in sizes.values())

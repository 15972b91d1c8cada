"""Made-up run cards of any benchmark, for tests of the tables and pictures that are made of cards."""

from __future__ import annotations

from dataclasses import asdict

from dtl_book.experiments import RunCard, card_path, save_card
from dtl_core.dtl import DTLConfig

CONFIG = asdict(DTLConfig())
RECIPE = {"batch_size": 32, "drop_path": 0.0, "augmentation": "none", "epochs": 10, "config": CONFIG}
CARD = RunCard(
    method="dtl", profile="laptop", benchmark="vtab-1k", task="mnist", purpose="final", train_split="train800val200",
    test_split="test", seed=0, lr=0.01, readout="mean", recipe=RECIPE, backbone="b", backbone_sha256="0", image_size=[98, 98],
    data_digest={}, classes=22, parameters=30, parameters_without_head=20, accuracy=0.9, balanced_accuracy=0.9, loss=1.0,
    epochs=[{}] * 5, seconds=60.0, cache_seconds=0.0, peak_bytes=None, cache=None, cache_inexact="", device="cpu", threads=1,
    precision="fp32",
)  # fmt: skip


def put(root, variant="", **changes):
    """Write a card that differs from ``CARD`` in these fields; a variant's name goes into the file's."""
    card = RunCard(**{**vars(CARD), **changes})
    lr = card.lr if card.purpose == "select" else None
    where = (card.profile, card.benchmark, card.task, f"{card.method}{variant}", card.seed)
    return save_card(card, card_path(*where, lr, root=root, shots=card.shots))

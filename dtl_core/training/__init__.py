"""Recipes, the training loop, evaluation, and the frozen-prefix cache."""

from .cache import InexactCache, PrefixCache
from .evaluate import Evaluation, evaluate
from .loop import FitRecord, NonFiniteLoss, fit, pick_device, seed_everything, train_epoch
from .recipe import Recipe, authors_table

__all__ = [
    "Evaluation",
    "FitRecord",
    "InexactCache",
    "NonFiniteLoss",
    "PrefixCache",
    "Recipe",
    "authors_table",
    "evaluate",
    "fit",
    "pick_device",
    "seed_everything",
    "train_epoch",
]

"""Run cards, and the runs that they record."""

from .cards import RunCard, card_path, load_card, load_cards, save_card
from .runs import LEARNING_RATES, METHODS, SEEDS, best_lr, record, run

__all__ = ["LEARNING_RATES", "METHODS", "RunCard", "SEEDS", "best_lr", "card_path", "load_card", "load_cards", "record", "run", "save_card"]

"""Run cards, the runs that they record, and the table that they make."""

from .cards import RunCard, card_path, load_card, load_cards, save_card
from .preflight import CannotFit, Preflight, preflight
from .prepare import Prepared, open_data, prepare
from .results import readme_table, results_table, write_readme_table
from .runs import LEARNING_RATES, METHODS, SEEDS, TASKS, best_lr, record, run

__all__ = [
    "LEARNING_RATES", "METHODS", "SEEDS", "TASKS", "CannotFit", "Preflight", "Prepared", "RunCard", "best_lr", "card_path",
    "load_card", "load_cards", "open_data", "preflight", "prepare", "readme_table", "record", "results_table", "run", "save_card",
    "write_readme_table",
]  # fmt: skip

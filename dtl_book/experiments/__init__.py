"""Run cards, the runs that they record, and the table that they make."""

from .cards import RunCard, card_path, load_card, load_cards, save_card
from .pitfalls import Pitfalls
from .preflight import CannotFit, Preflight, preflight
from .prepare import DROP_PATH_METHODS, Prepared, prepare
from .run_data import RunData, open_images
from .runs import COMPARED, LEARNING_RATES, METHODS, SEEDS, Setting, best_setting, run, settings_for

__all__ = [
    "COMPARED", "DROP_PATH_METHODS", "LEARNING_RATES", "METHODS", "SEEDS", "CannotFit", "Preflight", "Prepared", "RunData",
    "RunCard", "Setting", "Pitfalls", "best_setting", "card_path", "load_card", "load_cards", "open_images", "preflight", "prepare",
    "run", "save_card", "settings_for",
]  # fmt: skip

"""Run cards, the runs that they record, and the table that they make."""

from ..data import TASKS
from .cards import RunCard, card_path, load_card, load_cards, save_card
from .preflight import CannotFit, Preflight, preflight
from .prepare import DROP_PATH_METHODS, Prepared, prepare
from .reads import Reads, open_images
from .results import readme_table, results_table
from .runs import COMPARED, LEARNING_RATES, METHODS, SEEDS, Setting, best_setting, run, settings_for
from .switches import Switches

__all__ = [
    "COMPARED", "DROP_PATH_METHODS", "LEARNING_RATES", "METHODS", "SEEDS", "TASKS", "CannotFit", "Preflight", "Prepared", "Reads",
    "RunCard", "Setting", "Switches", "best_setting", "card_path", "load_card", "load_cards", "open_images", "preflight", "prepare",
    "readme_table", "results_table", "run", "save_card", "settings_for",
]  # fmt: skip

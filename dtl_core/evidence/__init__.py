"""Run cards, the runs that they record, and the table that they make."""

from ..data import TASKS
from .ablations import write_readme_ablations
from .cards import RunCard, card_path, load_card, load_cards, save_card
from .domain import write_readme_domain
from .few_shot import write_readme_few_shot
from .leaner import write_readme_leaner
from .pitfalls import write_readme_pitfalls
from .preflight import CannotFit, Preflight, preflight
from .prepare import DROP_PATH_METHODS, Prepared, prepare
from .reads import Reads, open_images
from .results import readme_table, results_table, write_readme_table
from .runs import COMPARED, LEARNING_RATES, METHODS, SEEDS, Setting, best_setting, run, settings_for
from .serving import write_readme_serving
from .switches import Switches

__all__ = [
    "COMPARED", "DROP_PATH_METHODS", "LEARNING_RATES", "METHODS", "SEEDS", "TASKS", "CannotFit", "Preflight", "Prepared", "Reads",
    "RunCard", "Setting", "Switches", "best_setting", "card_path", "load_card", "load_cards", "open_images", "preflight", "prepare",
    "readme_table", "results_table", "run", "save_card", "settings_for", "write_readme_ablations", "write_readme_domain", "write_readme_few_shot",
    "write_readme_leaner", "write_readme_pitfalls", "write_readme_serving", "write_readme_table",
]  # fmt: skip

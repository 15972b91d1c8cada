"""Runs as records, their execution, and the cards that they leave."""

from importlib import import_module

# Imported when asked for: torch and timm take seconds, for which `dtl --help` need not wait.
_HOMES = {
    "run": ("Run", "card_path"),
    "cards": ("RunCard", "load_card", "load_cards", "save_card"),
    "pitfalls": ("Pitfalls",),
    "execution": ("Prepared", "execute", "prepare"),
    "preflight": ("CannotFit", "Preflight"),
    "run_data": ("RunData", "open_data"),
    "settings": ("COMPARED", "LEARNING_RATES", "METHODS", "SEEDS", "Grid", "Setting", "best_setting", "settings_for"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = list(_HOME_OF)  # noqa: PLE0604


def __getattr__(name: str):
    if name in _HOME_OF:
        return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

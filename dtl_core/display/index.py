"""The first page of the executed workbook: the map of the notebooks, how this run went, what it trained."""

from __future__ import annotations

import json
from pathlib import Path

import jinja2
import pandas as pd

from dtl_core import paths

from .catalog import NotebookInfo
from .html import stylesheet
from .kernel import Ran

CARD_COLUMNS = ["method", "task", "seed", "accuracy", "seconds"]


def cards_since(start: float, profile: str, folder: Path | None = None) -> pd.DataFrame:
    """The run cards written since a moment.

    Args:
        start: seconds since the epoch.
        profile: whose cards.
        folder: another folder than ``results/<profile>/``.

    Returns:
        A frame with the columns ``method, task, seed, accuracy, seconds``, a row a card, in the order in which
        they were written. A file that is no card is left out; a key that a card lacks is missing in its row.
    """
    folder = folder or paths.results_dir() / profile
    files = [(path.stat().st_mtime, path) for path in folder.rglob("*.json")] if folder.is_dir() else []
    rows = []
    for _, path in sorted(item for item in files if item[0] >= start):
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue
        # a card of purpose "select" scores a learning rate on validation images: it is no result
        if isinstance(card, dict) and "method" in card and card.get("purpose", "final") == "final":
            rows.append({key: card.get(key) for key in CARD_COLUMNS})
    return pd.DataFrame(rows, columns=CARD_COLUMNS)


def cards_html(cards: pd.DataFrame) -> str:
    """The table of what was trained, as HTML."""
    formats = {"accuracy": "{:.3f}".format, "seconds": "{:.0f}".format}
    shown = cards.rename(columns=str).copy()
    for column, text in formats.items():
        shown[column] = [
            text(value) if isinstance(value, int | float) and value == value else "–" for value in cards[column]
        ]
    shown = shown.rename(columns={"accuracy": "test accuracy"})
    return shown.to_html(index=False, border=0, na_rep="–")


def index_page(
    infos: list[NotebookInfo],
    links: dict[str, str],
    runs: dict[str, Ran],
    cards: pd.DataFrame,
    setting: str,
    extras: dict[str, list[tuple[str, str]]] | None = None,
) -> str:
    """The index as a complete HTML document.

    Args:
        infos: the numbered notebooks in their order.
        links: notebook name -> its page, relative to the index.
        runs: notebook name -> how it went; notebooks that were not executed are missing.
        cards: as ``cards_since`` gives them.
        setting: one phrase on the profile.
        extras: notebook name -> (text, link) of its exercises and solutions.
    """
    source = (paths.RESOURCES / "index.html.j2").read_text(encoding="utf-8")
    template = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
    return template.render(
        css=stylesheet(),
        infos=infos,
        links=links,
        runs=runs,
        extras=extras or {},
        setting=setting,
        cards=cards_html(cards) if len(cards) else "",
        failed=sum(run.error is not None for run in runs.values()),
    )

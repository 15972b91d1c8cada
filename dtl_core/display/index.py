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

CARD_COLUMNS = ["method", "task", "seed", "split", "accuracy", "seconds"]


def trained_in(folder: Path) -> pd.DataFrame:
    """The runs that notebooks noted (``note_run``) below a folder.

    Returns:
        A frame with the columns ``method, task, seed, split, accuracy, seconds``, a row a run, in the order in which
        they were noted. A file that cannot be read is left out; a key that it lacks is missing in its row.
    """
    rows = []
    for path in sorted(folder.glob("*.json")):
        try:
            run = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue
        if isinstance(run, dict) and "method" in run:
            rows.append({key: run.get(key) for key in CARD_COLUMNS})
    return pd.DataFrame(rows, columns=CARD_COLUMNS)


def cards_html(cards: pd.DataFrame) -> str:
    """The table of what was trained, as HTML."""
    formats = {"accuracy": "{:.3f}".format, "seconds": "{:.0f}".format}
    shown = cards.rename(columns=str).copy()
    for column, text in formats.items():
        shown[column] = [
            text(value) if isinstance(value, int | float) and value == value else "–" for value in cards[column]
        ]
    shown = shown.rename(columns={"split": "scored on"})
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
        cards: as ``trained_in`` gives them.
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

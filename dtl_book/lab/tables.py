"""Tables with a sentence, as HTML for pages and as text for terminals."""

from __future__ import annotations

import html
from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
from IPython.display import display

from .plots import caption

# characters: a column of longer texts is wrapped to a width between these, or more where there is room
NARROW, WIDE = 12, 24


def _left(text: str, width: int) -> str:
    return f'<div style="text-align:left;white-space:normal;min-width:{width}ch">{html.escape(text)}</div>'


def _is_missing(value: object) -> bool:
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))  # of a list pandas would look at each element


def _is_number(value: object) -> bool:
    """Return whether pandas writes the value itself: whatever else a cell holds may contain text."""
    return _is_missing(value) or pd.api.types.is_number(value) or isinstance(value, np.bool_ | datetime | timedelta)


def _safe(name: object) -> object:
    """Return an entry of an index, of one level or several, with its texts escaped."""
    if isinstance(name, tuple):
        return tuple(map(_safe, name))
    return name if _is_number(name) else html.escape(str(name))


def _formats(frame: pd.DataFrame) -> list[Callable | None]:
    """Return a format for each column: all integers get thousands separators where the table has large ones."""
    columns = [frame.iloc[:, at] for at in range(frame.shape[1])]
    whole = [pd.api.types.is_integer_dtype(column) for column in columns]
    large = any(yes and (column.abs() >= 10_000).any() for yes, column in zip(whole, columns, strict=True))
    return ["{:,}".format if yes and large else None for yes in whole]


def _to_html(frame: pd.DataFrame, options: dict) -> str:
    """Return ``DataFrame.to_html``, with columns of text left-aligned and wrapped, so that a wordy table fits the page."""
    safe = frame.rename(columns=lambda name: html.escape(str(name)))
    safe.index = safe.index.map(_safe)
    safe.index.names = [name if name is None else html.escape(str(name)) for name in safe.index.names]
    for at, name in enumerate(frame.columns):
        column = frame.iloc[:, at]
        if all(_is_number(value) for value in column):
            continue
        words = column.map(lambda value: options["na_rep"] if _is_missing(value) else str(value)).astype("str")
        longest = max(words.str.len().max(), len(str(name)))
        width = longest if longest <= NARROW else min(WIDE, max(NARROW, longest // 3))
        safe.isetitem(at, [_left(text, width) for text in words])
        safe.columns = [_left(str(name), width) if i == at else other for i, other in enumerate(safe.columns)]
    formats = dict(zip(safe.columns, _formats(frame), strict=True))
    with pd.option_context("display.max_colwidth", None):  # or pandas cuts the texts
        return safe.to_html(border=0, escape=False, formatters=formats, **options)


def table(frame: pd.DataFrame, text: str, digits: int = 3) -> None:
    """Show a data frame with a sentence above it.

    Args:
        frame: the rows; numbers are right-aligned, texts left-aligned and wrapped, missing values shown as a dash. An
            index is shown if it has a name, as the first column, or is not 0, 1, 2, ….
        text: one sentence: what the rows are, and the setting where they are results.
        digits: decimals of floating-point columns.
    """
    if not text.strip():
        raise ValueError("a table needs its sentence: table(frame, 'what the rows are')")
    if frame.index.name is not None:  # a column, or pandas gives the name a second row of the header
        frame = frame.reset_index()
    numbered = isinstance(frame.index, pd.RangeIndex)
    options = {"index": not numbered, "float_format": f"{{:,.{digits}f}}".format, "na_rep": "–"}
    formats = dict(zip(frame.columns, _formats(frame), strict=True))
    # the sentence is outside the scrolling box, so that a phone shows all of it
    rows = _to_html(frame, options).replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")  # one number, one line
    box = f'<div style="overflow-x:auto">{rows}</div>'
    bundle = {
        "text/html": f'<figure style="margin:0">{caption(text)}{box}</figure>',
        "text/plain": f"{text}\n{frame.to_string(formatters=formats, **options)}",
    }
    display(bundle, raw=True)

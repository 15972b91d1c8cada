"""Tables with a sentence, as HTML for pages and as text for terminals."""

from __future__ import annotations

import pandas as pd
from IPython.display import display

from .plots import caption


def table(frame: pd.DataFrame, text: str, digits: int = 3, index: bool | None = None) -> None:
    """Shows a data frame with a sentence above it.

    Args:
        frame: the rows; numbers are right-aligned, missing values shown as a dash.
        text: one sentence: what the rows are, and the setting where they are results.
        digits: decimals of floating-point columns.
        index: show the index; without it, only an index that has a name or is not 0, 1, 2, … is shown.

    Raises:
        ValueError: when the sentence is missing.
    """
    if not text.strip():
        raise ValueError("a table needs its sentence: table(frame, 'what the rows are')")
    if index is None:
        index = not isinstance(frame.index, pd.RangeIndex) or frame.index.name is not None
    options = {"index": index, "float_format": lambda value: f"{value:,.{digits}f}", "na_rep": "–"}
    # the sentence stands outside the box that scrolls, so that a phone shows it whole
    box = f'<div style="overflow-x:auto">{frame.to_html(border=0, **options)}</div>'
    bundle = {
        "text/html": f'<figure style="margin:0">{caption(text)}{box}</figure>',
        "text/plain": f"{text}\n{frame.to_string(**options)}",
    }
    display(bundle, raw=True)

"""A notebook as a page of the site: links that lead somewhere, a folded set-up cell, a sentence where a widget was."""

from __future__ import annotations

import posixpath
import re
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
from nbformat.v4 import new_markdown_cell

from dtl_book.notebooks.catalog import SETUP_TAG, SOLUTION_TAG, WIDGET_LINE, clean_notebook

FOLDS = {SETUP_TAG: "Set-up: the same cell in every notebook", SOLUTION_TAG: "Solution"}
WIDGET_NOTE = (
    "A control belongs here, which needs a running kernel. The same function is shown once above; to try other values, "
    "open the notebook with <code>make lab</code> and run this cell."
)
# code and formulas are left alone; then a link, whose text holds no bracket
_LINK = re.compile(
    r"(```.*?```|`+[^`\n]+`+|\$\$.*?\$\$|\$[^$\n]+\$)|(?<!!)\[(?P<text>[^\[\]]*)\]\((?P<url>[^()\s]+)\)", re.S
)


def linked(markdown: str, path: Path, pages: dict[Path, str]) -> str:
    """Return Markdown whose links lead to pages of the site. A link to a file that is no page becomes plain text.

    Args:
        markdown: its links are relative to ``path``.
        path: the file that it stands in, which is a page.
        pages: file, resolved -> its place among the site's sources, for all that become pages.
    """
    here = posixpath.dirname(pages[path.resolve()]) or "."

    def one(match: re.Match) -> str:
        parts = urlsplit(match["url"] or "")
        if parts.scheme or parts.netloc or not parts.path:
            return match[0]
        target = pages.get((path.parent / parts.path).resolve())
        if target is None:
            return match["text"]
        fragment = f"#{parts.fragment}" if parts.fragment else ""
        return f"[{match['text']}]({posixpath.relpath(target, here)}{fragment})"

    return _LINK.sub(one, markdown)


def _output(output: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    """Return an output for a page without a kernel; None for a script."""
    data = output.get("data")
    if data is None:
        return output
    if data.get("text/plain") == WIDGET_LINE:
        output.data = nbformat.from_dict({"text/html": f'<p class="no-widget">{WIDGET_NOTE}</p>'})
        return output
    if data.pop("application/javascript", None) is not None and set(data) <= {"text/plain"}:
        return None
    if "text/html" in data:  # the corner of a table with an index names nothing: no heading for a screen reader
        data["text/html"] = "".join(data["text/html"]).replace("<th></th>", "<td></td>")
    return output


def page_notebook(
    notebook: nbformat.NotebookNode, path: Path, pages: dict[Path, str], ran: dict | None, any_run: bool
) -> nbformat.NotebookNode:
    """Make a notebook, in place, one that Sphinx can write as a page, and return it.

    Args:
        notebook: with its outputs.
        path: its file.
        pages: see ``linked``.
        ran: how this notebook went (its ``status`` and whether it ``failed``); None where it was not executed.
        any_run: other notebooks of the same kind were executed.
    """
    clean_notebook(notebook)
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}  # knows %magics and !commands
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = linked(cell.source, path, pages)
        elif cell.cell_type == "code":
            cell.outputs = [kept for kept in map(_output, cell.outputs) if kept is not None]
            for tag, title in FOLDS.items():
                if tag in cell.metadata.get("tags", []):
                    cell.metadata.tags.append("hide-input")
                    cell.metadata["mystnb"] = {"code_prompt_show": title, "code_prompt_hide": title}
    note = ""  # nothing where all is well
    if ran and ran["failed"]:
        note = f'<p class="run-note failed"><strong>This run {escape(ran["status"])}</strong></p>'
    elif not ran and any_run:
        note = '<p class="run-note">Not run this time: the outputs below are those that the notebook holds.</p>'
    if note:
        notebook.cells.insert(1, new_markdown_cell(note))
    return notebook

"""A notebook as a page of the site: links that lead somewhere, a folded set-up cell, a sentence where a widget was."""

from __future__ import annotations

import os
import re
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
from nbformat.v4 import new_markdown_cell

from ..notebooks.catalog import SETUP_TAG, SOLUTION_TAG, WIDGET_LINE, clean_notebook
from ..notebooks.kernel import Ran

FOLDS = {SETUP_TAG: "Set-up: the same cell in every notebook", SOLUTION_TAG: "Solution"}
WIDGET_NOTE = (
    "A control belongs here, which needs a running kernel. The same function is shown once above; to try other values, "
    "open the notebook with <code>make lab</code> and run this cell."
)
# code and formulas are left alone; then a link, whose text holds no bracket
_LINK = re.compile(
    r"(```.*?```|`+[^`\n]+`+|\$\$.*?\$\$|\$[^$\n]+\$)|(?<!!)\[(?P<text>[^\[\]]*)\]\((?P<url>[^()\s]+)\)", re.S
)


def page_link(url: str, source: Path, pages: dict[Path, Path]) -> str | None:
    """Where a link of a notebook leads in the site.

    Args:
        url: as written in the notebook.
        source: the notebook.
        pages: file -> where the site has its source, for all that become pages. The files' paths are resolved.

    Returns:
        The link for the site's source; None for a file that is no page (its text stays, without a link).
    """
    parts = urlsplit(url)
    if parts.scheme or parts.netloc or not parts.path:
        return url
    target = pages.get((source.parent / parts.path).resolve())
    if target is None:
        return None
    fragment = f"#{parts.fragment}" if parts.fragment else ""
    return Path(os.path.relpath(target, pages[source.resolve()].parent)).as_posix() + fragment


def linked(markdown: str, source: Path, pages: dict[Path, Path]) -> str:
    """Markdown whose links lead to pages of the site; see ``page_link``."""

    def one(match: re.Match) -> str:
        if match["url"] is None:
            return match[0]
        target = page_link(match["url"], source, pages)
        return match["text"] if target is None else f"[{match['text']}]({target})"

    return _LINK.sub(one, markdown)


def _output(output: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    """An output for a page without a kernel; None for a script."""
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


def _note(ran: Ran | None, any_run: bool) -> str:
    """What the page says of the run it shows: nothing where all is well."""
    if ran is not None and ran.error is not None:
        return f'<p class="run-note failed"><strong>This run {escape(ran.status)}</strong></p>'
    if ran is None and any_run:
        return '<p class="run-note">Not run this time: the outputs below are those that the notebook holds.</p>'
    return ""


def page_notebook(
    notebook: nbformat.NotebookNode,
    source: Path,
    pages: dict[Path, Path],
    ran: Ran | None = None,
    any_run: bool = False,
) -> nbformat.NotebookNode:
    """A copy of a notebook that Sphinx can write as a page.

    Args:
        notebook: with its outputs.
        source: its file; links in it are relative to that.
        pages: see ``page_link``.
        ran: how this notebook went, where it was executed.
        any_run: other notebooks of the same kind were executed.
    """
    copy = clean_notebook(nbformat.from_dict(notebook))
    copy.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}  # knows %magics and !commands
    for cell in copy.cells:
        if cell.cell_type == "markdown":
            cell.source = linked(cell.source, source, pages)
        elif cell.cell_type == "code":
            cell.outputs = [kept for kept in map(_output, cell.outputs) if kept is not None]
            for tag, title in FOLDS.items():
                if tag in cell.metadata.get("tags", []):
                    cell.metadata.tags.append("hide-input")
                    cell.metadata["mystnb"] = {"code_prompt_show": title, "code_prompt_hide": title}
    note = _note(ran, any_run)
    if note:
        copy.cells.insert(1, new_markdown_cell(note))
    return copy

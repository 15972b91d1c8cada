"""The notebooks as files: which there are, what their first cell says, their set-up cell, and their clean form."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import nbformat

from dtl_core.files import DamagedFile, written_whole

from .. import paths

SETUP_TAG = "setup"
SOLUTION_TAG = "solution"  # the cell of a solution that an exercise leaves open: shown folded
KINDS = ("", "exercises", "solutions")  # folders below notebooks/
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# the picture is our own; Colab's would be an address that pages ask for
BADGE = "[![Open this notebook in Colab](images/open-in-colab.svg)]"
WIDGET_LINE = "Interactive in JupyterLab: run this cell there."  # replaces a widget
# a tqdm bar as text: "train:  40%|####      | 4/10 [00:01<00:02,  2.1it/s]" or "7it [00:00, 12.3it/s]"
_BAR = re.compile(r"(\d+%\|.*\||\d+\S*(it|s|B)?) ?.*\[\d+:\d+.*(it|s|B)(/s|/it)?.*\]")


@dataclass(frozen=True)
class NotebookInfo:
    """What the first cell of a notebook says."""

    path: Path
    title: str  # the H1 without its number
    goal: str  # the line after **Goal.**, without markup; empty when there is none
    minutes: int | None  # the first number before "minute"; None when there is none

    @property
    def name(self) -> str:
        """File name without its ending, ``06_dtl_on_a_vit``."""
        return self.path.stem

    @property
    def number(self) -> str:
        return self.path.stem[:2]


def notebooks_dir() -> Path:
    return paths.project_dir() / "notebooks"


def plain(markdown: str) -> str:
    """Return a line of Markdown as text: no emphasis, no code marks, links by their text, ``$\\beta$`` as beta."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", markdown)
    text = re.sub(r"\\([A-Za-z]+)", r"\1", text)
    return re.sub(r"[*`$]|(?<!\w)_|_(?!\w)", "", text).strip()


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """Read a notebook file.

    Raises:
        DamagedFile: the file is not a notebook; the message names it.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except (ValueError, KeyError, TypeError, AttributeError, nbformat.ValidationError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DamagedFile(f"{path} is not a notebook ({reason[:120]}): get it again from the repository") from error
    return notebook


def write_notebook(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write a notebook whole, as JSON that git can compare line by line."""
    with written_whole(path) as temporary:
        nbformat.write(notebook, temporary)


def read_info(path: Path) -> NotebookInfo:
    """Read title, goal and minutes from a notebook's first Markdown cell. A damaged file has its name as title."""
    try:
        cells = read_notebook(path).cells
    except DamagedFile:
        cells = []  # running it reports the damage
    first = next((cell.source for cell in cells if cell.cell_type == "markdown"), "")
    title = re.search(r"^# (?:\d+\s*[·.:–-]?\s*)?(.+)$", first, re.M)
    goal = re.search(r"^\*\*Goal\.?\*\*\.?:?\s*((?:.+\n?)+)", first, re.M)
    minutes = re.search(r"(\d+)(?:\s*(?:to|-|–)\s*\d+)?\s*min", first)
    return NotebookInfo(
        path=path,
        title=plain(title[1]) if title else path.stem,
        goal=plain(" ".join(goal[1].split())) if goal else "",
        minutes=int(minutes[1]) if minutes else None,
    )


def list_notebooks(kind: str = "", folder: Path | None = None) -> list[NotebookInfo]:
    """Return the notebooks ``NN_….ipynb`` in their order: numbered ones, or those of the kind ``exercises`` or ``solutions``."""
    return [read_info(path) for path in sorted(((folder or notebooks_dir()) / kind).glob("[0-9][0-9]_*.ipynb"))]


def project_address() -> str:
    """Return ``[tool.dtl] address`` of pyproject.toml. It is empty until the project has a public home."""
    return tomllib.loads((paths.CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["dtl"]["address"]


def setup_cell(address: str = "") -> str:
    """Return the source of the set-up cell that all notebooks share, with the address written in."""
    text = (paths.RESOURCES / "setup_cell.py.txt").read_text(encoding="utf-8").rstrip("\n")
    return text.replace('ADDRESS = ""', f"ADDRESS = {json.dumps(address)}")


def badge(name: str, address: str) -> str:
    """Return the line that opens a numbered notebook in Colab; empty without an address that Colab can open.

    ``address`` is the setting, ``git+https://github.com/OWNER/NAME``, with ``@REF`` for another branch than main.
    """
    github = re.fullmatch(r"git\+https://github\.com/([^/@]+/[^/@]+?)(?:\.git)?/?(?:@([^#]+))?(?:#.*)?", address)
    if not github:
        return ""
    place = f"{github[1]}/blob/{github[2] or 'main'}/notebooks/{name}"
    return f"{BADGE}(https://colab.research.google.com/github/{place})"


def with_badge(source: str, line: str) -> str:
    """Return a notebook's first cell with this badge under its H1, instead of any other; without one if empty."""
    title, *rest = [text for text in source.split("\n\n") if not text.startswith(BADGE)]
    return "\n\n".join([title, line, *rest] if line else [title, *rest])


def sync_notebooks(folder: Path | None = None) -> list[Path]:
    """Write the set-up cell, with the address setting, into every notebook, and the badge into the numbered ones.

    An empty address removes the badge. Return the notebooks that were changed.
    """
    address, changed = project_address(), []
    for place, path in [(kind, info.path) for kind in KINDS for info in list_notebooks(kind, folder)]:
        notebook = read_notebook(path)
        cells = [cell for cell in notebook.cells if SETUP_TAG in cell.metadata.get("tags", [])]
        if len(cells) != 1:
            raise ValueError(f"{path}: one cell has to be tagged {SETUP_TAG!r}, {len(cells)} are")
        before = [cell.source for cell in notebook.cells]
        cells[0].source = setup_cell(address)
        first = notebook.cells[0]
        if first.cell_type == "markdown":
            first.source = with_badge(first.source, "" if place else badge(path.name, address))
        if [cell.source for cell in notebook.cells] != before:
            write_notebook(notebook, path)
            changed.append(path)
    return changed


def without_bars(text: str) -> str:
    """Return a stream's text without progress bars and without what a carriage return overwrote."""
    lines = [line.rstrip("\r").split("\r")[-1] for line in text.split("\n")]
    return "\n".join(line for line in lines if not _BAR.search(line))


def clean_notebook(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Make an executed notebook fit to commit, in place: outputs stay, traces of the run go.

    Gone are execution times, widget states, progress bars and the kernel's own description; a widget's output becomes
    a line of text, since without its state it could only show an error. Cell ids, tags and counts stay.
    """
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        tags = list(cell.metadata.get("tags", []))
        folded = {"jupyter": {"source_hidden": True}} if SOLUTION_TAG in tags else {}
        cell.metadata = nbformat.from_dict(({"tags": tags} if tags else {}) | folded)
        kept = []
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if output.output_type == "stream" and output.name == "stderr":
                output.text = without_bars(output.text)
                if not output.text.strip():
                    continue
            elif "application/vnd.jupyter.widget-view+json" in data:
                if _BAR.search(data.get("text/plain", "")):
                    continue  # tqdm's bar in a notebook is a widget
                output.data = nbformat.from_dict({"text/markdown": f"*{WIDGET_LINE}*", "text/plain": WIDGET_LINE})
                output.metadata = nbformat.from_dict({})
            kept.append(output)
        if cell.cell_type == "code":
            cell.outputs = kept
    return notebook

"""The workbook as a static site (Sphinx, myst-nb, furo): nothing is executed, and reading it needs no network."""

from __future__ import annotations

import io
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pandas as pd
from tqdm import tqdm  # the plain bar: this runs in a terminal

from dtl_core.files import DamagedFile

from .. import paths
from ..notebooks.catalog import list_notebooks, notebooks_dir, read_notebook
from ..notebooks.kernel import Ran
from .front import FOLDERS, contents, front_page
from .mathml import MathsError
from .pages import linked, page_notebook

TEXTS = {"symbols": "SYMBOLS.md", "teaching": "TEACHING.md"}  # page -> file beside the notebooks
PROJECT_TEXTS = {  # page -> file of the project
    "data": "data/README.md",
    "results": "RESULTS.md",
    "your-images": "docs/your-images.md",
    "many-runs": "docs/many-runs.md",
    "colab-and-gpu": "docs/colab-and-gpu.md",
    "class": "docs/class.md",
    "api": "docs/api.md",
}
PICTURE = re.compile(r'(?<=<img src=")[^"]+')
INTRODUCTIONS = {
    "exercises": "Each exercise is a stub and a check. Do them in JupyterLab (`make lab`): a check says “not yet”, with a "
    "hint, until the answer is right.",
    "solutions": "One answer to each exercise, and why it is right. Try the [exercises](../exercises/index.md) first.",
}
SETTINGS = {
    "project": "The DTL workbook",
    "html_title": "The DTL workbook",
    "extensions": ["myst_nb", "dtl_book.site.sphinx_extension", "sphinx.ext.autodoc", "sphinx.ext.napoleon"],
    "napoleon_use_rtype": False,
    "autodoc_typehints": "none",  # they stand in the docstrings' words
    "html_theme": "furo",
    "html_static_path": [str(paths.RESOURCES / "site" / "static")],
    "html_css_files": ["workbook.css"],
    "html_js_files": ["workbook.js"],
    "html_search_scorer": str(paths.RESOURCES / "site" / "scorer.js"),
    "html_math_renderer": "mathml",
    "html_show_sourcelink": False,
    "html_copy_source": False,
    "html_show_copyright": False,
    "html_show_sphinx": False,  # with it the theme names a person
    "html_use_index": False,
    "html_domain_indices": False,
    "nb_execution_mode": "off",
    "nb_ipywidgets_js": {},  # its default comes from a public server
    "nb_render_markdown_format": "myst",  # formulas in what a cell displays
    "myst_enable_extensions": ["dollarmath", "amsmath", "html_image"],
    "myst_update_mathjax": False,
    "myst_heading_anchors": 6,
    "myst_heading_slug_func": "dtl_book.site.sphinx_extension.slug",
}


@dataclass(frozen=True)
class Site:
    """What was written.

    Attributes:
        index: the first page.
        warnings: what Sphinx found wrong in the pages, a line each; empty where all is well.
    """

    index: Path
    warnings: list[str]


def write_site(
    out: str | Path,
    folder: str | Path | None = None,
    executed: dict[Path, nbformat.NotebookNode] | None = None,
    runs: list[Ran] | None = None,
    cards: pd.DataFrame | None = None,
    setting: str = "",
) -> Site:
    """Writes every notebook, exercise and solution as a page, with the claims in front. Runs nothing.

    Args:
        out: where to write. Pages that an earlier call left there go; other files stay.
        folder: another folder than ``notebooks/``.
        executed: notebooks with fresh outputs; the others show what their files hold.
        runs: how the executed ones went.
        cards: what was trained.
        setting: one phrase on the profile of the executed ones.

    Raises:
        MathsError: for formulas that cannot be drawn, after the site is written; they stand there as they were typed.
    """
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".site-", dir=out.parent) as name:
        source, built = Path(name, "source"), Path(name, "html")
        docs = _write_sources(
            source, Path(folder) if folder else notebooks_dir(), executed or {}, runs or [], cards, setting
        )
        warnings = _build(source, built, Path(name, "doctrees"), len(docs))
        _move(built, out)
    undrawn = [line for line in warnings if "[dtl.formula]" in line]
    if undrawn:
        raise MathsError("\n".join([f"{out} is written, but:", *undrawn]))
    return Site(out / "index.html", warnings)


def _write_sources(
    source: Path,
    folder: Path,
    executed: dict[Path, nbformat.NotebookNode],
    runs: list[Ran],
    cards: pd.DataFrame | None,
    setting: str,
) -> set[str]:
    """Writes what Sphinx reads; returns the names of the pages."""
    infos = list_notebooks(folder=folder)
    notebooks = {}
    for info in infos + [info for kind in FOLDERS for info in list_notebooks(kind, folder)]:
        try:
            notebooks[info.path] = executed.get(info.path) or read_notebook(info.path)
        except DamagedFile as error:
            tqdm.write(str(error))
    pages = {path.resolve(): source / path.relative_to(folder) for path in notebooks}
    texts = {page: folder / name for page, name in TEXTS.items()}
    texts |= {page: paths.project_dir() / name for page, name in PROJECT_TEXTS.items()}
    texts = {path.resolve(): source / f"{page}.md" for page, path in texts.items() if path.is_file()}
    pages |= texts
    went = {ran.info.path: ran for ran in runs}
    for path, notebook in notebooks.items():
        numbered = path.parent == folder
        page = page_notebook(notebook, path, pages, went.get(path), any_run=bool(runs) and numbered)
        target = pages[path.resolve()]
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(page, target)
    source.mkdir(exist_ok=True)
    for path, target in texts.items():
        text = linked(path.read_text(encoding="utf-8"), path, pages)
        target.write_text(_with_pictures(text, path, source), encoding="utf-8")
    for kind in FOLDERS:
        names = sorted(path.stem for path in notebooks if path.parent == folder / kind)
        if names:
            text = f"# {kind.capitalize()}\n\n{INTRODUCTIONS[kind]}\n\n{contents('', names, hidden=False)}\n"
            (source / kind / "index.md").write_text(text, encoding="utf-8")
    if (folder / "images").is_dir():
        shutil.copytree(folder / "images", source / "images", dirs_exist_ok=True)
    docs = {
        file.relative_to(source).with_suffix("").as_posix()
        for file in source.rglob("*.[im]*")
        if file.suffix in (".ipynb", ".md")
    }
    text = front_page(
        infos, docs, {ran.info.name: ran for ran in runs}, cards if cards is not None else pd.DataFrame(), setting,
        source=source,
    )  # fmt: skip
    (source / "index.md").write_text(text, encoding="utf-8")
    return docs | {"index"}


def _with_pictures(markdown: str, path: Path, source: Path) -> str:
    """Copies the pictures that a text shows into the site's sources; returns the text with their places there."""

    def one(match: re.Match) -> str:
        picture = path.parent / match[0]
        if not picture.is_file():
            return match[0]
        target = source / "images" / picture.name
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(picture, target)
        return target.relative_to(source).as_posix()

    return PICTURE.sub(one, markdown)


def _build(source: Path, built: Path, doctrees: Path, count: int) -> list[str]:
    """Has Sphinx read the sources and write the pages; returns its warnings."""
    from sphinx.application import Sphinx  # a second to import, and only the site needs it
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    said = io.StringIO()
    with (
        patch_docutils(str(source)),
        docutils_namespace(),
        # every page is read, then written; the search page is written alone
        tqdm(total=2 * count + 1, desc="pages", bar_format="{desc:<34} {bar:24} {percentage:3.0f} % {elapsed}") as bar,
    ):
        app = Sphinx(str(source), None, str(built), str(doctrees), "html", dict(SETTINGS), status=None, warning=said)
        for event in ("source-read", "html-page-context"):
            app.connect(event, lambda *_: bar.update() and None)
        app.build()
    lines = re.sub(r"\x1b\[[0-9;]*m", "", said.getvalue()).replace(f"{source}/", "").splitlines()
    return [line for line in lines if line.strip()]


def _move(built: Path, out: Path) -> None:
    """Puts a built site in the place of an older one, whose pages go; what Sphinx did not write stays."""
    out.mkdir(exist_ok=True)
    for page in out.glob("*.html"):
        page.unlink()
    shutil.rmtree(built / "_sources", ignore_errors=True)  # an empty folder: sources are not shown
    for new in built.iterdir():
        old = out / new.name
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
        shutil.move(new, old)

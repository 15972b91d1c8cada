"""The sources of the site: notebooks and texts of the project, brought together where Sphinx reads them, and the first page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nbformat
from markupsafe import Markup
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging

from dtl_book.claims.page import claims_values, templates
from dtl_book.notebooks.catalog import KINDS, NotebookInfo, list_notebooks, project_address, read_notebook
from dtl_book.tables.memory_forms import load_trade_rows, trade_sentence, trade_table
from dtl_core.files import DamagedFile
from notebook_page import linked, page_notebook

SITE = Path(__file__).resolve().parents[1]
PROJECT = SITE.parent
TEXTS = {  # page -> file of the project
    "symbols": "notebooks/SYMBOLS.md",
    "teaching": "notebooks/TEACHING.md",
    "data": "data/README.md",
    "results": "RESULTS.md",
    "your-images": "docs/your-images.md",
    "many-runs": "docs/many-runs.md",
    "colab-and-gpu": "docs/colab-and-gpu.md",
    "class": "docs/class.md",
    "api": "docs/api.md",
}
logger = logging.getLogger(__name__)


def bring_in(app: Sphinx, config: Config) -> None:
    """Write what Sphinx is to read beside its doctrees, and have it read there: most of it lies outside of ``site/``.

    A file that is no notebook is warned about and left out.
    """
    source, folder = Path(app.doctreedir) / "source", Path(config.notebooks_folder)
    run = {"setting": "", "notebooks": {}, "trained": []}
    if config.run_folder:
        run = json.loads(Path(config.run_folder, "run.json").read_text(encoding="utf-8"))
    ran, notebooks = run["notebooks"], {}
    for kind in KINDS:
        for info in list_notebooks(kind, folder):
            executed = not kind and info.name in ran
            try:
                notebooks[info.path] = read_notebook(Path(config.run_folder, info.path.name) if executed else info.path)
            except DamagedFile as error:
                logger.warning("%s", error)
            except FileNotFoundError:
                pass  # it has no executed copy, since it is damaged: its run said so
    pages = {path.resolve(): path.relative_to(folder).as_posix() for path in notebooks}
    pages |= {PROJECT / file: f"{page}.md" for page, file in TEXTS.items()}

    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(PROJECT / "notebooks" / "images", source / "images")
    for kind in {path.parent.name for path in notebooks if path.parent != folder}:
        pages[SITE / kind / "index.md"] = f"{kind}/index.md"
        shutil.copytree(SITE / kind, source / kind)
    for path, notebook in notebooks.items():
        numbered = path.parent == folder
        page = page_notebook(notebook, path, pages, ran.get(path.stem) if numbered else None, bool(ran) and numbered)
        nbformat.write(page, source / pages[path.resolve()])
    for page, file in TEXTS.items():
        text = linked((PROJECT / file).read_text(encoding="utf-8"), PROJECT / file, pages)
        text = text.replace('<img src="notebooks/images/', '<img src="images/')
        (source / f"{page}.md").write_text(text, encoding="utf-8")
    front = front_page(list_notebooks(folder=folder), set(pages.values()), run)
    (source / "index.md").write_text(front, encoding="utf-8")
    app.srcdir = type(app.srcdir)(source)


def front_page(infos: list[NotebookInfo], pages: set[str], run: dict) -> str:
    """Return the first page: the picture, the claims, the notebooks, how this run went.

    Args:
        infos: the numbered notebooks in their order.
        pages: places of all pages among the sources (``exercises/06_dtl_on_a_vit.ipynb``).
        run: one phrase on its ``setting``, how each of its ``notebooks`` went, and what they ``trained``.
    """
    trade = None
    try:
        rows = load_trade_rows()
        trade = {"sentence": Markup(trade_sentence(rows)), "table": Markup("\n".join(trade_table(rows)))}
    except FileNotFoundError:  # DTL_RESULTS can name a folder without them
        pass
    digits = {"accuracy": "{:.3f}", "seconds": "{:.0f}"}
    trained = [
        {key: "–" if value is None else digits.get(key, "{}").format(value) for key, value in row.items()}
        for row in run["trained"]
    ]
    return templates(SITE).get_template("index.md").render(
        infos=infos, pages=pages, ran=run["notebooks"], setting=run["setting"], trained=trained, trade=trade,
        failed=sum(each["failed"] for each in run["notebooks"].values()), address=project_address(),
        links={info.number: f"{info.name}.html" for info in infos if info.path.name in pages},
        titles={info.number: info.title for info in infos}, **claims_values(),
    )  # fmt: skip


def drop_gone(app: Sphinx, exception: Exception | None) -> None:
    """Remove the pages that an earlier build left for notebooks which are gone; what Sphinx did not write stays."""
    if exception is None and app.builder.name == "html":
        for kind in KINDS:
            for page in (Path(app.outdir) / kind).glob("*.html"):
                name = page.relative_to(app.outdir).with_suffix("").as_posix()
                if name != "search" and name not in app.env.found_docs:
                    page.unlink()


def setup(app: Sphinx) -> dict[str, object]:
    """Connect to Sphinx."""
    app.add_config_value("notebooks_folder", str(PROJECT / "notebooks"), "env")
    app.add_config_value("run_folder", "", "env")  # where `dtl notebooks run` left executed copies, and how they went
    app.connect("config-inited", bring_in)
    app.connect("build-finished", drop_gone)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

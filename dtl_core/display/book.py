"""Executes the notebooks, each in a fresh kernel, and writes them as pages with an index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
from tqdm import tqdm  # the plain bar: this runs in a terminal

from dtl_core import paths
from dtl_core.files import DamagedFile, written_whole
from dtl_core.profiles import get_profile

from .catalog import NotebookInfo, clean_notebook, list_notebooks, notebooks_dir, read_notebook, write_notebook
from .html import export_page
from .index import index_page, trained_in
from .kernel import Ran, execute


def default_out() -> Path:
    """Where executed notebooks and pages go."""
    return paths.project_dir() / "build" / "workbook"


def select(infos: list[NotebookInfo], names: list[str] | None) -> list[NotebookInfo]:
    """The notebooks whose number or file name was asked for; all without ``names``.

    Raises:
        ValueError: for a name that fits none; the message lists what there is.
    """
    if not names:
        return infos
    chosen = []
    for name in names:
        wanted = Path(name).name.removesuffix(".ipynb")
        found = [info for info in infos if wanted in (info.number, info.name)]
        if not found:
            there = ", ".join(info.name for info in infos) or "none"
            raise ValueError(f"no notebook is called {name!r}: there are {there}")
        chosen += found
    return [info for info in infos if info in chosen]


def run_notebooks(
    names: list[str] | None = None,
    *,
    profile: str | None = None,
    out: str | Path | None = None,
    in_place: bool = False,
    timeout: int = 1200,
    folder: str | Path | None = None,
) -> list[Ran]:
    """Executes the numbered notebooks in order and writes executed copies, pages and an index.

    A notebook that fails is reported with its cell, and the others still run.

    Args:
        names: numbers (``05``) or file names; all without.
        profile: ``smoke``, ``laptop`` or ``paper``; without it ``DTL_PROFILE``, else ``laptop``.
        out: where to write; ``build/workbook`` of the project without it.
        in_place: also write the outputs back into the notebooks, cleaned for a commit. A failed one stays as it was.
        timeout: seconds that one cell may take.
        folder: another folder than ``notebooks/``.

    Returns:
        How each went, in order; ``exit_code`` makes of it what a command returns.

    Raises:
        ValueError: for a name that is no notebook, or no profile.
    """
    chosen = get_profile(profile)
    folder = Path(folder) if folder else notebooks_dir()
    out = Path(out) if out else default_out()
    infos = select(list_notebooks(folder=folder), names)
    if not infos:
        raise ValueError(f"there are no notebooks in {folder}: run this from a checkout of the project")
    runs, executed, trained = [], {}, out / "trained"
    shutil.rmtree(trained, ignore_errors=True)
    print(f"Running {len(infos)} notebooks in the {chosen.name} profile.", flush=True)
    for position, info in enumerate(infos, 1):
        notebook, ran = execute(info, chosen.name, timeout, f"{position}/{len(infos)} {info.name}", trained)
        runs.append(ran)
        if notebook is not None:
            executed[info.path] = clean_notebook(notebook)
            write_notebook(notebook, out / info.path.name)
            if in_place and ran.error is None:
                write_notebook(notebook, info.path)
        if ran.error is not None:
            tqdm.write(f"{info.path.name} {ran.status}")
    cards = trained_in(trained)
    index = write_pages(out, folder, executed, runs, cards, chosen.setting)
    _print_summary(runs, cards, index)
    return runs


def write_pages(
    out: str | Path | None = None,
    folder: str | Path | None = None,
    executed: dict[Path, nbformat.NotebookNode] | None = None,
    runs: list[Ran] | None = None,
    cards: pd.DataFrame | None = None,
    setting: str = "",
) -> Path:
    """Writes every notebook, exercise and solution as a page, and the index. Runs nothing.

    Args:
        out: where to write; ``build/workbook`` of the project without it.
        folder: another folder than ``notebooks/``.
        executed: notebooks with fresh outputs; the others show what their files hold.
        runs: how the executed ones went.
        cards: what was trained.
        setting: one phrase on the profile of the executed ones.

    Returns:
        The index page.
    """
    out = Path(out) if out else default_out()
    folder = Path(folder) if folder else notebooks_dir()
    infos = list_notebooks(folder=folder)
    below = {kind: list_notebooks(kind, folder) for kind in ("exercises", "solutions")}
    pages = {info.path: out / f"{info.name}.html" for info in infos}
    for kind, found in below.items():
        pages |= {info.path: out / kind / f"{info.name}.html" for info in found}
    notebooks = {}
    for path in list(pages):
        try:
            notebooks[path] = (executed or {}).get(path) or read_notebook(path)
        except DamagedFile as error:
            tqdm.write(str(error))
            del pages[path]
    titles = {info.path: f"{info.number} · {info.title}" for info in infos if info.path in pages}
    order = list(titles)
    for path, page in tqdm(pages.items(), desc="pages", unit="page", leave=False):
        navigation = [("Contents", "../index.html" if path not in titles else "index.html")]
        if path in titles:
            at = order.index(path)
            near = [("← ", order[at - 1])] if at else []
            near += [("", order[at + 1])] if at + 1 < len(order) else []
            navigation += [(arrow + titles[to] + ("" if arrow else " →"), pages[to].name) for arrow, to in near]
        text = export_page(notebooks[path], path, page, pages, navigation)
        with written_whole(page) as temporary:
            temporary.write_text(text, encoding="utf-8")
    extras = {
        info.name: [(kind, f"{kind}/{info.name}.html") for kind in below if info.name in {i.name for i in below[kind]}]
        for info in infos
    }
    index = out / "index.html"
    with written_whole(index) as temporary:
        temporary.write_text(
            index_page(
                infos,
                {path.stem: pages[path].name for path in order},
                {ran.info.name: ran for ran in runs or []},
                cards if cards is not None else pd.DataFrame(),
                setting,
                extras,
            ),
            encoding="utf-8",
        )
    return index


def _print_summary(runs: list[Ran], cards: pd.DataFrame, index: Path) -> None:
    print()
    for ran in runs:
        print(f"{ran.info.number} {ran.info.title}: {ran.status}")
    if len(cards):
        shown = cards.to_string(index=False, float_format=lambda value: f"{value:.3f}", na_rep="–")
        print(f"\nWhat was trained:\n{shown}")
    print(f"\nOpen {index} in a browser: it needs no network.")


def exit_code(runs: list[Ran]) -> int:
    """0 when every notebook ran, else 1."""
    return int(any(ran.error is not None for ran in runs))


def lab() -> int:
    """Opens JupyterLab on the notebooks, with this Python; returns its exit code when it is closed."""
    # in a container one is root, and JupyterLab then wants to be told that this is meant
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return subprocess.call([sys.executable, "-m", "jupyterlab", *root, str(notebooks_dir())])

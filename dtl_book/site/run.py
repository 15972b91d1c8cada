"""Executes the notebooks, each in a fresh kernel, and has the site written from what they gave."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
from tqdm import tqdm  # the plain bar: this runs in a terminal

from .. import paths
from ..experiments.profiles import get_profile
from ..lab.run_log import trained_in
from ..notebooks.catalog import NotebookInfo, clean_notebook, list_notebooks, notebooks_dir, write_notebook
from ..notebooks.kernel import Ran, execute
from .build import Site, write_site


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
    """Executes the numbered notebooks in order, and writes executed copies and the site.

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
        MathsError: see ``write_site``.
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
    _print_summary(runs, cards)
    say_where(write_site(out, folder, executed, runs, cards, chosen.setting))
    return runs


def say_where(site: Site) -> None:
    """Prints what Sphinx found wrong in the pages, and where they are."""
    for line in site.warnings:
        print(f"in the pages: {line}")
    print(f"\nOpen {site.index} in a browser: it needs no network.")


def _print_summary(runs: list[Ran], cards: pd.DataFrame) -> None:
    print()
    for ran in runs:
        print(f"{ran.info.number} {ran.info.title}: {ran.status}")
    if len(cards):
        shown = cards.to_string(index=False, float_format=lambda value: f"{value:.3f}", na_rep="–")
        print(f"\nWhat was trained:\n{shown}")
    print()


def exit_code(runs: list[Ran]) -> int:
    """0 when every notebook ran, else 1."""
    return int(any(ran.error is not None for ran in runs))


def lab() -> int:
    """Opens JupyterLab on the notebooks, with this Python; returns its exit code when it is closed."""
    # in a container one is root, and JupyterLab then wants to be told that this is meant
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return subprocess.call([sys.executable, "-m", "jupyterlab", *root, str(notebooks_dir())])

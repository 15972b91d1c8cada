"""Execute the notebooks, each in a fresh kernel, and have Sphinx write the site from their outputs."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from tqdm import tqdm  # the plain bar: this runs in a terminal

from dtl_core.files import DamagedFile

from .. import paths
from ..experiments.profiles import get_profile
from ..json_files import write_json
from ..lab.run_log import FOLDER_VARIABLE, trained_in
from .catalog import NotebookInfo, clean_notebook, list_notebooks, notebooks_dir, read_notebook, write_notebook


def default_out() -> Path:
    """Return where executed notebooks and pages go."""
    return paths.build_dir() / "workbook"


def select(infos: list[NotebookInfo], names: list[str] | None) -> list[NotebookInfo]:
    """Return the notebooks whose number or file name was asked for; all without ``names``."""
    wanted = {Path(name).name.removesuffix(".ipynb"): name for name in names or []}
    for short, name in wanted.items():
        if not any(short in (info.number, info.name) for info in infos):
            there = ", ".join(info.name for info in infos) or "none"
            raise ValueError(f"no notebook is called {name!r}: there are {there}")
    return [info for info in infos if not wanted or {info.number, info.name} & wanted.keys()]


def run_notebooks(
    names: list[str] | None = None, *, profile: str | None = None, out: Path | None = None, in_place: bool = False,
    timeout: int = 1200, folder: Path | None = None,
) -> dict[str, dict]:  # fmt: skip
    """Execute the numbered notebooks in order, and write executed copies and the site.

    A notebook that fails is reported with its cell, and the others still run.

    Args:
        names: numbers (``05``) or file names; all without.
        profile: ``smoke``, ``laptop`` or ``paper``; without it ``DTL_PROFILE``, else ``laptop``.
        out: where to write; ``build/workbook`` of the project if None.
        in_place: also write the outputs back into the notebooks, cleaned for a commit. A failed one stays as it was.
        timeout: seconds that one cell may take.
        folder: another folder than ``notebooks/``.

    Returns:
        Name -> whether it ``failed``, and its ``status`` in words, ``ran in 35 s`` or ``failed in cell [7] …``.
    """
    chosen, folder, out = get_profile(profile), folder or notebooks_dir(), out or default_out()
    infos = select(list_notebooks(folder=folder), names)
    if not infos:
        raise ValueError(f"there are no notebooks in {folder}: run this from a checkout of the project")
    outcomes, trained = {}, out / "trained"
    shutil.rmtree(trained, ignore_errors=True)
    # no bars in stored outputs; waiting threads sleep, or two kernels' worth of threads fight over two cores
    env = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "DTL_PROFILE": chosen.name, "TQDM_DISABLE": "1"}
    env[FOLDER_VARIABLE] = str(trained.resolve())
    print(f"Running {len(infos)} notebooks in the {chosen.name} profile.", flush=True)
    for position, info in enumerate(infos, 1):
        start = time.monotonic()
        try:
            notebook = read_notebook(info.path)
            failed = execute(notebook, folder, env, timeout, f"{position}/{len(infos)} {info.name}")
            write_notebook(clean_notebook(notebook), out / info.path.name)
            if in_place and not failed:
                write_notebook(notebook, info.path)
        except DamagedFile as error:
            failed = f"failed: {error}"
            (out / info.path.name).unlink(missing_ok=True)  # of an earlier run
        status = failed or f"ran in {time.monotonic() - start:.0f} s"
        outcomes[info.name] = {"status": status, "failed": bool(failed)}
        if failed:
            tqdm.write(f"{info.path.name} {status}")
    print("", *(f"{info.number} {info.title}: {outcomes[info.name]['status']}" for info in infos), sep="\n")
    cards = trained_in(trained)
    if len(cards):
        print(f"\nWhat was trained:\n{cards.to_string(index=False, float_format='{:.3f}'.format, na_rep='–')}")
    print()
    run = {"setting": chosen.setting, "notebooks": outcomes, "trained": json.loads(cards.to_json(orient="records"))}
    write_json(out / "run.json", run)
    write_site(out, notebooks_folder=folder.resolve(), run_folder=out.resolve())
    return outcomes


def execute(notebook: nbformat.NotebookNode, folder: Path, env: dict[str, str], timeout: int, label: str) -> str:
    """Run a notebook in a fresh kernel, in place up to a cell that fails, with a progress bar over its code cells.

    Return ``failed in cell [7] “first line”: error``, with the number that JupyterLab would show; empty if it ran.
    """
    code, begun, error = [cell for cell in notebook.cells if cell.cell_type == "code"], [], ""
    for cell in code:
        cell.outputs, cell.execution_count = [], None
    total = sum(bool(cell.source.strip()) for cell in code)
    with tqdm(total=total, desc=label, bar_format="{desc:<34} {bar:24} {n_fmt}/{total_fmt} cells {elapsed}") as bar:
        client = NotebookClient(
            notebook,
            timeout=timeout,
            coalesce_streams=True,  # what one cell prints is one output, however it came in
            kernel_name="python3",
            extra_arguments=["--log-level=CRITICAL"],  # its words on local TCP and on Ctrl-C would break the bar
            resources={"metadata": {"path": str(folder)}},
            on_cell_execute=lambda cell, cell_index: begun.append(cell.source.strip().splitlines()[0]),
            on_cell_executed=lambda **_: bar.update(),
        )
        try:
            client.execute(env=env)
        except asyncio.CancelledError:  # Ctrl-C while the kernel starts
            raise KeyboardInterrupt from None
        except CellTimeoutError:
            error = f"took longer than {timeout} s"
        except DeadKernelError:
            error = "the kernel died (out of memory?)"
        except CellExecutionError as raised:
            error = _line(raised.ename, raised.evalue)
        except Exception as raised:  # whatever stops one notebook is reported, and the next one runs
            error = _line(type(raised).__name__, str(raised))
    # nbclient swallows Ctrl-C: it ends the kernel and leaves this mark. Going on with the next notebook is not what it means
    if getattr(client, "_async_cleanup_kernel_future", None) is not None:
        raise KeyboardInterrupt
    where = f" in cell [{len(begun)}] “{begun[-1]}”" if begun else ""
    return error and f"failed{where}: {error}"


def _line(kind: str, message: str) -> str:
    return ": ".join([kind, *message.strip().splitlines()[:1]])


def write_site(out: Path | None = None, *, strict: bool = False, **settings: object) -> None:
    """Have Sphinx write the site, as ``sphinx-build site OUT`` does, from the outputs in the notebooks.

    Pages of removed notebooks go; other files stay. ``strict`` treats Sphinx's warnings as errors: a later Sphinx may warn of
    what this one does not. ``settings`` replace those of ``site/conf.py``.
    """
    if not paths.in_checkout():
        raise RuntimeError("the site is written from a checkout of the project; an installed package has none")
    out = out or default_out()
    print("Writing the notebooks as a site: a quarter of a minute.", flush=True)
    options = ["-b", "html", "-q", *(f"-D{name}={value}" for name, value in settings.items())]
    options += ["-W"] if strict else []
    if subprocess.call([sys.executable, "-m", "sphinx", *options, paths.CHECKOUT / "site", out]):
        raise RuntimeError(f"Sphinx found something wrong in the pages, see above; they are in {out}")
    print(f"Open {out / 'index.html'} in a browser: it needs no network.")


def lab() -> int:
    """Open JupyterLab on the notebooks, with this Python; return its exit code when it is closed."""
    # in a container one is root, and JupyterLab then wants to be told that this is meant
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return subprocess.call([sys.executable, "-m", "jupyterlab", *root, str(notebooks_dir())])

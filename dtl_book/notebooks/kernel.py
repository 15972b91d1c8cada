"""One notebook in a fresh kernel: its outputs, how long it took, and the cell where it failed."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from tqdm import tqdm  # the plain bar: this runs in a terminal

from dtl_core.files import DamagedFile

from ..lab.run_log import FOLDER_VARIABLE
from .catalog import NotebookInfo, read_notebook


@dataclass(frozen=True)
class Ran:
    """How one notebook went.

    Attributes:
        info: title, goal and minutes.
        seconds: wall-clock time.
        cell: the ``[7]`` that JupyterLab would show for the failing cell; 0 where the file itself could not be read.
        first_line: first line of the failing cell; empty for a notebook that ran.
        error: the error in one line; None for a notebook that ran.
    """

    info: NotebookInfo
    seconds: float
    cell: int = 0
    first_line: str = ""
    error: str | None = None

    @property
    def status(self) -> str:
        """``ran in 35 s`` or ``failed in cell [7] …``."""
        if self.error is None:
            return f"ran in {self.seconds:.0f} s"
        where = f" in cell [{self.cell}] “{self.first_line}”" if self.cell else ""
        return f"failed{where}: {self.error}"


def execute(
    info: NotebookInfo, profile: str, timeout: int, label: str, trained: Path
) -> tuple[nbformat.NotebookNode | None, Ran]:
    """Runs one notebook in a fresh kernel, with a progress bar over its code cells.

    Args:
        info: which.
        profile: handed to the kernel as ``DTL_PROFILE``.
        timeout: seconds that one cell may take.
        label: text before the bar.
        trained: folder in which ``note_run`` notes what was trained.

    Returns:
        The notebook with its outputs, up to a failing cell (None for a file that cannot be read), and how it went.
    """
    start, at = time.monotonic(), {"number": 0, "line": ""}
    try:
        notebook = read_notebook(info.path)
    except DamagedFile as error:
        return None, Ran(info, 0.0, error=str(error))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    total = sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in notebook.cells)
    # no bars in stored outputs; waiting threads sleep, or two kernels' worth of threads fight over two cores
    env = {**os.environ, "DTL_PROFILE": profile, "TQDM_DISABLE": "1", FOLDER_VARIABLE: str(trained.resolve())}
    env.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    error = None
    with tqdm(
        total=total, desc=label, unit="cell", bar_format="{desc:<34} {bar:24} {n_fmt}/{total_fmt} cells {elapsed}"
    ) as bar:

        def started(cell: nbformat.NotebookNode, cell_index: int) -> None:
            at.update(number=at["number"] + 1, line=cell.source.strip().split("\n")[0])

        client = NotebookClient(
            notebook,
            timeout=timeout,
            coalesce_streams=True,  # what one cell prints is one output, however it came in
            kernel_name="python3",
            extra_arguments=["--log-level=ERROR"],  # its warning on local TCP would break the bar
            resources={"metadata": {"path": str(info.path.parent)}},
            on_cell_execute=started,
            on_cell_executed=lambda **_: bar.update(),
        )
        try:
            client.execute(env=env)
        except Exception as raised:  # whatever stops one notebook is reported, and the next one runs
            error = _error_of(notebook, raised, timeout)
    # nbclient swallows Ctrl-C: it ends the kernel and leaves this mark. Going on with the next notebook is not what it means
    if getattr(client, "_async_cleanup_kernel_future", None) is not None:
        raise KeyboardInterrupt
    seconds = time.monotonic() - start
    if error is None:
        return notebook, Ran(info, seconds)
    return notebook, Ran(info, seconds, at["number"], at["line"], error)


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}".rstrip(": ")


def _error_of(notebook: nbformat.NotebookNode, raised: Exception, timeout: int) -> str:
    """The error in one line: the cell's own where it has one."""
    if isinstance(raised, TimeoutError):
        return f"took longer than {timeout} s"
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    own = [output for output in outputs if output.output_type == "error"]
    if own:
        value = own[-1].evalue.strip().splitlines()
        return f"{own[-1].ename}: {value[0]}" if value else own[-1].ename
    if type(raised).__name__ == "DeadKernelError":
        return "the kernel died (out of memory?)"
    return _line(raised)

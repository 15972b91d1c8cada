"""Runs a notebook, or its set-up cell alone, with the kernel of the Python that runs this file.

    python run_notebook.py set-up|whole NOTEBOOK

Needs what `jupyter` brings and nothing else. Prints what the set-up cell printed; ends with 1 and the error where a cell fails.
"""

import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError


def main(which: str, path: Path) -> int:
    notebook = nbformat.read(path, as_version=4)
    setup = next(cell for cell in notebook.cells if "setup" in cell.metadata.get("tags", []))
    if which == "set-up":
        notebook.cells = [setup]
    where = {"metadata": {"path": str(path.parent)}}
    try:
        NotebookClient(notebook, timeout=900, kernel_name="python3", resources=where).execute()
    except CellExecutionError as error:
        print(re.sub(r"\x1b\[[0-9;]*m", "", str(error))[-3000:], file=sys.stderr)
        return 1
    print("".join(out.text for out in setup.outputs if out.output_type == "stream" and out.name == "stdout").strip())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))

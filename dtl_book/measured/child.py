"""Run Python in a process of its own, which may fail, hang or be killed at the cost of one row."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

TO_STOP = 5.0  # seconds that a process has to end its own children before it is killed


def run_python(
    arguments: list[str], device: torch.device, deadline: float, cwd: Path | None = None, **environment: str
) -> tuple[int | None, str]:
    """Run Python with this package importable, on this device alone; on a CPU no CUDA device is visible to it.

    It is stopped at the ``deadline`` of ``time.monotonic``. Return its exit status, None where it was stopped, and its output.
    """
    before = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(Path(__file__).resolve().parents[2]), *([before] if before else [])])
    hidden = {} if device.type == "cuda" else {"CUDA_VISIBLE_DEVICES": ""}
    variables = {**os.environ, "PYTHONPATH": path, "TQDM_DISABLE": "1", **hidden, **environment}
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=cwd, env=variables, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, process_group=0,
        )  # fmt: skip
        try:
            status = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _stop(process)
        output.seek(0)
        return status, output.read().decode(errors="replace")


def _stop(process: subprocess.Popen) -> None:
    """End a process that is still running: first politely, so that it ends a notebook's kernel, then with its group."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(TO_STOP)
    except subprocess.TimeoutExpired:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()


def last_lines(text: str) -> str:
    """Return the last 40 lines of a text."""
    return "\n".join(text.rstrip().splitlines()[-40:])

"""The tests that need a GPU, and the notebooks: each file in a process of its own, counted from pytest's own report."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import torch

from dtl_core.files import sha256_of

from ..paths import CHECKOUT, in_checkout
from .rows import fill, last_lines, open_card

NO_CHECKOUT = "tests and notebooks are in a checkout of the project, and this package runs from outside one"
NO_NBVAL = "nbval or ipykernel is not installed: pip install nbval ipykernel, or unpack them with `dtl measure pack`"
CPU_NOTEBOOKS = ("01_", "02_", "04_")  # a small choice for a machine without a GPU: the quickest, and no data
TO_STOP = 5.0  # seconds that a process has to end its own children before it is killed


def gpu_tests() -> list[Path]:
    """Return the files of tests that are marked ``gpu``: a bare machine may lack what the others import."""
    mark = re.compile(r"^(pytestmark = |@)pytest\.mark\.gpu\b", re.MULTILINE)
    files = sorted((CHECKOUT / "tests").rglob("test_*.py"))
    return [path for path in files if mark.search(path.read_text(encoding="utf-8"))]


def notebooks(device: torch.device) -> list[Path]:
    """Return the numbered notebooks and then their solutions; on a CPU a few of them."""
    found = [
        *sorted(CHECKOUT.glob("notebooks/[0-9]*.ipynb")),
        *sorted(CHECKOUT.glob("notebooks/solutions/[0-9]*.ipynb")),
    ]
    return found if device.type == "cuda" else [path for path in found if path.name.startswith(CPU_NOTEBOOKS)]


def measure_tests(
    path: Path, device: torch.device, backbone: str, deadline: float, files: list[Path] | None = None
) -> dict:
    """Run the tests marked ``gpu`` and write the card after each file.

    Args:
        path: of the card.
        device: on a CPU the tests are skipped, and counted so.
        backbone: noted on the card; the tests have their own.
        deadline: of ``time.monotonic``. A file that is still running then is stopped.
        files: which; ``gpu_tests()`` if None.

    Returns:
        The card.
    """
    return _measure("tests", path, device, backbone, deadline, gpu_tests() if files is None else files, ["-m", "gpu"])


def measure_notebooks(
    path: Path, device: torch.device, backbone: str, deadline: float, files: list[Path] | None = None
) -> dict:
    """Run notebooks and solutions in the smoke profile under nbval, and write the card after each.

    Args:
        path, backbone, deadline: see ``measure_tests``.
        device: on a CPU a few notebooks are run, where the budget has room.
        files: which; ``notebooks(device)`` if None.

    Returns:
        The card.
    """
    options = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300"]
    return _measure(
        "notebooks", path, device, backbone, deadline, notebooks(device) if files is None else files, options
    )


def _measure(
    part: str, path: Path, device: torch.device, backbone: str, deadline: float, files: list[Path], options: list[str]
) -> dict:
    refused = []
    if not in_checkout():
        files, refused = [], [{"name": part, "reason": NO_CHECKOUT}]
    elif part == "notebooks" and not (find_spec("nbval") and find_spec("ipykernel")):
        refused = [{"name": _shown(file), "reason": NO_NBVAL} for file in files]
        files = []
    specs = [{"name": _shown(file), "digest": sha256_of(file)[:12]} for file in files]
    card = open_card(path, part, device, backbone, specs)
    by_name = dict(zip((spec["name"] for spec in specs), files, strict=True))

    def work(spec: dict) -> dict:
        return run_file(by_name[spec["name"]], options, device, deadline)

    return fill(card, path, specs, work, deadline, refused, tell_row)


def _shown(file: Path) -> str:
    return file.relative_to(CHECKOUT).as_posix() if file.is_relative_to(CHECKOUT) else file.name


def child_environment(device: torch.device, **more: str) -> dict[str, str]:
    """Return the environment of a process that imports this package, from wherever it is, and uses this device."""
    before = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(Path(__file__).resolve().parents[2]), *([before] if before else [])])
    hidden = {} if device.type == "cuda" else {"CUDA_VISIBLE_DEVICES": ""}
    return {**os.environ, "PYTHONPATH": path, "TQDM_DISABLE": "1", **hidden, **more}


def run_file(file: Path, options: list[str], device: torch.device, deadline: float) -> dict:
    """Run pytest on one file.

    Args:
        file: tests, or a notebook for nbval.
        options: of pytest.
        device: where.
        deadline: of ``time.monotonic``; then it is stopped.

    Returns:
        "status" ("passed", "failed", or "not run" with a "reason"), "passed", "failed", "skipped", "seconds", and
        "failures": {"test", "text"} with the last lines of each.
    """
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dtl-measure-") as folder:
        report, said = Path(folder, "report.xml"), Path(folder, "said")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={report}", *options]
        environment = child_environment(device, DTL_PROFILE="smoke", DTL_EXPECT="solutions")
        with open(said, "wb") as output:
            process = subprocess.Popen(
                [*command, str(file)], cwd=CHECKOUT, env=environment, stdout=output, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, process_group=0,
            )  # fmt: skip
        try:
            code = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            seconds = time.monotonic() - start
            return {"status": "not run", "reason": f"stopped after {seconds:.0f} s, when the budget was over"}
        finally:
            stop(process)
        seconds = round(time.monotonic() - start, 1)
        counts, failures = read_report(report)
        text = said.read_text(encoding="utf-8", errors="replace")
    if code not in (0, 5) and not failures:  # 5: no test was chosen; any other is pytest's own trouble
        failures = [{"test": f"pytest, exit status {code}", "text": last_lines(text)}]
    if not failures and not sum(counts.values()):
        failures = [{"test": "pytest", "text": f"no test ran. {last_lines(text)}"}]
    status = "failed" if failures else "passed"
    counts["failed"] = max(counts["failed"], len(failures))
    row = {"status": status, **counts, "seconds": seconds, "failures": failures}
    return {**row, "error": f"{failures[0]['test']}: {failures[0]['text']}"} if failures else row


def stop(process: subprocess.Popen) -> None:
    """End a process, if it has not ended: first politely, so that it ends a notebook's kernel, then with its group."""
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


def read_report(path: Path) -> tuple[dict[str, int], list[dict[str, str]]]:
    """Read pytest's report in JUnit's XML.

    Returns:
        Counts of "passed", "failed" and "skipped"; and {"test", "text"} of each failure, its last 40 lines. All 0 and
        none where there is no report.
    """
    counts, failures = {"passed": 0, "failed": 0, "skipped": 0}, []
    if not path.is_file() or not path.stat().st_size:
        return counts, failures
    for case in ElementTree.parse(path).iter("testcase"):
        bad = [node for node in case if node.tag in ("failure", "error")]
        if bad:
            counts["failed"] += 1
            test = "::".join(filter(None, (case.get("classname"), case.get("name"))))
            failures.append({"test": test, "text": last_lines(bad[0].text or bad[0].get("message") or "")})
        else:
            counts["skipped" if case.find("skipped") is not None else "passed"] += 1
    return counts, failures


def tell_row(row: dict) -> str:
    """Return what is printed of a row."""
    if "seconds" not in row:
        return f"{row['status']} ({row['error'].splitlines()[0][:100]})"
    told = f"{row['passed']} passed, {row['failed']} failed, {row['skipped']} skipped, {row['seconds']:.0f} s"
    return "\n".join([told, *(f"  {f['test']}: {(f['text'].splitlines() or [''])[-1][:110]}" for f in row["failures"])])

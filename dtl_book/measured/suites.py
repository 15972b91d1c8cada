"""Run the tests that need a GPU, and the notebooks: each file in a process of its own, counted from pytest's own report."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import torch

from dtl_core.files import sha256_of

from ..paths import CHECKOUT, in_checkout
from .child import last_lines, run_python
from .rows import Part, in_budget

NO_CHECKOUT = "tests and notebooks are in a checkout of the project, and this package runs from outside one"
NO_NBVAL = "nbval or ipykernel is not installed: pip install nbval ipykernel, or unpack them with `dtl measure pack`"
CPU_NOTEBOOKS = ("01_", "02_", "04_")  # a small choice for a machine without a GPU: the quickest, and no data


def gpu_tests() -> list[Path]:
    """Return the test files with the mark ``gpu``: a bare machine may lack what the others import."""
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


def file_specs(files: list[Path]) -> list[dict]:
    """Return the rows: {"name", "digest"}, so that a changed file is run again."""
    names = [f.relative_to(CHECKOUT).as_posix() if f.is_relative_to(CHECKOUT) else str(f) for f in files]
    return [{"name": name, "digest": sha256_of(f)[:12]} for name, f in zip(names, files, strict=True)]


def run_files(
    options: list[str], specs: list[dict], device: torch.device, backbone: str, deadline: float
) -> Iterator[dict]:
    """Yield the rest of each row, see ``run_file``. Tests and notebooks have their own backbones."""
    for spec in in_budget(specs, deadline):
        yield run_file(CHECKOUT / spec["name"], options, device, deadline)


def run_file(file: Path, options: list[str], device: torch.device, deadline: float) -> dict:
    """Run pytest on one file of tests, or with nbval's options on a notebook.

    Return "status" ("passed", "failed", or "not run" with a "reason"), counts, "seconds", and "failures": {"test", "text"}.
    """
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dtl-measure-") as folder:
        report = Path(folder, "report.xml")
        command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={report}", *options, str(file)]
        status, text = run_python(command, device, deadline, cwd=CHECKOUT, DTL_PROFILE="smoke", DTL_EXPECT="solutions")
        seconds = time.monotonic() - start
        if status is None:
            return {"status": "not run", "reason": f"stopped after {seconds:.0f} s, when the budget was over"}
        counts, failures = read_report(report)
    if status not in (0, 5) and not failures:  # 5: no test was chosen; any other is pytest's own trouble
        failures = [{"test": f"pytest, exit status {status}", "text": last_lines(text)}]
    if not failures and not sum(counts.values()):
        failures = [{"test": "pytest", "text": f"no test ran. {last_lines(text)}"}]
    counts["failed"] = max(counts["failed"], len(failures))
    row = {"status": "failed" if failures else "passed", **counts, "seconds": round(seconds, 1), "failures": failures}
    return {**row, "error": f"{failures[0]['test']}: {failures[0]['text']}"} if failures else row


def read_report(path: Path) -> tuple[dict[str, int], list[dict[str, str]]]:
    """Return the counts and failures, {"test", "text"}, of pytest's report in JUnit's XML; none where there is no report."""
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


def describe_row(row: dict) -> str:
    counts = f"{row['passed']} passed, {row['failed']} failed, {row['skipped']} skipped, {row['seconds']:.0f} s"
    return "\n".join(
        [counts, *(f"  {f['test']}: {(f['text'].splitlines() or [''])[-1][:110]}" for f in row["failures"])]
    )


def _here(name: str, files: list[Path]) -> list[dict]:
    return file_specs(files) if in_checkout() else [{"name": name}]


def _refuse_notebook(spec: dict, device: torch.device) -> str:
    lacking = not (find_spec("nbval") and find_spec("ipykernel"))
    return NO_CHECKOUT if not in_checkout() else NO_NBVAL if lacking else ""


TESTS = Part(
    specs=lambda device, backbone: _here("tests", gpu_tests()),
    rows=partial(run_files, ["-m", "gpu"]),
    describe=describe_row,
    refuse=lambda spec, device: "" if in_checkout() else NO_CHECKOUT,
)
NOTEBOOKS = Part(
    specs=lambda device, backbone: _here("notebooks", notebooks(device)),
    rows=partial(run_files, ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300"]),
    describe=describe_row,
    refuse=_refuse_notebook,
)

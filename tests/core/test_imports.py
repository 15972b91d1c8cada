"""Which package imports which: the rules of pyproject.toml, and what `import dtl_core` leaves alone."""

import subprocess
import sys

import pytest

from dtl_core.paths import CHECKOUT

HEAVY = ("matplotlib", "seaborn", "tyro", "onnx", "joblib", "sklearn", "IPython", "dtl_book")


def test_imports_run_one_way():
    pytest.importorskip("importlinter", reason="import-linter is not installed: pip install -e '.[test]'")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


def test_the_method_needs_nothing_of_the_book():
    code = f"import sys, dtl_core; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

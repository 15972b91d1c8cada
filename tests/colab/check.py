"""Do the notebooks start where only torch, torchvision and jupyter are, as on Colab?

    make colab-check            # or: python tests/colab/check.py

For each of Python 3.11, 3.12 and 3.13 that is found here (on PATH, of pyenv or uv; none is fetched), and for the first of
them once more with a torch of the year before, it makes a fresh environment with torch, torchvision and jupyter, lays every notebook beside a wheel of this project in a folder of its
own, away from the checkout, and runs the set-up cells, each in an environment without dtl_core. Then it runs a few light
notebooks in full in the smoke profile. The set-up must leave torch, torchvision and numpy as they were and use the device
that torch sees. One environment at a time, about 7 GB, removed when it is done. Ends with 1 where anything failed.
"""

import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
VERSIONS = ("3.11", "3.12", "3.13")
GIVEN = ("torch", "torchvision", "jupyter")
OLDER = ("torch==2.9.1", "torchvision==0.24.1", "jupyter")  # what Colab and GPU nodes have for months
KEPT = ("torch", "torchvision", "numpy")
# in full; 01 and 08 plan, which asks most of an older torch; 09 and 14 read the record, which the wheel has to bring
LIGHT = ("00", "01", "03", "05", "08", "09", "14")
SMOKE = {"DTL_PROFILE": "smoke", "OMP_NUM_THREADS": "1"}  # two threads on loaded cores are slower than one
DISK = 12e9  # bytes: an environment, and what pip unpacks on the way
LOOK = f"""
import json, torch
from importlib.metadata import version
mps = torch.backends.mps.is_available()
print(json.dumps([[version(p) for p in {KEPT}], "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"]))
"""
ABSENT = (
    "import importlib.util, sys; sys.exit('dtl_core is here already' if importlib.util.find_spec('dtl_core') else 0)"
)
BROUGHT = """
import json, dtl_core
from dtl_book.experiments import load_cards
from dtl_core.paths import in_checkout
print(json.dumps([dtl_core.__file__, in_checkout(), len(load_cards("laptop"))]))
"""


class Failed(Exception):
    """A command of the check failed; the message is what it said last."""


@dataclass
class Check:
    """One fresh environment, and what happened in it.

    Attributes:
        python: of the environment.
        env: variables of its processes.
        rows: (what, what happened, went well).
    """

    python: str
    env: dict[str, str]
    rows: list[tuple[str, str, bool]] = field(default_factory=list)

    def run(self, *command: str, cwd: Path, **more: str) -> str:
        """The last line that a command of this environment's Python printed.

        Raises:
            Failed: it ended with an error.
        """
        done = subprocess.run([self.python, *command], cwd=cwd, env=self.env | more, capture_output=True, text=True)
        if done.returncode:
            raise Failed((done.stderr.strip() or done.stdout.strip())[-3000:])
        return done.stdout.strip().split("\n")[-1]

    def note(self, what: str, happened: str, well: bool) -> None:
        """Keeps a row of the table and shows it."""
        self.rows.append((what, happened, well))
        print(f"  {'ok    ' if well else 'FAILED'} {what}: {happened}", flush=True)


def interpreters() -> dict[str, str]:
    """Version -> a Python of it that runs and can make environments; a shim of pyenv may be on PATH and run nothing."""
    found = {}
    for version in VERSIONS:
        pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions" / f"{version}.*"
        candidates = [shutil.which(f"python{version}"), *sorted(glob.glob(str(pyenv / "bin" / f"python{version}")))]
        if shutil.which("uv"):
            asked = ["uv", "python", "find", "--no-python-downloads", version]
            candidates.append(subprocess.run(asked, capture_output=True, text=True).stdout.strip())
        for path in filter(None, candidates):
            look = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
            if subprocess.run([path, "-c", look], capture_output=True, text=True).stdout.strip() == version:
                found[version] = path
                break
    return found


def pip(python: str, *arguments: str, env: dict[str, str] | None = None) -> None:
    """Runs pip, away from the checkout and what it holds of itself, and shows a line for each package that it gets.

    Raises:
        Failed: pip did.
    """
    command = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    said = []
    with subprocess.Popen(
        command, env=env, cwd=tempfile.gettempdir(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            said.append(line)
            if ".whl" in line and "metadata" not in line and line.split()[0] in ("Downloading", "Using"):
                print("  " + line.strip().rpartition("/")[2], flush=True)
            elif line.startswith("Installing collected"):
                print(f"  installing {line.count(',') + 1} packages", flush=True)
    if process.returncode:
        raise Failed("pip " + " ".join(arguments) + "\n" + "".join(said[-15:]))


def setup_source(path: Path) -> str:
    """The source of a notebook's set-up cell."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    (cell,) = [c for c in cells if "setup" in c["metadata"].get("tags", [])]
    return "".join(cell["source"])


def lay_out(notebook: Path, wheel: Path, folder: Path) -> Path:
    """A folder that holds a notebook and the wheel and nothing else."""
    folder.mkdir(parents=True)
    shutil.copy(wheel, folder)
    return Path(shutil.copy(notebook, folder))


def check_version(python: str, given: tuple[str, ...], wheel: Path, notebooks: list[Path], folder: Path) -> Check:
    """Makes the environment in ``folder``, of the packages that are given, and runs everything in it."""
    dropped = ("PYTHON", "DTL_", "VIRTUAL_ENV", "CONDA", "JUPYTER", "IPYTHON")
    env = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    env |= {name: str(folder / "home") for name in ("JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR")}
    subprocess.run([python, "-m", "venv", str(folder / "env")], check=True, env=env)
    bin_dir = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
    env["PATH"] = f"{bin_dir}{os.pathsep}{env.get('PATH', '')}"
    check = Check(str(bin_dir / "python"), env)
    pip(check.python, "install", *given, env=env)
    before, device = json.loads(check.run("-c", LOOK, cwd=folder))
    check.note(
        "before", ", ".join(f"{n} {v}" for n, v in zip(KEPT, before, strict=True)) + f", torch sees {device}", True
    )
    for number, path in enumerate(notebooks):
        if number:
            pip(check.python, "uninstall", "-q", "-y", "dtl-workbook", env=env)
        check.run("-c", ABSENT, cwd=folder)
        copy = lay_out(path, wheel, folder / "set-up" / path.stem)
        attempt(check, f"{path.name}, set-up cell", "set-up", copy, f"device {device}")
    for path in [path for path in notebooks if path.name.startswith(LIGHT)]:
        copy = lay_out(path, wheel, folder / "whole" / path.stem)
        attempt(check, f"{path.name}, whole, smoke", "whole", copy, "profile smoke", **SMOKE)
    after, _ = json.loads(check.run("-c", LOOK, cwd=folder))
    check.note("after", "the same versions" if after == before else f"changed: {before} to {after}", after == before)
    where, inside, cards = json.loads(check.run("-c", BROUGHT, cwd=folder))
    fine = Path(where).is_relative_to(folder) and not inside and cards > 0
    check.note("the wheel", f"{cards} recorded final runs of vtab-1k" if fine else f"{where}, {cards} cards", fine)
    try:
        check.note("pip check", check.run("-m", "pip", "check", cwd=folder), True)
    except Failed as error:
        check.note("pip check", str(error), False)
    return check


def attempt(check: Check, what: str, which: str, copy: Path, wanted: str, **more: str) -> None:
    """Runs one notebook, or its set-up cell, and notes what happened."""
    start = time.monotonic()
    try:
        said = check.run(str(HERE / "run_notebook.py"), which, str(copy), cwd=copy.parent, **more)
        check.note(what, f"{said} ({time.monotonic() - start:.0f} s)", wanted in said)
    except Failed as error:
        check.note(what, str(error), False)


def main() -> int:
    """Everything; returns the exit status."""
    notebooks = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    others = sorted((ROOT / "notebooks").glob("*/[0-9][0-9]_*.ipynb"))
    odd = [str(path) for path in notebooks + others if setup_source(path) != setup_source(notebooks[0])]
    found, rows = interpreters(), []
    for version in VERSIONS:
        print(f"Python {version}: {found.get(version, 'not here, left out')}", flush=True)
    if odd or not found:
        print(f"another set-up cell than the others: {', '.join(odd)}" if odd else "no Python to check with")
        return 1
    with tempfile.TemporaryDirectory(prefix="dtl-colab-") as scratch:
        if shutil.disk_usage(scratch).free < DISK:
            print(f"{scratch} lies on a disk with less than {DISK / 1e9:.0f} GB free: set TMPDIR to another")
            return 1
        print("Building the wheel", flush=True)
        pip(sys.executable, "wheel", "-q", "--no-deps", "-w", scratch, str(ROOT))
        (wheel,) = Path(scratch).glob("dtl_workbook-*.whl")
        print(f"  {wheel.name}, {wheel.stat().st_size / 1e3:.0f} kB")
        oldest = next(iter(found))
        wanted = {version: (python, GIVEN) for version, python in found.items()}
        wanted[f"{oldest}, older torch"] = found[oldest], OLDER
        for number, (version, (python, given)) in enumerate(wanted.items()):
            print(f"Python {version}: a fresh environment with {', '.join(given)} (about 7 GB, minutes)", flush=True)
            folder = Path(scratch, str(number))
            folder.mkdir()
            try:
                rows += [(version, *row) for row in check_version(python, given, wheel, notebooks, folder).rows]
            except (Failed, subprocess.CalledProcessError) as error:
                rows.append((version, "the environment", str(error), False))
                print(f"  FAILED {error}")
            shutil.rmtree(folder)
    print()
    for version, what, happened, well in rows:
        print(
            f"{version:18s} {'ok    ' if well else 'FAILED'} {what:48s} {happened.splitlines()[-1] if happened else ''}"
        )
    print(f"{'':18s} ok     {len(others)} exercises and solutions{'':25s} hold the same set-up cell, to the letter")
    failed = sum(not row[-1] for row in rows)
    print(f"{len(rows) - failed} of {len(rows)} went well on Python {'; '.join(wanted)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

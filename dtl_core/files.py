"""Atomic file writes, locks and checksums. Imports no other module of the package."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from torch import Tensor


class DamagedFile(ValueError):
    """Error for a file that is damaged or of the wrong kind; the message names the file and a remedy."""


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, and rename it to ``path`` when the block ends without an error.

    A kill at any moment leaves either the whole old file or the whole new file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "r+b") as file:  # Windows flushes only what may be written to
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes it private; a class shares its data folder
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | Path) -> Path:
    """Return ``path`` where a file could be written there now, so that long work does not end without a place for it.

    Raises:
        OSError: the path is a folder, or its folder cannot be made or written to.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(
            f"{path} is a folder: give the name of a file in it, such as {path / 'adapter.safetensors'}"
        )
    there = next(p for p in path.absolute().parents if p.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            return path
    except OSError as error:
        raise type(error)(f"{there} cannot be written to ({error.strerror or error}): choose another place") from error


def save_tensors(tensors: "dict[str, Tensor]", path: str | Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        OSError: it could not be written, on a full disk say.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file  # brings torch, for which a command's --help need not wait

    with written_whole(path) as temporary:
        try:
            save_file({k: t.detach().cpu().contiguous() for k, t in tensors.items()}, temporary, metadata=metadata)
        except SafetensorError as error:
            raise OSError(f"{path} could not be written ({error}): make room, or choose another place") from error


@contextmanager
def one_writer(path: str | Path, waiting: str = "") -> Iterator[None]:
    """Let one process at a time make a file; the others print ``waiting`` and wait.

    The kernel's lock (flock, or its Windows equivalent) ends with the process that holds it, so a killed writer blocks
    no one and no lock goes stale. The empty lock file stays, because removing it could let two writers in at once.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_suffix(".lock"), mode=0o666)  # several users may share the folder
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if waiting:
            print(waiting, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def sha256_of(path: str | Path) -> str:
    """Return the hex sha256 of a file's bytes, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def format_bytes(n: int) -> str:
    """Return bytes in words, in KiB, MiB or GiB."""
    if n < 2**20:
        return f"{n / 2**10:.0f} KiB"
    return f"{n / 2**30:.2f} GiB" if n >= 2**30 else f"{n / 2**20:,.0f} MiB"

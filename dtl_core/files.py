"""Files written whole or not at all, and their checksums. Knows no other module of the package."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


class DamagedFile(ValueError):
    """A file that is not what it should be. The message names it and says what to do."""


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path``; renames it to ``path`` when the block ends without an error.

    A kill at any moment leaves either the old file or the new one, never half of one. The temporary file is
    flushed to the disk before the rename, and removed after an error.
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


@contextmanager
def one_writer(path: str | Path, waiting: str = "") -> Iterator[None]:
    """Lets one process at a time make a file; the others wait, and print ``waiting`` beforehand.

    The lock is the kernel's own (flock; on Windows its like) and goes with the process that held it: a writer that is
    killed blocks no one, and there is no age at which a lock would have to be broken. The file of the lock stays, empty,
    since taking it away would let in two at once.
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
    """Hex digest of a file's bytes, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

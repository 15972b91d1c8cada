"""Opens an image for a reader: whatever is wrong with a file, the message names it."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from .transforms import UnreadableImage, open_rgb


def open_named(path: str | Path) -> Image.Image:
    """``open_rgb``, with the errors of malformed metadata named as well.

    Where a photograph has to be turned, Pillow rewrites its EXIF data, and a malformed tag raises whatever the writer of
    that tag's type raises (``struct.error``, ``TypeError``, ``OverflowError``), far from any file name.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableImage: the file cannot be opened as it is meant to be seen.
    """
    try:
        return open_rgb(path)
    except (FileNotFoundError, UnreadableImage, MemoryError):
        raise
    except Exception as error:
        raise UnreadableImage(
            f"{path} cannot be opened as it is meant to be seen, most likely for malformed EXIF data "
            f"({type(error).__name__}: {error}): save it again without them, or remove it"
        ) from error

"""Opening of images for the readers, with errors that name the file."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from .transforms import UnreadableImage, open_rgb


def open_named(path: str | Path) -> Image.Image:
    """Return ``open_rgb(path)``, with errors from malformed metadata converted to ``UnreadableImage``.

    When a photograph has to be rotated, Pillow rewrites its EXIF data. A malformed tag then raises an error without the
    file name, such as ``struct.error``, ``TypeError`` or ``OverflowError``.

    Raises:
        FileNotFoundError: the file is missing.
        UnreadableImage: the file cannot be decoded, or its metadata are malformed.
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

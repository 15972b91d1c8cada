"""Progress bars in a log."""

from __future__ import annotations

import sys
from functools import cache, partialmethod

from tqdm import tqdm


@cache
def calm_bars() -> None:
    """Let each bar of this process, whoever shows it, write every 30 s at most where standard error is no terminal."""
    if not sys.stderr.isatty():
        tqdm.__init__ = partialmethod(tqdm.__init__, mininterval=30.0)

"""DTL (Disentangled Transfer Learning for Visual Recognition) as a small package that accompanies a workbook."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .backbones import load_backbone
    from .blocks import UnsupportedBackbone
    from .config import DTLConfig
    from .dtl import DTL

__version__ = "0.2.0.dev0"
__all__ = ["DTL", "DTLConfig", "UnsupportedBackbone", "load_backbone"]
# Imported when asked for: torch and timm take seconds, for which a command's --help need not wait.
_HOMES = {"DTL": "dtl", "DTLConfig": "config", "UnsupportedBackbone": "blocks", "load_backbone": "backbones"}


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

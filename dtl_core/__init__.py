"""DTL (Disentangled Transfer Learning for Visual Recognition) as a small package that accompanies a workbook."""

from .backbones import UnsupportedBackbone, load_backbone
from .dtl import DTL, DTLConfig

__version__ = "0.1.0"
__all__ = ["DTL", "DTLConfig", "UnsupportedBackbone", "load_backbone"]

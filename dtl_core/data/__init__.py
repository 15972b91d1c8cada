"""Readers for each supported layout of images on disk, and the transforms before the network."""

from .domain import DomainShift
from .fewshot import FewShot
from .folder import ImageFolderTask
from .transforms import eval_transform, open_rgb
from .vtab import VTAB1k

__all__ = ["DomainShift", "FewShot", "ImageFolderTask", "VTAB1k", "eval_transform", "open_rgb"]

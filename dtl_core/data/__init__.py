"""Readers for each supported layout of images on disk, and the transforms before the network."""

from .csv_list import CsvTask
from .domain import DomainShift
from .fewshot import FewShot
from .folder import ImageFolderTask
from .own import OwnImages
from .sources import open_images, parse_spec
from .torchvision_sets import TorchvisionTask
from .transforms import eval_transform, open_rgb
from .vtab import VTAB1k

__all__ = [
    "CsvTask", "DomainShift", "FewShot", "ImageFolderTask", "OwnImages", "TorchvisionTask", "VTAB1k",
    "eval_transform", "open_images", "open_rgb", "parse_spec",
]  # fmt: skip

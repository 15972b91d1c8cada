"""Serving of many tasks over one frozen backbone: the prefix runs once for all, and the suffixes run together."""

from .cache import FeatureCache
from .multitask import MultiTask, Task

__all__ = ["FeatureCache", "MultiTask", "Task"]

"""One frozen backbone, many tasks: the prefix runs once for all of them, and their suffixes run together."""

from .cache import FeatureCache
from .multitask import MultiTask, Task

__all__ = ["FeatureCache", "MultiTask", "Task"]

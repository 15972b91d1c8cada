"""Data of the laptop and smoke profiles, rendered from a seed or taken from packages, in the official layouts."""

from .suites import TASKS, build_suite

__all__ = ["TASKS", "build_suite"]

"""Recorded results as tables, for RESULTS.md and the notebooks."""

from .benchmarks import results_markdown, results_table

__all__ = ["results_markdown", "results_table"]

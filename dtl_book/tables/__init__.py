"""Recorded results as tables, for the README and the notebooks."""

from .results import readme_table, results_table

__all__ = ["readme_table", "results_table"]

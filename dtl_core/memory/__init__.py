"""Byte counts of a training step, planned on any machine or measured on a real device."""

from .amp import CudaAutocast, rule_table
from .batch import BatchFit, largest_batch, largest_fitting
from .ledger import KINDS, Ledger
from .measure import measure_training
from .plan import plan_training
from .report import GIB, MIB, MemoryPlan

__all__ = [
    "GIB",
    "KINDS",
    "MIB",
    "BatchFit",
    "CudaAutocast",
    "Ledger",
    "MemoryPlan",
    "largest_batch",
    "largest_fitting",
    "measure_training",
    "plan_training",
    "rule_table",
]

"""Byte counts of a training step, planned on any machine or measured on a real device."""

from .amp import CudaAutocast, rule_table
from .ledger import KINDS, Ledger
from .plan import BatchFit, largest_batch, largest_fitting, plan_step, plan_training, room_bytes
from .report import GIB, MIB, MemoryPlan
from .step import measure_step, measure_training

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
    "measure_step",
    "measure_training",
    "plan_step",
    "plan_training",
    "room_bytes",
    "rule_table",
]

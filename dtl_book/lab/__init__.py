"""What readers see: the set-up, pictures, tables and checks of the notebooks."""

from .checks import check, report
from .plots import METHOD_STYLES, PALETTE, caption, method_style, show_figure
from .run_log import note_run
from .setup import DataMissing, Workbook, start
from .tables import table

__all__ = [
    "METHOD_STYLES", "PALETTE", "DataMissing", "Workbook", "caption", "check", "method_style", "note_run", "report",
    "show_figure", "start", "table",
]  # fmt: skip

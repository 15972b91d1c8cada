"""The claims of the paper, one by one: what each says, what speaks to it, and the verdict."""

from .claim import VERDICTS, Claim, Finding, Part, load_claims, paper_number
from .tables import claims_markdown, verdict_table, write_claims
from .verdicts import Judged, claims_path, find, judge, load_verdicts, save_claims

__all__ = [
    "VERDICTS", "Claim", "Finding", "Judged", "Part", "claims_markdown", "claims_path", "find", "judge", "load_claims",
    "load_verdicts", "paper_number", "save_claims", "verdict_table", "write_claims",
]  # fmt: skip

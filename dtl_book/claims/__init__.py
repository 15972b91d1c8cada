"""The claims of the paper, one by one: what each says, the evidence for it, and the verdict."""

from .claim import VERDICTS, Claim, Finding, Part, paper_number
from .verdicts import Judged, claims_markdown, describe, judge, load_claims, load_verdicts, save_claims, write_claims

__all__ = [
    "VERDICTS", "Claim", "Finding", "Judged", "Part", "claims_markdown", "describe", "judge", "load_claims", "load_verdicts", "paper_number",
    "save_claims", "write_claims",
]  # fmt: skip

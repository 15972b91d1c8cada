"""Pictures and tables of notebook 15: all verdicts, and each claim with its evidence. Rows are those of ``load_verdicts``."""

from __future__ import annotations

import textwrap

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from ..claims import VERDICTS
from ..claims.costs import PLANNED
from ..claims.verdicts import SIGNS
from ..lab.tables import table

# Okabe and Ito's, and a sign in every square, so that a verdict is not told by its colour alone
COLOURS = {"supported": "#009E73", "not supported": "#D55E00", "different setting": "#3A93C6", "not run": "#C9C9C9"}
WIDTH = 92


def claims_frame(rows: list[dict]) -> pd.DataFrame:
    """Return a row per claim: id, claim, verdict, parts (how many have which verdict)."""
    return pd.DataFrame(
        {"id": row["id"], "claim": row["text"], "verdict": _signed(row["verdict"]), "parts": row["summary"]}
        for row in rows
    )


def draw_verdicts(rows: list[dict]) -> tuple[Figure, str]:
    """Draw a row of squares for each claim, one for each of its parts, with the sign of its verdict; return its sentence, too."""
    most = max(len(row["parts"]) for row in rows)
    fig, ax = plt.subplots(figsize=(6.4, 0.46 * len(rows) + 1.1))
    for y, row in enumerate(rows):
        for x, part in enumerate(row["parts"]):
            ax.add_patch(Rectangle((x + 0.05, y + 0.08), 0.9, 0.84, color=COLOURS[part["verdict"]], lw=0))
            ax.text(x + 0.5, y + 0.5, SIGNS[part["verdict"]], ha="center", va="center", fontsize=14, fontweight="bold")
        ax.text(most + 0.2, y + 0.5, row["verdict"], va="center", fontsize=13)
    ax.set(xlim=(0, most + 3.4), ylim=(len(rows), 0), xticks=[])
    ax.set_yticks([y + 0.5 for y in range(len(rows))], [row["id"] for row in rows])
    ax.grid(False)
    ax.tick_params(length=0)
    ax.spines[["left", "bottom"]].set_visible(False)
    handles = [Patch(color=COLOURS[v], label=f"{SIGNS[v]} {v}") for v in reversed(VERDICTS)]
    fig.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=12)
    count = {v: sum(row["verdict"] == v for row in rows) for v in reversed(VERDICTS)}
    words = ", ".join(f"{n} {v}" for v, n in count.items())
    sentence = (
        f"Verdicts of the {len(rows)} claims, a square for each part; on the right the claim's own, which is the least "
        f"favourable of its parts: {words}."
    )
    return fig, sentence


def show_claim(rows: list[dict], name: str) -> dict:
    """Show a claim and return its row: its parts, what would decide it, what a doubter should run, and how to reproduce it."""
    row = next((row for row in rows if row["id"] == name), None)
    if row is None:
        raise ValueError(f"no claim is called {name}: choose from {rows[0]['id']} to {rows[-1]['id']}")
    frame = pd.DataFrame(
        {
            "part": part["about"],
            "verdict": _signed(part["verdict"]),
            "found": part["numbers"],
            "setting": f"{part['setting'].replace(PLANNED, 'planned*')} ({part['date']})",
        }
        for part in row["parts"]
    )
    table(frame, f"{name}: {row['text']}. Source: {row['source']}. Verdict: {row['verdict']}.")
    planned = any(PLANNED in part["setting"] for part in row["parts"])
    words = [f"* {PLANNED}."] if planned else []  # long, and the same in every row
    words += [f"Supported if: {row['supports']}", f"Refuted if: {row['refutes']}", f"Doubt it? {row['doubt']}"]
    words += [f"Others: {fact}" for fact in row.get("context", ())]
    words += [f"Again: {command}" for command in dict.fromkeys(part["command"] for part in row["parts"]) if command]
    words += [f"Stale? {note[:1].upper()}{note[1:]}." for note in row["stale"]]
    print("\n".join(textwrap.fill(text, WIDTH, subsequent_indent="  ") for text in words))
    return row


def _signed(verdict: str) -> str:
    return f"{SIGNS[verdict]}\N{NO-BREAK SPACE}{verdict}"

"""The picture of the verdicts, and a claim as a reader sees it."""

import pytest
from matplotlib.patches import Rectangle

from dtl_book.claims import VERDICTS, load_claims, load_verdicts
from dtl_book.figures.claims import claims_frame, draw_verdicts, show_claim

ROWS = load_verdicts()


def test_a_square_for_every_part():
    fig, sentence = draw_verdicts(ROWS)
    squares = [p for p in fig.axes[0].patches if isinstance(p, Rectangle)]
    assert len(squares) == sum(len(c.parts) for c in load_claims())
    assert claims_frame(ROWS)["id"].tolist() == [c.id for c in load_claims()]
    for verdict in VERDICTS:
        assert f"{sum(row['verdict'] == verdict for row in ROWS)} {verdict}" in sentence


def test_a_claim_shows_all_that_it_rests_on(capsys):
    for row in ROWS:
        assert show_claim(ROWS, row["id"]) is row
        said = " ".join(capsys.readouterr().out.split())
        assert "Supported if:" in said and "Refuted if:" in said and "Doubt it?" in said
        assert said.count("Again:") == len({p["command"] for p in row["parts"]} - {""})
        assert said.count("Stale?") == len(row["stale"])
        planned = sum("not measured on a GPU" in p["setting"] for p in row["parts"])
        assert said.count("not measured on a GPU") == min(planned, 1), "said once, however many rows rest on it"
    with pytest.raises(ValueError, match="C13"):
        show_claim(ROWS, "C13")

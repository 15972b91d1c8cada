"""The site's parts without a browser: formulas, links, the front page."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from dtl_book.notebooks.catalog import NotebookInfo
from dtl_book.notebooks.kernel import Ran
from dtl_book.paths import project_dir
from dtl_book.site.front import claims_page, front_page
from dtl_book.site.mathml import MathsError, mathml
from dtl_book.site.pages import page_link
from dtl_book.tables.memory_forms import load_trade_rows, trade_sentence, trade_table
from dtl_core.files import DamagedFile


@pytest.mark.parametrize("tex", [r"\foo x", r"\frac{1", r"a & b", r"\begin{unknown} a & b \end{unknown}"])
def test_formulas_that_cannot_be_drawn_are_named(tex):
    with pytest.raises(MathsError, match="formula") as error:
        mathml(tex)
    assert tex in str(error.value)


def test_mathml():
    assert ">36,864</mtext>" in mathml("36{,}864")
    swish = mathml(r"\operatorname{swish}(h)")
    assert "<mi>swish</mi>" in swish and "mspace" not in swish
    assert "<mspace" in mathml(r"\log x")
    assert 'display="block"' in mathml("x", block=True)
    assert (
        mathml(r"\lvert h \rvert") == mathml(r"\left| h \right|")
        and mathml(r"\lvert h \rvert").count('fence="true"') == 2
    )
    assert "<mtable" in mathml(r"\begin{aligned} a &= b \end{aligned}")


def test_page_link(tmp_path):
    source, other = tmp_path / "nb" / "exercises" / "01_a.ipynb", tmp_path / "nb" / "01_a.ipynb"
    data = tmp_path / "data" / "README.md"
    (tmp_path / "README.md").touch()
    site = tmp_path / "site"
    pages = {source: site / "exercises" / "01_a.ipynb", other: site / "01_a.ipynb", data: site / "data.md"}
    assert page_link("../01_a.ipynb#x", source, pages) == "../01_a.ipynb#x"
    assert page_link("../../data/README.md", source, pages) == "../data.md"
    assert page_link("../02_b.ipynb", source, pages) is None
    assert page_link("../../README.md", source, pages) is None, "a file outside the site"
    assert page_link("https://example.org/a.ipynb", source, pages) == "https://example.org/a.ipynb"
    assert page_link("#here", source, pages) == "#here"


PART = {
    "about": "it holds",
    "verdict": "not supported",
    "numbers": "LoRA keeps <64> %",
    "setting": "laptop",
    "date": "2026-01-02",
    "stale": ["the code has changed since: csn.py"],
    "command": "dtl memory --compare all",
}


def test_claims_without_and_with_verdicts(tmp_path):
    titles = {"01": "One & only", "02": "Two", "08": "Eight"}
    links = {"01": "01_one.html", "02": "02_two.html"}
    empty = claims_page(titles, links, tmp_path / "none.json")
    assert empty.count("<li id=") == 12 and "No verdict is recorded yet" in empty and 'class="verdict' not in empty
    assert '<a href="01_one.html" title="One &amp; only">01</a>' in empty and "Eight" not in empty
    path = tmp_path / "claims.json"
    words = {"summary": "1 of 1 not supported", "supports": "Yes.", "refutes": "No.", "doubt": "Run it."}
    rows = [
        {"id": "C1", "verdict": "not supported", "parts": [PART], **words},
        {"id": "C2", "verdict": "supported", "parts": [], **words},
    ]
    path.write_text(json.dumps({"claims": rows}))
    text = claims_page(titles, links, path)
    assert "1 supported, 1 not supported" in text and 'class="verdict not-supported"' in text
    for shown in (
        "LoRA keeps &lt;64&gt; %.",
        "Setting: laptop.",
        "2026-01-02",
        "May be stale: the code has changed since: csn.py.",
        "<code>dtl memory --compare all</code>",
    ):
        assert shown in text
    for damaged in ("{", '{"C1": 1}', "[1]"):
        path.write_text(damaged)
        with pytest.raises(DamagedFile, match="claims.json"):
            claims_page(titles, links, path)


def test_front_page_of_a_run(tmp_path):
    infos = [NotebookInfo(tmp_path / f"0{n}_a.ipynb", f"Title {n}", "See it run.", 2) for n in (1, 2, 3)]
    runs = {"01_a": Ran(infos[0], 1.0), "02_a": Ran(infos[1], 1.0, 2, "x = 0", "ValueError: <x>")}
    noted = {"method": "dtl", "task": "mnist", "seed": 0, "split": "test", "accuracy": 0.9512, "seconds": None}
    docs = {"01_a", "02_a", "03_a", "exercises/01_a", "exercises/index"}
    text = front_page(infos, docs, runs, pd.DataFrame([noted]), "smoke: toys", tmp_path / "none.json")
    assert "Setting: smoke: toys" in text and "1 of 2 notebooks failed" in text
    assert "failed in cell [2] “x = 0”: ValueError: &lt;x&gt;" in text and "ran in 1 s" in text
    assert "not run this time" in text and "about 2 minutes" in text and "See it run." in text
    assert "<td>mnist</td>" in text and "<td>0.951</td>" in text and "<td>–</td>" in text
    assert text.index("## The claims") < text.index("## The notebooks") < text.index("## What was trained")
    assert 'href="exercises/01_a.html"' in text and "\nexercises/index\n" in text and "solutions/index" not in text
    guides = front_page(infos, docs | {"results", "class"}, {}, pd.DataFrame(), "")
    assert "\nResults <results>\nFor a class <class>\n" in guides and "<results>" not in text
    quiet = front_page(infos, docs, {}, pd.DataFrame(), "")
    assert "time-memory.png" not in text + quiet
    shown = front_page(infos, docs, {}, pd.DataFrame(), "", source=project_dir() / "notebooks")
    assert f"![{trade_sentence(load_trade_rows())}](images/time-memory.png)" in shown
    assert shown.index("time-memory.png") < shown.index("## The claims")
    assert "\n".join(trade_table(load_trade_rows())) in shown
    assert "outputs that the notebooks hold" in quiet and "What was trained" not in quiet and "Source:" not in quiet

"""The site's parts without a browser: formulas, links, the claims, the front page of a run."""

from __future__ import annotations

import json

import pytest

from dtl_book.claims.page import claims_values, templates
from dtl_book.notebooks.catalog import NotebookInfo
from dtl_core.files import DamagedFile
from mathml import MathsError, mathml
from notebook_page import linked
from sources import front_page


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


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("[a](../01_a.ipynb#x)", "[a](../01_a.ipynb#x)"),
        ("[a](../../data/README.md)", "[a](../data.md)"),
        ("[a](../02_b.ipynb) and [b](../../README.md)", "a and b"),  # no such notebook; a file outside the site
        ("[a](https://example.org/a.ipynb), [b](#here)", "[a](https://example.org/a.ipynb), [b](#here)"),
        ("`a[i](x.py)` $b[i](y)$ ![c](z.png)", "`a[i](x.py)` $b[i](y)$ ![c](z.png)"),
    ],
)
def test_linked(tmp_path, written, shown):
    path = tmp_path / "nb" / "exercises" / "01_a.ipynb"
    pages = {path: "exercises/01_a.ipynb", tmp_path / "nb" / "01_a.ipynb": "01_a.ipynb"}
    assert linked(written, path, pages | {tmp_path / "data" / "README.md": "data.md"}) == shown


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
    def claims(verdicts):
        titles, links = {"01": "One & only", "08": "Eight"}, {"01": "01_one.html"}
        return templates().get_template("claims.html.j2").render(titles=titles, links=links, **claims_values(verdicts))

    empty = claims(tmp_path / "none.json")
    assert empty.count("<li id=") == 12 and "No verdict is recorded yet" in empty and 'class="verdict' not in empty
    assert ' · taken up in <a href="01_one.html" title="One &amp; only">01</a></p>' in empty and "Eight" not in empty
    path = tmp_path / "claims.json"
    words = {"summary": "1 of 1 not supported", "supports": "Yes.", "refutes": "No.", "doubt": "Run it."}
    rows = [
        {"id": "C1", "verdict": "not supported", "parts": [PART], **words},
        {"id": "C2", "verdict": "supported", "parts": [], **words},
    ]
    path.write_text(json.dumps({"claims": rows}))
    text = claims(path)
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
            claims(path)


def test_front_page_of_a_run(tmp_path):
    infos = [NotebookInfo(tmp_path / f"0{n}_a.ipynb", f"Title {n}", "See it run.", 2) for n in (1, 2)]
    ran = {"01_a": {"status": "failed in cell [2] “x”: ValueError: <x>", "failed": True}}
    noted = {"method": "dtl", "task": "mnist", "seed": 0, "split": "test", "accuracy": 0.9512, "seconds": None}
    pages = {"01_a.ipynb", "02_a.ipynb", "exercises/01_a.ipynb"}
    text = front_page(infos, pages, {"setting": "smoke: toys", "notebooks": ran, "trained": [noted]})
    assert "Setting: smoke: toys" in text and "1 of 1 notebooks failed" in text and "Source:" not in text
    assert "failed in cell [2] “x”: ValueError: &lt;x&gt;" in text and text.count("not run this time") == 1
    assert "<td>0.951</td><td>–</td>" in text
    assert text.count('href="exercises/') == 1 and 'href="exercises/01_a.html"' in text

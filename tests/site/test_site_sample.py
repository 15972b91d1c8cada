"""A small site of everything that is hard to show: formulas, wide things, errors, a widget, links that lead nowhere."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from site_browser import findings, overflow, visit

from dtl_book.notebooks.run import write_site

WIDTHS = (1280, 390)
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
FORMULAS = r"""# 01 · A page

*About 1 minute*

Tokens $x_i \in \mathbb{R}^{N \times d}$ and $36{,}864$ parameters ($d = 768$), **side state $h$**.

$$h_{i+1} = h_i + U_i D_i x_i, \qquad \operatorname{swish}(h) = h\,\sigma(\beta h) = \frac{h}{1 + e^{-\beta h}}, \qquad r = 2$$

$$\begin{aligned} a &= b \\ aaaaaa &= c \end{aligned}$$

| a | b |
|---|---|
| averylongwordthatdoesnotbreakanywhere | anotherverylongwordthatdoesnotbreakanywhere |

<details><summary>Hint</summary>

Folded $x$.

</details>

[next](02_none.ipynb), [exercise](exercises/01_page.ipynb#Two), [same](#A-part), `code[i](x.py)`

## A part

The end.
"""


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A site of one notebook with everything that is hard to fit, and one exercise."""
    folder = tmp_path_factory.mktemp("sample")
    wide = new_code_cell(f"print({'1234567890' * 20})", metadata={"tags": ["setup"]})
    picture = new_code_cell(
        "figure",
        outputs=[
            new_output("display_data", data={"text/html": f"<img alt='a dot' src='data:image/png;base64,{PIXEL}'>"})
        ],
    )
    frame = (
        "<table class='dataframe' border='0'><thead><tr><th></th><th>x</th></tr></thead><tr>"
        + "<td>0.123456</td>" * 40
        + "</tr></table>"
    )
    outputs = [
        new_output("stream", name="stdout", text="word " * 100 + "\n"),
        new_output("display_data", data={"text/html": f"<figure><div>{frame}</div></figure>", "text/plain": "frame"}),
        new_output(
            "display_data",
            data={"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "IntSlider()"},
        ),
        new_output("display_data", data={"application/javascript": "alert(1)", "text/plain": "<js>"}),
        new_output("display_data", data={"text/markdown": "shown $z_1$", "text/plain": "z"}),
        new_output("display_data", data={"text/latex": "$$z_2$$", "text/plain": "z"}),
        new_output("error", ename="ValueError", evalue="x", traceback=["\x1b[31mValueError\x1b[39m: " + "x" * 200]),
    ]
    cells = [new_markdown_cell(FORMULAS), wide, picture, new_code_cell("show()", outputs=outputs)]
    nbformat.write(new_notebook(cells=cells), folder / "01_page.ipynb")
    (folder / "exercises").mkdir()
    exercise = [new_markdown_cell("# 01 · Exercises\n\n## Two\n\n[back](../01_page.ipynb)")]
    nbformat.write(new_notebook(cells=exercise), folder / "exercises" / "01_page.ipynb")
    write_site(folder / "out", notebooks_folder=folder)
    return folder / "out"


@pytest.mark.parametrize("width", WIDTHS)
def test_sample_page(browser, sample, width):
    with visit(browser, sample, "01_page.html", width) as (page, troubles):
        assert overflow(page) == [0, []]
        boxes = page.evaluate(
            "[...document.querySelectorAll('math')].filter(e => e.checkVisibility()).map(e => [e.getBoundingClientRect().width, e.getBoundingClientRect().height])"
        )
        hidden = page.evaluate("document.querySelector('details:not(.hide) math').checkVisibility()")
        assert page.locator("math").count() == 9 and not hidden, "the folded formula is in its <details>"
        assert len(boxes) == 8 and all(width > 5 and height > 5 for width, height in boxes)
        page.click("summary:has-text('Hint')")
        assert page.evaluate("document.querySelector('details:not(.hide) math').checkVisibility()")
        text = page.inner_text("article")
        assert "$" not in text and "\\" not in text and "code[i](x.py)" in text
        assert page.evaluate("document.querySelector('mfrac').getBoundingClientRect().height") > 30, "over two lines"
        rights = page.evaluate(
            "[...document.querySelectorAll('mtd:first-child')].map(e => e.lastElementChild.getBoundingClientRect().right)"
        )
        assert len(rights) == 2 and abs(rights[0] - rights[1]) < 2, "aligned at the equals sign"
        assert page.evaluate("[...document.querySelectorAll('img')].map(e => [e.alt, e.naturalWidth])") == [
            ["a dot", 1]
        ]
        assert "needs a running kernel" in text and "IntSlider" not in text and "<js>" not in text
        assert "ValueError" in text, "a page shows the error of its cell"
        assert not page.evaluate("document.querySelector('.tag_setup .cell_input').checkVisibility()"), (
            "set-up is folded"
        )
        assert page.evaluate("parseFloat(getComputedStyle(document.querySelector('article p')).fontSize)") >= (
            17 if width == 1280 else 15.5
        )
        assert troubles == []


def test_links_of_the_sample(browser, sample):
    with visit(browser, sample, "01_page.html", 1280) as (page, troubles):
        links = page.evaluate(
            "Object.fromEntries([...document.querySelectorAll('article p a')].map(e => [e.innerText, e.getAttribute('href')]))"
        )
        assert set(links) == {"exercise", "same"}, "a notebook that is not there is no link"
        assert page.inner_text(f"section:has(> {links['same']}) h2, section{links['same']} > h2").startswith("A part")
        page.click("article >> text=exercise")
        assert urlsplit(page.url).path == "/exercises/01_page.html"
        anchor = urlsplit(page.url).fragment
        assert page.inner_text(f"section:has(> #{anchor}) h2, section#{anchor} > h2").startswith("Two")
        page.click("article >> text=back")
        assert page.url.endswith("/01_page.html")
        page.click(".sidebar-brand")
        assert page.inner_text("h1").startswith("The DTL workbook")
        assert troubles == []


def test_what_scrolls_can_be_reached(browser, sample):
    with visit(browser, sample, "01_page.html", 390) as (page, _):
        wide = page.evaluate(
            "[...document.querySelectorAll('article *')].filter(e => e.checkVisibility() && e.scrollWidth > e.clientWidth + 1 "
            "&& ['auto', 'scroll'].includes(getComputedStyle(e).overflowX)).map(e => e.tabIndex)"
        )
        assert len(wide) >= 4 and set(wide) == {0}


def test_what_is_wrong_is_said_and_the_rest_written(tmp_path, capfd):
    cells = [new_markdown_cell("# 01 · A page\n\nGood $x$ and bad $\\foo{x}$.")]
    nbformat.write(new_notebook(cells=cells), tmp_path / "01_page.ipynb")
    (tmp_path / "02_damaged.ipynb").write_text('{"cells": [')
    out = tmp_path / "out"
    out.mkdir()
    for name in ("01_page.ipynb", "01_page.html", "03_gone.html"):
        (out / name).write_text("of an earlier run")
    with pytest.raises(RuntimeError, match="something wrong"):
        write_site(out, strict=True, notebooks_folder=tmp_path)
    said = capfd.readouterr().err
    assert re.search(r"01_page.*\\foo", said) and "02_damaged.ipynb is not a notebook" in said
    page = (out / "01_page.html").read_text()
    assert "<math" in page and r"\foo{x}" in page, "the page is written all the same"
    assert {path.name for path in out.glob("0*")} == {"01_page.html", "01_page.ipynb"}, "a page that is gone"


def test_there_is_no_site_without_a_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr("dtl_core.paths.CHECKOUT", tmp_path)
    with pytest.raises(RuntimeError, match="a checkout of the project"):
        write_site(tmp_path / "out", strict=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_on_the_sample(browser, sample, axe, scheme):
    with visit(browser, sample, "01_page.html", 390, scheme) as (page, _):
        assert findings(page, axe) == []

"""Pages in a browser: nothing is asked from outside, nothing overflows, formulas are drawn, pictures have their sentence."""

from __future__ import annotations

import functools
import http.server
import threading
from contextlib import contextmanager

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from dtl_core.display.book import write_pages
from dtl_core.display.catalog import KINDS, list_notebooks
from dtl_core.display.html import MathsError, mathml, page_link

WIDTHS = (1280, 390)
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
FORMULAS = r"""# 01 · A page

*About 1 minute*

Tokens $x_i \in \mathbb{R}^{N \times d}$ and $36{,}864$ parameters ($d = 768$).

$$h_{i+1} = h_i + U_i D_i x_i, \qquad \operatorname{swish}(h) = h\,\sigma(\beta h) = \frac{h}{1 + e^{-\beta h}}, \qquad r = 2$$

$$\begin{aligned} a &= b \\ aaaaaa &= c \end{aligned}$$

| a | b |
|---|---|
| averylongwordthatdoesnotbreakanywhere | anotherverylongwordthatdoesnotbreakanywhere |

<details><summary>Hint</summary>

Folded $x$.

</details>

[next](02_none.ipynb), [exercise](exercises/01_page.ipynb#Two), [same](#A-page)
"""


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A written book of one notebook with everything that is hard to fit, and one exercise."""
    folder = tmp_path_factory.mktemp("sample")
    wide = new_code_cell(f"print({'1234567890' * 20})", metadata={"tags": ["setup"]})
    picture = new_code_cell(
        "figure",
        outputs=[new_output("display_data", data={"image/png": PIXEL}, metadata={"image/png": {"alt": "a dot"}})],
    )
    frame = "<table class='dataframe' border='1'><tr>" + "<td>0.123456</td>" * 40 + "</tr></table>"
    outputs = [
        new_output("stream", name="stdout", text="word " * 100 + "\n"),
        new_output("display_data", data={"text/html": f"<div>{frame}</div>", "text/plain": "frame"}),
        new_output(
            "display_data",
            data={"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "IntSlider()"},
        ),
        new_output("display_data", data={"application/javascript": "alert(1)", "text/plain": "<js>"}),
        new_output("error", ename="ValueError", evalue="x", traceback=["\x1b[31mValueError\x1b[39m: " + "x" * 200]),
    ]
    cells = [new_markdown_cell(FORMULAS), wide, picture, new_code_cell("show()", outputs=outputs)]
    nbformat.write(new_notebook(cells=cells), folder / "01_page.ipynb")
    (folder / "exercises").mkdir()
    nbformat.write(
        new_notebook(cells=[new_markdown_cell("# 01 · Exercises\n\n## Two\n\n[back](../01_page.ipynb)")]),
        folder / "exercises" / "01_page.ipynb",
    )
    return write_pages(out=folder / "out", folder=folder).parent


@pytest.fixture(scope="module")
def workbook(tmp_path_factory):
    """The pages of all notebooks of the project, from their stored outputs."""
    return write_pages(out=tmp_path_factory.mktemp("workbook")).parent


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def visit(browser, folder, name, width):
    """Opens a page over loopback; gives it and the list of addresses that it asks for outside."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home, outside = f"http://127.0.0.1:{server.server_port}/", []
    page = browser.new_page(viewport={"width": width, "height": 900})

    def asked(request):
        if not request.url.startswith((home, "data:")):
            outside.append(request.url)

    page.on("request", asked)
    try:
        page.goto(home + name)
        yield page, outside
    finally:
        page.close()
        server.shutdown()
        server.server_close()


def overflow(page):
    """Pixels by which the page is wider than the window, and what sticks out of it without a box that scrolls."""
    return page.evaluate(
        """() => {
            const width = document.documentElement.clientWidth;
            const boxed = e => { for (let p = e; p; p = p.parentElement)
                if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(p).overflowX)) return true; return false; };
            const out = [...document.body.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > width + 1 && !boxed(e));
            return [document.documentElement.scrollWidth - width, out.map(e => e.outerHTML.slice(0, 80))];
        }"""
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_sample_page(browser, sample, width):
    with visit(browser, sample, "01_page.html", width) as (page, outside):
        assert outside == []
        assert overflow(page) == [0, []]
        boxes = page.evaluate(
            "[...document.querySelectorAll('math')].map(e => [e.getBoundingClientRect().width, e.getBoundingClientRect().height])"
        )
        hidden = page.evaluate("document.querySelector('details:not(.setup) math').checkVisibility()")
        assert len(boxes) == 6 and not hidden, "the folded formula is in its <details>"
        assert all(width > 5 and height > 5 for width, height in boxes[:5])
        assert "$" not in page.inner_text("main") and "\\" not in page.inner_text("main")
        fraction = page.evaluate("document.querySelector('mfrac').getBoundingClientRect().height")
        assert fraction > 30, "a fraction is drawn over two lines"
        rights = page.evaluate(
            "[...document.querySelectorAll('mtd:first-child')].map(e => e.lastElementChild.getBoundingClientRect().right)"
        )
        assert len(rights) == 2 and abs(rights[0] - rights[1]) < 2, "aligned at the equals sign"
        assert page.evaluate(
            "[...document.querySelectorAll('img')].map(e => [e.alt, e.complete && e.naturalWidth > 0])"
        ) == [["a dot", True]]
        assert "Interactive in JupyterLab" in page.inner_text("main")
        assert page.locator("script").count() == 0
        size = page.evaluate("parseFloat(getComputedStyle(document.querySelector('p')).fontSize)")
        assert size >= (18 if width == 1280 else 16)


def test_links_of_the_sample(browser, sample):
    with visit(browser, sample, "01_page.html", 1280) as (page, _):
        links = page.evaluate(
            "Object.fromEntries([...document.querySelectorAll('main a')].map(e => [e.innerText, e.getAttribute('href')]))"
        )
        assert links == {"exercise": "exercises/01_page.html#Two", "same": "#A-page"}
        page.click("text=exercise")
        assert page.url.endswith("exercises/01_page.html#Two")
        assert page.locator("[id='Two']").count() == 1
        page.click("text=back")
        assert page.url.endswith("/01_page.html")
        page.click("nav >> text=Contents")
        assert page.inner_text("h1") == "The DTL workbook"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "name", ["index", *(f"{kind}/{i.name}".lstrip("/") for kind in KINDS for i in list_notebooks(kind))]
)
def test_pages_of_the_workbook(browser, workbook, name, width):
    with visit(browser, workbook, f"{name}.html", width) as (page, outside):
        assert outside == []
        assert overflow(page) == [0, []]
        assert (
            page.evaluate("[...document.querySelectorAll('img')].filter(e => !e.alt.trim() || !e.naturalWidth).length")
            == 0
        )
        assert page.locator("h1").count() == 1
        small = page.evaluate(
            "[...document.querySelectorAll('main math')].filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 5).length"
        )
        assert small == 0


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
    assert "<mtable" in mathml(r"\begin{aligned} a &= b \end{aligned}")


def test_page_link(tmp_path):
    source, other = tmp_path / "nb" / "exercises" / "01_a.ipynb", tmp_path / "nb" / "01_a.ipynb"
    source.parent.mkdir(parents=True)
    (tmp_path / "README.md").touch()
    page, pages = tmp_path / "out" / "exercises" / "01_a.html", {other: tmp_path / "out" / "01_a.html"}
    assert page_link("../01_a.ipynb#x", source, page, pages) == "../01_a.html#x"
    assert page_link("../../README.md", source, page, pages) == "../../README.md"
    assert page_link("../02_b.ipynb", source, page, pages) is None
    assert page_link("https://example.org/a.ipynb", source, page, pages) == "https://example.org/a.ipynb"
    assert page_link("#here", source, page, pages) == "#here"

"""The site in a browser: nothing is asked from outside, links lead somewhere, pages fit, the keyboard is enough."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from site_browser import focused, overflow, served, visit

from dtl_core.display.catalog import KINDS, list_notebooks
from dtl_core.display.mathml import MathsError
from dtl_core.display.site import write_site
from dtl_core.files import one_writer

WIDTHS = (1280, 390)
PAGES = [f"{kind}/{info.name}".lstrip("/") for kind in KINDS for info in list_notebooks(kind)]
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
        outputs=[new_output("display_data", data={"text/html": f"<img alt='a dot' src='data:image/png;base64,{PIXEL}'>"})],
    )
    frame = "<table class='dataframe' border='0'><thead><tr><th></th><th>x</th></tr></thead><tr>" + "<td>0.123456</td>" * 40 + "</tr></table>"
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
    site = write_site(folder / "out", folder=folder)
    assert site.warnings == []
    return site.index.parent


@pytest.fixture(scope="session")
def workbook(tmp_path_factory, request):
    """The site of all notebooks of the project, from their stored outputs; written once for all processes of a run."""
    base = tmp_path_factory.getbasetemp()
    out = (base.parent if hasattr(request.config, "workerinput") else base) / "workbook"
    said = out / "warnings.json"
    with one_writer(out.with_name("workbook-site")):
        if not said.is_file():
            said.write_text(json.dumps(write_site(out).warnings))
    return out


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
        assert page.evaluate("[...document.querySelectorAll('img')].map(e => [e.alt, e.naturalWidth])") == [["a dot", 1]]
        assert "needs a running kernel" in text and "IntSlider" not in text and "<js>" not in text
        assert "ValueError" in text, "a page shows the error of its cell"
        assert not page.evaluate("document.querySelector('.tag_setup .cell_input').checkVisibility()"), "set-up is folded"
        assert page.evaluate("parseFloat(getComputedStyle(document.querySelector('article p')).fontSize)") >= (17 if width == 1280 else 15.5)
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


def test_a_formula_that_cannot_be_drawn(tmp_path):
    cells = [new_markdown_cell("# 01 · A page\n\nGood $x$ and bad $\\foo{x}$.")]
    nbformat.write(new_notebook(cells=cells), tmp_path / "01_page.ipynb")
    with pytest.raises(MathsError, match=r"01_page.*\\foo"):
        write_site(tmp_path / "out", folder=tmp_path)
    page = (tmp_path / "out" / "01_page.html").read_text()
    assert "<math" in page and r"\foo{x}" in page, "the page is written all the same"


def test_a_page_that_is_gone(tmp_path):
    for name in ("01_one", "02_two"):
        nbformat.write(new_notebook(cells=[new_markdown_cell(f"# {name[:2]} · Page")]), tmp_path / f"{name}.ipynb")
    out = write_site(tmp_path / "out", folder=tmp_path).index.parent
    (out / "01_one.ipynb").write_text("an executed copy")
    (tmp_path / "02_two.ipynb").unlink()
    write_site(out, folder=tmp_path)
    assert {path.name for path in out.glob("0*")} == {"01_one.html", "01_one.ipynb"}
    assert list(tmp_path.glob(".site-*")) == []


def test_every_link_picture_and_script(workbook):
    assert json.loads((workbook / "warnings.json").read_text()) == []
    soups = {path: BeautifulSoup(path.read_text(), "html.parser") for path in workbook.rglob("*.html")}
    soups = {path: soup for path, soup in soups.items() if "_static" not in path.parts}
    assert {path.relative_to(workbook).with_suffix("").as_posix() for path in soups} >= {*PAGES, "index", "search", "data"}
    anchors = {path: {tag["id"] for tag in soup.find_all(id=True)} for path, soup in soups.items()}
    checked = 0
    for path, soup in soups.items():
        loaded = [tag.get("src") or tag.get("href") for tag in soup.find_all(["script", "img", "iframe", "source", "link"])]
        for address in [tag["href"] for tag in soup.find_all("a", href=True)] + [a for a in loaded if a]:
            parts = urlsplit(address)
            if parts.scheme == "data" or (parts.scheme in ("http", "https") and address not in loaded):
                continue
            assert not parts.scheme and not parts.netloc, f"{path.name} loads {address}"
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path.name}: {address} leads nowhere"
            assert not parts.fragment or target not in anchors or unquote(parts.fragment) in anchors[target], (
                f"{path.name}: {address}: no such place"
            )
            checked += 1
        for image in soup.find_all("img"):
            assert len(image.get("alt", "").split()) >= 4, f"{path.name}: a picture needs its sentence"
    assert checked > 1000


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["index", "search", "data", "exercises/index", "solutions/index", *PAGES])
def test_pages_of_the_workbook(browser, workbook, name, width):
    with visit(browser, workbook, f"{name}.html", width) as (page, troubles):
        assert overflow(page) == [0, []]
        assert page.evaluate("[...document.querySelectorAll('img')].filter(e => !e.naturalWidth).length") == 0
        assert page.locator("h1").count() == 1 or name == "search"
        small = page.evaluate(
            "[...document.querySelectorAll('article math')].filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 5).length"
        )
        assert small == 0 and "Loading widget" not in page.inner_text("article")
        assert troubles == []


def test_keyboard_alone(browser, workbook):
    with visit(browser, workbook, "index.html", 1280) as (page, troubles):
        page.keyboard.press("Tab")
        page.wait_for_function("document.activeElement.getBoundingClientRect().top >= 0")  # it slides in
        assert focused(page)[1:] == ["Skip to content", True]
        page.keyboard.press("Enter")
        assert page.url.endswith("#furo-main-content")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('article') !== null"), "the sidebar was skipped"
        page.reload()
        for _ in range(6):
            page.keyboard.press("Tab")
            if focused(page)[0] == "input":
                break
        page.keyboard.type("depthwise")
        page.keyboard.press("Enter")
        page.wait_for_selector("ul.search li a")
        found = page.evaluate("[...document.querySelectorAll('ul.search li a')].map(e => e.getAttribute('href'))")
        assert any(link.startswith("06_") for link in found)
        page.focus("ul.search li a")
        page.keyboard.press("Enter")
        page.wait_for_selector("article h1")
        assert "search.html" not in page.url and "depthwise" in page.inner_text("article").lower()
        assert troubles == []


def test_drawers_of_a_phone_from_the_keyboard(browser, workbook):
    with visit(browser, workbook, f"{PAGES[1]}.html", 390) as (page, troubles):
        names = []
        for _ in range(3):
            page.keyboard.press("Tab")
            names.append(focused(page)[1])
        assert names == ["Skip to content", "Toggle site navigation sidebar", "Toggle table of contents sidebar"]
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Space")
        page.wait_for_function("document.querySelector('.sidebar-drawer').getBoundingClientRect().left === 0")
        assert page.evaluate("document.activeElement.closest('.sidebar-drawer') !== null")
        page.keyboard.press("Escape")
        assert focused(page)[1] == "Toggle site navigation sidebar"
        for _ in range(6):  # a closed drawer takes no key
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.closest('.sidebar-drawer, .toc-drawer') === null")
        assert troubles == []


def test_search_from_a_file(browser, workbook):
    """Opened without a server, as README says."""
    page = browser.new_page()
    try:
        page.goto((workbook / "search.html").as_uri() + "?q=swish")
        page.wait_for_selector("ul.search li a")
        assert page.locator("ul.search li a").count() >= 3
    finally:
        page.close()


@pytest.fixture(scope="session")
def axe():
    package = pytest.importorskip("axe_playwright_python", reason="axe is not installed: pip install -e '.[test]'")
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_axe(browser, workbook, sample, axe, width, scheme):
    """No serious or critical finding, the theme's own included."""
    names = ["index", "search", "data", "exercises/index", PAGES[0], PAGES[3], PAGES[-1]]
    for folder, name in [(workbook, name) for name in names] + [(sample, "01_page")]:
        with visit(browser, folder, f"{name}.html", width, scheme) as (page, _):
            page.evaluate(axe)
            found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
            bad = [(v["id"], v["nodes"][0]["html"][:120]) for v in found if v["impact"] in ("serious", "critical")]
            assert bad == [], name


def test_nothing_is_asked_while_reading(browser, workbook):
    """One session over many pages, with every request of it recorded, the search and the change of colours too."""
    with served(workbook) as home:
        context, asked = browser.new_context(), []
        context.route("**/*", lambda route: (asked.append(route.request.url), route.continue_()))
        page = context.new_page()
        try:
            page.goto(home)
            for link in page.evaluate("[...document.querySelectorAll('ul.notebooks .title a')].map(e => e.href)"):
                page.goto(link)
            page.locator("button.theme-toggle:visible").click()
            page.goto(home + "search.html?q=adapter")
            page.wait_for_selector("ul.search li a")
            page.wait_for_load_state("networkidle")
        finally:
            context.close()
        assert len(asked) > 20 and all(url.startswith((home, "data:")) for url in asked)

"""The site in a browser: nothing is asked from outside, links lead somewhere, pages fit, the keyboard is enough."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup
from site_browser import findings, focused, overflow, visit

from dtl_book.claims import load_verdicts
from dtl_book.claims.page import write_claims_html
from dtl_book.notebooks.catalog import KINDS, SOLUTION_TAG, list_notebooks, read_notebook
from dtl_book.notebooks.run import write_site
from dtl_book.tables.memory_forms import load_trade_rows, trade_sentence
from dtl_core.files import one_writer
from sources import TEXTS

WIDTHS = (1280, 390)
PAGES = [f"{kind}/{info.name}".lstrip("/") for kind in KINDS for info in list_notebooks(kind)]
NAMES = ["index", *TEXTS, "exercises/index", "solutions/index", *PAGES]


@pytest.fixture(scope="session")
def workbook(tmp_path_factory, request):
    """The site of all notebooks of the project, from their stored outputs; written once for all processes of a run."""
    base = tmp_path_factory.getbasetemp()
    out = (base.parent if hasattr(request.config, "workerinput") else base) / "workbook"
    with one_writer(out.with_name("workbook-site")):
        if not (out / "index.html").is_file():
            write_site(out, strict=True)  # a warning of Sphinx fails it
    return out


def test_every_link_picture_and_script(workbook):
    soups = {}
    for path in workbook.rglob("*.html"):
        if "_static" not in path.parts:
            soups[path] = BeautifulSoup(re.sub(r"base64,[^\"']*", "base64,", path.read_text()), "html.parser")
    assert {path.relative_to(workbook).with_suffix("").as_posix() for path in soups} == {*NAMES, "search"}
    anchors = {path: {tag["id"] for tag in soup.find_all(id=True)} for path, soup in soups.items()}
    checked = 0
    for path, soup in soups.items():
        loaded = [
            tag.get("src") or tag.get("href") for tag in soup.find_all(["script", "img", "iframe", "source", "link"])
        ]
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


def test_front_page(workbook):
    page = BeautifulSoup((workbook / "index.html").read_text(), "html.parser")
    picture = page.select_one("article img")
    assert picture["src"].endswith("time-memory.png") and picture["alt"] == trade_sentence(load_trade_rows())
    assert "outputs that the notebooks hold" in page.text and "What was trained" not in page.text
    headings = [heading.get_text().rstrip("¶") for heading in page.select("article h2")]
    assert headings == ["Time against memory", "The claims", "The notebooks"]
    links = [link["href"] for link in page.select("ul.notebooks a")]
    assert sorted(links) == sorted(f"{name}.html" for name in PAGES)


def test_solutions_are_folded(workbook):
    for info in list_notebooks("solutions"):
        soup = BeautifulSoup((workbook / "solutions" / f"{info.name}.html").read_text(), "html.parser")
        tags = [cell.metadata.get("tags", []) for cell in read_notebook(info.path).cells]
        folds = [fold.summary.p.get_text(strip=True) for fold in soup.select("div.cell details.hide")]
        assert folds.count("Solution") == sum(SOLUTION_TAG in each for each in tags) > 0


@pytest.mark.parametrize("width", WIDTHS)
def test_claims_as_a_page_of_their_own(browser, tmp_path, axe, width):
    rows = load_verdicts()
    write_claims_html(tmp_path / "claims.html")
    with visit(browser, tmp_path, "claims.html", width) as (page, troubles):
        assert troubles == [] and overflow(page) == [0, []]
        assert page.locator("span.id").all_inner_texts() == [row["id"] for row in rows]
        assert page.locator("span.verdict").count() == len(rows)
        page.locator("summary").nth(2).focus()
        page.keyboard.press("Enter")
        assert page.locator("details").nth(2).get_by_text(rows[2]["parts"][0]["command"]).first.is_visible()
        assert findings(page, axe) == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["search", *NAMES])
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


@pytest.mark.parametrize("width", [320, 768, 1000, 1320, 1366, 1440, 1920])
def test_widths_between(browser, workbook, width):
    """Where the theme opens and folds its sidebars."""
    with visit(browser, workbook, f"{PAGES[9]}.html", width) as (page, _):
        assert overflow(page) == [0, []]
        assert page.evaluate("document.querySelector('article').getBoundingClientRect().width") >= min(660, width - 40)


def test_a_verdict_is_seen_without_scrolling(browser, workbook):
    """It stands in the last column, so a table that is too wide hides it first."""
    script = """() => [...document.querySelectorAll('table.dataframe')]
        .filter(t => t.tHead.innerText.trim().endsWith('verdict'))
        .map(t => t.getBoundingClientRect().width - t.parentElement.clientWidth)"""
    found = []
    for page in sorted(workbook.glob("[01]*.html")):
        with visit(browser, workbook, page.name, 1280) as (shown, _):
            found += [(page.name, over) for over in shown.evaluate(script)]
    assert len(found) > 10 and not [each for each in found if each[1] > 1]


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
            if focused(page)[1] == "Search":
                break
        page.keyboard.type("depthwise")
        page.keyboard.press("Enter")
        page.wait_for_selector("ul.search li a[href*='exercises/07_']")  # the list grows as pages are read
        found = page.evaluate("[...document.querySelectorAll('ul.search li a')].map(e => e.getAttribute('href'))")
        assert found[0].startswith("07_"), "the notebook comes before its exercises and solutions"
        page.focus("ul.search li a")
        page.keyboard.press("Enter")
        page.wait_for_selector("article h1")
        assert "search.html" not in page.url and "depthwise" in page.inner_text("article").lower()
        page.locator("button.theme-toggle:visible").click()
        page.wait_for_load_state("networkidle")
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


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_axe(browser, workbook, axe, width, scheme):
    """No serious or critical finding, the theme's own included."""
    for name in ["index", "search", "exercises/index", PAGES[3]]:
        with visit(browser, workbook, f"{name}.html", width, scheme) as (page, _):
            assert findings(page, axe) == [], name

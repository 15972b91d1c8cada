"""The README is short, what it leaves out is one click away, and its links and numbers hold."""

import re
from collections import Counter
from urllib.parse import urlsplit

import pytest

from dtl_book.claims import load_verdicts
from dtl_book.notebooks.catalog import list_notebooks
from dtl_book.paths import CHECKOUT
from sources import TEXTS

GUIDES = sorted((CHECKOUT / "docs").glob("*.md"))
PAGES = [CHECKOUT / "README.md", CHECKOUT / "RESULTS.md", *GUIDES]
README = PAGES[0].read_text(encoding="utf-8")


def links(text):
    """Targets of links and pictures that stand outside of code."""
    text = re.sub(r"```.*?```|`[^`\n]+`", "", text, flags=re.S)
    return re.findall(r"\]\(([^()\s]+)\)", text) + re.findall(r'<img src="([^"]+)"', text)


def anchors(path):
    """Of a Markdown file's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short():
    assert len(README.encode()) <= 9_000, "move it to RESULTS.md or docs/"
    assert ": begin (dtl " not in README, "generated tables stand in RESULTS.md"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path):
    found = [urlsplit(url) for url in links(path.read_text(encoding="utf-8"))]
    assert found
    for url in found:
        if url.scheme:
            continue
        target = path.parent / url.path if url.path else path
        assert target.exists(), f"{path.name}: {url.geturl()}"
        assert not url.fragment or url.fragment in anchors(target), f"{path.name}: {url.geturl()}: no such heading"


def test_the_rest_is_one_click_away():
    shown = {(CHECKOUT / urlsplit(url).path).resolve() for url in links(README)}
    assert len(GUIDES) >= 4 and {path.resolve() for path in PAGES[1:]} <= shown
    assert {info.path.resolve() for info in list_notebooks()} <= shown
    pages = {path.relative_to(CHECKOUT).as_posix() for path in PAGES[1:]}
    assert pages <= set(TEXTS.values()), "a page that the site lacks"


def test_its_results_are_those_of_the_tables():
    said = README.split("\n## Results\n")[1].split("\n## ")[0]
    given = Counter(row["verdict"] for row in load_verdicts())
    assert re.findall(r"\b(\d+) (?:are|is|were|a part)", said.replace("none", "0")) == [
        str(given[verdict]) for verdict in ("supported", "not supported", "different setting", "not run")
    ]
    results = PAGES[1].read_text(encoding="utf-8")
    numbers = re.findall(r"\d{1,3}(?:,\d{3})+|\d+\.\d+|\b\d{3}\b", said)
    assert len(numbers) > 5
    assert [n for n in numbers if not re.search(rf"(?<![\d,.]){re.escape(n)}(?![\d,])", results)] == []

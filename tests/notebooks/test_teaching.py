"""The teacher's page: an entry for each notebook, in order, and no exercise or notebook that is not there."""

import re

import pytest

from dtl_book.notebooks import catalog

PAGE = (catalog.notebooks_dir() / "TEACHING.md").read_text(encoding="utf-8")
ENTRIES = dict(re.findall(r"^## (\d\d) · [^\n]+\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))


@pytest.mark.parametrize("number", [info.number for info in catalog.list_notebooks()])
def test_each_notebook_has_its_entry(number):
    parts = re.findall(r"^- \*\*([^*]+)\*\*", ENTRIES[number], re.M)
    assert parts == ["In class", "What students get wrong", "Ask", "Short of time"]
    assert re.search(r"\d+ minutes", ENTRIES[number])
    questions = re.findall(r"\*([^*]+\?)\*", ENTRIES[number])
    assert len(questions) >= 2, "questions, each with its answer"


def test_the_entries_stand_in_order():
    assert list(ENTRIES) == sorted(ENTRIES)


def test_the_exercises_and_links_exist():
    known = set()
    for info in catalog.list_notebooks("exercises"):
        code = "\n".join(cell.source for cell in catalog.read_notebook(info.path).cells if cell.cell_type == "code")
        known |= {number.rstrip("abc") for number in re.findall(r"^check\(\s*[\"']([\d.]+[a-c]?)[\"']", code, re.M)}
    named = re.findall(r"(?<![\d.,])(\d{1,2}\.\d)(?![\d%])", PAGE)
    assert len(named) > 20 and set(named) <= known
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        assert (catalog.notebooks_dir() / target).exists(), target

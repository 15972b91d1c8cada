"""The badge that opens a notebook in Colab: there where the address setting names a GitHub repository, else not."""

import re

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dtl_book.notebooks import catalog

ADDRESS = "git+https://github.com/OWNER/NAME"


def test_badge_leads_to_the_notebook_on_colab_and_needs_an_address():
    opened = "(https://colab.research.google.com/github/OWNER/NAME/blob/{}/notebooks/05_t.ipynb)"
    for ending, ref in (("", "main"), (".git", "main"), ("@v1.0", "v1.0"), (".git@a/branch#egg=x", "a/branch")):
        assert catalog.badge("05_t.ipynb", ADDRESS + ending).endswith(opened.format(ref))
    assert catalog.badge("05_t.ipynb", "") == ""
    assert catalog.badge("05_t.ipynb", "git+https://example.org/dtl") == "", "Colab opens GitHub alone"
    picture = re.search(r"\(([^)]*)\)", catalog.BADGE)[1]
    assert (catalog.notebooks_dir() / picture).is_file()


def test_sync_writes_and_takes_away_the_badge(tmp_path, monkeypatch):
    text = "# 01 · T\n\n*About 1 minute*\n\n**Goal.** See."
    for kind in catalog.KINDS:
        (tmp_path / kind).mkdir(exist_ok=True)
        cells = [new_markdown_cell(text), new_code_cell("old", metadata={"tags": ["setup"]})]
        nbformat.write(new_notebook(cells=cells), tmp_path / kind / "01_t.ipynb")

    def synced(address):
        monkeypatch.setattr(catalog, "project_address", lambda: address)
        catalog.sync_notebooks(tmp_path)
        assert catalog.sync_notebooks(tmp_path) == [], "a second call changes nothing"
        return [catalog.read_notebook(tmp_path / kind / "01_t.ipynb").cells[0].source for kind in catalog.KINDS]

    for address in (ADDRESS, ADDRESS + "@next"):
        numbered, *others = synced(address)
        assert numbered.split("\n\n") == ["# 01 · T", catalog.badge("01_t.ipynb", address), *text.split("\n\n")[1:]]
        assert others == [text, text], "exercises and solutions are reached from their notebook"
        (info,) = catalog.list_notebooks(folder=tmp_path)
        assert (info.title, info.goal, info.minutes) == ("T", "See.", 1)
    assert synced("") == [text] * 3

"""What every notebook has to hold to, and every notebook executed in the smoke profile."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from markdown_it import MarkdownIt
from mdit_py_plugins.amsmath import amsmath_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbclient import NotebookClient

from dtl_book import paths
from dtl_book.notebooks import catalog
from mathml import mathml

FOLDER = catalog.notebooks_dir()
NUMBERED, EXERCISES, SOLUTIONS = ([info.path for info in catalog.list_notebooks(kind)] for kind in catalog.KINDS)
EVERY = NUMBERED + EXERCISES + SOLUTIONS
SETUP = catalog.setup_cell(catalog.project_address())
SMOKE = {**os.environ, "DTL_PROFILE": "smoke", "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
MARKDOWN = MarkdownIt().use(dollarmath_plugin).use(amsmath_plugin)  # as the site reads them


def walk(tokens):
    for token in tokens:
        yield token
        yield from walk(token.children or [])


def each(notebooks):
    return pytest.mark.parametrize(
        "path", notebooks, ids=[str(path.relative_to(FOLDER).with_suffix("")) for path in notebooks]
    )


def cells(path, kind=None):
    return [cell for cell in catalog.read_notebook(path).cells if kind in (None, cell.cell_type)]


def markdown(path):
    """All text, without code blocks."""
    return re.sub(r"^```.*?^```", "", "\n\n".join(cell.source for cell in cells(path, "markdown")), flags=re.M | re.S)


def checks_of(path):
    """The numbers of the exercises that a notebook checks, in order."""
    return re.findall(r"^check\(\s*[\"']([^\"']+)[\"']", "\n".join(cell.source for cell in cells(path, "code")), re.M)


def outputs(path):
    return [output for cell in cells(path, "code") for output in cell.outputs]


def test_the_spine_is_there():
    assert {f"{number:02}" for number in range(16)} <= {path.name[:2] for path in NUMBERED}
    assert len({path.name[:2] for path in NUMBERED}) == len(NUMBERED), "a number is used once"


def test_exercises_have_solutions_and_a_notebook():
    names = {path.name for path in NUMBERED}
    assert [path.name for path in EXERCISES] == [path.name for path in SOLUTIONS]
    assert {path.name for path in EXERCISES} <= names
    assert {path.name[:2] for path in EXERCISES} >= {f"{number:02}" for number in range(1, 16)}


@each(EVERY)
def test_form(path):
    notebook = catalog.read_notebook(path)  # validates
    assert path.stat().st_size < 300_000
    assert notebook.metadata == catalog.METADATA, "clean it: dtl notebooks run --in-place"
    assert re.findall(r"^# .*", markdown(path), re.M) == [notebook.cells[0].source.split("\n")[0]], (
        "one H1, in the first line"
    )
    assert notebook.cells[0].source.startswith(f"# {path.name[:2]} · ")
    for cell in notebook.cells:
        folded = catalog.SOLUTION_TAG in cell.metadata.get("tags", [])
        assert cell.metadata.get("jupyter") == ({"source_hidden": True} if folded else None)
        assert set(cell.metadata) <= {"tags", "jupyter"}
        assert cell.source.strip(), "no empty cell"
        lines = cell.source.count("\n") + 1
        if cell.cell_type == "code" and cell.source != SETUP:
            assert max(map(len, cell.source.split("\n"))) <= 88, f"a page would cut it: {cell.source[:60]}"
        assert cell.cell_type != "code" or lines <= 20, f"a code cell of {lines} lines: {cell.source[:60]}"


@each(EVERY)
def test_setup_cell_is_the_one(path):
    code = cells(path, "code")
    assert code[0].source == catalog.setup_cell(catalog.project_address()), "run: dtl notebooks sync"
    assert [cell.metadata.get("tags") for cell in code].count([catalog.SETUP_TAG]) == 1
    first = cells(path)[0].source
    badge = catalog.badge(path.name, catalog.project_address()) if path in NUMBERED else ""
    assert first == catalog.with_badge(first, badge), "run: dtl notebooks sync"


@each(EVERY)
def test_code_is_portable(path):
    code = "\n".join(cell.source for cell in cells(path, "code")[1:])
    assert not re.search(r"profile(\.name)?\s*(==|!=|in\b)|DTL_PROFILE", code), "a cell asks which profile it runs in"
    assert not re.search(r"pip\W+install|num_workers\s*=\s*[1-9]|\.cuda\(\)|[\"']cuda", code)
    for cell in cells(path, "code"):
        assert not re.search(r"^\s*# NBVAL\S+[ \t]+\S", cell.source, re.M), (
            "a comment behind the mark disables it: use a tag"
        )
        plain = re.sub(r"^[ \t]*[!%].*", "pass", cell.source, flags=re.M)
        ast.parse(plain, filename=str(path))


@each(EVERY)
def test_page_and_links(path):
    for token in walk(MARKDOWN.parse("\n\n".join(cell.source for cell in cells(path, "markdown")))):
        if "math" in token.type:
            mathml(token.content)  # raises for a formula that cannot be drawn
    for text, target in re.findall(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)", markdown(path)):
        if not re.match(r"https?:|#|mailto:", target):
            assert (path.parent / target.split("#")[0]).exists(), f"[{text}]({target}) leads nowhere"
    for alt in re.findall(r"!\[([^\]]*)\]\(", markdown(path)):
        assert len(alt.split()) >= 4, "a picture needs its sentence"


@each(EVERY)
def test_what_a_cell_prints_is_one_output(path):
    """In two a line can break in the middle, where the kernel happened to send the first half."""
    for cell in cells(path, "code"):
        kinds = [(output.output_type, output.get("name")) for output in cell.outputs]
        assert ("stream", "stdout") not in [a for a, b in zip(kinds, kinds[1:], strict=False) if a == b], cell.source


@each(EVERY)
def test_outputs_are_fit_to_read(path):
    for output in outputs(path):
        assert output.output_type != "error"
        data = output.get("data", {})
        assert "application/vnd.jupyter.widget-view+json" not in data
        for kind in ("image/png", "image/jpeg", "image/svg+xml"):
            assert kind not in data, "show a figure with show_figure(fig, sentence)"
        images = BeautifulSoup(data.get("text/html", ""), "html.parser").find_all("img")
        assert all(len(image.get("alt", "").split()) >= 4 for image in images), "a picture needs its sentence"
        if output.output_type == "stream":
            assert output.name == "stdout" or not output.text.strip(), f"a warning stayed: {output.text[:80]}"
        text = (
            str(output.get("text", ""))
            + data.get("text/plain", "")
            + re.sub(r"base64,[^\"]*", "", data.get("text/html", ""))
        )
        assert str(Path.home()) + os.sep not in text and str(paths.CHECKOUT) not in text, "a path of this machine"


@each(NUMBERED)
def test_numbered(path):
    info, code = catalog.read_info(path), cells(path, "code")
    assert info.goal and info.minutes, "the first cell needs minutes and a line **Goal.** …"
    assert (15 if info.number == "00" else 25) <= len(cells(path)) <= 45
    counts = [cell.execution_count for cell in code]
    assert counts == list(range(1, len(code) + 1)), "commit it executed: dtl notebooks run --in-place"
    assert "profile laptop" in code[0].outputs[0].text, "commit it executed in the laptop profile"
    assert (
        any(output.get("data", {}).get("text/html", "").count("<img") for output in outputs(path))
        or info.number == "00"
    )
    assert any(re.search(r"^\s*assert\b", cell.source, re.M) for cell in code)


@each(NUMBERED)
def test_what_comes_next(path):
    end = "\n".join(cell.source for cell in cells(path, "markdown")[-3:])
    following = [other.name for other in NUMBERED if other.name > path.name]
    assert re.search(r"^## What comes next", end, re.M)
    links = re.findall(r"\]\(([0-9]{2}_[^)]+\.ipynb)\)", end)
    assert set(links) & set(following) if following else "the last notebook" in end
    exercises = path.parent / "exercises" / path.name
    assert not exercises.exists() or f"](exercises/{path.name})" in markdown(path), "link the exercises"


@each(EXERCISES)
def test_exercises_as_written(path):
    numbers, solution = checks_of(path), path.parents[1] / "solutions" / path.name
    assert numbers and numbers == checks_of(solution)
    assert len(set(numbers)) == len(numbers) and all(number.startswith(f"{int(path.name[:2])}.") for number in numbers)
    assert markdown(path).count("<summary>Hint") >= len({number.split(".")[1].rstrip("abcdef") for number in numbers})
    assert all(not cell.outputs and cell.execution_count is None for cell in cells(path, "code")), (
        "exercises have no outputs"
    )
    stubs = {cell.source for cell in cells(path, "code")}
    for cell in cells(solution, "code"):  # what the exercise leaves open is folded, and nothing else
        assert (catalog.SOLUTION_TAG in cell.metadata.get("tags", [])) == (cell.source not in stubs)
    for notebook in (path, solution):
        assert cells(notebook, "code")[-1].source.strip() == "report()", "the last code cell is report()"


@each(EXERCISES)
def test_stubs_run_and_fail_their_checks(path):
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute(env={**SMOKE, "DTL_EXPECT": "stubs"})  # a stub that raises outside its check fails here
    said = "".join(
        o.text
        for cell in notebook.cells
        for o in cell.get("outputs", [])
        if o.output_type == "stream" and o.name == "stdout"
    )
    assert re.findall(r"^not yet ([^:]+): \S", said, re.M) == checks_of(path), said
    assert "✓" not in said


@each(NUMBERED + SOLUTIONS)
def test_nbval_in_smoke(path):
    """Every cell runs, and the cells tagged ``nbval-check-output`` print what is stored. Solutions pass their checks."""
    options = [
        "--nbval-lax",
        "--nbval-current-env",
        "--nbval-cell-timeout=300",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
    ]
    command = [sys.executable, "-m", "pytest", *options, str(path)]
    done = subprocess.run(
        command, cwd=paths.CHECKOUT, env={**SMOKE, "DTL_EXPECT": "solutions"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    went = sum(int(number) for number in re.findall(r"(\d+) (?:passed|skipped)", done.stdout))
    assert went == len(cells(path, "code")), done.stdout[-2000:]
    for cell in cells(path, "code"):
        if "nbval-check-output" in cell.metadata.get("tags", []):
            assert cell.outputs or path in SOLUTIONS, "a stripped cell would be compared with nothing"

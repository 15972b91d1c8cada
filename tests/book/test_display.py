"""Set-up, checks of exercises, pictures and tables, the shared set-up cell."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image, ImageColor
from stand_ins import put

from dtl_book import lab as display
from dtl_book import paths
from dtl_book.experiments.profiles import PROFILES
from dtl_book.figures import overview
from dtl_book.lab import checks, plots, setup
from dtl_book.notebooks import catalog


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would get to display, in place of printing it."""
    bundles = []
    for module in ("plots", "tables"):
        monkeypatch.setattr(f"dtl_book.lab.{module}.display", lambda bundle, raw: bundles.append(bundle))
    return bundles


@pytest.fixture
def register(monkeypatch):
    monkeypatch.setattr(checks, "_outcomes", {})


def unfinished():
    raise NotImplementedError


@pytest.mark.parametrize(
    "condition", [..., None, False, 0, unfinished, lambda: None, lambda: ..., lambda: 1 / 0, lambda: [1, 2] > 3]
)
def test_check_says_not_yet_and_never_raises(condition, register, capsys):
    display.check("3.1", condition, hint="look at M")
    assert capsys.readouterr().out.startswith("not yet 3.1: look at M")
    assert checks._outcomes == {"3.1": False}


def test_report(register, capsys, monkeypatch):
    monkeypatch.setenv("DTL_EXPECT", "solutions")
    with pytest.raises(AssertionError, match="no exercise was checked"):
        display.report()
    display.check("3.1", lambda: 2 == 2)
    assert capsys.readouterr().out.endswith("✓ 3.1\n")
    display.check("3.2", lambda: 1 / 0, hint="divide by two")
    assert "[ZeroDivisionError: division by zero]" in capsys.readouterr().out
    with pytest.raises(AssertionError, match="solutions that fail their check: 3.2"):
        display.report()
    monkeypatch.setenv("DTL_EXPECT", "stubs")
    with pytest.raises(AssertionError, match="stubs that pass their check: 3.1"):
        display.report()
    monkeypatch.delenv("DTL_EXPECT")
    capsys.readouterr()
    display.report()
    assert capsys.readouterr().out == "1 of 2 exercises done. Not yet: 3.2.\n"


def test_no_two_methods_look_alike():
    styles = plots.METHOD_STYLES.values()
    assert len({color for _, color, _ in styles}) == len({marker for _, _, marker in styles}) == len(styles)
    with pytest.raises(KeyError, match="add a line to METHOD_STYLES"):
        plots.method_style("nonesuch")
    for _, color, _ in styles:  # readable on white: contrast of at least 3, as for large marks
        channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        assert 1.05 / (luminance + 0.05) >= 3, color


def test_show_figure(shown):
    figure, axes = plt.subplots()
    axes.plot([1, 2])
    same = plots.png_of(figure)
    assert plots.png_of(figure) == same, "the same figure gives the same bytes"
    display.show_figure(figure, 'Loss & "accuracy" rise <fast>.')
    sentence = "Loss &amp; &quot;accuracy&quot; rise &lt;fast&gt;."
    assert f'<img alt="{sentence}"' in shown[0]["text/html"] and f">{sentence}</figcaption>" in shown[0]["text/html"]
    assert not plt.fignum_exists(figure.number), "an open figure would be shown a second time, without its sentence"
    with pytest.raises(ValueError, match="needs its sentence"):
        display.show_figure(figure, " ")


def test_table(shown):
    frame = pd.DataFrame({"method": ["DTL", "<b>"], "accuracy": [0.95123, None]})
    display.table(frame, "Two methods.", digits=2)
    text = shown[0]["text/html"]
    assert "0.95<" in text and "–" in text and "&lt;b&gt;" in text and "<th>0</th>" not in text
    assert shown[0]["text/plain"].startswith("Two methods.\n")
    display.table(frame.set_index("method"), "With its index.")
    named = BeautifulSoup(shown[1]["text/html"], "html.parser").table
    rows = [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in named.find_all("tr")]
    assert rows == [["method", "accuracy"], ["DTL", "0.951"], ["<b>", "–"]], "the index's name has no row of its own"
    with pytest.raises(ValueError, match="needs its sentence"):
        display.table(frame, "")
    display.table(pd.DataFrame({"a": pd.Series(["<b>x</b>", None, 3], dtype=object)}), "Mixed.")
    page = shown[2]["text/html"]
    assert "&lt;b&gt;x" in page and "<b>x" not in page and "–" in page and ">3<" in page


@pytest.mark.parametrize(
    "cell", [["<i>x</i>"], {"<i>x</i>": 1}, ("<i>x</i>",), Path("<i>x</i>"), b"<i>x</i>"], ids=repr
)
def test_whatever_a_cell_of_a_table_holds_is_escaped(shown, cell):
    """Also where no cell of the column is a text, in an index, and in an index of several levels."""
    column = pd.Series([cell, None], dtype=object)
    display.table(pd.DataFrame({"a": column}), "Cells.")
    if not isinstance(cell, list | dict | tuple):
        display.table(pd.DataFrame({"b": [1, 2]}, index=[cell, "z"]), "An index.")
    levels = pd.MultiIndex.from_tuples([("<i>x</i>", 1), ("y", 2)])
    display.table(pd.DataFrame({"b": [1, 2]}, index=levels), "Levels.")
    for bundle in shown:
        assert "<i>" not in bundle["text/html"] and "&lt;i&gt;x" in bundle["text/html"]


def test_an_old_package_of_the_workbook_extra_stops_nobody(monkeypatch):
    """Colab has widgets of its own."""
    real = overview.version
    monkeypatch.setattr(overview, "version", lambda name: "7.7.1" if name == "ipywidgets" else real(name))
    packages = overview.installation()
    assert "ipywidgets" not in packages["package"].tolist() and packages["fits"].all()
    monkeypatch.setattr(overview, "version", lambda name: "0.1" if name == "timm" else real(name))
    assert overview.installation().query("not fits")["package"].tolist() == ["timm"]


def test_thousands_are_set_apart_in_all_or_no_column_of_a_table(shown):
    display.table(pd.DataFrame({"parameters": [349_488, 490], "not zero": [0, 1152], "share": [0.5, 0.25]}), "Large.")
    assert re.findall(r"<td>([^<]*)</td>", shown[0]["text/html"]) == ["349,488", "0", "0.500", "490", "1,152", "0.250"]
    display.table(pd.DataFrame({"images": [1000, 1624]}), "Small.")
    assert re.findall(r"<td>([^<]*)</td>", shown[1]["text/html"]) == ["1000", "1624"]


def test_the_small_marker_of_a_drawing_keeps_its_colour():
    """A palette that is too small gave LoRA's marker in a legend the colour of DTL+."""
    with plt.style.context("default"):  # whatever style an earlier test has set
        figure, ax = plt.subplots()
        for at, method in enumerate(("linear", "bitfit", "adaptformer", "lora", "dtl", "dtl+")):
            ax.errorbar([], [], xerr=[], ls="", capsize=4, ms=9, **display.method_style(method))
            ax.plot([0, 1], [at, at + 1], color=display.method_style(method)["color"], alpha=0.1 + 0.15 * at)
        ax.legend()
        drawn = set(Image.open(io.BytesIO(plots.png_of(figure))).convert("RGB").getdata())
    for method in ("adaptformer", "lora", "dtl+"):
        wanted = ImageColor.getrgb(display.method_style(method)["color"])
        assert min(max(abs(a - b) for a, b in zip(wanted, colour, strict=True)) for colour in drawn) <= 4, method


def test_start_in_smoke_builds_its_data(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DTL_DATA", str(tmp_path))
    monkeypatch.setenv("DTL_PROFILE", "smoke")
    workbook = display.start()
    out = capsys.readouterr().out
    assert out == f"profile smoke · backbone toy/vit at 32 px · device {workbook.device}\n"
    assert (workbook.data / "mnist" / "train800val200.txt").is_file()
    import torch

    first = torch.rand(1)
    display.start(profile="smoke")
    assert torch.equal(torch.rand(1), first), "seeded"


@pytest.mark.parametrize(
    ("profile", "command"), [("laptop", "`!.*data fetch && .*data build` in a new cell"), ("paper", "paper/vtab-1k")]
)
def test_missing_data_is_named_with_what_to_do(profile, command, tmp_path, monkeypatch):
    monkeypatch.setenv("DTL_DATA", str(tmp_path))
    with pytest.raises(setup.DataMissing, match=command) as error:
        setup.require_data(PROFILES[profile])
    assert str(tmp_path) in str(error.value)
    assert error.value._render_traceback_() == [f"DataMissing: {error.value}"]


def test_laptop_without_elpv_is_enough(tmp_path, monkeypatch):
    monkeypatch.setenv("DTL_DATA", str(tmp_path))
    put(paths.packaged_vit_weights(), "")
    for task in ("mnist", "shape_location", "shape_orientation", "object_count"):
        for name in setup.LISTS:
            put(tmp_path / "laptop" / "vtab-1k" / task / f"{name}.txt", "")
    with pytest.raises(setup.DataMissing, match="^object_distance not found.*data fetch && .*data build`"):
        setup.require_data(PROFILES["laptop"])


def run_setup_cell(source, folder):
    """Runs a set-up cell in a Python that has no dtl_core, with a pip that only notes what it is asked for."""
    (folder / "pip.py").write_text(
        "import pathlib, sys; pathlib.Path('asked').write_text(' '.join(sys.argv[1:])); sys.exit(3)"
    )
    code = f"import sys; sys.path.insert(0, '.')\n{source}"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PYTHONPATH": str(folder)}
    bare = f"import importlib.util as u; f = u.find_spec; u.find_spec = lambda n, *a: None if n == 'dtl_core' else f(n, *a)\n{code}"
    return subprocess.run([sys.executable, "-c", bare], cwd=folder, env=env, capture_output=True, text=True, timeout=60)


def test_setup_cell_installs_from_the_address_or_a_wheel_or_says_how(tmp_path):
    done = run_setup_cell(catalog.setup_cell(), tmp_path)
    assert "ImportError: dtl_core is not here: run `make setup`" in done.stderr and not (tmp_path / "asked").exists()
    (tmp_path / "dtl_workbook-0.1.0-py3-none-any.whl").touch()
    run_setup_cell(catalog.setup_cell(), tmp_path)
    assert (tmp_path / "asked").read_text() == "install -q dtl_workbook-0.1.0-py3-none-any.whl"
    run_setup_cell(catalog.setup_cell("git+https://example.org/dtl"), tmp_path)
    assert (tmp_path / "asked").read_text() == "install -q git+https://example.org/dtl"
    assert len(catalog.setup_cell().split("\n")) <= 14


def test_sync_writes_the_address_into_every_notebook(tmp_path, monkeypatch):
    monkeypatch.setattr(catalog, "project_address", lambda: "git+https://example.org/dtl")
    for kind in catalog.KINDS:
        (tmp_path / kind).mkdir(exist_ok=True)
        setup_cell = new_code_cell("old", metadata={"tags": ["setup"]})
        cells = [new_markdown_cell("# 01 · T"), setup_cell, new_code_cell("x = 1")]
        nbformat.write(new_notebook(cells=cells), tmp_path / kind / "01_t.ipynb")
    assert len(catalog.sync_notebooks(tmp_path)) == 3
    sources = [cell.source for cell in catalog.read_notebook(tmp_path / "solutions" / "01_t.ipynb").cells[1:]]
    assert sources == [catalog.setup_cell("git+https://example.org/dtl"), "x = 1"]
    assert catalog.sync_notebooks(tmp_path) == [], "a second call changes nothing"
    nbformat.write(new_notebook(cells=[new_code_cell("x")]), tmp_path / "02_none.ipynb")
    with pytest.raises(ValueError, match="02_none.ipynb: one cell has to be tagged 'setup', 0 are"):
        catalog.sync_notebooks(tmp_path)


def test_read_info(tmp_path):
    text = "# 05 · DTL on a `ViT`\n\n*About 3 to 4 minutes · mnist*\n\n**Goal.** Train *DTL* on a\n[ViT](x).\n\nMore."
    nbformat.write(new_notebook(cells=[new_markdown_cell(text)]), tmp_path / "05_vit.ipynb")
    (info,) = catalog.list_notebooks(folder=tmp_path)
    found = (info.number, info.name, info.title, info.goal, info.minutes)
    assert found == ("05", "05_vit", "DTL on a ViT", "Train DTL on a ViT.", 3)

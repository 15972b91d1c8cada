"""The page of symbols against the notebooks and the code: names that resolve, shapes that hold, letters that are used."""

import re
from numbers import Number
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from dtl_book.experiments import RunCard
from dtl_book.notebooks import catalog
from dtl_core import DTL, DTLConfig, load_backbone
from dtl_core.baselines.lora import LoRALinear
from dtl_core.blocks import blocks_of
from dtl_core.csn import swish
from dtl_core.data import DomainShift
from dtl_core.training import Recipe

PAGE = catalog.notebooks_dir() / "SYMBOLS.md"
NUMBERED = {info.number: info.path for info in catalog.list_notebooks()}
# of mathematics itself: indices, Euler's number, pi, "= " by definition
NO_SYMBOLS = set("eijc") | {r"\pi", r"\infty"}


def tables():
    """Heading -> rows of its table, as lists of cells."""
    found = {}
    for part in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.M)[1:]:
        lines = [line for line in part.split("\n") if line.startswith("| ")]
        found[part.split("\n")[0]] = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]
    return found


TABLES = tables()
SYMBOLS = [row for name in ("Network and side network", "Bytes and gradients", "Accuracies") for row in TABLES[name]]
TWICE = {letter for row in TABLES["Letters with a second meaning"] for letter in row[0].strip("$").split(",\\ ")}


def maths(text):
    """The formulas of a Markdown text, code left out."""
    text = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.S)
    return [a or b for a, b in re.findall(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", text, re.S)]


def maths_of(number):
    cells = catalog.read_notebook(NUMBERED[number]).cells
    return [formula for cell in cells if cell.cell_type == "markdown" for formula in maths(cell.source)]


def letters(formulas):
    """Latin letters and Greek ones that stand for something: no commands, no words."""
    found = set()
    for formula in formulas:
        formula = re.sub(r"\\(text|operatorname|mathrm|mathbb|begin|end)\s*\{[^}]*\}", " ", formula)
        found |= set(
            re.findall(r"\\(?:alpha|beta|eta|sigma|pi|Delta|infty|lambda|theta|mu|rho|tau)(?![A-Za-z])", formula)
        )
        found |= set(re.findall(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", " ", formula)))
    return found


def pieces(symbol):
    """The symbols of a cell: "$H,\\ W$" are two."""
    return re.split(r",\\ ", symbol.strip("$").replace(r"(\cdot)", ""))


def occurs(piece, formulas):
    pattern = re.escape(piece)
    if re.fullmatch(r"[A-Za-z]", piece):
        pattern = rf"(?<![A-Za-z\\]){piece}(?![A-Za-z])"
    return any(re.search(pattern, re.sub(r"\\(text|operatorname)\{([^}]*)\}", r"\\\1{\2}", f)) for f in formulas)


@pytest.fixture(scope="module")
def objects():
    """The objects that the page names, small."""
    torch.manual_seed(0)
    config = DTLConfig(dwconv_kernel=3)
    model = DTL(load_backbone("toy/vit"), 10, config).eval()
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([3, 1, 4, 1])
    features = model.prefix(images)
    h = model.csn.tap(0, features.taps[0], 0.0).detach().requires_grad_()
    swish(h, config.beta).sum().backward()
    fields = RunCard.__dataclass_fields__
    card = RunCard(**{name: {"accuracy": 0.5, "shots": 4}.get(name) for name in fields})
    return {
        "F": F, "DTL": DTL, "backbone": model.backbone, "card": card, "config": config, "csn": model.csn,
        "data": DomainShift.__new__(DomainShift), "features": features, "h": h, "i": 6, "images": images, "labels": labels,
        "logits": model(images), "lora": LoRALinear(torch.nn.Linear(48, 144)), "model": model, "n": 1, "recipe": Recipe(lr=1e-3),
        "swin": load_backbone("toy/swin"), "swish": swish, "torch": torch, "x": features.taps[6], "blocks_of": blocks_of,
    }  # fmt: skip


@pytest.mark.parametrize("row", SYMBOLS, ids=[f"{row[4][1:3]} {row[0]}" for row in SYMBOLS])
def test_a_name_in_the_code_resolves_and_has_the_shape(row, objects):
    _, _, shape, code, _ = row
    sizes = SimpleNamespace(B=4, N=17, d=48, r=2, k=3, K=10).__dict__
    for name in re.findall(r"`([^`]+)`", code):
        if name == "data.present_classes":
            assert isinstance(DomainShift.present_classes, property)
            continue
        value = eval(name, {}, objects)
        if shape == "number":
            assert isinstance(value, Number) or value.ndim == 0
        elif shape == "pair":
            assert len(value) == 2
        elif shape.startswith("as "):
            assert value.shape == objects["h"].shape
        elif shape:
            assert tuple(value.shape) == eval(shape.strip("`"), {}, sizes)


@pytest.mark.parametrize("row", SYMBOLS, ids=[f"{row[4][1:3]} {row[0]}" for row in SYMBOLS])
def test_a_symbol_is_introduced_where_the_page_says(row):
    number = row[4][1:3]
    for piece in pieces(row[0]):
        assert occurs(piece, maths_of(number)), f"notebook {number} has no {piece}"
        if not TWICE & letters([piece]):
            before = [earlier for earlier in NUMBERED if earlier < number and occurs(piece, maths_of(earlier))]
            assert not before, f"{piece} stands in {before}, before it is introduced in {number}"


@pytest.mark.parametrize("number", NUMBERED)
def test_no_letter_of_a_notebook_is_missing(number):
    known = letters([formula for formula in maths(PAGE.read_text(encoding="utf-8"))]) | NO_SYMBOLS
    assert letters(maths_of(number)) <= known, "write it into notebooks/SYMBOLS.md, or take a letter that is there"


def test_the_table_of_notebook_00_is_the_start_of_the_page():
    """The same symbols with the same names in the code, in both places."""
    text = "\n".join(cell.source for cell in catalog.read_notebook(NUMBERED["00"]).cells if "| symbol |" in cell.source)
    for line in re.findall(r"^\| \$.*", text, re.M):
        symbol, _, code = (cell.strip() for cell in line.strip("|").split("|"))
        mine = [row for row in SYMBOLS if set(pieces(row[0])) & set(re.split(r",\\ ", symbol.strip("$")))]
        assert mine, f"{symbol} is not on the page"
        name = code.strip("`").removeprefix("model.")
        assert any(name in row[3] for row in mine) or name == "x.shape", f"{symbol}: {code}"


def test_words_and_links():
    for name, rows in TABLES.items():
        for target in re.findall(r"\]\(([^)]+)\)", "".join(row[-1] for row in rows)):
            assert (PAGE.parent / target).is_file(), f"{name}: {target}"
    for word, _, where in TABLES["Words with one meaning"]:
        for number in re.findall(r"\[(\d\d)\]", where):
            text = "\n".join(cell.source for cell in catalog.read_notebook(NUMBERED[number]).cells).lower()
            assert all(part.strip() in text for part in word.split(",")), f"notebook {number} does not speak of {word}"

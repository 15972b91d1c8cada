"""Notebooks as HTML pages that need nothing but themselves: no script, no font and no address from outside.

Formulas become MathML, which browsers draw on their own. Pictures are part of the page. A widget is replaced by a
line of text: the static picture of the same function stands before it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from html import escape
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import nbformat
from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from dtl_core import paths

from .catalog import clean_notebook

# children that a MathML element must have: a formula with a brace missing gives fewer
_ARITY = {"mfrac": 2, "msub": 2, "msup": 2, "munder": 2, "mover": 2, "msubsup": 3, "munderover": 3, "mroot": 2}
_MATHML = "{http://www.w3.org/1998/Math/MathML}"
ElementTree.register_namespace("", _MATHML[1:-1])
# environments of amsmath that the converter knows by a sister's name only
_SISTERS = {"aligned": "align*", "alignedat": "align*", "gathered": "align*"}


class MathsError(ValueError):
    """A formula that cannot be turned into MathML. The message holds the formula."""


def mathml(tex: str, block: bool = False) -> str:
    """A formula as MathML.

    Args:
        tex: the formula without its dollar signs.
        block: displayed on a line of its own.

    Returns:
        A ``<math>`` element.

    Raises:
        MathsError: for a command the converter does not know, or unbalanced braces.
    """
    text = re.sub(r"\d+(?:\{,\}\d{3})+", lambda match: rf"\text{{{match[0].replace('{,}', ',')}}}", tex.strip())
    for name, sister in _SISTERS.items():
        text = re.sub(rf"\\(begin|end)\{{{name}\}}", lambda match, s=sister: rf"\{match[1]}{{{s}}}", text)
    try:
        result = convert(text, display="block" if block else "inline")
        tree = ElementTree.fromstring(result)
    except Exception as error:  # the converter raises many kinds; a stray & gives XML that cannot be read
        raise MathsError(f"this formula cannot be drawn: ${tex}$ ({error})") from error
    for element in tree.iter():
        tag = element.tag.rpartition("}")[2]
        if "\\" in (element.text or ""):
            raise MathsError(f"this formula holds {element.text!r}, which cannot be drawn: ${tex}$")
        if tag in _ARITY and len(element) != _ARITY[tag]:
            raise MathsError(f"this formula has an unfinished {tag} (a brace missing?): ${tex}$")
    _tidy(tree)
    return ElementTree.tostring(tree, encoding="unicode")


def _tidy(tree: ElementTree.Element) -> None:
    """Names of functions as names, not as operators with space around them; a thin space before an argument."""
    for parent in tree.iter():
        for position, child in reversed(list(enumerate(parent))):
            name = (child.text or "").replace("\u2009", "")
            if child.tag not in (_MATHML + "mo", _MATHML + "mi") or len(name) < 2 or not name.isalpha():
                continue
            child.tag = _MATHML + "mi"
            following = parent[position + 1] if position + 1 < len(parent) else None
            if parent.tag == _MATHML + "mrow" and following is not None and following.tag != _MATHML + "mo":
                parent.insert(position + 1, ElementTree.Element(_MATHML + "mspace", width="0.167em"))


def _keep_together(text: str) -> str:
    """No line break between an inline formula and the bracket or comma that touches it."""
    pattern = r'(\(?)(<math [^>]*display="inline".*?</math>)([).,;:!?]*)'
    return re.sub(pattern, lambda m: f'<span class="nobr">{m[0]}</span>' if m[1] or m[3] else m[0], text, flags=re.S)


class _Renderer(IPythonRenderer):
    """Markdown to HTML with MathML for formulas, boxes that scroll for what is wide, and links among the pages."""

    def __init__(self, link_to: Callable[[str], str | None], **options: object) -> None:
        super().__init__(escape=False, embed_images=True, exclude_anchor_links=True, **options)
        self._link_to = link_to

    def _html_embed_images(self, html: str) -> str:
        # the parser behind this would close an open <details> before its contents
        return super()._html_embed_images(html) if "<img" in html else html

    def inline_math(self, body: str) -> str:
        return mathml(body)

    def block_math(self, body: str) -> str:
        return f'<div class="maths" tabindex="0">{mathml(body, block=True)}</div>'

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(rf"\begin{{{name}}}{body}\end{{{name}}}")

    def heading(self, text: str, level: int, **attrs: object) -> str:
        anchor = escape(re.sub(r"<[^>]+>", "", text).strip().replace(" ", "-"))  # as JupyterLab makes them
        return f'<h{level} id="{anchor}">{text}</h{level}>\n'

    def table(self, text: str) -> str:
        return f'<div class="wide" tabindex="0"><table>\n{text}</table></div>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        target = self._link_to(url)
        return text if target is None else super().link(text, target, title)


class PageExporter(HTMLExporter):
    """nbconvert's exporter with the workbook's own template."""

    link_to: Callable[[str], str | None] = staticmethod(lambda url: url)

    @pass_context
    def markdown2html(self, context, source: str) -> str:
        cell = context.get("cell", {})
        path = context.get("resources", {}).get("metadata", {}).get("path", "")
        renderer = _Renderer(self.link_to, attachments=cell.get("attachments", {}), path=path)
        return _keep_together(MarkdownWithMath(renderer=renderer).render(source))


def page_link(url: str, source: Path, page: Path, pages: dict[Path, Path]) -> str | None:
    """Where a link of a notebook leads on its page.

    Args:
        url: as written in the notebook.
        source: the notebook.
        page: the HTML file that is being written.
        pages: notebook -> HTML file, for all that are written.

    Returns:
        The link for the page; None for a notebook that is not there (its text stays, without a link).
    """
    parts = urlsplit(url)
    if parts.scheme or parts.netloc or not parts.path:
        return url
    target = (source.parent / parts.path).resolve()
    if target in pages:
        target = pages[target]
    elif not target.exists():
        return None
    fragment = f"#{parts.fragment}" if parts.fragment else ""
    return Path(os.path.relpath(target, page.parent)).as_posix() + fragment


def export_page(
    notebook: nbformat.NotebookNode,
    source: Path,
    page: Path,
    pages: dict[Path, Path] | None = None,
    navigation: list[tuple[str, str]] | None = None,
) -> str:
    """One notebook as a complete HTML document.

    Args:
        notebook: with its outputs.
        source: where the notebook lies; links and pictures in it are relative to that.
        page: where the document will lie.
        pages: notebook -> HTML file, for the links among them. Paths are resolved.
        navigation: (text, link) pairs for the line at the top and the bottom.

    Returns:
        The document's text.

    Raises:
        MathsError: for a formula that cannot be drawn.
    """
    known = {path.resolve(): target for path, target in (pages or {}).items()}
    copy = clean_notebook(nbformat.from_dict(notebook))
    copy.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}  # knows %magics and !commands
    exporter = PageExporter(template_file=str(paths.RESOURCES / "page.html.j2"))
    exporter.link_to = lambda url: page_link(url, source, page, known)
    first = next((cell.source for cell in copy.cells if cell.cell_type == "markdown"), source.stem)
    title = next((line[2:].strip() for line in first.split("\n") if line.startswith("# ")), source.stem)
    resources = {
        "metadata": {"path": str(source.parent), "name": title},
        "page": {"css": stylesheet(), "title": title, "navigation": navigation or []},
    }
    text, _ = exporter.from_notebook_node(copy, resources=resources)
    return text


def stylesheet() -> str:
    """The one style sheet of pages and index, to stand inside the document."""
    return (paths.RESOURCES / "page.css").read_text(encoding="utf-8")

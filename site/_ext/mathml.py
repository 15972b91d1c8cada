"""Formulas as MathML, which browsers draw on their own: no script, no font, nothing from outside."""

from __future__ import annotations

import re
from html import escape
from xml.etree import ElementTree

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)
# children that a MathML element must have: a formula with a brace missing gives fewer
_ARITY = {"mfrac": 2, "msub": 2, "msup": 2, "munder": 2, "mover": 2, "msubsup": 3, "munderover": 3, "mroot": 2}
_MATHML = "{http://www.w3.org/1998/Math/MathML}"
ElementTree.register_namespace("", _MATHML[1:-1])
# environments of amsmath that the converter knows by a sister's name only
_SISTERS = {"aligned": "align*", "alignedat": "align*", "gathered": "align*"}
# bars that the converter does not take for a pair of fences, so that a browser would set them apart from what they hold
_FENCES = {r"\lvert": r"\left|", r"\rvert": r"\right|"}


class MathsError(ValueError):
    """A formula that cannot be turned into MathML. The message holds the formula."""


def mathml(tex: str, block: bool = False) -> str:
    """Return a formula as MathML.

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
    for name, fence in _FENCES.items():
        text = text.replace(name, fence)
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
    """Set names of functions as names, not as operators with space around them, and a thin space before an argument."""
    for parent in tree.iter():
        for position, child in reversed(list(enumerate(parent))):
            name = (child.text or "").replace("\u2009", "")
            if child.tag not in (_MATHML + "mo", _MATHML + "mi") or len(name) < 2 or not name.isalpha():
                continue
            child.tag = _MATHML + "mi"
            following = parent[position + 1] if position + 1 < len(parent) else None
            if parent.tag == _MATHML + "mrow" and following is not None and following.tag != _MATHML + "mo":
                parent.insert(position + 1, ElementTree.Element(_MATHML + "mspace", width="0.167em"))


def _drawn(node: nodes.Element, block: bool) -> str:
    try:
        return mathml(node.astext(), block)
    except MathsError as error:  # the page is written all the same
        logger.warning("%s", error, location=node, type="dtl", subtype="formula")
        return f'<code class="undrawn">{escape(node.astext())}</code>'


def _inline(translator, node: nodes.math) -> None:
    translator.body.append(_drawn(node, block=False))
    raise nodes.SkipNode


def _block(translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="maths">{_drawn(node, block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, object]:
    """Give Sphinx the renderer of formulas."""
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}

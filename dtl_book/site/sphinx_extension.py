"""What the site asks of Sphinx beyond its themes and parsers: formulas as MathML, and pages that need no network."""

from __future__ import annotations

import re
from html import escape

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

from .mathml import MathsError, mathml

logger = logging.getLogger(__name__)
BROKEN_FORMULA = "dtl.formula"  # the type of the warning; the site is written all the same


def slug(heading: str) -> str:
    """The anchor of a heading as JupyterLab makes it, so that links between notebooks hold in both."""
    return heading.strip().replace(" ", "-")


def _drawn(node: nodes.Element, block: bool) -> str:
    try:
        return mathml(node.astext(), block)
    except MathsError as error:
        logger.warning("%s", error, location=node, type="dtl", subtype="formula")
        return f'<code class="undrawn">{escape(node.astext())}</code>'


def _inline(translator, node: nodes.math) -> None:
    translator.body.append(_drawn(node, block=False))
    raise nodes.SkipNode


def _block(translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="maths">{_drawn(node, block=True)}</div>\n')
    raise nodes.SkipNode


def _keep_together(text: str) -> str:
    """No line break between an inline formula and the bracket or comma that touches it, across bold and italics."""
    pattern = r'(\(?)(<math [^>]*display="inline".*?</math>)([).,;:!?]*)'
    text = re.sub(pattern, lambda m: f'<span class="nobr">{m[0]}</span>' if m[1] or m[3] else m[0], text, flags=re.S)
    emphasis = r'<(strong|em)>[^<>]{0,24}<math [^>]*display="inline"(?:(?!</math>).)*</math></\1>[).,;:!?]'
    return re.sub(emphasis, r'<span class="nobr">\g<0></span>', text, flags=re.S)


def _finish_page(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: nodes.document | None) -> None:
    for part in ("body", "furo_navigation_tree"):  # Sphinx gives the captions of contents a role without its level
        if part in context:
            context[part] = context[part].replace('role="heading">', 'role="heading" aria-level="2">')
    if "body" in context:
        # the label would hide the summary's own words from a screen reader
        context["body"] = _keep_together(context["body"]).replace(' aria-label="Toggle hidden content"', "")
    # without it a browser asks the server for /favicon.ico
    context["metatags"] = context.get("metatags", "") + '<link rel="icon" href="data:,">'


def setup(app: Sphinx) -> dict[str, object]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    app.connect("html-page-context", _finish_page, priority=900)  # after the theme
    return {"parallel_read_safe": True, "parallel_write_safe": True}

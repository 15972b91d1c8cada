"""What the pages need beyond their theme: an anchor as JupyterLab makes it, names for screen readers, no line break in a formula."""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx


def slug(heading: str) -> str:
    """Return the anchor of a heading as JupyterLab makes it, so that links between notebooks hold in both."""
    return heading.strip().replace(" ", "-")


def _keep_together(text: str) -> str:
    """Allow no line break between an inline formula and the bracket or comma that touches it, across bold and italics."""
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
    """Connect to Sphinx."""
    app.connect("html-page-context", _finish_page, priority=900)  # after the theme
    return {"parallel_read_safe": True, "parallel_write_safe": True}

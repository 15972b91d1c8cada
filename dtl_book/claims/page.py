"""The claims as HTML: the values of their template, and a page of their own, to send or to print."""

from __future__ import annotations

from pathlib import Path

import jinja2
from markupsafe import Markup

from dtl_core.files import written_whole

from .. import paths
from .claim import VERDICTS
from .verdicts import SIGNS, load_claims, load_verdicts


def templates(*folders: Path) -> jinja2.Environment:
    """Return the Jinja environment over ``site/_templates`` of the checkout and further folders. It escapes what is filled in."""
    loader = jinja2.FileSystemLoader([*folders, paths.CHECKOUT / "site" / "_templates"])
    options = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True, "undefined": jinja2.StrictUndefined}
    return jinja2.Environment(loader=loader, **options)


def claims_values(verdicts: Path | None = None) -> dict[str, object]:
    """Return the values of ``claims.html.j2``, without titles and links of notebooks. Unrecorded claims have no verdict.

    Raises:
        DamagedFile: the recorded verdicts are damaged.
    """
    try:
        recorded = {row["id"]: row for row in load_verdicts(verdicts)}
    except FileNotFoundError:
        recorded = {}
    given = [row["verdict"] for row in recorded.values()]
    counts = {verdict: given.count(verdict) for verdict in reversed(VERDICTS) if verdict in given}
    return {"claims": load_claims(), "recorded": recorded, "counts": counts, "signs": SIGNS}


def write_claims_html(path: Path | None = None) -> Path:
    """Write the claims as a self-contained page, ``build/claims.html`` of the project if no path is given."""
    path = path or paths.build_dir() / "claims.html"
    style = Markup((paths.CHECKOUT / "site" / "_static" / "workbook.css").read_text(encoding="utf-8"))
    page = templates().get_template("claims_alone.html.j2")
    text = page.render(style=style, titles={}, links={}, **claims_values())
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return path

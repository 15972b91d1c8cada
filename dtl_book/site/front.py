"""The first page of the site: the paper's claims and their verdicts, the map of the notebooks, how this run went."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from dtl_core.files import written_whole

from .. import paths
from ..claims import VERDICTS, load_claims, load_verdicts
from ..claims.verdicts import SIGNS
from ..notebooks.catalog import NotebookInfo, project_address
from ..notebooks.kernel import Ran
from ..tables.memory_forms import load_trade_rows, trade_sentence, trade_table

RAW = "`" * 12 + "{raw} html\n%s\n" + "`" * 12  # a fence longer than any that an error message may hold
PICTURE = "images/time-memory.png"
FOLDERS = ("exercises", "solutions")


def _filled(name: str, **values: object) -> str:
    """A template of ``resources/site`` as HTML; what is filled in is escaped."""
    source = (paths.RESOURCES / "site" / name).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(source).render(**values).strip()


def _render(name: str, **values: object) -> str:
    """A template as HTML in the Markdown of a page."""
    return RAW % _filled(name, **values)


def _claims(titles: dict[str, str], links: dict[str, str], verdicts: Path | None) -> dict[str, object]:
    """What the template of the claims is filled with; see ``claims_page``."""
    try:
        found = {row["id"]: row for row in load_verdicts(verdicts)}
    except FileNotFoundError:
        found = {}
    claims = []
    for claim in load_claims():
        here = [(number, titles[number], links[number]) for number in claim.notebooks if number in links]
        claims.append(
            {
                "id": claim.id,
                "text": claim.text,
                "source": claim.source,
                "here": here,
                "context": claim.context,
                "recorded": found.get(claim.id),
            }  # fmt: skip
        )
    given = [row["verdict"] for row in found.values()]
    counts = {verdict: given.count(verdict) for verdict in reversed(VERDICTS) if verdict in given}
    return {"claims": claims, "counts": counts, "signs": SIGNS}


def write_claims_html(path: Path | None = None, verdicts: Path | None = None) -> Path:
    """Writes the claims as a page of its own, to send or to print: one file, which needs no network and no other file.

    Args:
        path: where; ``build/claims.html`` of the project without it.
        verdicts: see ``claims_page``.

    Raises:
        DamagedFile: the recorded verdicts are not whole.
    """
    path = path or paths.project_dir() / "build" / "claims.html"
    style = Markup((paths.RESOURCES / "site" / "static" / "workbook.css").read_text(encoding="utf-8"))
    claims = Markup(_filled("claims.html.j2", **_claims({}, {}, verdicts)))
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        temporary.write_text(_filled("claims_alone.html.j2", style=style, claims=claims) + "\n", encoding="utf-8")
    return path


def claims_page(titles: dict[str, str], links: dict[str, str], verdicts: Path | None = None) -> str:
    """The claims of the paper, one after the other, with their verdicts and evidence where these are recorded.

    Args:
        titles: number of a notebook -> its title.
        links: number of a notebook -> its page, relative to this one.
        verdicts: the recorded verdicts; ``results/claims.json`` of the project without it.

    Returns:
        Markdown below a heading of the second level.

    Raises:
        DamagedFile: the recorded verdicts are not whole.
    """
    return "## The claims\n\n" + _render("claims.html.j2", **_claims(titles, links, verdicts))


def _cards(cards: pd.DataFrame) -> list[dict[str, str]]:
    """Rows of the table of what was trained, as text; a dash for what is missing."""
    digits = {"accuracy": "{:.3f}", "seconds": "{:.0f}"}
    return [
        {
            key: "–" if value is None or value != value else digits.get(key, "{}").format(value)
            for key, value in row.items()
        }
        for row in cards.to_dict("records")
    ]


def _picture(source: Path | None) -> list[str]:
    """The picture of time against memory with its sentence and table; nothing where the site's sources lack one of them."""
    if source is None or not (source / PICTURE).is_file():
        return []
    try:
        frame = load_trade_rows()
    except FileNotFoundError:
        return []
    sentence = trade_sentence(frame)
    return [
        f"## Time against memory\n\n![{sentence}]({PICTURE})\n\n{sentence} Memory is planned, time measured on a CPU.",
        RAW % "<details><summary>The same as a table</summary>",
        "\n".join(trade_table(frame)),
        RAW % "</details>",
    ]


def front_page(
    infos: list[NotebookInfo],
    docs: set[str],
    runs: dict[str, Ran],
    cards: pd.DataFrame,
    setting: str,
    verdicts: Path | None = None,
    source: Path | None = None,
) -> str:
    """The first page.

    Args:
        infos: the numbered notebooks in their order.
        docs: all pages, as paths without an ending (``exercises/05_dtl_on_a_vit``).
        runs: notebook name -> how it went; notebooks that were not executed are missing.
        cards: as ``trained_in`` gives them.
        setting: one phrase on the profile.
        verdicts: see ``claims_page``.
        source: folder of the site's sources, with its pictures.

    Returns:
        MyST Markdown, with the table of contents of the site.
    """
    titles = {info.number: info.title for info in infos}
    links = {info.number: f"{info.name}.html" for info in infos if info.name in docs}
    extras = {
        info.name: [(kind, f"{kind}/{info.name}.html") for kind in FOLDERS if f"{kind}/{info.name}" in docs]
        for info in infos
    }
    failed = sum(run.error is not None for run in runs.values())
    parts = [
        "# The DTL workbook",
        _render(
            "about.html.j2",
            runs=runs,
            failed=failed,
            setting=setting,
            address=project_address() if paths.in_checkout() else "",
        ),
        *_picture(source),
        claims_page(titles, links, verdicts),
        "## The notebooks",
        _render("notebooks.html.j2", infos=infos, links=links, runs=runs, extras=extras),
    ]
    if len(cards):
        parts += ["## What was trained", _render("trained.html.j2", cards=_cards(cards))]
    more = [name for name in ("exercises/index", "solutions/index") if name in docs]
    texts = {"symbols": "Symbols", "teaching": "For teachers", "data": "Data and licences"}
    more += [f"{title} <{name}>" for name, title in texts.items() if name in docs]
    texts = {
        "results": "Results",
        "your-images": "Your own images",
        "many-runs": "Many runs",
        "colab-and-gpu": "On Colab and on a GPU",
        "class": "For a class",
        "api": "The library",
    }
    further = [f"{title} <{name}>" for name, title in texts.items() if name in docs]
    parts += [contents("Notebooks", [info.name for info in infos if info.name in docs])]
    parts += [contents("Practice, symbols, data", more)] if more else []
    parts += [contents("Results and guides", further)] if further else []
    return "\n\n".join(parts) + "\n"


def contents(caption: str, names: list[str], hidden: bool = True) -> str:
    """A table of contents: entries of the site's sidebar, and of the page itself where it is not hidden."""
    options = [":hidden:"] * hidden + [f":caption: {caption}"] * bool(caption) + [":maxdepth: 1"]
    return "\n".join(["```{toctree}", *options, "", *names, "```"])

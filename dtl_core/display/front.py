"""The first page of the site: the paper's claims and their verdicts, the map of the notebooks, how this run went."""

from __future__ import annotations

import json
from pathlib import Path

import jinja2
import pandas as pd

from dtl_core import paths
from dtl_core.files import DamagedFile

from .catalog import NotebookInfo, project_address
from .kernel import Ran

RAW = "`" * 12 + "{raw} html\n%s\n" + "`" * 12  # a fence longer than any that an error message may hold
VERDICTS = ("supported", "not supported", "different setting", "not run")  # in the order in which they are counted
EMPTY = {"evidence": "", "setting": "", "date": "", "command": ""}  # what a row may lack
FOLDERS = ("exercises", "solutions")


def _render(name: str, **values: object) -> str:
    """A template of ``resources/site`` as HTML in the page's Markdown; what is filled in is escaped."""
    source = (paths.RESOURCES / "site" / name).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return RAW % environment.from_string(source).render(**values).strip()


def read_verdicts(path: Path) -> dict[str, dict]:
    """The recorded verdicts, by the claim's id: rows of ``results/claims.json``.

    Returns:
        id -> the row with ``verdict, evidence, setting, date, command``; nothing where nothing is recorded.

    Raises:
        DamagedFile: for a file that is no list of such rows.
    """
    if not path.is_file():
        return {}
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {row["id"]: {**EMPTY, **row, "verdict": row["verdict"]} for row in rows}
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedFile(
            f"{path} is not a list of verdicts, each with an id and a verdict: record the claims again"
        ) from error


def claims_page(titles: dict[str, str], links: dict[str, str], verdicts: Path | None = None) -> str:
    """The claims of the paper, one after the other, with their verdicts where these are recorded.

    Args:
        titles: number of a notebook -> its title.
        links: number of a notebook -> its page, relative to this one.
        verdicts: the file of ``read_verdicts``; ``results/claims.json`` of the project without it.

    Returns:
        Markdown below a heading of the second level.
    """
    found = read_verdicts(verdicts or paths.results_dir() / "claims.json")
    claims = pd.read_csv(paths.RESOURCES / "claims.csv", dtype=str, keep_default_na=False).to_dict("records")
    for claim in claims:
        numbers = sorted({*claim["notebooks"].split(), *claim["planned"].split()})
        claim["here"] = [(number, titles[number], links[number]) for number in numbers if number in links]
        claim["planned"] = [number for number in numbers if number not in titles]
        claim["recorded"] = found.get(claim["id"])
    given = [row["verdict"] for row in found.values()]
    counts = {
        verdict: given.count(verdict) for verdict in (*VERDICTS, *sorted(set(given) - {*VERDICTS})) if verdict in given
    }
    return "## The claims\n\n" + _render("claims.html.j2", claims=claims, counts=counts)


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


def front_page(
    infos: list[NotebookInfo],
    docs: set[str],
    runs: dict[str, Ran],
    cards: pd.DataFrame,
    setting: str,
    verdicts: Path | None = None,
) -> str:
    """The first page.

    Args:
        infos: the numbered notebooks in their order.
        docs: all pages, as paths without an ending (``exercises/05_dtl_on_a_vit``).
        runs: notebook name -> how it went; notebooks that were not executed are missing.
        cards: as ``trained_in`` gives them.
        setting: one phrase on the profile.
        verdicts: see ``claims_page``.

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
        claims_page(titles, links, verdicts),
        "## The notebooks",
        _render("notebooks.html.j2", infos=infos, links=links, runs=runs, extras=extras),
    ]
    if len(cards):
        parts += ["## What was trained", _render("trained.html.j2", cards=_cards(cards))]
    more = [name for name in ("exercises/index", "solutions/index") if name in docs]
    more += ["Data and licences <data>"] * ("data" in docs)
    parts += [contents("Notebooks", [info.name for info in infos if info.name in docs])]
    parts += [contents("Practice and data", more)] if more else []
    return "\n\n".join(parts) + "\n"


def contents(caption: str, names: list[str], hidden: bool = True) -> str:
    """A table of contents: entries of the site's sidebar, and of the page itself where it is not hidden."""
    options = [":hidden:"] * hidden + [f":caption: {caption}"] * bool(caption) + [":maxdepth: 1"]
    return "\n".join(["```{toctree}", *options, "", *names, "```"])

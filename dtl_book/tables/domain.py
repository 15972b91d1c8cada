"""Domain generalization from run cards: trained on the source alone, tested on it and on domains that were never seen."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from dtl_core.data.domain import OFFICIAL, official_domain

from ..experiments.cards import load_cards
from ..experiments.profiles import get_profile
from ..experiments.run_data import source_of
from ..experiments.settings import COMPARED, SEEDS
from ..standins.digits import DOMAINS, SHOTS
from .results import NAMES

NOT_RUN = "not run"
MEAN = "mean of targets"
COLUMNS = [
    "method", "domain", "mean", "spread", "seeds", "within", "within_spread", "lr", "parameters_without_head",
]  # fmt: skip
MARKS = ("<!-- domain: begin (dtl results --write) -->", "<!-- domain: end -->")


def domains_of(profile: str = "laptop") -> tuple[str, ...]:
    """The domains of a profile, the source first."""
    return tuple(OFFICIAL) if source_of(get_profile(profile)) in OFFICIAL else DOMAINS


def domain_setting(profile: str = "laptop") -> str:
    """The profile's setting, with the images that this benchmark trains on."""
    chosen = get_profile(profile)
    return f"{chosen.network}; trained on {SHOTS} images a class of {source_of(chosen)}"


def domain_scores(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Every recorded score: a row per method, seed and domain.

    Only runs on the source count, which test one trained model on every domain; a run for one target alone may have a
    learning rate of its own.

    Args:
        profile: whose cards.
        root: folder of the results; ``results_roots()`` if None.

    Returns:
        Columns method, seed, domain, accuracy and within (percent; within is missing where all classes occur), lr,
        parameters_without_head. Empty where nothing is recorded.
    """
    cards, rows = load_cards(profile, "domain", root=root), []
    for _, card in cards.iterrows():
        if card["task"] != source_of(get_profile(profile)):
            continue
        own = {"accuracy": card["accuracy"], "accuracy_within": card["accuracy_within"]}
        for name, score in {card["task"]: own, **card["targets"]}.items():
            inside = score.get("accuracy_within")
            rows.append(
                {
                    "method": card["method"],
                    "seed": card["seed"],
                    "domain": official_domain(name) or name,  # a folder may go by another of its names
                    "accuracy": 100 * score["accuracy"],
                    "within": None if inside is None else 100 * inside,
                    "lr": card["lr"],
                    "parameters_without_head": card["parameters_without_head"],
                }
            )
    columns = ["method", "seed", "domain", "accuracy", "within", "lr", "parameters_without_head"]
    return pd.DataFrame(rows, columns=columns).astype({"accuracy": float, "within": float})


def domain_table(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Mean and spread over the seeds of each method on each domain.

    Args:
        profile: whose cards.
        root: folder of the results; ``results_roots()`` if None.

    Returns:
        Columns method, domain, mean, spread (standard deviation over the seeds, n - 1), seeds, within and within_spread
        (the answer sought among the classes that occur; missing where these are all), lr, parameters_without_head. In
        percent. A row per pair that is recorded: none where nothing is.
    """
    scores, rows = domain_scores(profile, root), []
    for (method, domain), group in scores.groupby(["method", "domain"], sort=False):
        first = group.iloc[0]
        rows.append(
            (
                method,
                domain,
                group["accuracy"].mean(),
                group["accuracy"].std(ddof=1),
                len(group),
                group["within"].mean(),
                group["within"].std(ddof=1),
                first["lr"],
                first["parameters_without_head"],
            )
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def target_means(profile: str = "laptop", root: Path | None = None) -> dict[str, pd.Series]:
    """The mean over the targets, the source left out: method -> percent by seed. Only for a method recorded in full."""
    scores, means = domain_scores(profile, root), {}
    targets = list(domains_of(profile)[1:])
    for method, mine in scores.groupby("method"):
        grid = mine.pivot(index="seed", columns="domain", values="accuracy").reindex(index=SEEDS, columns=targets)
        if grid.notna().all(axis=None):
            means[method] = grid.mean(axis=1)
    return means


def domain_cells(profile: str = "laptop", root: Path | None = None, column: str = "mean") -> pd.DataFrame:
    """``domain_table`` as texts: a row per method of ``COMPARED``, a column per domain, and the mean of the targets.

    Args:
        profile, root: see ``domain_table``.
        column: "mean", or "within".

    Returns:
        Index: method. "71.0 ± 1.0" with all seeds, "71.0 (1 of 3 seeds)" with some, "not run" with none; the mean of the
        targets ("mean" alone) is a dash unless the method is recorded in full.
    """
    results = domain_table(profile, root).set_index(["method", "domain"])
    spread = {"mean": "spread", "within": "within_spread"}[column]
    means, rows = target_means(profile, root), []
    for method in COMPARED:
        cells = {}
        for domain in domains_of(profile):
            row = results.loc[(method, domain)] if (method, domain) in results.index else None
            if row is None:
                cells[domain] = NOT_RUN
            elif pd.isna(row[column]):
                cells[domain] = "–"
            else:
                short = row["seeds"] < len(SEEDS)
                more = f" ({int(row['seeds'])} of {len(SEEDS)} seeds)" if short else f" ± {row[spread]:.1f}"
                cells[domain] = f"{row[column]:.1f}{more}"
        if column == "mean":
            cells[MEAN] = f"{means[method].mean():.1f} ± {means[method].std(ddof=1):.1f}" if method in means else "–"
        rows.append(cells)
    return pd.DataFrame(rows, index=pd.Index(COMPARED, name="method"))


def domain_status(profile: str = "laptop", root: Path | None = None) -> str:
    """One sentence: how many of the final runs are recorded."""
    scores = domain_scores(profile, root)
    mine = scores[scores["method"].isin(COMPARED) & scores["seed"].isin(SEEDS)]
    there, whole = len(mine.drop_duplicates(["method", "seed"])), len(COMPARED) * len(SEEDS)
    return f"All {whole} final runs are recorded." if there == whole else f"{there} of {whole} final runs are recorded."


def domain_markdown(profile: str = "laptop", root: Path | None = None) -> str:
    """The table in Markdown, with its setting. What is not recorded says "not run"."""
    cells, results = domain_cells(profile, root), domain_table(profile, root)
    lines = [
        "| method | parameters | " + " | ".join(cells.columns) + " |",
        "|---|" + "--:|" * (len(cells.columns) + 1),
    ]
    for method, row in cells.iterrows():
        counts = results.loc[results["method"] == method, "parameters_without_head"]
        count = f"{int(counts.iloc[0]):,}" if len(counts) else "–"
        lines.append(f"| {NAMES[method]} | {count} | " + " | ".join(row) + " |")
    cards = load_cards(profile, "domain", root=root)
    epochs = sorted({recipe["epochs"] for recipe in cards["recipe"]}) if len(cards) else []
    length = f" {' or '.join(map(str, epochs))} epochs;" if epochs else ""
    protocols = sorted(set(cards["protocol"])) if len(cards) else []
    rule = " one learning rate a method for all domains, chosen on validation images of the source alone."
    note = (
        f"Test accuracy in percent, mean ± standard deviation over {len(SEEDS)} seeds, each with its own training images. "
        f"Setting: {domain_setting(profile)};{length}"
        f"{rule if protocols in ([], ['clean']) else ' protocol: ' + ', '.join(protocols) + '.'} "
        f"Parameters without the head. The last column leaves the source out. {domain_status(profile, root)}"
    )
    return "\n".join([*lines, "", note])

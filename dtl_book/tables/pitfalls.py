"""The field's pitfalls from run cards: what a switch does to the accuracy, beside the same run without it."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pandas as pd

from ..experiments.cards import load_cards
from ..experiments.pitfalls import Pitfalls
from ..experiments.profiles import get_profile
from ..experiments.settings import SEEDS
from .results import NAMES

GROUP = "pitfalls"  # folder of the cards; the runs without a switch are those of the table of VTAB-1K
TASKS = ("mnist", "elpv")  # the laptop's real pictures
# the paper profile's: released without loss, and JPEG in the common archive, as the field reports
OFFICIAL = ("svhn", "cifar")
METHODS = ("linear", "dtl")
SWITCHES = {
    "half": Pitfalls(normalisation="half"),  # the packaged ViT wants ImageNet's
    "jpeg75": Pitfalls(jpeg=75),
    "jpeg30": Pitfalls(jpeg=30),
    "cls": Pitfalls(readout="cls"),
}
TITLES = {
    "half": "normalised with 0.5, where the weights want ImageNet's",
    "jpeg75": "pictures stored as JPEG, quality 75",
    "jpeg30": "pictures stored as JPEG, quality 30",
    "cls": "class token read out, not the mean",
}
MARKS = ("<!-- pitfalls: begin (dtl results --write) -->", "<!-- pitfalls: end -->")
NOT_RUN, NO_SUCH = "not run", "–"


def pitfall_tasks(profile: str) -> tuple[str, ...]:
    """The two tasks that a profile measures the pitfalls on."""
    return OFFICIAL if profile == "paper" else TASKS


def is_run(method: str, variant: str) -> bool:
    """Whether a method has such a run: DTL reads the mean and nothing else."""
    return not (method.startswith("dtl") and SWITCHES[variant].readout == "cls")


def pitfall_differences(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """Every pair of a run with one switch turned and the run that is the same but for it.

    A pair has one task, method, seed and backbone, and one recipe to the last value: whatever else differed would stand in
    the difference too.

    Args:
        profile: whose cards.
        root: folder of the results; ``results_roots()`` if None.

    Returns:
        Columns pitfall (a key of ``SWITCHES``), task, method, seed, without, with, difference (with less without), in
        percent; a row per pair.
    """
    plain, turned = load_cards(profile, root=root), load_cards(profile, GROUP, root=root)
    names = {tuple(sorted(switch.turned().items())): name for name, switch in SWITCHES.items()}
    rows = []
    for card in turned.itertuples() if len(plain) else ():
        pitfall = names.get(tuple(sorted(card.switches.items())))
        mine = plain[(plain["task"] == card.task) & (plain["method"] == card.method) & (plain["seed"] == card.seed)]
        for other in mine.itertuples():
            if pitfall and (other.recipe, other.backbone_sha256) == (card.recipe, card.backbone_sha256):
                scores = 100 * other.accuracy, 100 * card.accuracy
                rows.append((pitfall, card.task, card.method, card.seed, *scores, scores[1] - scores[0]))
    columns = ["pitfall", "task", "method", "seed", "without", "with", "difference"]
    return pd.DataFrame(rows, columns=columns)


def pitfalls_table(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """What each pitfall does, mean and spread over the seeds.

    Args:
        profile, root: see ``pitfall_differences``.

    Returns:
        A row for every pitfall, task and method that there is a run of: pitfall, task, method, seeds (pairs), without, with,
        difference, spread (of the difference; standard deviation over seeds, n - 1). Numbers are NaN where nothing is recorded.
    """
    pairs, rows = pitfall_differences(profile, root), []
    for pitfall, task, method in product(SWITCHES, pitfall_tasks(profile), METHODS):
        if not is_run(method, pitfall):
            continue
        mine = pairs[(pairs["pitfall"] == pitfall) & (pairs["task"] == task) & (pairs["method"] == method)]
        means = (mine[name].astype(float).mean() for name in ("without", "with", "difference"))
        rows.append((pitfall, task, method, len(mine), *means, mine["difference"].astype(float).std(ddof=1)))
    columns = ["pitfall", "task", "method", "seeds", "without", "with", "difference", "spread"]
    return pd.DataFrame(rows, columns=columns)


def pitfalls_cells(profile: str = "laptop", root: Path | None = None) -> pd.DataFrame:
    """``pitfalls_table`` as texts: a row per pitfall, a column per task and method, "-1.2 ± 0.4" in each cell.

    A cell without all of its seeds says how many it has, one without any "not run"; a dash means that there is no such run.
    """
    table, rows = pitfalls_table(profile, root).set_index(["pitfall", "task", "method"]), []
    for pitfall in SWITCHES:
        row = {"pitfall": TITLES[pitfall]}
        for task, method in product(pitfall_tasks(profile), METHODS):
            text = NO_SUCH
            if is_run(method, pitfall):
                cell = table.loc[(pitfall, task, method)]
                whole = cell["seeds"] == len(SEEDS)
                more = f" ± {cell['spread']:.1f}" if whole else f" ({cell['seeds']:.0f} of {len(SEEDS)} seeds)"
                text = f"{cell['difference']:+.1f}{more}" if cell["seeds"] else NOT_RUN
            row[f"{task}, {NAMES[method]}"] = text
        rows.append(row)
    return pd.DataFrame(rows)


def pitfalls_status(profile: str = "laptop", root: Path | None = None) -> str:
    """One sentence: how many of the runs are recorded."""
    table = pitfalls_table(profile, root)
    there, whole = int(table["seeds"].sum()), len(table) * len(SEEDS)
    return f"All {whole} pairs are recorded." if there == whole else f"{there} of {whole} pairs are recorded."


def pitfalls_markdown(profile: str = "laptop", root: Path | None = None) -> str:
    """The table in Markdown, with its setting. What is not recorded says "not run"."""
    setting = get_profile(profile).setting
    if pitfall_differences(profile, root).empty:
        return f"*No pitfall is recorded for the profile {profile} ({setting}): not run.*"
    cells = pitfalls_cells(profile, root)
    lines = [
        f"| {' | '.join(cells.columns)} |",
        "|---|" + "--:|" * (len(cells.columns) - 1),
        *(f"| {' | '.join(row)} |" for row in cells.itertuples(index=False)),
    ]
    note = (
        "Change of the test accuracy in points, paired by seed with the same run without the switch (same learning rate, chosen "
        f"without it), mean ± standard deviation over {len(SEEDS)} seeds. Setting: {setting}. DTL reads the mean alone, so it has "
        f"no run with the class token. {pitfalls_status(profile, root)}"
    )
    return "\n".join([*lines, "", note])

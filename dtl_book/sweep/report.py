"""The plan of a sweep, made where its runs will be, and its summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from dtl_core.backbones import load_backbone
from dtl_core.files import check_writable, written_whole

from ..experiments.execution import prepare
from ..experiments.preflight import CannotFit, format_seconds, preflight
from ..experiments.profiles import get_profile
from ..experiments.recipes import recipe_of
from ..experiments.run import Run
from ..experiments.run_data import open_data
from ..paths import results_dir, shown

if TYPE_CHECKING:
    from .runner import Result
    from .workers import Workers


def check_sweep(runs: Sequence[Run], pool: Workers) -> None:
    """Print the plan of the runs, as their workers find it.

    Raises:
        CannotFit: a method has no room on the device.
        RuntimeError: the survey failed, e.g. because data are missing.
    """
    check_writable(runs[0].card())
    asked = {"runs": [asdict(run) for run in runs], "slots": pool.slots(), "share": max(1, min(pool.share, len(runs)))}
    outcome = pool.submit("survey", asked, "pre-flight").result()
    if outcome.error:
        raise RuntimeError(outcome.error)
    print(outcome.value["text"], flush=True)
    if outcome.value["refusal"]:
        raise CannotFit(outcome.value["refusal"])


def survey(asked: dict) -> dict:
    """Open the data of every task, and prepare and time one run of each kind.

    Takes ``runs`` of one profile, ``slots`` (runs at a time) and ``share`` (runs that share a device's memory). Returns
    ``text`` (weights, data, device; a row per kind of run: memory of a step, time of its runs) and ``refusal``: what does not fit.
    """
    runs = [Run.from_dict(run) for run in asked["runs"]]
    info = load_backbone(runs[0].sizes.backbone, image_size=runs[0].sizes.image_size).dtl_info
    opened, sizes, kinds = {}, {}, {}
    for run in runs:
        place = run.where, run.purpose
        data = opened[place] = opened.get(place) or open_data(run, info)
        tests = len(data.test) + sum(map(len, data.targets.values()))
        sizes[run] = len(data.train), tests, recipe_of(run, images=len(data.train)).total_epochs
        kinds.setdefault(_kind(run), []).append(run)
    lines, refusals, seconds = [], [], []
    for kind, mine in kinds.items():
        ready = prepare(max(mine, key=lambda run: sizes[run][0]))  # a whole batch, where any has one
        found = preflight(ready, cached=ready.cacheable, share=asked["share"])
        times = [found.seconds(*sizes[run]) for run in mine]
        seconds += times
        many = "1 run" if len(mine) == 1 else f"{len(mine)} runs"
        time = "not timed" if None in times else f"its {many} about {format_seconds(sum(times))}"
        lines.append(f"{kind:8s} {'; '.join(filter(None, (found.memory(), found.disk(), time)))}")
        try:
            found.refuse()
        except CannotFit as refusal:
            refusals.append(str(refusal))
    at_once = min(asked["slots"], len(runs))
    head = [
        f"pre-flight: {len(runs)} runs, {at_once} at a time ({runs[0].sizes.setting_of(runs[0].benchmark)})",
        f"weights  {info.name}, sha256 {info.sha256}",
        f"device   {found.device}, {found.precision}, as the pre-flight found it",
    ]
    for (where, _), data in opened.items():
        for name, images in zip(data.names, (data.train, data.test), strict=True):
            head.append(f"data     {where}, {name}: {len(images):,} images, digest {images.digest}")
    if None not in seconds:
        whole = format_seconds(sum(seconds) / at_once)
        lines.append(f"time     about {whole} in all, from timed steps of each method")
    return {"text": "\n".join([*head, *lines]), "refusal": "\n".join(refusals)}


def _kind(run: Run) -> str:
    """Return the name of runs whose steps are alike: another size or M needs other memory, drop path stores no prefix."""
    name = run.label if run.function or run.first_block or run.rank or run.taps else run.method
    return f"{name} with drop path" if run.drop_path else name


def write_summary(results: list[Result], folder: Path) -> list[Result]:
    """Print means, spreads and failures, write a row per run to ``sweep.csv`` in ``folder``, and return the results."""
    table, path = summary_table(results), folder / "sweep.csv"
    print(summary_text(table))
    with written_whole(path) as temporary:
        temporary.write_text(table.to_csv(index=False), encoding="utf-8")
    print(f"written: {shown(path)}")
    return results


def summary_table(results: Sequence[Result]) -> pd.DataFrame:
    """Return a row per run: what it is, its learning rate and drop path, and its result."""
    rows = []
    for result in results:
        run, card = result.run, result.card
        row = {
            k: getattr(run, k)
            for k in ("profile", "benchmark", "purpose", "task", "shots", "where", "seed", "lr", "drop_path")
        }
        state = "done" if card else "failed"
        row |= {"method": run.label, "state": state, "tries": result.tries, "error": result.error}
        for name in ("accuracy", "balanced_accuracy", "seconds", "lr") if card else ("accuracy",):
            row[name] = getattr(card, name, None)
        if card:
            row |= {"drop_path": card.recipe["drop_path"], "card": run.card().relative_to(results_dir()).as_posix()}
        rows.append(row)
    return pd.DataFrame(rows)


def summary_text(table: pd.DataFrame) -> str:
    """Return mean and spread of the accuracy of the final runs in percent, a row per method; below it what failed."""
    final, cells = table[table["purpose"] == "final"], {}
    for (where, method), runs in final.groupby(["where", "method"], sort=False):
        done = 100 * runs["accuracy"].dropna().astype(float)
        spread = f" ± {done.std(ddof=1):.1f}" if len(done) > 1 else ""
        short = f" ({len(done)} of {len(runs)})" if len(done) < len(runs) else ""
        cells.setdefault(where, {})[method] = f"{done.mean():.1f}{spread}{short}" if len(done) else "failed"
    lines = []
    if cells:
        setting = get_profile(final["profile"].iloc[0]).setting_of(final["benchmark"].iloc[0])
        lines = [
            f"test accuracy in percent, seeds {sorted(set(final['seed']))}; {setting}",
            pd.DataFrame(cells).to_string(),
        ]
    for row in table[table["state"] == "failed"].itertuples():
        error = row.error.splitlines()[0]
        lines.append(f"failed: {row.method} on {row.where}, seed {row.seed}, {row.purpose}: {error}")
    return "\n".join(lines)

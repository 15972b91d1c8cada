"""What a sweep has come to: a row a run, and the means over the seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from dtl_core.files import written_whole

from ..experiments.profiles import get_profile
from ..paths import results_dir
from .loop import Result


def summary_table(results: Sequence[Result]) -> pd.DataFrame:
    """A row a run.

    Returns:
        Columns: benchmark, profile, purpose, task, shots, where (both in one), method, seed, lr, drop_path, state ("done" or "failed"), accuracy and
        balanced_accuracy (in [0, 1]), seconds (of training), tries (0: recorded before), error, card (below the results).
    """
    rows = []
    for r in results:
        job, card = r.job, r.card
        rows.append(
            {
                "benchmark": job.benchmark, "profile": job.profile, "purpose": job.purpose, "task": job.task,
                "shots": job.shots, "where": job.where, "method": job.label, "seed": job.seed, "lr": card.lr if card else job.lr,
                "drop_path": card.recipe["drop_path"] if card else job.drop_path,
                "state": "done" if card else "failed", "accuracy": card.accuracy if card else None,
                "balanced_accuracy": card.balanced_accuracy if card else None, "seconds": card.seconds if card else None,
                "tries": r.tries, "error": r.error,
                "card": job.card.relative_to(results_dir()).as_posix() if card else None,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def summary_text(table: pd.DataFrame) -> str:
    """Mean and spread of the accuracy of the final runs in percent, a row a method; below it what failed."""
    final, lines = table[table["purpose"] == "final"], []
    if len(final):
        tasks = list(dict.fromkeys(final["where"]))
        cells = pd.DataFrame("", index=list(dict.fromkeys(final["method"])), columns=tasks)
        for (method, task), runs in final.groupby(["method", "where"], sort=False):
            done = 100 * runs["accuracy"].dropna()
            spread = f" ± {done.std(ddof=1):.1f}" if len(done) > 1 else ""
            short = f" ({len(done)} of {len(runs)})" if len(done) < len(runs) else ""
            cells.loc[method, task] = f"{done.mean():.1f}{spread}{short}" if len(done) else "failed"
        kinds = final[["profile", "benchmark"]].drop_duplicates().itertuples(index=False)
        settings = "; ".join(dict.fromkeys(get_profile(profile).setting_of(benchmark) for profile, benchmark in kinds))
        seeds = final["seed"].nunique()
        lines = [
            f"test accuracy in percent, {seeds} {'seed' if seeds == 1 else 'seeds'}; {settings}",
            cells.to_string(),
        ]
    failed = table[table["state"] == "failed"]
    lines += [
        f"failed: {r.method} on {r.where}, seed {r.seed}, {r.purpose}: {r.error.splitlines()[0]}"
        for r in failed.itertuples()
    ]
    return "\n".join(lines)


def write_summary(table: pd.DataFrame, folder: Path) -> tuple[Path, Path]:
    """Writes ``sweep.json`` and ``sweep.csv``, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "sweep.json", folder / "sweep.csv"
    rows = json.loads(table.to_json(orient="records"))  # pandas' NaN as null
    for path, text in zip(paths, (json.dumps(rows, indent=1) + "\n", table.to_csv(index=False)), strict=True):
        with written_whole(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return paths

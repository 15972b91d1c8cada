"""From run cards to the cells of a table, for every table of accuracies.

In all functions here and in the other modules, ``profile`` says whose cards are read, and ``root`` is the only folder to
read (``results_roots()`` if None). A spread is the standard deviation over the seeds, with n - 1.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from ..experiments.settings import COMPARED, SEEDS

NOT_RUN, NOTHING = "not run", "–"
NAMES = {
    "linear": "Linear probe", "bitfit": "BitFit", "adaptformer": "AdaptFormer", "lora": "LoRA (r = 8)", "dtl": "DTL",
    "dtl+": "DTL+",
}  # fmt: skip
FIXED = {name: (name, "first") for name in ("lr", "parameters_without_head")}  # the same for all seeds


def percent(rows: pd.DataFrame) -> pd.DataFrame:
    """Return run cards, or rows like them, with the accuracy in percent."""
    return rows.assign(accuracy=100 * rows["accuracy"].astype(float))


def mean_sd(rows: pd.DataFrame, by: list[str], sort: bool = True, **more: tuple[str, str]) -> pd.DataFrame:
    """Return mean, spread and number of runs (``seeds``) of the accuracy for each group of ``percent`` rows.

    Groups are sorted, or in the order of the rows. ``more`` are further columns, as ``DataFrameGroupBy.agg`` takes them.
    """
    score = {"mean": ("accuracy", "mean"), "spread": ("accuracy", "std"), "seeds": ("accuracy", "size")}
    return rows.groupby(by, sort=sort).agg(**score, **more).reset_index()


def whole_grids(rows: pd.DataFrame, column: str, order: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Return the accuracies of each method that has all of its runs: a row per seed, a column for each of ``order``."""
    grids = {
        method: mine.pivot(index="seed", columns=column, values="accuracy").reindex(index=SEEDS, columns=order)
        for method, mine in rows.groupby("method")
    }
    return {m: grids[m] for m in COMPARED if m in grids and grids[m].notna().all(axis=None)}


def paired(rows: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Return the accuracies of two methods, a column each: a row for each seed that both have."""
    grid = rows.pivot(index="seed", columns="method", values="accuracy")
    return grid.reindex(columns=[first, second]).astype(float).dropna()


def cell(mean: float, spread: float, seeds: float, sign: str = "") -> str:
    """Return "71.0 ± 1.0" with all seeds, "71.0 (1 of 3 seeds)" with some, "not run" with none; a dash without a score."""
    if not seeds:
        return NOT_RUN
    if pd.isna(mean):
        return NOTHING
    return f"{mean:{sign}.1f}" + (f" ({seeds:.0f} of {len(SEEDS)} seeds)" if seeds < len(SEEDS) else f" ± {spread:.1f}")


def mean_cell(values: pd.Series) -> str:
    """Return the ``cell`` of these values, one per seed."""
    return cell(values.mean(), values.std(), len(values))


def cell_list(table: pd.DataFrame, score: tuple[str, str] = ("mean", "spread"), sign: str = "") -> list[str]:
    """Return the ``cell`` of each row of a table with the columns mean, spread and seeds."""
    return [cell(*row, sign) for row in zip(*(table[name] for name in (*score, "seeds")), strict=True)]


def cell_grid(table: pd.DataFrame, column: str, order: Iterable, texts: list[str] | None = None) -> pd.DataFrame:
    """Return the cells of a table: a row for each method of ``COMPARED``, a column for each of ``order``; "not run" in the gaps."""
    grid = table.assign(text=texts or cell_list(table)).pivot(index="method", columns=column, values="text")
    return grid.reindex(index=COMPARED, columns=order).fillna(NOT_RUN).rename_axis(columns=None)


def named(grid: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return a grid of methods as readers see it: first their names and numbers of trained parameters."""
    counts = table.groupby("method")["parameters_without_head"].agg(["min", "max"])

    def count(method: str) -> str:  # the paper's kernel of DTL+ differs by task
        if method not in counts.index:
            return NOTHING
        return " to ".join(dict.fromkeys(f"{number:,.0f}" for number in counts.loc[method]))

    first = {"method": [NAMES[m] for m in grid.index], "parameters": [count(m) for m in grid.index]}
    return pd.concat([pd.DataFrame(first), grid.reset_index(drop=True)], axis=1)


def markdown(texts: pd.DataFrame, left: int = 1) -> str:
    """Return a frame of texts as a Markdown table, its first ``left`` columns aligned to the left."""
    head, *lines = (f"| {' | '.join(row)} |" for row in (texts.columns, *texts.itertuples(index=False)))
    return "\n".join([head, "|" + "---|" * left + "--:|" * (len(texts.columns) - left), *lines])


def counted(there: int, whole: int, what: str) -> str:
    """Return "All 18 runs", or "3 of 18 runs"."""
    return f"{f'All {whole}' if there == whole else f'{there} of {whole}'} {what}"


def describe_runs(cards: pd.DataFrame, tried: pd.DataFrame, chosen: str = "per task and method on val200") -> str:
    """Describe how the final runs were done, and how and from what (``tried``, which may be empty) their settings were chosen."""
    grid = []
    drop_paths = (recipe["drop_path"] for recipe in tried["recipe"])
    for name, found in (("learning rate", tried["lr"]), ("drop path", drop_paths)):
        values = [f"{value:g}" for value in sorted(set(found))]
        if len(values) > 1:
            grid.append(f"{name} of {', '.join(values[:-1])} and {values[-1]}")
    choice = f" ({' and '.join(grid)}, chosen {chosen})" if grid else ""
    epochs = sorted({len(rows) for rows in cards["epochs"]})
    sizes = sorted({recipe["batch_size"] for recipe in cards["recipe"]})
    kinds = {name: " and ".join(sorted(set(cards[name]))) for name in ("precision", "device", "protocol")}
    return (
        f"{' to '.join(map(str, dict.fromkeys((epochs[0], epochs[-1]))))} epochs, batch {' or '.join(map(str, sizes))}, "
        f"{kinds['precision']}, {kinds['device'].upper()}; protocol: {kinds['protocol']}{choice}"
    )

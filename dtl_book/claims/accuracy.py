"""Checks of accuracies, on run cards. The paper's setting decides; a stand-in is shown under its own and decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dtl_core.data.domain import official_domain
from dtl_core.data.fewshot import SETS, SHOTS

from ..experiments.grids import ABLATIONS as GROUP
from ..experiments.grids import BASE, VALUES, task_of
from ..experiments.profiles import get_profile
from ..tables.benchmarks import domains_of, groups_of
from ..tables.cells import NAMES
from .claim import Finding, paper_number, today
from .trust import Scores, scores

PAPER, STAND_IN = "paper", "laptop"
SEVERAL = 3  # missing runs that are named; of more only the number
Mean = Callable[[str], tuple[np.ndarray, list[Scores]]]


def decided(judge: Callable[[str], tuple[bool, str, list[Scores]]], benchmark: str) -> Finding:
    """The verdict of the paper's setting where its runs are whole, else what the stand-in shows, else what is missing.

    Args:
        judge: a profile -> whether the claim holds there, its numbers, and the scores that they rest on.
        benchmark: for the setting.
    """
    reasons = []
    for profile in (PAPER, STAND_IN):
        holds, numbers, rests = judge(profile)
        if missing := [m for s in rests for m in s.missing]:
            reasons.append(_lacking(profile, rests, missing))
            continue
        setting, date = get_profile(profile).setting_of(benchmark), max(s.date for s in rests)
        stale = tuple(dict.fromkeys(note for s in rests for note in s.stale))
        if profile == PAPER:
            return Finding("supported" if holds else "not supported", numbers, setting, date, stale)
        part = "" if not reasons[0].startswith(f"{PAPER}: incomplete") else f"; {reasons[0]}"
        return Finding("different setting", f"{numbers}{part}", setting, date, stale)
    return Finding("not run", "; ".join(reasons), get_profile(PAPER).setting_of(benchmark), today())


def _lacking(profile: str, rests: list[Scores], missing: list[str]) -> str:
    if not any(s.cards for s in rests):
        return f"{profile}: no run is recorded"
    more = f"; and {len(missing) - SEVERAL} more" if len(missing) > SEVERAL else ""
    return f"{profile}: incomplete: {'; '.join(missing[:SEVERAL])}{more}"


def vtab_mean(profile: str, method: str, root: Path | None = None) -> tuple[np.ndarray, list[Scores]]:
    """The mean of the three group means, in percent by seed; empty where runs are missing."""
    groups = groups_of(profile)
    each = {t: scores(profile, "vtab-1k", t, method, root=root) for tasks in groups.values() for t in tasks}
    if not all(s.whole for s in each.values()):
        return np.array([]), list(each.values())
    means = [np.mean([[100 * c.accuracy for c in each[t].cards] for t in tasks], axis=0) for tasks in groups.values()]
    return np.mean(means, axis=0), list(each.values())


def few_shot_mean(profile: str, method: str, shots: int, root: Path | None = None) -> tuple[np.ndarray, list[Scores]]:
    """The mean over the sets at so many shots, in percent by drawing."""
    sets = few_shot_sets(profile)
    each = [scores(profile, "few-shot", name, method, shots, root=root) for name in sets]
    if not all(s.whole for s in each):
        return np.array([]), each
    return np.mean([[100 * c.accuracy for c in s.cards] for s in each], axis=0), each


def few_shot_sets(profile: str) -> tuple[str, ...]:
    """The sets of a profile."""
    return tuple(SETS) if profile == PAPER else ("typefaces",)


def domain_mean(profile: str, method: str, root: Path | None = None) -> tuple[np.ndarray, list[Scores]]:
    """The mean over the four targets of runs on the source, in percent by drawing; ImageNet-A and -R over 1,000 classes."""
    source, *names = domains_of(profile)
    found, rows = scores(profile, "domain", source, method, root=root), []
    for card in found.cards:
        targets = {official_domain(n) or n: s["accuracy"] for n, s in card.targets.items()}
        if missing := [n for n in names if n not in targets]:
            lacks = f"{method} on {source}, seed {card.seed}: not tested on {', '.join(missing)}"
            found = Scores(found.cards, (*found.missing, lacks), found.stale)
            continue
        rows.append(np.mean([100 * targets[n] for n in names]))
    return (np.array(rows) if found.whole else np.array([])), [found]


def said(values: np.ndarray) -> str:
    """Mean and spread over the seeds."""
    return f"{values.mean():.1f} ± {values.std(ddof=1):.1f}"


def _name(method: str) -> str:
    return NAMES.get(method, method)


def _best(
    mean: Mean, methods: Sequence[str], rivals: Sequence[str], margin: float, profile: str
) -> tuple[bool, str, list[Scores]]:
    """Whether the best of the methods is ahead of the best rival by more than ``margin`` (at least it, below 0).

    In the paper's setting every rival has to be whole. On the stand-in, which decides nothing, those that are not are
    left out by name.
    """
    means, rests, left_out, lacking = {}, [], [], []
    for method in (*methods, *rivals):
        values, found = mean(method)
        if len(values):
            means[method] = values
        elif profile != PAPER and method in rivals:
            left_out.append(method)
            lacking += found
            continue
        rests += found
    ours, others = ([m for m in names if m in means] for names in (methods, rivals))
    if not ours or not others:
        return False, "", [*rests, *lacking]
    mine, other = (max(names, key=lambda m: means[m].mean()) for names in (ours, others))
    ahead = means[mine].mean() - means[other].mean()
    without = f", without {', '.join(map(_name, left_out))} (not whole)" if left_out else ""
    numbers = f"{_name(mine)} {said(means[mine])}, best other {_name(other)} {said(means[other])} ({ahead:+.1f} points{without})"
    return (ahead >= margin if margin < 0 else ahead > margin), numbers, rests


def vtab_accuracy(method: str, tolerance: float, root: Path | None = None) -> Finding:
    """A method reaches the paper's mean of the group means; being above it is no fault."""
    value, around, source = paper_number(f"vtab-{method}")

    def judge(profile: str) -> tuple[bool, str, list[Scores]]:
        values, rests = vtab_mean(profile, method, root)
        if not len(values):
            return False, "", rests
        if profile != PAPER:  # another network and other tasks: no number of the paper belongs beside it
            return True, f"{_name(method)} {said(values)} on other tasks", rests
        return (
            values.mean() >= value - around - tolerance,
            f"{_name(method)} {said(values)}, {value} by {source}",
            rests,
        )

    return decided(judge, "vtab-1k")


def vtab_best(
    methods: Sequence[str],
    rivals: Sequence[str],
    stand_in_rivals: Sequence[str],
    margin: float,
    root: Path | None = None,
) -> Finding:
    """One of the methods has the best mean of the group means."""

    def judge(profile: str):
        others = rivals if profile == PAPER else stand_in_rivals
        return _best(lambda m: vtab_mean(profile, m, root), methods, others, margin, profile)

    return decided(judge, "vtab-1k")


def few_shot_best(methods: Sequence[str], rivals: Sequence[str], root: Path | None = None) -> Finding:
    """One of the methods is ahead of every rival at every number of shots."""

    def judge(profile: str):
        words, rests, ahead = [], [], []
        for n in SHOTS:
            better, numbers, found = _best(
                lambda m, n=n: few_shot_mean(profile, m, n, root), methods, rivals, 0.0, profile
            )
            rests += found
            ahead.append(better)
            words.append(f"{n} {'shot' if n == 1 else 'shots'}: {numbers}")
        return all(ahead), "; ".join(words), rests

    return decided(judge, "few-shot")


def domain_best(methods: Sequence[str], rivals: Sequence[str], margin: float, root: Path | None = None) -> Finding:
    """One of the methods has the best mean of the targets, or is within a margin of it."""
    return decided(
        lambda profile: _best(lambda m: domain_mean(profile, m, root), methods, rivals, margin, profile), "domain"
    )


def accuracy_by_m(tolerance: float, root: Path | None = None) -> Finding:
    """At least half of the values of M are within a tolerance of the best."""
    tried = VALUES["inject_from"]

    def judge(profile: str):
        task = task_of(profile)
        rests = [
            scores(profile, "vtab-1k", task, "dtl", root=root)
            if m == BASE.inject_from
            else scores(profile, "vtab-1k", task, "dtl", group=GROUP, config=replace(BASE, inject_from=m), root=root)
            for m in tried
        ]
        if not all(s.whole for s in rests):
            return False, "", rests
        means = {m: np.array([100 * c.accuracy for c in s.cards]) for m, s in zip(tried, rests, strict=True)}
        best = max(v.mean() for v in means.values())
        close = [m for m, v in means.items() if v.mean() >= best - tolerance]
        numbers = ", ".join(f"M = {m}: {said(v)}" for m, v in means.items())
        return (
            2 * len(close) >= len(tried),
            f"{task}: {numbers}; {len(close)} of {len(tried)} within {tolerance:g}",
            rests,
        )

    return decided(judge, "vtab-1k")


def never_run(why: str, setting: str) -> Finding:
    """Nothing here can run it yet."""
    return Finding("not run", why, setting, today())

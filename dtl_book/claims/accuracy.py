"""C4 to C8, on which method is better. Only runs in the paper's setting decide; a stand-in is shown with its own setting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from dtl_core.data.domain import official_domain
from dtl_core.data.fewshot import SETS, SHOTS
from dtl_core.dtl import DTLConfig

from ..experiments.grids import VALUES, task_of
from ..experiments.profiles import get_profile
from ..tables.benchmarks import domains_of, groups_of
from ..tables.cells import NAMES
from ..tables.figure1 import NAMES as FIGURE
from .claim import Finding, finding, paper_number, today
from .costs import COUNTED, RIVALS, fewest_parameters, least_memory, parameters, peaks
from .trust import Scores, scores

PAPER, STAND_IN = "paper", "laptop"
COMPARED = ("linear", "bitfit", "adaptformer", "lora")  # what the workbook compares DTL and DTL+ with
SEVERAL = 3  # missing runs that are named; of more only the number
Answer = tuple[bool, str, Sequence[Scores]]  # whether it holds, its numbers, and the scores that they rest on


def C4(root: Path | None, tolerance: float = 0.5) -> Iterator[Finding]:
    """DTL has the least parameters, the least memory and the best accuracy of the methods of Figure 1 (76.7; DTL+ 77.7 on VTAB-1K).

    Source: Fig. 1
    Supported if: Least in both counts; on VTAB-1K within 0.5 points of the figure, and above the other methods of the
        figure, in the paper's setting with three seeds.
    Refuted if: Another method has less of either, or a higher mean of the group means; or the accuracy lies more than
        0.5 points below.
    Part: DTL trains the fewest parameters of the figure's methods [dtl figure1]
    Part: DTL needs the least memory of the figure's methods [dtl figure1]
    Part: DTL reaches 76.7 on VTAB-1K (mean of the group means) [dtl sweep --profile paper --methods dtl --seeds 0 1 2]
    Part: DTL+ reaches 77.7 on VTAB-1K (mean of the group means) [dtl sweep --profile paper --methods dtl+ --seeds 0 1
        2]
    Part: DTL is more accurate than the other methods of the figure [dtl sweep --profile paper --protocol clean
        --methods full bitfit vpt-deep lst adaptformer lora noah fact ssf dtl --lr 0.001 0.01]
    Notebooks: 09, 10
    Doubt it? `dtl data check vtab --root data/paper/vtab-1k`, then `dtl sweep --profile paper` on a GPU: 19 tasks,
        three seeds.
    Others: Well tuned, the methods, BitFit among them, come close to each other on VTAB-1K (Lessons and Insights, CVPR
        2025, arXiv 2409.16434).
    """
    yield fewest_parameters("DTL")
    yield least_memory(root, "DTL")

    def reaches(method: str, profile: str) -> Answer:
        value, around, source = paper_number(f"vtab-{method}")
        here = vtab(profile, root, method)
        if profile != PAPER:  # another network and other tasks: no number of the paper belongs beside it
            return True, f"{NAMES[method]} {here} on other tasks", [here]
        enough = here.mean >= value - around - tolerance  # being above it is no fault
        return enough, f"{NAMES[method]} {here}, {value} by {source}", [here]

    yield decided("vtab-1k", partial(reaches, "dtl"))
    yield decided("vtab-1k", partial(reaches, "dtl+"))

    def ahead(profile: str) -> Answer:
        of_figure = [FIGURE[label] for label in RIVALS]
        return best(["dtl"], of_figure if profile == PAPER else COMPARED, partial(vtab, profile, root), profile)

    yield decided("vtab-1k", ahead)


def C5(root: Path | None, points: float = 1.0) -> Iterator[Finding]:
    """Memory falls as M grows, and accuracy holds over a wide range of M.

    Source: Fig. 4 (values not known)
    Supported if: The planned memory falls with every step of M; at least half of the values of M tried are within 1
        point of the best.
    Refuted if: It does not fall, or fewer than half are within 1 point.
    Part: memory falls with every step of M from 0 to 10 [make explorer]
    Part: at least half of the values of M are within 1 point of the best [dtl record --profile paper --parts vtab-1k
        ablations --methods dtl --tasks dsprites_loc]
    Notebooks: 08, 09, 13
    Doubt it? Other M: the explorer (`make explorer`). `dtl record --parts ablations` trains them on the laptop, with
        `--profile paper` on an official task.
    """
    configs = {m: replace(DTLConfig(), inject_from=m) for m in VALUES["inject_from"]}
    here = peaks(root, [], {m: ("dtl", {"recompute": "none", "config": config}) for m, config in configs.items()})
    words = ", ".join(f"M = {m}: {gib:.2f}{here.beside(m)}" for m, gib in here.gib.items())
    yield finding(all(a > b for a, b in pairwise(here.gib.values())), f"GiB: {words}", here.setting)

    def holds(profile: str) -> Answer:
        task = task_of(profile)
        found = {m: scores(profile, "vtab-1k", task, "dtl", config=config, root=root) for m, config in configs.items()}
        highest = max(s.mean for s in found.values())
        close = sum(s.mean >= highest - points for s in found.values())
        words = ", ".join(f"M = {m}: {s}" for m, s in found.items())
        numbers = f"{task}: {words}; {close} of {len(found)} within {points:g}"
        return 2 * close >= len(found), numbers, list(found.values())

    yield decided("vtab-1k", holds)


def C6(root: Path | None, times: float = 1.1, most: int = 60_000) -> Iterator[Finding]:
    """DTL+ is better than DTL for a little more memory and few parameters.

    Source: Fig. 1, summary
    Supported if: At most 10 % more memory and under 0.06 M parameters; a higher mean of the group means on VTAB-1K in
        the paper's setting with three seeds.
    Refuted if: More of either; or no higher mean.
    Part: DTL+ needs at most 10 % more memory than DTL [dtl figure1]
    Part: DTL+ trains under 0.06 M parameters [dtl claims C6]
    Part: DTL+ is more accurate than DTL on VTAB-1K [dtl sweep --profile paper --methods dtl dtl+ --seeds 0 1 2]
    Notebooks: 07, 09, 10, 13
    Doubt it? Kernel by kernel: notebook 13; `dtl sweep --profile paper --methods dtl dtl+` on a GPU.
    """
    here = peaks(root, ["DTL", "DTL+"])
    ratio, plan = (gib["DTL+"] / gib["DTL"] for gib in (here.gib, here.planned))
    beside = f" ({plan:.3f} planned)" if here.measured else ""
    yield finding(ratio <= times, f"{ratio:.3f} times the memory of DTL{beside}", here.setting)

    count = parameters("DTL+")
    yield finding(count < most, f"{count:,} (mean over the kernels of the 19 tasks)", COUNTED)

    yield decided("vtab-1k", lambda profile: best(["dtl+"], ["dtl"], partial(vtab, profile, root), profile))


def C7(root: Path | None) -> Iterator[Finding]:
    """Few-shot: better than all baselines with fewer parameters and less memory (ViT-B/16, five sets, 1 to 16 shots).

    Source: Fig. 3 (values not known)
    Supported if: Fewer parameters and less memory than LoRA, AdaptFormer and BitFit; a higher mean over the five sets
        at every number of shots, in the paper's setting with three drawings.
    Refuted if: A baseline has less of either, or is ahead at a number of shots.
    Part: DTL trains fewer parameters than LoRA, AdaptFormer and BitFit [dtl figure1]
    Part: DTL needs less memory than LoRA, AdaptFormer and BitFit [dtl figure1]
    Part: DTL or DTL+ is ahead at every number of shots [dtl sweep --benchmark few-shot --profile paper --protocol clean
        --methods linear bitfit adaptformer lora dtl dtl+ --lr 0.001 0.01]
    Notebooks: 11
    Doubt it? The last command below, on a GPU; the baselines of Fig. 3 are not known here, those of this workbook stand
        in.
    Others: Many transfer methods offer little over full fine-tuning; it names a 'validation set illusion' and chooses
        by an ensemble over hyper-parameters (FewTrans, arXiv 2603.00478).
    """
    baselines = ("LoRA", "AdaptFormer", "BitFit")
    yield fewest_parameters("DTL", baselines)
    yield least_memory(root, "DTL", baselines)

    def ahead(profile: str) -> Answer:
        score = partial(few_shot, profile, root)
        answers = {n: best(["dtl", "dtl+"], COMPARED, partial(score, n), profile) for n in SHOTS}
        words = (f"{n} {'shot' if n == 1 else 'shots'}: {numbers}" for n, (_, numbers, _) in answers.items())
        rests = [s for _, _, several in answers.values() for s in several]
        return all(holds for holds, _, _ in answers.values()), "; ".join(words), rests

    yield decided("few-shot", ahead)


def C8(root: Path | None, points: float = 1.0) -> Iterator[Finding]:
    """Domain generalization: state of the art or competitive.

    Source: summary (values not known)
    Supported if: The mean over the four targets of DTL or DTL+ is the best of the methods compared, or within 1 point
        of it, in the paper's setting with three drawings.
    Refuted if: Both are more than 1 point behind.
    Part: DTL or DTL+ is at most 1 point behind the best mean of the targets [dtl sweep --benchmark domain --profile
        paper --protocol clean --methods linear bitfit adaptformer lora dtl dtl+ --lr 0.001 0.01]
    Notebooks: 12
    Doubt it? The command below, on a GPU; the paper's own rivals and numbers are not known here.
    """

    def close(profile: str) -> Answer:
        return best(["dtl", "dtl+"], COMPARED, partial(domain, profile, root), profile, margin=-points)

    yield decided("domain", close)


def decided(benchmark: str, judge: Callable[[str], Answer]) -> Finding:
    """Return the verdict in the paper's setting where its runs are complete, else what the stand-in shows or what is missing.

    ``judge`` takes a profile and says what its cards show.
    """
    reasons = []
    for profile in (PAPER, STAND_IN):
        holds, numbers, rests = judge(profile)
        cards, missing, stale = ([x for s in rests for x in getattr(s, what)] for what in ("cards", "missing", "stale"))
        if missing:
            more = [f"and {len(missing) - SEVERAL} more"] if len(missing) > SEVERAL else []
            lacking = f"incomplete: {'; '.join(missing[:SEVERAL] + more)}" if cards else "no run is recorded"
            reasons.append(f"{profile}: {lacking}")
            continue
        setting, date = get_profile(profile).setting_of(benchmark), max(card.created[:10] for card in cards)
        if profile == PAPER:
            return finding(holds, numbers, setting, date, tuple(dict.fromkeys(stale)))
        part = f"; {reasons[0]}" if reasons[0].startswith(f"{PAPER}: incomplete") else ""
        return Finding("different setting", numbers + part, setting, date, tuple(dict.fromkeys(stale)))
    return Finding("not run", "; ".join(reasons), get_profile(PAPER).setting_of(benchmark), today())


def best(
    methods: Sequence[str], rivals: Sequence[str], score: Callable[[str], Scores], profile: str, margin: float = 0.0
) -> Answer:
    """Return whether the best of the methods is ahead of the best rival by more than ``margin``, or by at least a negative one.

    In the paper's setting every rival has to be complete. On the stand-in, which decides nothing, incomplete rivals are
    left out and named.
    """
    found = {method: score(method) for method in (*methods, *rivals)}
    left_out = [m for m in rivals if profile != PAPER and found[m].missing]
    rivals = [m for m in rivals if m not in left_out] or rivals
    mine, other = (max(names, key=lambda m: found[m].mean) for names in (methods, rivals))
    ahead = found[mine].mean - found[other].mean
    names = {m: NAMES.get(m, m) for m in found}
    without = f", without {', '.join(names[m] for m in left_out)} (not whole)" if left_out else ""
    numbers = f"{names[mine]} {found[mine]}, best other {names[other]} {found[other]} ({ahead:+.1f} points{without})"
    return ahead >= margin if margin < 0 else ahead > margin, numbers, [found[m] for m in (*methods, *rivals)]


def vtab(profile: str, root: Path | None, method: str) -> Scores:
    """Return the mean of the three group means."""
    groups = groups_of(profile).values()
    return mean_of(mean_of(scores(profile, "vtab-1k", t, method, root=root) for t in tasks) for tasks in groups)


def few_shot(profile: str, root: Path | None, shots: int, method: str) -> Scores:
    """Return the mean over the sets at one number of shots."""
    sets = SETS if profile == PAPER else ("typefaces",)
    return mean_of(scores(profile, "few-shot", name, method, shots, root=root) for name in sets)


def domain(profile: str, root: Path | None, method: str) -> Scores:
    """Return the mean over the four targets of runs on the source; ImageNet-A and -R over 1,000 classes."""
    source, *names = domains_of(profile)
    found, values, missing = scores(profile, "domain", source, method, root=root), [], []
    for card in found.cards:
        targets = {official_domain(n) or n: 100 * s["accuracy"] for n, s in card.targets.items()}
        values.append(np.mean([targets.get(n, np.nan) for n in names]))
        if lacks := [n for n in names if n not in targets]:
            missing.append(f"{method} on {source}, seed {card.seed}: not tested on {', '.join(lacks)}")
    return replace(found, values=np.array(values or found.values), missing=(*found.missing, *missing))


def mean_of(found: Iterable[Scores]) -> Scores:
    """Return the mean by seed, and all the cards, gaps and stale notes behind it."""
    found = list(found)
    rests = (tuple(x for s in found for x in getattr(s, what)) for what in ("cards", "missing", "stale"))
    return Scores(np.mean([s.values for s in found], axis=0), *rests)

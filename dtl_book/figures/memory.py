"""Pictures and tables of planned and measured memory: what a step's bytes are for, and when they are alive."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from dtl_core.memory import GIB, KINDS, MIB, MemoryPlan

from ..tables.memory import memory_table

# Okabe and Ito's palette, told apart by colour-blind people
COLOURS = dict(zip(KINDS, ("#999999", "#0072B2", "#D55E00", "#CC79A7", "#F0E442", "#56B4E9", "#009E73"), strict=True))
# a hatch for each kind beside its colour, for readers who do not see the colours apart and for print
HATCHES = dict(zip(KINDS, ("", "xx", "..", "++", "oo", "//", "\\\\"), strict=True))
LEGIBLE = 0.085  # of the axis: a narrower part has no room for its number
PLACES = {"embed": "embed", "readout": "head", "head": "head", "loss": "loss", "optimizer": "step"}
FORWARD, BACKWARD = "#0072B2", "#D55E00"


def _unit(largest: int) -> tuple[int, str, int]:
    """Return the bytes of the axis's unit, its name, and the number of decimals."""
    return (GIB, "GiB", 2) if largest > 10 * GIB else (MIB, "MiB", 0)


def draw_memory(plans: dict[str, MemoryPlan], gpu_gib: float | None = None) -> Figure:
    """Draw a bar for each plan: the bytes at the peak, by what they are for. A GPU's memory is marked where it is near."""
    if not plans:
        raise ValueError("draw_memory needs at least one plan: draw_memory({'DTL': plan_training('dtl')})")
    largest = max(p.peak_bytes for p in plans.values())
    unit, name, digits = _unit(largest)
    longest = largest / unit
    marked = gpu_gib * GIB / unit if gpu_gib is not None and gpu_gib * GIB <= 1.6 * largest else None
    reach = 1.22 * max(longest, marked / 1.12 if marked else 0)
    fig = Figure(figsize=(6.4, 1.75 + 0.62 * len(plans)))
    ax = fig.subplots()
    shown = [k for k in KINDS if any(p.by_kind[k] / unit > 0.004 * reach for p in plans.values())]
    for row, plan in enumerate(plans.values()):
        _draw_bar(ax, row, plan, unit, reach, digits)
    if marked:
        ax.axvline(marked, color="#333333", ls="--", lw=1.6)
        ax.annotate(f"GPU {gpu_gib:g} GiB", (marked, -0.62), ha="right", xytext=(-4, 0), textcoords="offset points")
    boxes = [Patch(facecolor=COLOURS[k], hatch=HATCHES[k], edgecolor="#333333", lw=0.6, label=k) for k in shown]
    ax.set(xlim=(0, reach), ylim=(len(plans) - 0.45, -0.8 if marked else -0.5), xlabel=f"{name} at the peak of a step")
    ax.set_yticks(range(len(plans)), list(plans))
    ax.grid(axis="y", visible=False)
    fig.legend(handles=boxes, loc="outside lower left", ncols=2, fontsize=11.5, handlelength=1.7, columnspacing=1.2)
    return fig


def _draw_bar(ax, row: int, plan: MemoryPlan, unit: int, reach: float, digits: int) -> None:
    left = 0.0
    for kind in KINDS:
        width = plan.by_kind[kind] / unit
        style = {"color": COLOURS[kind], "hatch": HATCHES[kind], "edgecolor": "#333333", "lw": 0.6}
        ax.barh(row, width, left=left, height=0.64, **style)
        if width > LEGIBLE * reach:
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1.2, "alpha": 0.88}
            ax.text(left + width / 2, row, f"{width:,.{digits}f}", ha="center", va="center", fontsize=11, bbox=box)
        left += width
    ax.text(left + 0.012 * reach, row, f"{left:,.{digits}f}", va="center", weight="bold")


def memory_sentence(plans: dict[str, MemoryPlan]) -> str:
    """Describe ``draw_memory`` in one sentence: its alternative text."""
    full = next((p.peak_bytes for p in plans.values() if p.setting["method"] == "full"), None)
    parts = []
    for label, plan in plans.items():
        kind, most = max(plan.by_kind.items(), key=lambda item: item[1])
        share = f", {plan.peak_bytes / full:.0%} of full" if full and plan.peak_bytes != full else ""
        parts.append(
            f"{label} {plan.peak_bytes / MIB:,.0f} MiB{share} (most of it {kind}, {most / plan.peak_bytes:.0%})"
        )
    return f"Bytes at the peak of a training step, by what they are for: {'; '.join(parts)}."


@dataclass(frozen=True)
class Stretch:
    """A part of the step: "forward", "backward" or "optimizer", where, and the most bytes alive in it."""

    phase: str
    place: str
    bytes: int


def course(plan: MemoryPlan) -> list[Stretch]:
    """Return the plan's profile under the short names of the picture's axis; the readout goes with the head.

    The parts of any module keep their paths.
    """
    most: dict[tuple[str, str], int] = {}
    for row in plan.profile:
        if row["phase"] == "end":
            continue
        region = row["region"]
        place = region.removeprefix("block ") if region.startswith("block ") else PLACES.get(region, region)
        key = row["phase"], place
        most[key] = max(most.get(key, 0), row["bytes"])
    return [Stretch(phase, place, size) for (phase, place), size in most.items()]


def draw_profile(plan: MemoryPlan) -> Figure:
    """Draw the most bytes alive in each stretch of a step: forward from left to right, backward from right to left.

    Forward has circles and a full line, backward triangles and a dashed one, the optimizer's step a square.
    """
    stretches = course(plan)
    unit, name, digits = _unit(plan.peak_bytes)
    places = list(dict.fromkeys(["step", *(s.place for s in stretches if s.phase == "forward")]))
    x = {place: i for i, place in enumerate(places)}
    fig = Figure(figsize=(6.4, 3.9))
    ax = fig.subplots()
    ax.axhline(plan.static_bytes / unit, color="#6B6B6B", ls=":", lw=1.8, label="parameters, optimizer state, input")
    for phase, color, mark, label in (
        ("forward", FORWARD, "o-", "forward, read →"),
        ("backward", BACKWARD, "v--", "backward, read ←"),
        ("optimizer", "#000000", "s", "optimizer's step"),
    ):
        mine = [s for s in stretches if s.phase == phase]
        ax.plot([x[s.place] for s in mine], [s.bytes / unit for s in mine], mark, color=color, ms=6.5, label=label)
    top = max(stretches, key=lambda s: s.bytes)
    left = x[top.place] > len(places) / 2  # of the peak there is more room
    place = {"xytext": (-7 if left else 7, 7), "textcoords": "offset points", "ha": "right" if left else "left"}
    text = f"peak {top.bytes / unit:,.{digits}f} {name}"
    ax.annotate(text, (x[top.place], top.bytes / unit), weight="bold", **place)
    every = 1 if len(places) <= 16 else 3  # a deep backbone's labels would overlap
    ticks = [p for p in places if (int(p) % every == every - 1 if p.isdigit() else every == 1 or p in ("step", "loss"))]
    ax.set_xticks([x[p] for p in ticks], ticks, fontsize=11.5)
    for tick in ax.get_xticklabels():
        if not tick.get_text().isdigit():
            tick.set(rotation=45, ha="right", rotation_mode="anchor")
    ax.set(ylabel=f"{name} alive at most", ylim=(0, 1.16 * top.bytes / unit))
    ax.set_xlabel("embedding, blocks by number, head, loss" if "0" in places else "parts of the module, loss")
    fig.legend(loc="outside lower left", ncols=2, fontsize=11.5, columnspacing=1.2)
    return fig


def profile_sentence(plan: MemoryPlan) -> str:
    """Describe ``draw_profile`` in words: its alternative text."""
    stretches = course(plan)
    there = [s for s in stretches if s.phase == "forward"]
    crossed = [s.place for s in stretches if s.phase == "backward" and s.place not in PLACES.values()]
    crossed.sort(key=lambda place: -int(place) if place.isdigit() else 0)
    top = max(stretches, key=lambda s: s.bytes)
    back = (
        f"backward goes from {_in_words(crossed[0])} to {_in_words(crossed[-1])}"
        if crossed
        else "backward enters no block"
    )
    first = "the embedding" if there[0].place == "embed" else there[0].place
    return (
        f"Memory over one step: at most {there[0].bytes / MIB:,.0f} MiB in {first}, {there[-1].bytes / MIB:,.0f} MiB "
        f"when forward is at the loss; {back}; the peak, {plan.peak_bytes / MIB:,.0f} MiB, lies at {_in_words(top.place)} "
        f"({'optimizer' if top.place == 'step' else top.phase}). {plan.static_bytes / MIB:,.0f} MiB are there throughout."
    )


def _in_words(place: str) -> str:
    return f"block {place}" if place.isdigit() else f"the {place}" if place in PLACES.values() else place


__all__ = ["Stretch", "course", "draw_memory", "draw_profile", "memory_sentence", "memory_table", "profile_sentence"]

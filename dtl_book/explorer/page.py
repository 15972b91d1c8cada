"""What the memory explorer says about a setting, piece by piece, as HTML."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pandas as pd

from dtl_core.memory import GIB, MIB, MemoryPlan

from ..figures.memory import draw_memory, draw_profile, memory_sentence, memory_table, profile_sentence
from ..lab.plots import caption, png_of
from .setting import RESERVE_GIB, Setting, changes, fit, plan

NUMBER, SHARE = "{:,.1f}".format, "{:.0%}".format
NOT_PLANNED = (ValueError, TypeError, RuntimeError, AssertionError)  # a size or a backbone that does not fit a method


def ranked(now: MemoryPlan, plans: dict[str, tuple[MemoryPlan, str]], gpu_gib: float) -> pd.DataFrame:
    """Return the changes sorted by what they save, largest first."""
    room = (gpu_gib - RESERVE_GIB) * GIB
    rows = [
        {
            "change": label,
            "peak MiB": after.peak_bytes / MIB,
            "saves MiB": (now.peak_bytes - after.peak_bytes) / MIB,
            "of now": 1 - after.peak_bytes / now.peak_bytes,
            f"fits {gpu_gib:g} GiB": "yes" if after.peak_bytes <= room else "no",
            "what it costs": price,
        }
        for label, (after, price) in plans.items()
    ]
    return pd.DataFrame(rows).sort_values("saves MiB", ascending=False, ignore_index=True)


def headline(setting: Setting, found: MemoryPlan, gpu_gib: float) -> str:
    """Return the answer in two sentences, as HTML; ``data-bytes`` holds the exact peak."""
    spare = (gpu_gib - RESERVE_GIB) - found.peak_bytes / GIB
    fits = "fits" if spare >= 0 else "does not fit"
    rest = f"{spare:,.2f} GiB stay free" if spare >= 0 else f"{-spare:,.2f} GiB are missing"
    own = f", M = {found.setting['options']['config'].inject_from}" if setting.is_dtl else ""
    what = f"{setting.label}{own} on {setting.backbone}, batch {setting.batch_size}, {setting.image_size} px, {setting.precision}"
    return (
        f'<p class="what">{html.escape(what)}:</p><p class="answer"><strong data-bytes="{found.peak_bytes}">'
        f"{found.peak_bytes / MIB:,.1f} MiB</strong> ({found.peak_bytes / GIB:.2f} GiB) at the peak. "
        f"It <strong>{fits}</strong> a GPU of {gpu_gib:g} GiB: {rest}, with {RESERVE_GIB:g} GiB left to CUDA itself.</p>"
    )


def _table(frame: pd.DataFrame, text: str, formats: dict, index: bool) -> str:
    body = frame.to_html(border=0, index=index, index_names=False, formatters=formats)
    return f'<div class="table">{caption(text)}<div class="wide" tabindex="0">{body}</div></div>'


def _picture(figure, alt: str) -> str:
    data = base64.b64encode(png_of(figure)).decode()
    return f'<figure><img alt="{html.escape(alt)}" src="data:image/png;base64,{data}">{caption(alt)}</figure>'


def comparison(plans: dict[str, MemoryPlan], chosen: MemoryPlan, gpu_gib: float) -> str:
    """Return bars of the methods, the profile of the chosen one, and a table, as HTML."""
    frame = memory_table(plans)
    formats = {name: NUMBER for name in frame.columns[1:]} | {frame.columns[0]: "{:,.0f}".format, "of full": SHARE}
    text = "Trained parameters without the head, and bytes of one step, planned."
    return (
        f'<div class="pictures">{_picture(draw_memory(plans, gpu_gib), memory_sentence(plans))}'
        f"{_picture(draw_profile(chosen), profile_sentence(chosen))}</div>{_table(frame, text, formats, index=True)}"
    )


def advice(now: MemoryPlan, plans: dict[str, tuple[MemoryPlan, str]], gpu_gib: float) -> str:
    """Return the ranked changes as a sentence and a table, as HTML."""
    if not plans:
        return "<p>No single change is left to try: what saves memory is on.</p>"
    frame = ranked(now, plans, gpu_gib)
    best = frame.iloc[0]
    text = (
        f"Of the single changes, this saves the most: {best['change']} ({best['saves MiB']:,.0f} MiB, {best['of now']:.0%})."
        if best["saves MiB"] > 0
        else "No single change of this list saves memory."
    )
    formats = {"peak MiB": NUMBER, "saves MiB": NUMBER, "of now": SHARE}
    return _table(frame, text, formats, index=False)


def answer(setting: Setting, gpu_gib: float) -> Iterator[tuple[str, str]]:
    """Yield all that the page says about a setting, piece by piece: (part of the page, its HTML).

    The parts are "status", "headline", "comparison", "batch" and "advice". A status comes before each piece of work, so
    that the caller can show it and may stop in between.
    """
    others = [m for m in ("full", "lora") if m != setting.method]
    try:
        found = changes(setting)
        total, done = 2 + len(others) + len(found), 0  # pieces of work

        def at(what: str) -> tuple[str, str]:
            nonlocal done
            done += 1
            return "status", f"planning {done} of {total}: {html.escape(what)} …"

        yield at(setting.label)
        mine = plan(setting)
        yield "headline", headline(setting, mine, gpu_gib)
        plans = {}
        for method in others:
            other = replace(setting, method=method, rank=None)
            yield at(other.label)
            with suppress(*NOT_PLANNED):  # a method that does not run on this backbone has no bar
                plans[other.label] = plan(other)
        plans = {**plans, setting.label: mine}
        plans = dict(sorted(plans.items(), key=lambda item: -item[1].peak_bytes))
        yield "comparison", comparison(plans, mine, gpu_gib)
        yield at("the largest batch that fits")
        most = fit(setting, gpu_gib)
        yield (
            "batch",
            f"<p>{html.escape(most.sentence())} Each image adds about {most.image_bytes / MIB:,.1f} MiB; {most.fixed_bytes / MIB:,.0f} MiB are there without any.</p>",
        )
        planned = {}
        for label, (changed, price) in found.items():
            yield at(label)
            try:
                planned[label] = plan(changed), price
            except NOT_PLANNED:
                continue  # a change that this backbone does not allow is no advice
        yield "advice", advice(mine, planned, gpu_gib)
        yield "status", f"planned {total} of {total}"
    except NOT_PLANNED as error:
        reason = str(error).strip() or type(error).__name__
        yield "headline", f'<p class="answer" role="alert">This cannot be planned: {html.escape(reason)}.</p>'
        for part in ("comparison", "batch", "advice"):
            yield part, ""
        yield "status", "nothing planned"

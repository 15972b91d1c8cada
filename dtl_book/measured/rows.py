"""Fill a card row by row: finished rows are kept, failures are noted, and what the budget does not reach is listed."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from .cards import header_of, load_card, save_card

GOOD = ("measured", "passed")
KEPT = (*GOOD, "out of memory")  # what the same command does not do again
SAME = ("device", "device_type", "cuda", "capability", "backbone", "versions", "code")
TEXT = 4000  # characters that are kept of an error
OVER = "the budget was over"


@dataclass(frozen=True)
class Part:
    """What a card is about."""

    # from device and backbone to the rows' descriptions, each with a "name"; the most valuable come first
    specs: Callable[[torch.device, str], list[dict]]
    # from specs, device, backbone and deadline to the rest of each row, in order, with its "status". "not run" and a
    # "reason" put it among those not run. It ends where the budget does
    rows: Callable[[list[dict], torch.device, str, float], Iterator[dict]]
    describe: Callable[[dict], str]  # what is printed of a finished row beside its name
    # why a row cannot run on this device; empty where it can
    refuse: Callable[[dict, torch.device], str] = lambda spec, device: ""
    summarize: Callable[[list[dict]], dict] | None = None  # from all rows to the card's summary


def fill_card(
    name: str, part: Part, path: Path, device: torch.device, backbone: str, deadline: float,
    specs: Sequence[dict] | None = None,
) -> dict:  # fmt: skip
    """Measure the rows that a card lacks one after the other, all or those of ``specs``, and write it after each.

    ``name`` is one of ``cards.PARTS``, ``deadline`` of ``time.monotonic``. The network's weights are random.
    """
    specs = part.specs(device, backbone) if specs is None else list(specs)
    reasons = {spec["name"]: part.refuse(spec, device) for spec in specs}
    specs = [spec for spec in specs if not reasons[spec["name"]]]
    card = _open_card(path, name, device, backbone, specs)
    have = {row["name"] for row in card["rows"]}
    waiting = [spec for spec in specs if spec["name"] not in have]
    card["not_run"] = [{"name": row, "reason": reason} for row, reason in reasons.items() if reason]
    began, before = time.monotonic(), card["minutes"]
    places = {spec["name"]: i for i, spec in enumerate(specs)}

    def write() -> None:
        card["rows"].sort(key=lambda row: places[row["name"]])
        card["updated"], card["minutes"] = _now(), round(before + (time.monotonic() - began) / 60, 2)
        rest = [{"name": spec["name"], "reason": OVER} for spec in waiting]
        save_card({**card, "not_run": [*card["not_run"], *rest]}, path)

    write()
    for rest in part.rows(list(waiting), device, backbone, deadline) if waiting else ():
        row = {**waiting.pop(0), **rest}
        if row["status"] == "not run":
            card["not_run"].append({"name": row["name"], "reason": row["reason"]})
        else:
            card["rows"].append(row)
        write()
        print(f"{row['name']}: {_outcome(row, part.describe)}", flush=True)
    if part.summarize:
        card["summary"] = part.summarize(card["rows"])
        write()
    card["not_run"] += [{"name": spec["name"], "reason": OVER} for spec in waiting]
    return card


def _open_card(path: Path, part: str, device: torch.device, backbone: str, specs: Sequence[dict]) -> dict:
    """Return the file's card where device, versions, code and backbone are the same, else a new one.

    A row of the file that agrees with its spec in everything, and did not fail, is kept.
    """
    header = header_of(part, device, backbone)
    card = {**header, "created": _now(), "updated": _now(), "minutes": 0.0, "rows": [], "not_run": []}
    if path.is_file():
        old = load_card(path)
        if all(old.get(name) == header[name] for name in SAME):
            wanted = {spec["name"]: spec for spec in specs}
            good = [row for row in old["rows"] if row["status"] in KEPT and row["name"] in wanted]
            card["rows"] = [row for row in good if row.items() >= wanted[row["name"]].items()]
            card["created"], card["minutes"] = old["created"], old.get("minutes", 0.0)
    return card


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _outcome(row: dict, describe: Callable[[dict], str]) -> str:
    if row["status"] == "not run":
        return row["reason"]
    if row["status"] in GOOD or "failures" in row:
        return describe(row)
    return f"{row['status']} ({row['error'].strip().splitlines()[-1][:110]})"


def in_budget(specs: Sequence[dict], deadline: float) -> Iterator[dict]:
    """Yield specs while the next one, if it takes as long as those before it, would end in time."""
    typical = 0.0
    for spec in specs:
        start = time.monotonic()
        if start + typical >= deadline:
            return
        yield spec
        typical = max(typical / 2, time.monotonic() - start)  # one slow row does not hold up the rest for long


def attempt(work: Callable[..., dict], *arguments) -> dict:
    """Return the result of the work, or its failure: "out of memory" or "failed", with the error's text."""
    try:
        return work(*arguments)
    except Exception as error:  # whatever it is, the rows after it can still be measured
        status = "out of memory" if is_out_of_memory(error) else "failed"
        return {"status": status, "error": f"{type(error).__name__}: {error}"[:TEXT]}


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the device, or the machine, has no memory left."""
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or "CUBLAS_STATUS_ALLOC_FAILED" in str(error)


def clean(device: torch.device) -> None:
    """Free unused memory, so that every row finds the device in the same state."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()

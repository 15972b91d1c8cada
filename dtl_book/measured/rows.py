"""A card is filled row by row: what is known stays, what fails is noted, what the budget does not reach is named."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from .cards import header_of, load_card, now, save_card

KEPT = ("measured", "passed", "out of memory")  # what the same command does not do again
SAME = ("device", "device_type", "cuda", "capability", "backbone", "versions", "code")
TEXT = 4000  # characters that are kept of an error


def open_card(path: Path, part: str, device: torch.device, backbone: str, specs: Sequence[dict]) -> dict:
    """Return the card to go on with: that of the file where device, versions, code and backbone are the same, else a new one.

    Args:
        path: of the card.
        part: one of ``cards.PARTS``.
        device, backbone: see ``header_of``.
        specs: what each row is, with its "name". A row of the file that agrees with its spec in everything, and did not
            fail, is kept.

    Raises:
        DamagedFile: the file is no whole card.
    """
    header = header_of(part, device, backbone)
    card = {**header, "created": now(), "updated": now(), "minutes": 0.0, "rows": [], "not_run": []}
    if path.is_file():
        old = load_card(path)
        if all(old.get(name) == header[name] for name in SAME):
            wanted = {spec["name"]: spec for spec in specs}
            good = [row for row in old["rows"] if row["status"] in KEPT and row["name"] in wanted]
            card["rows"] = [row for row in good if row.items() >= wanted[row["name"]].items()]
            card["created"], card["minutes"] = old["created"], old.get("minutes", 0.0)
    return card


def fill(
    card: dict,
    path: Path,
    specs: Sequence[dict],
    work: Callable[[dict], dict],
    deadline: float,
    refused: Sequence[dict] = (),
    tell: Callable[[dict], str] = lambda row: row["status"],
) -> dict:
    """Work through the rows of a card in order, and write the card after each.

    Args:
        card: of ``open_card``; changed in place. Rows that it has are not done again.
        path: where it is written.
        specs: see ``open_card``.
        work: from a spec to the rest of its row, with "status"; "not run" and a "reason" put it among those not run.
        deadline: of ``time.monotonic``. No row is begun that would end later, if it took as long as those before it.
        refused: rows that cannot be here: {"name", "reason"}.
        tell: what is printed of a finished row beside its name.

    Returns:
        The card.
    """
    began, before = time.monotonic(), card["minutes"]
    places = {spec["name"]: i for i, spec in enumerate(specs)}
    have = {row["name"] for row in card["rows"]}
    waiting, typical = [spec for spec in specs if spec["name"] not in have], 0.0
    card["not_run"] = list(refused)

    def write() -> None:
        card["rows"].sort(key=lambda row: places[row["name"]])
        card["updated"], card["minutes"] = now(), round(before + (time.monotonic() - began) / 60, 2)
        rest = [{"name": spec["name"], "reason": "the budget was over"} for spec in waiting]
        save_card({**card, "not_run": [*card["not_run"], *rest]}, path)

    write()
    while waiting and (start := time.monotonic()) + typical < deadline:
        spec = waiting.pop(0)
        row = {**spec, **attempt(work, spec)}
        typical = max(typical / 2, time.monotonic() - start)  # one slow row does not hold up the rest for long
        if row["status"] == "not run":
            card["not_run"].append({"name": spec["name"], "reason": row["reason"]})
        else:
            card["rows"].append(row)
        write()
        print(f"{spec['name']}: {row['reason'] if row['status'] == 'not run' else tell(row)}", flush=True)
    card["not_run"] += [{"name": spec["name"], "reason": "the budget was over"} for spec in waiting]
    return card


def attempt(work: Callable[..., dict], *arguments) -> dict:
    """Return what the work returns, or what became of it: "out of memory" or "failed", with the error's text."""
    try:
        return work(*arguments)
    except Exception as error:  # whatever it is, the rows after it can still be measured
        status = "out of memory" if is_out_of_memory(error) else "failed"
        return {"status": status, "error": f"{type(error).__name__}: {error}"[:TEXT]}


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the device, or the machine, has no memory left."""
    names = [getattr(torch, "OutOfMemoryError", None), torch.cuda.OutOfMemoryError, MemoryError]  # the first since 2.5
    return isinstance(error, tuple(filter(None, names))) or "CUBLAS_STATUS_ALLOC_FAILED" in str(error)


def clean(device: torch.device) -> None:
    """Give back what no one holds any more, so that the next row finds the device as the last one did."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()


def last_lines(text: str, lines: int = 40) -> str:
    """Return the end of a text."""
    return "\n".join(text.rstrip().splitlines()[-lines:])

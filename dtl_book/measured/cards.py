"""The cards of measurements: what they record of device and code, and how they are written, read and searched."""

from __future__ import annotations

import inspect
import json
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from dtl_core.files import DamagedFile
from dtl_core.memory import plan_training

from ..experiments.code_digests import PACKAGE, digest_of
from ..json_files import write_json
from ..paths import results_dir, results_roots
from ..tables.figure1 import NAMES

PARTS = ("tests", "memory", "time", "notebooks", "paper")  # in order of worth
# the network, its rivals and the count of bytes: every part passes through them
CODE = tuple(
    f"dtl_core/{n}"
    for n in ("backbones.py", "blocks.py", "config.py", "csn.py", "dtl.py", "lean.py", "baselines/*.py", "memory/*.py")
)
PART_CODE = {  # what a part passes through besides
    "tests": ("dtl_core/training/*.py",),
    "notebooks": ("dtl_core/*/*.py", "dtl_book/[!ms]*/*.py"),  # all but the measuring, the site and the sweeps
    "paper": ("dtl_core/data/*.py", "dtl_core/training/*.py", "dtl_book/experiments/*.py"),
}
FIELDS = ("part", "device", "device_type", "versions", "code", "backbone", "rows", "not_run", "created", "updated")


def measured_dir(root: Path | None = None) -> Path:
    """Return the folder of the measured cards in a folder of results, by default ``results_dir()``."""
    return (root or results_dir()) / "measured"


def slug(device_name: str) -> str:
    """Return a device's name as the name of a folder: "NVIDIA H200" becomes "nvidia-h200"."""
    return re.sub(r"[^a-z0-9]+", "-", device_name.lower()).strip("-")


def device_name(device: torch.device) -> str:
    """Return the name of a CUDA device as its driver gives it; "cpu" for the CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def code_digests(part: str = "memory") -> dict[str, str]:
    """Return path -> digest of each file that a part's numbers depend on."""
    found = {path for pattern in (*CODE, *PART_CODE.get(part, ())) for path in PACKAGE.parent.glob(pattern)}
    names = sorted(path.relative_to(PACKAGE.parent).as_posix() for path in found)
    return {name: digest_of(name, PACKAGE.parent) for name in names}


def header_of(part: str, device: torch.device, backbone: str) -> dict:
    """Return what a card of one of ``PARTS`` records before its first row."""
    cuda = device.type == "cuda"
    return {
        "part": part, "device": device_name(device), "device_type": device.type,
        "driver": _driver() if cuda else None, "cuda": torch.version.cuda if cuda else None,
        "capability": ".".join(map(str, torch.cuda.get_device_capability(device))) if cuda else None,
        "memory_bytes": torch.cuda.get_device_properties(device).total_memory if cuda else None,
        "threads": torch.get_num_threads(), "backbone": backbone, "code": code_digests(part),
        "versions": {**{n: _version(n) for n in ("torch", "timm", "peft")}, "python": platform.python_version()},
    }  # fmt: skip


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _driver() -> str | None:
    """Return the driver's version: from nvidia-smi, else CUDA's number for it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.split()[0]
    except (OSError, subprocess.TimeoutExpired, IndexError):
        number = getattr(torch._C, "_cuda_getDriverVersion", lambda: None)()
        return None if number is None else str(number)


def save_card(card: dict, path: Path) -> Path:
    """Write a card as strict JSON with sorted keys, whole or not at all. A number that is not finite is an error."""
    return write_json(path, card, sort_keys=True, allow_nan=False)


def load_card(path: str | Path) -> dict:
    """Read a card."""
    path = Path(path)
    again = f"delete it and run `dtl measure {path.stem if path.stem in PARTS else 'all'}` again"
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        lacks = [name for name in FIELDS if name not in card]
        if lacks:
            raise ValueError(f"it lacks {', '.join(lacks)}")
        if not all({"name", "status"} <= row.keys() for row in card["rows"]):
            raise ValueError("a row has no name or no status")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no card {path}: `dtl measure` on a machine with a GPU makes it") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise DamagedFile(f"{path} is no whole card of measurements ({error}): {again}") from error
    return card


def memory_cards(root: Path | None = None) -> list[dict]:
    """Return the memory cards of CUDA devices in ``results_roots()``, or in ``root`` alone; the latest first."""
    found = {}
    for place in [root] if root else results_roots():
        found |= {path.parent.name: path for path in measured_dir(place).glob("*/memory.json")}
    cards = [load_card(path) for path in found.values()]
    return sorted((c for c in cards if c["device_type"] == "cuda"), key=lambda c: c["updated"], reverse=True)


def plan_setting(method: str, setting: dict) -> dict:
    """Return all arguments of ``plan_training``, defaults included, made for JSON, so that equal settings compare equal."""
    parameters = inspect.signature(plan_training).parameters.values()
    full = {p.name: p.default for p in parameters if p.default is not p.empty} | setting
    if method in ("dtl", "dtl+"):
        full.setdefault("recompute", "side")
    size = full["image_size"]
    if not isinstance(size, int) and len(set(size)) == 1:
        full["image_size"] = size[0]
    plain = {name: asdict(value) if is_dataclass(value) else value for name, value in full.items()}
    return json.loads(json.dumps(plain))


def measured_peak(method: str, setting: dict, cards: Sequence[dict] | None = None) -> dict | None:
    """Return the measured row of one planned setting, or None where no card of today's code has it.

    ``method`` may be the figure's name ("DTL+"); ``cards`` are searched in order. The row also has the card's "device",
    "versions" and "updated".
    """
    method, code = NAMES.get(method, method), code_digests("memory")
    wanted = plan_setting(method, setting)
    for card in memory_cards() if cards is None else cards:
        if card["device_type"] != "cuda" or card["code"] != code:
            continue
        for row in card["rows"]:
            if row["status"] == "measured" and row["method"] == method and row["setting"] == wanted:
                return {**row, **{name: card[name] for name in ("device", "versions", "updated")}}
    return None

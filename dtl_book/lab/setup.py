"""The set-up cell of every notebook: profile, seeds, picture style, device and the profile's data."""

from __future__ import annotations

import io
import os
import shutil
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dtl_core.training import pick_device, seed_everything

from .. import paths
from ..experiments.profiles import Profile, get_profile
from .plots import use_style

LISTS = ("train800", "val200", "train800val200", "test")


class DataMissing(FileNotFoundError):
    """Data that the profile needs is not on the disk. The message says which command brings it."""

    def _render_traceback_(self, *_: object, **__: object) -> list[str]:
        # IPython calls this: a beginner should see one sentence, not twenty lines of traceback.
        return [f"DataMissing: {self}"]


@dataclass(frozen=True)
class Workbook:
    """The profile (``smoke``, ``laptop`` or ``paper``) and device (``cuda``, ``mps`` or ``cpu``) of a notebook."""

    profile: Profile
    device: str

    @cached_property
    def data(self) -> Path:
        """The VTAB-1K folder of the profile, for ``VTAB1k(wb.data, task, split)``; see ``require_data``.

        Looked up on first use, since half of the notebooks need no data.
        """
        return require_data(self.profile)


def missing_tasks(root: Path, tasks: tuple[str, ...]) -> list[str]:
    """Return those of the tasks that lack one of their four lists under ``root``."""
    return [task for task in tasks if not all((root / task / f"{name}.txt").is_file() for name in LISTS)]


def how_to_get_data() -> str:
    """Return what to run where fetched or built data are missing: one line that works from a cell of this kernel."""
    python = f'"{sys.executable}"' if " " in sys.executable else sys.executable
    dtl = "dtl" if shutil.which("dtl") else f"{python} -m dtl_core"  # JupyterLab may lack the scripts' folder
    return (
        f"run `!{dtl} data fetch && {dtl} data build` in a new cell (in a terminal without the `!`), then this cell again. "
        f"It takes a few minutes, once, and fills {paths.data_dir()}: 182 MB to download, 0.4 GB on the disk."
    )


def require_data(profile: Profile) -> Path:
    """Return the VTAB-1K folder of a profile, and make sure that its data are on the disk.

    The tiny suite of ``smoke`` is built here when it is missing. The data of the other profiles take minutes or a
    download, so a notebook never starts that.

    Raises:
        DataMissing: weights or task lists are missing; the message names the command.
    """
    from ..standins.suites import TASKS, build_suite  # not at the top: reading notebooks needs no data code

    root = paths.vtab_dir(profile.name)
    if profile.backbone.startswith("packaged/") and not paths.packaged_vit_weights().is_file():
        raise DataMissing(f"the pre-trained ViT is not at {paths.packaged_vit_weights()}: {how_to_get_data()}")
    if profile.name == "smoke":
        root.parent.mkdir(parents=True, exist_ok=True)
        if missing_tasks(root, TASKS) or os.access(root.parent, os.W_OK):  # a class may share a read-only folder
            with redirect_stdout(io.StringIO()):
                build_suite("smoke")
    elif profile.name == "laptop":
        # elpv may be left out on purpose (its licence); everything else still runs
        missing = missing_tasks(root, tuple(task for task in TASKS if task != "elpv"))
        if missing:
            raise DataMissing(f"{', '.join(missing)} not found under {root}: {how_to_get_data()}")
    elif profile.name == "paper" and not root.is_dir():
        raise DataMissing(
            f"no VTAB-1K folder at {root}: unpack the official archive there (data/README.md says which), "
            "or set DTL_DATA to the folder that holds paper/vtab-1k, or use another profile: DTL_PROFILE=laptop."
        )
    return root


def start(profile: str | None = None, seed: int = 0) -> Workbook:
    """Prepare a notebook and print one line that says where it runs.

    The profile is that of the name, else of ``DTL_PROFILE``, else ``laptop``; the seed is for Python, numpy and torch.
    """
    chosen = get_profile(profile)
    seed_everything(seed)
    use_style()
    workbook = Workbook(profile=chosen, device=pick_device().type)
    print(f"profile {chosen.name} · backbone {chosen.backbone} at {chosen.image_size} px · device {workbook.device}")
    return workbook

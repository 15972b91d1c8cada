"""The memory explorer: widgets over planned training steps, in a notebook or served as a page of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator

import ipywidgets as iw

from dtl_core.baselines import METHODS

from ..lab.plots import METHOD_STYLES, use_style
from ..paths import RESOURCES
from .page import answer
from .setting import BACKBONES, Setting, anatomy

PRECISIONS = {
    "fp32": "fp32", "amp: fp16 autocast": "amp", "amp: bf16 autocast": "amp-bf16", "bf16: frozen backbone": "bf16",
}  # fmt: skip
RECOMPUTE = {"nothing": "none", "the side state": "side", "side state and blocks": "blocks"}
ATTENTION = {"fused": "fused", "written out": "math"}
LORA_RANK = 8
PARTS = ("status", "headline", "batch", "comparison", "advice")  # from top to bottom
STYLE = """<style>
.dtl-controls { font-size: 15px; }
.dtl-controls label, .dtl-controls select, .dtl-controls input { font-size: 15px !important; }
.dtl-part > .widget-html-content { min-width: 0; width: 100%; }
.dtl-explorer { line-height: 1.45; white-space: normal; max-width: 86rem; font-size: 16px; }
.dtl-explorer p { margin: 0.3em 0; max-width: 78em; }
.dtl-explorer .what { color: #333; overflow-wrap: anywhere; }
.dtl-explorer .status { color: #444; font-style: italic; }
.dtl-explorer .answer { font-size: 1.25em; }
.dtl-explorer .pictures { display: flex; flex-wrap: wrap; gap: 0.5em 2em; }
.dtl-explorer figure { flex: 1 1 min(26em, 100%); min-width: 0; max-width: 44em; margin: 0.6em 0 0; }
.dtl-explorer img { max-width: 100%; height: auto; }
.dtl-explorer .wide { overflow-x: auto; }
.dtl-explorer table { border-collapse: collapse; margin: 0 0 0.6em; }
.dtl-explorer th, .dtl-explorer td { padding: 0.25em 0.8em 0.25em 0; text-align: right; border-bottom: 1px solid #ddd; }
.dtl-explorer td:first-child, .dtl-explorer th:first-child, .dtl-explorer .advice td:last-child, .dtl-explorer .advice th:last-child
{ text-align: left; }
.dtl-explorer .advice td:first-child { min-width: 12em; }
.dtl-explorer .advice td:last-child { min-width: 14em; }
</style>"""


class MemoryExplorer(iw.VBox):
    """The page as one widget, made by ``explore_memory``. Its controls are attributes."""

    def __init__(self, setting: Setting, gpu_gib: float):
        use_style()
        self._turn, self._quiet, self._lock, self._task = 0, False, threading.Lock(), None
        depth, config, _ = anatomy(setting.backbone)
        names = {METHOD_STYLES[m][0]: m for m in METHODS}
        known = (
            BACKBONES if setting.backbone in BACKBONES.values() else BACKBONES | {setting.backbone: setting.backbone}
        )
        own = LORA_RANK if setting.method == "lora" else config.rank
        here = {"continuous_update": False}
        self.backbone = _control(iw.Dropdown, "Backbone", setting.backbone, options=known)
        self.method = _control(iw.Dropdown, "Method", setting.method, options=names)
        m = config.inject_from if setting.inject_from is None else setting.inject_from
        self.M = _control(iw.IntSlider, "M: inject after", m, min=config.tap_from, max=depth - 1, **here)
        self.rank = _control(iw.BoundedIntText, "Rank", own if setting.rank is None else setting.rank, min=1, max=256)
        self.batch = _control(iw.BoundedIntText, "Batch, images", setting.batch_size, min=1, max=4096)
        self.size = _control(iw.BoundedIntText, "Image size, px", setting.image_size, min=14, max=1022)
        self.precision = _control(iw.Dropdown, "Precision", setting.precision, options=PRECISIONS)
        self.recompute = _control(iw.Dropdown, "Recompute", setting.recompute, options=RECOMPUTE)
        self.checkpointing = _control(iw.Checkbox, "Gradient checkpointing", setting.checkpointing, indent=False)
        self.attention = _control(iw.Dropdown, "Attention", setting.attention, options=ATTENTION)
        self.gpu = _control(iw.BoundedFloatText, "GPU, GiB", gpu_gib, min=1.5, max=1024, step=0.5)
        controls = [
            self.backbone, self.method, self.M, self.rank, self.batch, self.size, self.precision, self.recompute,
            self.attention, self.gpu, self.checkpointing,
        ]  # fmt: skip
        self.parts = {name: iw.HTML(layout=iw.Layout(width="auto")) for name in PARTS}
        for part in self.parts.values():
            part.add_class("dtl-part")
        columns = "repeat(auto-fill, minmax(min(18em, 100%), 1fr))"
        bar = iw.GridBox(controls, layout=iw.Layout(grid_template_columns=columns, width="100%", overflow="visible"))
        bar.add_class("dtl-controls")
        super().__init__(
            [iw.HTML(STYLE), bar, *self.parts.values()], layout=iw.Layout(width="100%", overflow="visible")
        )
        self._arrange()
        for control in controls:
            control.observe(self._changed, names="value")
        self._begin()

    def setting(self) -> Setting:
        """Return the setting of the controls."""
        return Setting(
            self.method.value, self.backbone.value, self.M.value, self.rank.value, self.batch.value, self.size.value,
            self.precision.value, self.recompute.value, self.attention.value, self.checkpointing.value,
        )  # fmt: skip

    def _arrange(self) -> None:
        dtl = self.method.value in ("dtl", "dtl+")
        for control, wanted in ((self.M, dtl), (self.recompute, dtl), (self.rank, dtl or self.method.value == "lora")):
            control.layout.display = None if wanted else "none"

    def _changed(self, change: dict) -> None:
        if self._quiet:
            return
        if change["owner"] in (self.backbone, self.method):
            self._quiet = True  # what follows sets other controls
            depth, config, _ = anatomy(self.backbone.value)
            if change["owner"] is self.backbone:
                self.M.min, self.M.max = 0, depth - 1
                self.M.value, self.M.min = config.inject_from, config.tap_from  # no injection before the first tap
            self.rank.value = LORA_RANK if self.method.value == "lora" else config.rank
            self._quiet = False
            self._arrange()
        self._turn += 1
        self._go_on(answer(self.setting(), self.gpu.value), self._turn)

    def _begin(self) -> None:
        """Give the main answer at once, so that the page is never empty; the rest when the kernel is free."""
        steps = answer(self.setting(), self.gpu.value)
        for part, text in steps:
            self._show(part, text)
            if part == "comparison":
                break
        self._go_on(steps, self._turn)

    def _go_on(self, steps: Iterator[tuple[str, str]], turn: int) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # a plain program: nobody waits for it
            for part, text in steps:
                self._show(part, text)
        else:
            self._task = loop.create_task(self._later(steps, turn))

    async def _later(self, steps: Iterator[tuple[str, str]], turn: int) -> None:
        """Do one piece of work at a time, in a thread: meanwhile the kernel hears what the reader changes next."""

        def work() -> tuple[str, str] | None:
            with self._lock:
                return next(steps, None) if turn == self._turn else None

        while (part := await asyncio.to_thread(work)) is not None and turn == self._turn:
            self._show(*part)

    def _show(self, part: str, text: str) -> None:
        role = ' role="status"' if part == "status" else ""
        self.parts[part].value = (
            f'<div class="dtl-explorer"><div class="{part}"{role}>{text}</div></div>' if text else ""
        )


def _control(kind: type[iw.Widget], description: str, value: object, **options: object) -> iw.Widget:
    layout = iw.Layout(width="auto", min_width="0", margin="2px 12px 2px 0")
    style = {} if kind is iw.Checkbox else {"style": {"description_width": "8em"}}
    return kind(value=value, description=description, layout=layout, **style, **options)


def explore_memory(
    backbone: str = "vit_base_patch16_224", method: str = "dtl", *, gpu_gib: float = 8.0, **setting
) -> MemoryExplorer:
    """Return widgets that answer: will it fit my GPU, and what would save me the most?

    Nothing is trained, loaded or downloaded: a change is a new plan. ``setting`` are other fields of ``Setting``.
    """
    return MemoryExplorer(Setting(method=method, backbone=backbone, **setting), gpu_gib)


def serve_explorer(port: int | None = None, open_browser: bool = True) -> None:
    """Serve the explorer as a page on this machine alone (127.0.0.1), until Ctrl-C. The page needs no network.

    The port is 8866, or the next free one, if not given.
    """
    if port is not None and not 0 < port < 2**16:
        raise ValueError(f"port is {port}: choose one from 1 to {2**16 - 1}, or leave it out")
    try:
        from voila.app import Voila
    except ImportError as error:
        raise RuntimeError("the explorer's page needs Voila: pip install voila, or make setup") from error
    # where Voila looks for templates: <path>/voila/templates/<name>
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [str(RESOURCES), os.environ.get("JUPYTER_PATH")]))
    options = ["--template=dtl", "--Voila.ip=127.0.0.1", "--VoilaConfiguration.allow_template_override=NO"]
    options += [f"--port={port}", "--Voila.port_retries=0"] if port else []
    options += [] if open_browser else ["--no-browser"]
    Voila.launch_instance([str(RESOURCES / "voila" / "explorer.ipynb"), *options])

"""A slider, or several widgets, that redraw what a function shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from IPython.utils.capture import capture_output
from ipywidgets import HTML, VBox, Widget


def redraw_on(slider: Widget | Sequence[Widget], show: Callable[..., None]) -> VBox:
    """Return widgets above what ``show(*values)`` displays, drawn again whenever one of them changes.

    The display goes into an HTML widget, with pictures and their sentences. ``ipywidgets.interact`` would use an Output
    widget, which makes the program that executes a notebook write to the kernel while it waits for it; now and then that
    wait did not end.

    Args:
        slider: a slider (with ``continuous_update=False``, where drawing takes time), a dropdown, or several such widgets.
        show: calls ``show_figure`` and ``table``.
    """
    page, sliders = HTML(), [slider] if isinstance(slider, Widget) else list(slider)

    def redraw(_change: object = None) -> None:
        with capture_output() as caught:
            show(*(each.value for each in sliders))
        page.value = "".join(output.data.get("text/html", "") for output in caught.outputs)

    for each in sliders:
        each.observe(redraw, names="value")
    redraw()
    return VBox([*sliders, page])

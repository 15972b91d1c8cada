"""A slider that redraws what a function shows."""

from __future__ import annotations

from collections.abc import Callable

from IPython.utils.capture import capture_output
from ipywidgets import HTML, VBox, Widget


def redraw_on(slider: Widget, show: Callable[[object], None]) -> VBox:
    """A slider over what ``show(value)`` displays, drawn again whenever the slider has another value.

    The display goes into an HTML widget, with pictures and their sentences. ``ipywidgets.interact`` would use an Output
    widget, which makes the program that executes a notebook write to the kernel while it waits for it; now and then that
    wait did not end.

    Args:
        slider: a slider (with ``continuous_update=False``, where drawing takes time), a dropdown, or another widget with a value.
        show: calls ``show_figure`` and ``table``.
    """
    page = HTML()

    def redraw(_change: object = None) -> None:
        with capture_output() as caught:
            show(slider.value)
        page.value = "".join(output.data.get("text/html", "") for output in caught.outputs)

    slider.observe(redraw, names="value")
    redraw()
    return VBox([slider, page])

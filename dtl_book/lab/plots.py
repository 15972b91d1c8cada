"""Pictures: one style, one colour and marker per method, and a sentence under every figure.

A colour never stands alone: each method has its own marker too, for readers who do not see the colours apart and
for print. The colours are Okabe and Ito's, darkened where they were too pale for a projector.
"""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

from dtl_core.files import written_whole

DPI = 120  # a figure of 6.4 inches is 768 px wide, 20 to 40 KB as PNG; its letters stay legible on a phone

METHOD_STYLES: dict[str, tuple[str, str, str]] = {  # key: (label, colour, marker)
    "linear": ("Linear probe", "#6B6B6B", "s"),
    "full": ("Full fine-tuning", "#000000", "D"),
    "bitfit": ("BitFit", "#009E73", "v"),
    "vpt-shallow": ("VPT-Shallow", "#CC79A7", "<"),
    "vpt-deep": ("VPT-Deep", "#A6487D", ">"),
    "adaptformer": ("AdaptFormer", "#3A93C6", "P"),
    "lora": ("LoRA", "#C77C00", "^"),
    "ssf": ("SSF", "#8A7F00", "X"),
    "fact": ("FacT", "#7A4A2B", "h"),
    "repadapter": ("RepAdapter", "#5B4EA3", "p"),
    "lst": ("LST", "#1B6E5A", "d"),
    "res-tuning-bypass": ("Res-Tuning-Bypass", "#4C5B8F", "H"),
    "noah": ("NOAH", "#8C2D2D", "8"),
    "dtl": ("DTL", "#0072B2", "o"),
    "dtl+": ("DTL+", "#D55E00", "*"),
}
PALETTE = ["#0072B2", "#D55E00", "#009E73", "#C77C00", "#A6487D", "#3A93C6", "#6B6B6B"]  # for anything but methods


def use_style() -> None:
    """Set matplotlib for pages and projectors: large letters, thick lines, a light grid."""
    mpl.rcParams.update({
        "figure.dpi": DPI, "savefig.dpi": DPI, "figure.figsize": (6.4, 3.8), "figure.constrained_layout.use": True,
        "figure.facecolor": "white", "image.cmap": "viridis", "image.interpolation": "nearest",
        "font.size": 13, "axes.titlesize": 14, "axes.labelsize": 13.5, "xtick.labelsize": 13, "ytick.labelsize": 13,
        "legend.fontsize": 13, "legend.frameon": False,
        "lines.linewidth": 2.2, "lines.markersize": 8, "axes.prop_cycle": mpl.cycler(color=PALETTE),
        "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
        "axes.grid": True, "grid.color": "#E3E3E3", "grid.linewidth": 0.8,
    })  # fmt: skip


def method_style(method: str, size: float | None = None) -> dict[str, Any]:
    """Return keyword arguments for ``ax.plot`` and ``ax.errorbar``: label, colour and marker of a method.

    With ``size`` also the marker's: a star of the same size looks smaller, so it gets 12.
    """
    if method not in METHOD_STYLES:
        raise KeyError(f"no colour and marker for the method {method!r}: add a line to METHOD_STYLES in plots.py")
    label, color, marker = METHOD_STYLES[method]
    return {"label": label, "color": color, "marker": marker} | ({"ms": 12 if marker == "*" else size} if size else {})


def caption(text: str) -> str:
    """Return the sentence for a picture or a table, as HTML that looks the same in JupyterLab and on the page."""
    style = "font-size:0.95em;color:#444;text-align:left;margin:0.3em 0 0.6em;max-width:72ch"
    return f'<figcaption style="{style}">{html.escape(text)}</figcaption>'


def _rendered(figure: Figure) -> Image.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", pil_kwargs={"compress_level": 1})
    return Image.open(buffer).convert("RGB")


def png_of(figure: Figure) -> bytes:
    """Return a figure as PNG bytes, without time and library version, so that the same figure gives the same bytes.

    A drawing of lines and letters gets a palette of 128 colours: nobody sees the difference, and the file is less than half
    as large. (With 64 a small marker took the colour of another.)
    """
    picture, buffer = _rendered(figure), io.BytesIO()
    if picture.getcolors(4000):  # more colours than that are photographs or a colour map, whose shading would suffer
        picture = picture.quantize(128, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    picture.save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def write_png(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, whole or not at all, and close it."""
    with written_whole(path) as temporary:
        temporary.write_bytes(png_of(figure))
    plt.close(figure)
    return path


def jpeg_of(figure: Figure) -> bytes:
    """Return a figure as JPEG bytes, for photographs: half of the PNG's."""
    buffer = io.BytesIO()
    _rendered(figure).save(buffer, format="jpeg", quality=82, optimize=True)
    return buffer.getvalue()


def show_figure(figure: Figure, alt: str, photographs: bool = False) -> None:
    """Show a figure once, with a sentence under it that is also its alternative text, and close it.

    Args:
        figure: a matplotlib figure.
        alt: one sentence that says what there is to see, with its setting where it shows a result.
        photographs: the figure is made of images rather than lines; stored as JPEG, or they fill the notebook.
    """
    if not alt.strip():
        raise ValueError("a figure needs its sentence: show_figure(fig, 'what is to be seen')")
    kind, encoded = ("jpeg", jpeg_of(figure)) if photographs else ("png", png_of(figure))
    data = base64.b64encode(encoded).decode()
    plt.close(figure)  # or the notebook shows it a second time, without its sentence
    image = f'<img alt="{html.escape(alt)}" src="data:image/{kind};base64,{data}" style="max-width:100%;height:auto">'
    bundle: dict[str, Any] = {
        "text/html": f'<figure style="margin:0">{image}{caption(alt)}</figure>',
        "text/plain": f"[picture] {alt}",
    }
    display(bundle, raw=True)

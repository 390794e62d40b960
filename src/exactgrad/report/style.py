"""The figures' common style: sizes in inches, colours that colour-blind readers can tell apart, PNG bytes.

Figures are matplotlib `Figure` objects with a white ground (they are shown on a card, on dark pages too); pyplot and
its global state are not used. matplotlib is imported when the first figure is made.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from exactgrad.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = ParamSpec("P")
T = TypeVar("T")

BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE = "#0072b2", "#d55e00", "#009e73", "#b8579a", "#56b4e9", "#e69f00"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)  # after Okabe and Ito (2008); their yellow is lost on white
INK = "#1f2430"
MUTED = "#6b7280"
FAINT = "#d5d9e0"
SEQUENTIAL = "viridis"
DIVERGING = "RdBu_r"
DOTS_PER_INCH = 160

_RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same picture on every machine
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 10,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.title_fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "agg.path.chunksize": 20_000,  # a pulse may have 1e5 steps
}


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Run a drawing function in the house style; matplotlib's settings are put back afterwards."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> T:
        from matplotlib import rc_context

        settings: Any = {**_RC, "axes.prop_cycle": _cycle()}
        with rc_context(settings):
            return draw(*args, **kwargs)

    return drawn


def _cycle() -> Any:
    from cycler import cycler

    return cycler(color=PALETTE)


@styled
def figure(width_in: float = 7.0, height_in: float = 4.0) -> Figure:
    """Make an empty figure; its axes lay themselves out without overlap.

    Examples
    --------
    >>> figure(7.0, 3.0).get_size_inches().tolist()
    [7.0, 3.0]
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, hspace=0.04, wspace=0.04)
    made = Figure(figsize=(width_in, height_in), dpi=DOTS_PER_INCH, layout=layout)
    FigureCanvasAgg(made)
    return made


def sequential_colors(count: int) -> list[tuple[float, float, float, float]]:
    """Return `count` ordered colours, dark to light, all of them visible on white."""
    from matplotlib import colormaps

    steps = [0.45] if count == 1 else [0.85 * i / (count - 1) for i in range(count)]
    return [colormaps[SEQUENTIAL](step) for step in steps]


@styled
def png_bytes(fig: Figure) -> bytes:
    """Draw a figure as PNG; the same figure gives the same bytes (no date, no program name inside)."""
    with BytesIO() as stream:
        fig.savefig(stream, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
        return stream.getvalue()


def save_png(fig: Figure, path: Path, overwrite: bool = False) -> None:
    """Write a figure as PNG, whole or not at all.

    Raises
    ------
    InputError
        If the path exists (without `overwrite`) or cannot be written.
    """
    write_atomic(path, png_bytes(fig), overwrite)


def data_uri(png: bytes) -> str:
    """Write PNG bytes as a ``data:`` address, which a page shows without a second file.

    Examples
    --------
    >>> data_uri(b"PNG")
    'data:image/png;base64,UE5H'
    """
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def to_data_uri(fig: Figure) -> str:
    """Draw a figure and write it as a ``data:`` address."""
    return data_uri(png_bytes(fig))

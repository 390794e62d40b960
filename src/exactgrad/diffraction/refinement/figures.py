"""The pictures of a refinement: recorded, model and residual, spots near by, convergence, correlations.

Images stand as detectors are read, the first row on top. Every function returns a matplotlib `Figure`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from exactgrad.diffraction.refinement.shown import Compared, Shown
from exactgrad.diffraction.spots import Regions
from exactgrad.report import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INTENSITIES = "Greys"
LARGEST_Z = 5.0
SPOTS = 6
DECADES = 3.5


@style.styled
def fit_plot(fitted: Compared, z: np.ndarray, shape: tuple[int, int]) -> Figure:
    """Draw recorded photons, model and residual of an image's regions beside each other."""
    model, norm = fitted.spots + fitted.background, _brightness([fitted])
    fig = style.figure(11.0, 4.0)
    panels = fig.subplots(1, 3, sharex=True, sharey=True)
    named = zip(panels, (fitted.recorded, model), ("recorded", "model"), strict=False)
    for axes, values, title in named:
        drawn = _draw(axes, _laid_out(fitted, values, shape), title, cmap=INTENSITIES, norm=norm)
    fig.colorbar(drawn, ax=panels[:2], label="photons", shrink=0.8)
    limits = {"vmin": -LARGEST_Z, "vmax": LARGEST_Z}
    drawn = _draw(panels[2], _laid_out(fitted, z, shape), "residual", cmap=style.DIVERGING, **limits)
    fig.colorbar(drawn, ax=panels[2], label="(recorded − model)/σ", shrink=0.8)
    panels[0].set(xlabel="fast (pixels)", ylabel="slow (pixels)")
    return fig


@style.styled
def panels_plot(shown: Shown, panels: Sequence[int]) -> Figure:
    """Draw recorded photons, model and residual of an image's panels, laid out as they lie, seen along the beam."""
    fitted = [shown.compared[place] for place in panels]
    bright: dict[str, Any] = {"cmap": INTENSITIES, "norm": _brightness(fitted)}
    signed: dict[str, Any] = {"cmap": style.DIVERGING, "vmin": -LARGEST_Z, "vmax": LARGEST_Z}
    drawn_of = (
        ("recorded", [one.recorded for one in fitted], bright),
        ("model", [one.spots + one.background for one in fitted], bright),
        ("residual", [shown.z[place] for place in panels], signed),
    )
    screen = _screen(shown.frames[panels[0]])
    fig = style.figure(11.0, 4.6)
    columns = fig.subplots(1, 3, sharex=True, sharey=True)
    for axes, (title, values, look) in zip(columns, drawn_of, strict=True):
        edges = [
            _draw_panel(
                axes, _laid_out(one, of_panel, shown.regions[place].owner.shape), shown.frames[place], screen, look
            )
            for place, one, of_panel in zip(panels, fitted, values, strict=True)
        ]
        axes.set_title(title)
    (left, top), (right, bottom) = np.min(edges, axis=(0, 1)), np.max(edges, axis=(0, 1))
    margin = 0.02 * max(right - left, bottom - top)
    columns[0].set(xlim=(left - margin, right + margin), ylim=(bottom + margin, top - margin))
    fig.colorbar(columns[1].images[0], ax=columns[:2], label="photons", shrink=0.6)
    fig.colorbar(columns[2].images[0], ax=columns[2], label="(recorded − model)/σ", shrink=0.6)
    columns[0].set(xlabel="along the first panel's fast axis (mm)", ylabel="along its slow side (mm)")
    return fig


def _draw_panel(
    axes: Axes, image: np.ndarray, frame: np.ndarray, screen: np.ndarray, look: dict[str, Any]
) -> np.ndarray:
    """Draw a panel where it lies on the screen; return its corners, shape (4, 2), in mm."""
    from matplotlib.patches import Polygon
    from matplotlib.transforms import Affine2D

    corner, fast, slow = 1e3 * frame[:3] @ screen.T
    edge = np.array([corner, corner + image.shape[1] * fast, corner, corner + image.shape[0] * slow])
    edge[2] = edge[1] + edge[3] - corner
    drawn = _draw(axes, image, "", **look, extent=(0, image.shape[1], image.shape[0], 0))
    placed = Affine2D(np.array([[fast[0], slow[0], corner[0]], [fast[1], slow[1], corner[1]], [0.0, 0.0, 1.0]]))
    drawn.set_transform(placed + axes.transData)
    axes.add_patch(Polygon(edge, fill=False, edgecolor=style.INK, linewidth=0.6))
    return edge


@style.styled
def spots_plot(fitted: Sequence[Compared], z: Sequence[np.ndarray], regions: Sequence[Regions]) -> Figure:
    """Draw the regions with the most light, a column each: recorded, model, residual."""
    brightest = []
    for image, (one, found) in enumerate(zip(fitted, regions, strict=True)):
        light = np.bincount(found.owner[one.slow, one.fast], one.spots, len(found.boxes))
        brightest += [(float(light[box]), image, int(box)) for box in np.argsort(-light)[:SPOTS]]
    chosen = sorted(brightest, reverse=True)[:SPOTS]
    fig = style.figure(1.6 * len(chosen) + 0.6, 4.6)
    panels = fig.subplots(3, len(chosen), squeeze=False)
    for column, (_, image, box) in enumerate(chosen):
        one, shape = fitted[image], regions[image].owner.shape
        s0, s1, f0, f1 = (int(edge) for edge in regions[image].boxes[box])
        window = slice(s0, s1 + 1), slice(f0, f1 + 1)
        model = one.spots + one.background
        top = float(np.nanmax(_laid_out(one, np.maximum(model, one.recorded), shape)[window]))
        bright: dict[str, Any] = {"cmap": INTENSITIES, "vmin": 0, "vmax": top}
        signed: dict[str, Any] = {"cmap": style.DIVERGING, "vmin": -LARGEST_Z, "vmax": LARGEST_Z}
        rows: list[tuple[np.ndarray, dict[str, Any]]] = [(one.recorded, bright), (model, bright), (z[image], signed)]
        for axes, (values, look) in zip(panels[:, column], rows, strict=True):
            _draw(axes, _laid_out(one, values, shape)[window], "", **look)
            axes.set(xticks=[], yticks=[])
        panels[0, column].set_title(f"image {image + 1}", fontsize=9)
        panels[0, column].set_xlabel(f"{top:.4g} photons", fontsize=8)
    for axes, label in zip(panels[:, 0], ("recorded", "model", "residual"), strict=True):
        axes.set_ylabel(label)
    return fig


@style.styled
def convergence_plot(histories: Sequence[np.ndarray]) -> Figure:
    """Draw every stage's loss above its own least against the iteration, stages one after the other.

    Examples
    --------
    >>> convergence_plot([np.array([3.0, 2.0]), np.array([1.9, 1.5, 1.4])]).axes[0].get_yscale()
    'log'
    """
    fig = style.figure(7.5, 3.6)
    axes = fig.subplots()
    first, shades = 0, style.sequential_colors(max(len(histories), 1))
    for number, (history, shade) in enumerate(zip(histories, shades, strict=True)):
        above = np.maximum(history - history.min(), 1e-16)
        steps = first + np.arange(history.size)
        axes.plot(steps, above, "o-", markersize=3.5, color=shade, label=f"{number + 1}: to {history.min():.6g}")
        first += history.size
    axes.set(xlabel="iteration", ylabel="loss per pixel − least of the stage", yscale="log")
    fig.legend(title="stage", loc="outside right upper")
    return fig


@style.styled
def correlations_plot(correlation: np.ndarray, labels: Sequence[str]) -> Figure:
    """Draw the correlation matrix, numbers in it where there is room."""
    n = len(labels)
    side = min(3.0 + 0.42 * n, 12.0)
    fig = style.figure(side + 1.0, side)
    axes = fig.subplots()
    drawn = axes.imshow(correlation, cmap=style.DIVERGING, vmin=-1, vmax=1)
    axes.grid(False)
    axes.set_xticks(range(n), labels, rotation=90)
    axes.set_yticks(range(n), labels)
    if n <= 16:
        for i, j in np.ndindex(n, n):
            color = "white" if abs(correlation[i, j]) > 0.6 else style.INK
            axes.text(j, i, f"{correlation[i, j]:.2f}", ha="center", va="center", fontsize=7, color=color)
    fig.colorbar(drawn, ax=axes, shrink=0.8)
    return fig


@style.styled
def residuals_plot(z: np.ndarray) -> Figure:
    """Draw the histogram of (recorded - model)/sigma with the unit normal law."""
    fig = style.figure(6.0, 3.4)
    axes = fig.subplots()
    edges = np.linspace(-6, 6, 61).tolist()
    axes.hist(np.clip(z, -6, 6), edges, density=True, color=style.SKY, label=f"{z.size} pixels, rms {_rms(z):.3f}")
    x = np.linspace(-6, 6, 241)
    axes.plot(x, np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi), color=style.VERMILION, label="normal")
    axes.set(xlabel="(recorded − model)/σ", ylabel="share of pixels per unit", yscale="log", ylim=(1e-5, 1))
    axes.legend(loc="upper right")
    return fig


def _brightness(fitted: Sequence[Compared]) -> Any:
    """Return the logarithmic scale of photons that several images share."""
    from matplotlib.colors import LogNorm

    model = np.concatenate([one.spots + one.background for one in fitted])
    high = max(*(float(one.recorded.max()) for one in fitted), 2.0)
    return LogNorm(max(0.5 * float(np.median(model)), high * 10**-DECADES, 1e-3), high)


def _screen(frame: np.ndarray) -> np.ndarray:
    """Return two directions at right angles to the beam, shape (2, 3): along a panel's fast axis, and its slow side."""
    _, fast, slow, beam = frame
    beam = beam / np.linalg.norm(beam)
    right = fast - (fast @ beam) * beam
    right = right / np.linalg.norm(right)
    down = np.cross(beam, right)
    return np.stack([right, down if down @ slow > 0 else -down])


def _rms(z: np.ndarray) -> float:
    return float(np.sqrt((z**2).mean()))


def _laid_out(fitted: Compared, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return an image of the compared pixels; not a number elsewhere, which is left blank."""
    image = np.full(shape, np.nan)
    image[fitted.slow, fitted.fast] = values
    return image


def _draw(axes: Axes, image: np.ndarray, title: str, **look: Any) -> Any:
    axes.grid(False)
    axes.set_title(title)
    if "norm" in look:
        image = np.where(np.isnan(image), image, np.maximum(image, look["norm"].vmin))
    return axes.imshow(image, interpolation="nearest", **look)

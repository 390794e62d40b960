"""The pictures a crystallographer expects of an image: the whole of it, its spots near by, several beside each other.

In: photons or counts, shape (slow, fast). Images are drawn dark on white on a logarithmic scale, the first row on top,
as detectors are read. Every function returns a matplotlib `Figure` and saves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from exactgrad.diffraction.spots import Spots
from exactgrad.errors import InputError, require_finite, require_shape
from exactgrad.report import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INTENSITIES = "Greys"
MOST_RINGS = 400
MOST_IMAGES = 12
LARGEST_SIDE = 1500  # pixels of a drawn image; larger ones are reduced by the maximum of blocks
SMALL_SIDE = 220  # of one beside others
DECADES = 4.0


@style.styled
def image_plot(image: Any, spots: Spots | None = None, label: str = "photons", title: str = "") -> Figure:
    """Draw an image on a logarithmic scale, with a ring around the brightest predicted spots.

    Raises
    ------
    InputError
        If the image is not two-dimensional and finite.

    Examples
    --------
    >>> fig = image_plot(np.eye(8), title="a line")
    >>> fig.axes[0].get_title(loc="left"), fig.axes[0].get_xlabel()
    ('a line', 'fast (pixels)')
    """
    values = _checked(image)
    slow, fast = values.shape
    fig = style.figure(7.2, min(max(5.4 * slow / fast + 0.9, 2.4), 9.0))
    axes = fig.subplots()
    drawn = _draw(axes, values)
    axes.set(xlabel="fast (pixels)", ylabel="slow (pixels)")
    axes.set_title(title)
    if spots is not None and len(spots):
        count = min(len(spots), MOST_RINGS)
        ring: dict[str, Any] = {"markersize": 9, "markerfacecolor": "none", "markeredgewidth": 0.6}
        axes.plot(*spots.position_px[:count, ::-1].T, "o", color=style.VERMILION, **ring)
        shown = f"{count} brightest of {len(spots)}" if count < len(spots) else f"{count}"
        axes.set_title(f"rings: {shown} predicted spots", loc="right", fontweight="normal", fontsize=9)
    fig.colorbar(drawn, ax=axes, label=label, shrink=0.85)
    return fig


@style.styled
def spots_plot(image: Any, spots: Spots, label: str = "photons", half_px: int = 8, count: int = 12) -> Figure:
    """Draw the surroundings of the brightest spots that do not lie in each other's, with their indices.

    Raises
    ------
    InputError
        If there is no spot.
    """
    values = _checked(image)
    if not len(spots):
        raise InputError("spots: none is predicted, so there is nothing to draw")
    chosen = _apart(spots, 2 * half_px, count)
    columns = min(4, len(chosen))
    rows = -(-len(chosen) // columns)
    fig = style.figure(1.9 * columns + 0.4, 2.05 * rows + 0.5)
    for place, axes in zip(chosen, fig.subplots(rows, columns, squeeze=False).ravel(), strict=False):
        slow, fast = spots.position_px[place]
        _draw(axes, values, linear=True)
        axes.set(xlim=(fast - half_px, fast + half_px), ylim=(slow + half_px, slow - half_px), xticks=[], yticks=[])
        part = _around(values, slow, fast, half_px)
        axes.images[0].set_clim(0.0, float(part.max()) or 1.0)
        axes.plot(fast, slow, "+", color=style.VERMILION, markersize=7, markeredgewidth=0.9)
        h, k, l = spots.hkl[place]
        axes.set_title(f"{h} {k} {l}", fontsize=9)
        axes.set_title(f"{part.max():.3g}", loc="right", fontweight="normal", fontsize=8, color=style.MUTED)
    for axes in fig.axes[len(chosen) :]:
        axes.remove()
    fig.supxlabel(f"{2 * half_px} pixels a side; the number is the brightest pixel, {label}", fontsize=9)
    return fig


@style.styled
def images_plot(images: Sequence[Any], names: Sequence[str]) -> Figure:
    """Draw up to twelve images beside each other on one logarithmic scale."""
    values = [_checked(image) for image in images[:MOST_IMAGES]]
    if not values:
        raise InputError("images: at least one is needed")
    columns = min(4, len(values))
    rows = -(-len(values) // columns)
    fig = style.figure(2.2 * columns + 0.3, 2.4 * rows + 0.3)
    top = max(float(image.max()) for image in values)
    panels = fig.subplots(rows, columns, squeeze=False).ravel()
    for axes, image, name in zip(panels, values, names, strict=False):
        _draw(axes, image, top, side=SMALL_SIDE)
        axes.set(xticks=[], yticks=[])
        axes.set_title(name, fontsize=9)
    for axes in panels[len(values) :]:
        axes.remove()
    return fig


def _draw(
    axes: Axes, values: np.ndarray, top: float | None = None, linear: bool = False, side: int = LARGEST_SIDE
) -> Any:
    from matplotlib.colors import LogNorm

    slow, fast = values.shape
    step = 1 if linear else max(1, -(-max(slow, fast) // side))
    shown = _reduced(values, step)
    extent = (-0.5, shown.shape[1] * step - 0.5, shown.shape[0] * step - 0.5, -0.5)
    axes.grid(False)
    if linear:
        return axes.imshow(shown, cmap=INTENSITIES, extent=extent, interpolation="nearest")
    high = float(values.max()) if top is None else top
    high = high if high > 0 else 1.0
    positive = values[values > 0]
    typical = float(np.percentile(positive, 50)) if positive.size else high
    low = min(max(0.5 * typical, high * 10**-DECADES), 0.5 * high)
    norm = LogNorm(low, high)
    return axes.imshow(np.maximum(shown, low), cmap=INTENSITIES, norm=norm, extent=extent, interpolation="nearest")


def _reduced(values: np.ndarray, step: int) -> np.ndarray:
    """Return the maximum of every block of step x step pixels; spots must not vanish."""
    if step == 1:
        return values
    slow, fast = (-(-side // step) * step for side in values.shape)
    padded = np.zeros((slow, fast))
    padded[: values.shape[0], : values.shape[1]] = values
    return padded.reshape(slow // step, step, fast // step, step).max(axis=(1, 3))


def _apart(spots: Spots, distance_px: float, count: int) -> list[int]:
    chosen: list[int] = []
    for place in range(min(len(spots), 4000)):
        gaps = (
            np.abs(spots.position_px[chosen] - spots.position_px[place]).max(axis=1) if chosen else np.array([np.inf])
        )
        if gaps.min() > distance_px:
            chosen.append(place)
        if len(chosen) == count:
            break
    return chosen


def _around(values: np.ndarray, slow: float, fast: float, half_px: int) -> np.ndarray:
    s, f = round(float(slow)), round(float(fast))
    return values[max(s - half_px, 0) : s + half_px + 1, max(f - half_px, 0) : f + half_px + 1]


def _checked(image: Any) -> np.ndarray:
    return require_shape("image", require_finite("image", image), (None, None))

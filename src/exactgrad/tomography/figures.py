"""The pictures a tomographer expects of a reconstruction. Lengths in voxel edges, angles in degrees.

The colour of an axis: its components' absolute values are red, green and blue (x, y, z), so that u and -u look alike;
the sphere beside the slices is the key. Every function returns a matplotlib `Figure` and saves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from exactgrad.report import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_GLYPHS = 700
GLYPH_PERCENTILE = 40.0  # of the mean intensity: darker voxels get no glyph
PROJECTIONS_SHOWN = 4
_DIM = 0.35  # lightness of the darkest voxel that is there


def axis_colors(axis: np.ndarray, brightness: Any = 1.0) -> np.ndarray:
    """Return the RGB colours, shape (..., 3), of axes, shape (..., 3), of any length.

    Examples
    --------
    >>> axis_colors(np.array([0.0, 0.0, -2.0])).tolist()
    [0.0, 0.0, 1.0]
    """
    length = np.linalg.norm(axis, axis=-1, keepdims=True)
    unit = np.abs(np.divide(axis, length, out=np.zeros_like(axis, dtype=float), where=length > 0))
    strongest = unit.max(axis=-1, keepdims=True)
    hue = np.divide(unit, strongest, out=np.zeros_like(unit), where=strongest > 0)
    return hue * np.asarray(brightness)[..., None]


@style.styled
def slices(axis: np.ndarray, mean: np.ndarray, B: np.ndarray, mask: np.ndarray) -> Figure:
    """Draw the three middle slices: axis as colour (brightness is the mean intensity), and B below.

    Parameters
    ----------
    axis : ndarray, shape (x, y, z, 3)
    mean, B : ndarray, shape (x, y, z)
    mask : ndarray of bool, shape (x, y, z)

    Examples
    --------
    >>> volume = np.ones((4, 5, 6))
    >>> fig = slices(np.ones((4, 5, 6, 3)), volume, volume, volume > 0)
    >>> fig.axes[0].get_xlabel(), fig.axes[0].get_ylabel()
    ('x', 'y')
    """
    from matplotlib.colors import CenteredNorm

    centre = _centre(mask)
    fig = style.figure(9.5, 5.4)
    panels = fig.subplots(2, 4)
    top = np.percentile(mean[mask], 98) if mask.any() else 1.0
    light = np.clip(mean / max(top, 1e-300), 0.0, 1.0) ** 0.5
    colors = np.where(mask[..., None], axis_colors(axis, _DIM + (1 - _DIM) * light), 1.0)
    largest = float(np.percentile(np.abs(B[mask]), 98)) if mask.any() else 1.0
    norm = CenteredNorm(0.0, max(largest, 1e-3))
    shown = np.where(mask, B, np.nan)
    image = None
    for column, normal in enumerate((2, 1, 0)):
        names = [name for side, name in enumerate("xyz") if side != normal]
        _image(panels[0, column], np.take(colors, centre[normal], normal), names)
        values = np.take(shown, centre[normal], normal)
        image = _image(panels[1, column], values, names, norm=norm, cmap=style.DIVERGING)
        panels[0, column].set_title(" ".join(names))
    if image is not None:
        fig.colorbar(image, ax=panels[1, 2], label="B", fraction=0.05)
    color_sphere(panels[0, 3])
    panels[1, 3].set_axis_off()
    panels[1, 3].text(0.0, 0.6, "above: axis\nbelow: B, > 0 needles,\n< 0 rings", color=style.MUTED, fontsize=9)
    return fig


def _centre(mask: np.ndarray) -> list[int]:
    if not mask.any():
        return [side // 2 for side in mask.shape]
    return [int(np.median(at)) for at in np.nonzero(mask)]


def _image(axes: Axes, values: np.ndarray, names: list[str], **options: Any) -> Any:
    image = axes.imshow(np.swapaxes(values, 0, 1), origin="lower", interpolation="nearest", **options)
    axes.set(xlabel=names[0], ylabel=names[1], xticks=[], yticks=[])
    axes.grid(False)
    return image


def color_sphere(axes: Axes) -> None:
    """Draw the key of the axes' colours: a half sphere seen from (1, 1, 1)."""
    size = 121
    across, up = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size))
    depth = np.sqrt(np.maximum(1.0 - across**2 - up**2, 0.0))
    view = np.array([1.0, 1.0, 1.0]) / np.sqrt(3)
    right = np.array([-1.0, 1.0, 0.0]) / np.sqrt(2)
    top = np.cross(view, right)
    axis = across[..., None] * right + up[..., None] * top + depth[..., None] * view
    colors = np.where((across**2 + up**2 <= 1.0)[..., None], axis_colors(axis), 1.0)
    axes.imshow(colors, origin="lower", extent=(-1, 1, -1, 1), interpolation="bilinear")
    for direction, name in zip(np.eye(3), "xyz", strict=True):
        at = (float(direction @ right), float(direction @ top))
        axes.annotate(name, at, color="black", ha="center", va="center", fontsize=10, fontweight="bold")
    axes.set(title="colour of the axis", xlim=(-1.1, 1.1), ylim=(-1.1, 1.1))
    axes.set_axis_off()


@style.styled
def glyphs(axis: np.ndarray, mean: np.ndarray, B: np.ndarray, mask: np.ndarray, title: str = "") -> Figure:
    """Draw the axes of the brighter voxels in space: lines along the axis, longer where \\|B\\| is larger.

    Examples
    --------
    >>> volume = np.ones((3, 3, 3))
    >>> glyphs(np.ones((3, 3, 3, 3)), volume, volume, volume > 0).axes[0].name
    '3d'
    """
    fig = style.figure(6.2, 5.6)
    axes = fig.add_subplot(projection="3d", proj_type="ortho")
    draw_glyphs(axes, axis, mean, B, mask)
    axes.set_title(title)
    return fig


def draw_glyphs(axes: Any, axis: np.ndarray, mean: np.ndarray, B: np.ndarray, mask: np.ndarray) -> None:
    """Draw the glyphs of `glyphs` into axes in space."""
    from mpl_toolkits.mplot3d.art3d import Line3DCollection

    if mask.any():
        chosen = np.argwhere(mask & (mean >= np.percentile(mean[mask], GLYPH_PERCENTILE)))
        chosen = chosen[:: max(1, -(-len(chosen) // MOST_GLYPHS))]
        index = tuple(chosen.T)
        length = 0.25 + 0.35 * np.clip(np.abs(B[index]) / 3.0, 0.0, 1.0)
        step = axis[index] * length[:, None] * max(1.0, (mask.sum() / max(len(chosen), 1)) ** (1 / 3))
        lines = Line3DCollection(
            np.stack([chosen - step, chosen + step], axis=1), colors=axis_colors(axis[index], 0.85), linewidths=1.6
        )
        axes.add_collection3d(lines)
    for name, side in zip("xyz", mask.shape, strict=True):
        getattr(axes, f"set_{name}lim")(0, side - 1)
        getattr(axes, f"set_{name}label")(name)
    axes.set_box_aspect(mask.shape)


@style.styled
def projections(measured: np.ndarray, modelled: np.ndarray, residual: np.ndarray, numbers: list[int]) -> Figure:
    """Draw chosen projections, summed over the segments: measured, modelled, and their residual.

    Parameters
    ----------
    measured, modelled, residual : ndarray, shape (m, J, K)
        The residual is a root mean square over segments, with the sign of the sum.
    numbers : list of int
        Which projections they are.
    """
    count = len(numbers)
    fig = style.figure(2.3 * count + 1.0, 6.0)
    panels = fig.subplots(3, count, squeeze=False)
    high = max(float(measured.max(initial=0.0)), 1e-300)
    spread = max(float(np.percentile(np.abs(residual), 99)), 1e-300)
    image: Any = None
    bad: Any = None
    for column, number in enumerate(numbers):
        for row, values in enumerate((measured, modelled)):
            image = _image(panels[row, column], values[column], ["", ""], vmin=0.0, vmax=high, cmap=style.SEQUENTIAL)
        bad = _image(panels[2, column], residual[column], ["", ""], vmin=-spread, vmax=spread, cmap=style.DIVERGING)
        panels[0, column].set_title(f"projection {number}")
    for row, name in enumerate(("measured", "modelled", "residual")):
        panels[row, 0].set_ylabel(name)
    fig.colorbar(image, ax=panels[:2, :], fraction=0.03, label="intensity")
    fig.colorbar(bad, ax=panels[2, :], fraction=0.03, label="standard deviations")
    return fig


@style.styled
def residuals(by_projection: np.ndarray, values: np.ndarray) -> Figure:
    """Draw the root mean square residual of every projection, and the distribution of single residuals.

    Examples
    --------
    >>> residuals(np.ones(4), np.zeros(9)).axes[0].get_ylabel()
    'rms residual'
    """
    fig = style.figure(8.0, 3.2)
    left, right = fig.subplots(1, 2)
    left.plot(by_projection, "o", markersize=3)
    left.axhline(1.0, color=style.MUTED, linewidth=0.8)
    left.set(xlabel="projection", ylabel="rms residual", ylim=(0.0, None))
    span = max(4.0, float(np.percentile(np.abs(values), 99.5))) if values.size else 4.0
    right.hist(np.clip(values, -span, span), bins=80, density=True, color=style.SKY)
    at = np.linspace(-span, span, 201)
    right.plot(at, np.exp(-0.5 * at**2) / np.sqrt(2 * np.pi), color=style.INK, linewidth=1.0, label="normal")
    right.set(xlabel="residual, standard deviations", ylabel="density")
    right.legend()
    return fig


@style.styled
def histograms(columns: Mapping[str, np.ndarray]) -> Figure:
    """Draw a histogram of each named array.

    Examples
    --------
    >>> histograms({"A": np.arange(5.0)}).axes[0].get_xlabel()
    'A'
    """
    fig = style.figure(2.6 * len(columns) + 0.4, 2.8)
    panels = fig.subplots(1, len(columns), squeeze=False)[0]
    for axes, (name, values), color in zip(panels, columns.items(), style.PALETTE * 2, strict=False):
        known = values[np.isfinite(values)]
        if known.size:
            low, high = np.percentile(known, [0.5, 99.5])
            axes.hist(np.clip(known, low, high), bins=40, color=color)
        axes.set(xlabel=name, yticks=[])
    panels[0].set_ylabel("voxels")
    return fig


@style.styled
def convergence(
    histories: Mapping[str, np.ndarray], tried: tuple[np.ndarray, np.ndarray] | None, chosen: float
) -> Figure:
    """Draw the loss of every fit one after the other and, where the weight was chosen, the held-out cost against it.

    Parameters
    ----------
    histories : mapping of str to ndarray
        Loss after each iteration, by fit.
    tried : (ndarray, ndarray) or None
        Weights, and the costs of the held-out pixels.
    chosen : float
        The weight that was chosen.
    """
    fig = style.figure(9.0 if tried is not None else 6.0, 3.4)
    panels = fig.subplots(1, 2 if tried is not None else 1, squeeze=False)[0]
    first = 0
    for number, (name, history) in enumerate(histories.items()):
        at = first + np.arange(len(history))
        is_tried = name.startswith(("weight", "again"))
        label = "weights" if name == "weight 1" else None if is_tried else name
        color = style.MUTED if is_tried else style.PALETTE[number % len(style.PALETTE)]
        panels[0].plot(at, np.maximum(history, 1e-16), color=color, label=label)
        first += len(history)
    panels[0].set(xlabel="iteration", ylabel="loss (in units)", yscale="log")
    panels[0].legend()
    if tried is not None:
        begins = np.flatnonzero(np.diff(tried[0]) > 0) + 1  # a second way down
        for weights, costs in zip(*(np.split(values, begins) for values in tried), strict=True):
            panels[1].plot(weights, costs, "o-", markersize=4)
        panels[1].axvline(chosen, color=style.VERMILION, label=f"chosen: {chosen:.2g}")
        panels[1].set(xlabel="weight of the regularisation", ylabel="cost of held-out pixels")
        panels[1].set(xscale="log", yscale="log")
        panels[1].legend()
    return fig


@style.styled
def resolution(frequency: np.ndarray, correlation: np.ndarray, threshold: np.ndarray, angles: np.ndarray) -> Figure:
    """Draw the Fourier shell correlation of two halves of the data, and the angles between their axes."""
    fig = style.figure(8.0, 3.2)
    left, right = fig.subplots(1, 2)
    left.plot(frequency, correlation, "o-", markersize=3, label="halves")
    left.plot(frequency, threshold, color=style.MUTED, label="half a bit")
    left.set(xlabel="frequency (1 / voxel edge)", ylabel="shell correlation", ylim=(-0.1, 1.05))
    left.legend()
    known = angles[np.isfinite(angles)]
    if known.size:
        right.hist(np.clip(known, 0, np.percentile(known, 99)), bins=40, color=style.SKY)
    right.set(xlabel="angle between the halves' axes (deg)", ylabel="voxels")
    return fig


@style.styled
def beside_truth(found: tuple, truth: tuple) -> Figure:
    """Draw the glyphs of a reconstruction beside its truth's; each is (axis, mean, B, mask)."""
    fig = style.figure(9.0, 4.8)
    for number, (name, volume) in enumerate((("reconstructed", found), ("truth", truth))):
        axes = fig.add_subplot(1, 2, number + 1, projection="3d", proj_type="ortho")
        draw_glyphs(axes, *volume)
        axes.set_title(name)
    return fig


@style.styled
def against_q(runs: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw what was found at several q against q (their number where the file does not say it).

    Parameters
    ----------
    runs : sequence of mapping
        Keys ``number``, ``q``, ``mean_intensity``, ``B_median``, ``sigma_axis_median_deg``, ``axis_change_median_deg``;
        a value may be None.
    """
    fig = style.figure(9.5, 3.2)
    panels = fig.subplots(1, 3)
    known = all(run["q"] is not None for run in runs)
    at = [run["q" if known else "number"] for run in runs]
    shown = (
        (panels[0], "mean_intensity", "mean intensity", "of a voxel"),
        (panels[1], "B_median", "B", "median"),
        (panels[2], "axis_change_median_deg", "angle (deg)", "from the first q's axes"),
        (panels[2], "sigma_axis_median_deg", "angle (deg)", "error of an axis"),
    )
    for axes, key, name, label in shown:
        values = [np.nan if run[key] is None else run[key] for run in runs]
        if np.isfinite(values).any():
            axes.plot(at, values, "o-", markersize=4, label=label)
        axes.set(xlabel="q" if known else "number of the q", ylabel=name)
    panels[0].set_yscale("log")
    panels[1].axhline(0.0, color=style.MUTED, linewidth=0.8)
    panels[2].set_ylim(bottom=0.0)
    for axes in panels:
        axes.legend()
    return fig

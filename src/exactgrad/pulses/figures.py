"""The pictures a spectroscopist expects of a pulse. In: Hz, seconds, fractions; drawn: kHz, us, degrees.

Quality is 1 where the spin does what was asked; its distance from 1 is drawn on a logarithmic axis, with values below
1e-16 (rounding) drawn at 1e-16. Every function returns a matplotlib `Figure` and saves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from exactgrad.errors import InputError, require_finite, require_shape
from exactgrad.pulses.pulse import Pulse
from exactgrad.report import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

QUALITY_LEVELS = (0.9, 0.99, 0.999)
_ROUNDING = 1e-16
_MAP_FLOOR = 1e-6
_LEGEND_LINES = 7  # more curves than this get a colour bar


@style.styled
def pulse_plot(pulse: Pulse) -> Figure:
    """Draw amplitude, phase and Cartesian controls against time, each step as a step.

    The phase of a step without amplitude is not drawn, nor are jumps of more than 180 degrees (they are wraps).

    Parameters
    ----------
    pulse : Pulse
        Any pulse; a panel for uz is added if it has one.

    Returns
    -------
    Figure
        Panels from top to bottom: amplitude (kHz), phase (deg), ux and uy (kHz), and uz (kHz).

    Examples
    --------
    >>> pulse = Pulse.from_polar([1e-5] * 3, amplitude_hz=[5000.0, 0.0, 2000.0], phase_rad=[0.0, 1.0, 2.0])
    >>> [axes.get_ylabel() for axes in pulse_plot(pulse).axes]
    ['amplitude (kHz)', 'phase (deg)', 'control (kHz)']
    """
    rows = 4 if pulse.has_z else 3
    fig = style.figure(7.5, 1.75 * rows + 0.6)
    panels = fig.subplots(rows, 1, sharex=True)
    edges_us = 1e6 * np.concatenate([[0.0], np.cumsum(pulse.step_s)])
    amplitude, phase, control = panels[:3]

    (line,) = _steps(amplitude, edges_us, pulse.amplitude_hz, style.BLUE)
    amplitude.fill_between(*line.get_data(), step="post", color=style.BLUE, alpha=0.15, linewidth=0)
    amplitude.set(ylabel="amplitude (kHz)", ylim=(0.0, 1.08e-3 * pulse.peak_hz or 1.0))
    amplitude.set_title(f"{pulse.steps} step{'s' * (pulse.steps > 1)}, {1e6 * pulse.duration_s:.6g} µs")
    summary = f"peak {pulse.peak_hz / 1e3:.4g} kHz, rms {pulse.rms_hz / 1e3:.4g} kHz"
    amplitude.set_title(summary, loc="right", fontweight="normal", fontsize=9, color=style.MUTED)

    phase.plot(*_phase_line(pulse, edges_us), color=style.PURPLE, linewidth=1.4)
    phase.set(ylabel="phase (deg)", ylim=(-8.0, 368.0), yticks=range(0, 361, 90))

    for values_hz, label, color in ((pulse.ux_hz, "ux", style.VERMILION), (pulse.uy_hz, "uy", style.GREEN)):
        _steps(control, edges_us, values_hz, color, label)
    control.set_ylabel("control (kHz)")
    _legend_above(control)
    if pulse.has_z:
        _steps(panels[3], edges_us, pulse.uz_hz, style.INK)
        panels[3].set_ylabel("uz (kHz)")
    for axes in panels[2:]:
        axes.axhline(0.0, color=style.MUTED, linewidth=0.8)
    panels[-1].set(xlabel="time (µs)", xlim=(0.0, edges_us[-1]))
    fig.align_ylabels()
    return fig


def _steps(axes: Axes, edges_us: np.ndarray, values_hz: np.ndarray, color: str, label: str | None = None) -> Any:
    # not Axes.stairs: it takes 20 s to find the limits of 1e5 steps
    values_khz = np.append(values_hz, values_hz[-1]) / 1e3
    return axes.plot(edges_us, values_khz, drawstyle="steps-post", color=color, linewidth=1.4, label=label)


def _phase_line(pulse: Pulse, edges_us: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Three points a step: both ends, and a joint to the next step that is NaN (a gap) where the phase wraps."""
    degrees = np.where(pulse.amplitude_hz > 0, np.degrees(pulse.phase_rad), np.nan)
    joint = degrees.copy()
    joint[:-1][np.abs(np.diff(degrees)) > 180.0] = np.nan
    times = np.column_stack([edges_us[:-1], edges_us[1:], edges_us[1:]])
    return times.ravel(), np.column_stack([degrees, degrees, joint]).ravel()


@style.styled
def offset_profile(
    offset_hz: Any,
    quality_by_b1: Any,
    b1: Any = None,
    training_offsets_hz: Any = None,
    components: Mapping[str, Any] | None = None,
) -> Figure:
    """Draw quality against offset, one curve for each B1, with its distance from 1 on a logarithmic axis below.

    Parameters
    ----------
    offset_hz : array_like, shape (M,), Hz
        Offsets of the evaluated spins, in any order.
    quality_by_b1 : mapping of float to array_like (M,), or array_like (M,) or (M, K)
        Quality of each spin, NaN where nothing is asked of it (between bands); a mapping's keys are the B1 scales.
    b1 : array_like, shape (K,), optional
        B1 scales (1 is nominal) of the columns; taken from the mapping if that is given, 1 for one curve.
    training_offsets_hz : array_like, optional
        Offsets the pulse was designed on; marked on the axis.
    components : mapping of str to array_like (M,), optional
        Final magnetisation or the like, drawn in a third panel ("Mx": ...).

    Raises
    ------
    InputError
        If a value is not finite or a shape does not fit.

    Examples
    --------
    >>> fig = offset_profile([-1e3, 0.0, 1e3], {0.9: [0.9, 0.99, 0.9], 1.0: [0.99, 0.999, 0.99]})
    >>> [axes.get_ylabel() for axes in fig.axes]
    ['quality', '1 − quality']
    """
    offset, order = _sorted("offset_hz", offset_hz, "Hz")
    quality, scales = _quality_columns(quality_by_b1, b1, offset.size)
    quality = quality[order]
    rows = 3 if components else 2
    fig = style.figure(7.5, 2.3 * rows + 0.4)
    panels = fig.subplots(rows, 1, sharex=True)
    colors = [style.BLUE] if scales.size == 1 else style.sequential_colors(scales.size)
    error = _error(quality)
    for column, (scale, color) in enumerate(zip(scales, colors, strict=True)):
        panels[0].plot(offset / 1e3, quality[:, column], color=color, label=f"{scale:g} B1")
        panels[1].plot(offset / 1e3, error[:, column], color=color)
    panels[0].set(ylabel="quality")
    panels[1].set(ylabel="1 − quality", yscale="log")
    if scales.size > 1:
        _b1_key(fig, panels[:2], scales)
    if components:
        for label, values in components.items():
            values = require_shape(label, require_finite(label, values), offset.shape)
            panels[2].plot(offset / 1e3, values[order], label=label)
        panels[2].set(ylabel="component")
        _legend_above(panels[2])
    if training_offsets_hz is not None:
        _mark_training(panels, require_finite("training_offsets_hz", training_offsets_hz, "Hz").ravel() / 1e3)
    panels[-1].set(xlabel="offset (kHz)", xlim=_limits(offset / 1e3))
    fig.align_ylabels()
    return fig


def _quality_columns(quality: Any, b1: Any, offsets: int) -> tuple[np.ndarray, np.ndarray]:
    """Quality as (M, K) with its K scales, both in ascending order of B1."""
    if isinstance(quality, Mapping):
        b1 = list(quality)
        quality = np.column_stack([_judged(f"quality at B1 {key:g}", quality[key]) for key in quality])
    values = _judged("quality", quality)
    values = values[:, None] if values.ndim == 1 else values
    scales = np.atleast_1d(require_finite("b1", 1.0 if b1 is None else b1))
    require_shape("quality", values, (offsets, scales.size))
    order = np.argsort(scales, kind="stable")
    return values[:, order], scales[order]


def _judged(name: str, quality: Any) -> np.ndarray:
    """Return qualities of which some may be NaN, asked of nothing, but not all."""
    values = np.asarray(quality, dtype=float)
    unasked = np.isnan(values)
    require_finite(name, np.where(unasked, 0.0, values) if not unasked.all() else values)
    return values


def _b1_key(fig: Figure, panels: Sequence[Axes], scales: np.ndarray) -> None:
    if scales.size <= _LEGEND_LINES:
        _legend_above(panels[0])
        return
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    shades = ListedColormap(colormaps[style.SEQUENTIAL](np.linspace(0.0, 0.85, 256)))  # as sequential_colors
    fig.colorbar(ScalarMappable(Normalize(scales[0], scales[-1]), shades), ax=list(panels), label="B1 / nominal")


def _mark_training(panels: Sequence[Axes], offsets_khz: np.ndarray) -> None:
    for axes in panels:
        axes.axvspan(offsets_khz.min(), offsets_khz.max(), color=style.SKY, alpha=0.10, linewidth=0, zorder=0)
    panels[1].plot(
        offsets_khz,
        np.full(offsets_khz.size, 0.04),
        "|",
        color=style.INK,
        markersize=7,
        markeredgewidth=0.8,
        transform=panels[1].get_xaxis_transform(),
        label="training offsets",
    )
    _legend_above(panels[1])


@style.styled
def offset_b1_map(offset_hz: Any, b1: Any, quality: Any) -> Figure:
    """Draw quality over offset and B1: colour is the distance from 1 (log), lines stand at 0.9, 0.99 and 0.999.

    Parameters
    ----------
    offset_hz : array_like, shape (M,), Hz
    b1 : array_like, shape (K,)
        Scales, 1 is nominal. M and K are two or more.
    quality : array_like, shape (M, K)
        NaN where nothing is asked of a spin: a gap.

    Raises
    ------
    InputError
        If a value is not finite, a shape does not fit, or an axis has fewer than two points.

    Examples
    --------
    >>> fig = offset_b1_map([-1e3, 0.0, 1e3], [0.9, 1.1], [[0.8, 0.95], [0.97, 0.9999], [0.8, 0.95]])
    >>> [axes.get_ylabel() for axes in fig.axes]
    ['B1 / nominal', '1 − quality']
    """
    from matplotlib.colors import LogNorm

    offset, by_offset = _sorted("offset_hz", offset_hz, "Hz")
    scale, by_scale = _sorted("b1", b1, "")
    if min(offset.size, scale.size) < 2:
        raise InputError(f"map of {offset.size} offsets x {scale.size} B1 scales: two or more of each are needed")
    values = require_shape("quality", _judged("quality", quality), (offset.size, scale.size))
    values = values[np.ix_(by_offset, by_scale)].T
    error = _error(values)
    high = 10.0 ** np.ceil(np.log10(np.nanmax(error)))
    # a few deep points would use up the colours
    low = min(max(10.0 ** np.floor(np.log10(np.nanmin(error))), _MAP_FLOOR), high / 10.0)
    fig = style.figure(7.5, 4.4)
    axes = fig.subplots()
    norm = LogNorm(low, high)
    mesh = axes.pcolormesh(offset / 1e3, scale, error, norm=norm, cmap=f"{style.SEQUENTIAL}_r", shading="nearest")
    mesh.set_rasterized(True)
    fig.colorbar(mesh, ax=axes, label="1 − quality", pad=0.02, extend="min" if np.nanmin(error) < low else "neither")
    _quality_lines(axes, offset / 1e3, scale, values)
    axes.set(xlabel="offset (kHz)", ylabel="B1 / nominal")
    axes.grid(False)
    return fig


def _quality_lines(axes: Axes, offset_khz: np.ndarray, scale: np.ndarray, values: np.ndarray) -> None:
    from matplotlib.patheffects import withStroke

    levels = [level for level in QUALITY_LEVELS if np.nanmin(values) < level < np.nanmax(values)]
    if not levels:  # matplotlib warns of a level that is nowhere
        return
    lines = axes.contour(offset_khz, scale, values, levels=levels, colors="white", linewidths=1.3)
    rim: list[Any] = [withStroke(linewidth=2.6, foreground=style.INK)]
    lines.set_path_effects(rim)
    for text in axes.clabel(lines, fmt=lambda level: f"{level:g}", fontsize=9):
        text.set_path_effects(rim)


@style.styled
def convergence(histories: Sequence[Any]) -> Figure:
    """Draw the loss of every start against the iteration on a logarithmic axis, the best start highlighted.

    Parameters
    ----------
    histories : sequence of array_like
        One a start: the loss, 1 - quality, after each iteration, the first entry at the start itself.

    Raises
    ------
    InputError
        If no start has an entry, or a loss is not finite.

    Examples
    --------
    >>> convergence([[0.5, 0.1, 0.01], [0.6, 0.2]]).axes[0].get_yscale()
    'log'
    """
    from matplotlib.ticker import MaxNLocator

    losses = [require_finite(f"histories[{i}]", history).ravel() for i, history in enumerate(histories)]
    ran = [i for i, loss in enumerate(losses) if loss.size]
    if not ran:
        raise InputError("histories: no start has an entry; one loss or more is needed")
    best = min(ran, key=lambda i: losses[i].min())
    fig = style.figure(7.5, 3.8)
    axes = fig.subplots()
    mark: dict[str, Any] = {"marker": "o", "markersize": 3, "markevery": [-1]}
    for count, i in enumerate(i for i in ran if i != best):
        label = "other starts" if count == 0 else None
        axes.plot(_at_least_rounding(losses[i]), color=style.MUTED, alpha=0.55, linewidth=1.0, label=label, **mark)
    label = f"best: start {best + 1} of {len(losses)}, {losses[best].min():.3g}"
    axes.plot(_at_least_rounding(losses[best]), color=style.VERMILION, linewidth=2.2, label=label, **mark)
    axes.set(xlabel="iteration", ylabel="1 − quality", yscale="log")
    axes.set_xlim(0, max(1, *(losses[i].size - 1 for i in ran)) * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="upper right")
    return fig


@style.styled
def trajectory(points: Any, labels: Sequence[str] = ()) -> Figure:
    """Draw paths on the Bloch sphere; a ring marks where each begins, a dot where it ends.

    Parameters
    ----------
    points : array_like, shape (T, 3) or (S, T, 3)
        Bloch vectors after each step, for one spin or S.
    labels : sequence of str, optional
        One a spin, for the legend.

    Raises
    ------
    InputError
        If a value is not finite or a shape does not fit.

    Examples
    --------
    >>> fig = trajectory([[0, 0, 1], [0.6, 0, 0.8], [1, 0, 0]], ["on resonance"])
    >>> [text.get_text() for text in fig.axes[0].get_legend().get_texts()]
    ['on resonance']
    """
    paths = require_finite("points", points)
    paths = require_shape("points", paths[None] if paths.ndim == 2 else paths, (None, None, 3))
    spins = paths.shape[0]
    if labels and len(labels) != spins:
        raise InputError(f"labels: {len(labels)} given for {spins} spins: one for each is needed")
    colors = style.PALETTE[:spins] if spins <= len(style.PALETTE) else style.sequential_colors(spins)
    fig = style.figure(5.6, 5.2)
    axes = fig.add_subplot(projection="3d", proj_type="ortho")
    _sphere(axes)
    for i, (path, color) in enumerate(zip(paths, colors, strict=True)):
        axes.plot(*path.T, color=color, linewidth=1.8, label=labels[i] if labels else None)
        axes.plot(*path[:1].T, "o", color=color, markersize=7, markerfacecolor="white", markeredgewidth=1.6)
        axes.plot(*path[-1:].T, "o", color=color, markersize=6)
    if labels:
        axes.legend(loc="upper left")
    return fig


def _sphere(axes: Any) -> None:
    """Unit sphere as meridians and parallels, with its three axes named; the box around it is hidden."""
    turn = np.linspace(0.0, 2 * np.pi, 121)
    cos, sin, zero = np.cos(turn), np.sin(turn), np.zeros_like(turn)
    for angle in np.radians(np.arange(0, 180, 30)):
        axes.plot(sin * np.cos(angle), sin * np.sin(angle), cos, color=style.FAINT, linewidth=0.6)
    for height in np.sin(np.radians([-60, -30, 30, 60])):
        radius = np.sqrt(1.0 - height**2)
        axes.plot(radius * cos, radius * sin, zero + height, color=style.FAINT, linewidth=0.6)
    axes.plot(cos, sin, zero, color=style.MUTED, linewidth=0.9)
    for direction, name in zip(np.eye(3), "xyz", strict=True):
        axes.plot(*np.outer([0.0, 1.2], direction).T, color=style.MUTED, linewidth=0.9)
        axes.text(*(1.32 * direction), name, ha="center", va="center", fontsize=11)
    axes.set_box_aspect((1, 1, 1), zoom=1.45)
    axes.set(xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), zlim=(-0.95, 1.25))
    axes.view_init(elev=22, azim=35)
    axes.set_axis_off()


def _sorted(name: str, values: Any, unit: str) -> tuple[np.ndarray, np.ndarray]:
    """The values in ascending order, and that order."""
    array = require_shape(name, require_finite(name, values, unit), (None,))
    order = np.argsort(array, kind="stable")
    return array[order], order


def _error(quality: np.ndarray) -> np.ndarray:
    return _at_least_rounding(1.0 - quality)


def _at_least_rounding(error: np.ndarray) -> np.ndarray:
    return np.maximum(error, _ROUNDING)


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values[0]), float(values[-1])
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _legend_above(axes: Axes) -> None:
    """A legend in one row that covers no data."""
    count = len(axes.get_legend_handles_labels()[0])
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=count,
        borderaxespad=0.1,
        borderpad=0.2,
        handlelength=1.3,
        handletextpad=0.5,
        columnspacing=1.3,
    )

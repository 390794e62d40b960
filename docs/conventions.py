"""Draw the pictures of docs/conventions.md: `python docs/conventions.py [FOLDER]`; by default docs/pictures.

The axes of the detector conventions are read from the package, so that picture and program cannot differ.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from exactgrad.diffraction.geometry import CONVENTIONS, Convention
from exactgrad.report.style import BLUE, FAINT, GREEN, INK, MUTED, ORANGE, PURPLE, VERMILION, figure, styled

FOLDER = Path(__file__).resolve().parent / "pictures"
SVG = {"svg.fonttype": "none", "svg.hashsalt": "exactgrad"}  # text stays text; the same bytes each time
Y_RIGHT = np.array([[-0.62, -0.45], [1.0, -0.08], [0.0, 1.0]])  # on paper: x to the viewer, y right, z up
Y_AWAY = np.array([[1.0, -0.06], [0.5, 0.36], [0.0, 1.0]])  # x right, y away from the viewer, z up
LAB = (("x", np.array([1.0, 0, 0])), ("y", np.array([0, 1.0, 0])), ("z", np.array([0, 0, 1.0])))


def _blank(axes: Any, title: str, reach: float = 1.35) -> None:
    axes.set_title(title)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.axis("off")


def _arrow(axes: Any, tail: Any, head: Any, color: str, label: str = "", gap: float = 0.13, width: float = 1.8) -> None:
    tail, head = np.asarray(tail, float), np.asarray(head, float)
    style = {"arrowstyle": "-|>", "color": color, "lw": width, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 11}
    axes.annotate("", xy=head, xytext=tail, arrowprops=style)
    if label:
        at = head + gap * (head - tail) / max(float(np.linalg.norm(head - tail)), 1e-9)
        axes.text(*at, label, color=color, ha="center", va="center", fontsize=10)


def _arc(axes: Any, points: np.ndarray, color: str) -> None:
    """Draw a path, shape (n, 2), that ends in an arrow head."""
    axes.plot(*points.T, color=color, lw=1.6)
    _arrow(axes, points[-2], points[-1], color, width=1.6)


def _frame(axes: Any, view: np.ndarray, length: float = 1.0) -> None:
    for name, v in LAB:
        _arrow(axes, (0, 0), length * v @ view, MUTED, name, width=1.2)


@styled
def draw_pulses() -> Any:
    """Draw which way a step turns a spin, and how phase is counted."""
    fig = figure(8.4, 3.0)
    first, second, third = fig.subplots(1, 3)
    _blank(first, "A pulse of phase 0")
    _frame(first, Y_RIGHT)
    _arrow(first, (0, 0), np.array([0.85, 0, 0]) @ Y_RIGHT, ORANGE, "", width=2.6)
    first.text(-0.3, -0.42, "t", color=ORANGE, fontsize=12, weight="bold")
    turn = np.linspace(0.0, np.pi / 2, 40)
    path = np.stack([0 * turn, -np.sin(turn), np.cos(turn)], axis=1) @ Y_RIGHT
    _arrow(first, (0, 0), path[0], BLUE, width=2.2)
    _arrow(first, (0, 0), path[-1], BLUE, width=2.2)
    _arc(first, 0.8 * path, BLUE)
    first.text(0, -1.25, "90° about x: z goes to −y", ha="center", color=INK)

    _blank(second, "Offset > 0, seen from +z")
    for name, at in (("x", (1.1, 0)), ("y", (0, 1.1))):
        _arrow(second, (0, 0), at, MUTED, name, width=1.2)
    turn = np.linspace(0.0, np.pi / 2.4, 40)
    path = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    _arrow(second, (0, 0), path[0] * 0.9, BLUE, width=2.2)
    _arrow(second, (0, 0), path[-1] * 0.9, BLUE, width=2.2)
    _arc(second, 0.72 * path, BLUE)
    second.text(0, -0.5, "x turns towards y", ha="center", color=INK)
    second.text(0, -1.25, "uz > 0 is an offset > 0;\nB1 does not scale it", ha="center", color=INK)

    _blank(third, "Phase of a step, seen from +z")
    for name, at in (("ux", (1.1, 0)), ("uy", (0, 1.1))):
        _arrow(third, (0, 0), at, MUTED, name, width=1.2)
    turn = np.linspace(0.0, np.deg2rad(50), 40)
    _arrow(third, (0, 0), 0.95 * np.array([np.cos(turn[-1]), np.sin(turn[-1])]), ORANGE, "t", width=2.6)
    _arc(third, 0.45 * np.stack([np.cos(turn), np.sin(turn)], axis=1), PURPLE)
    third.text(0.58, 0.2, "phase", color=PURPLE)
    third.text(0, -0.5, "phase = atan2(uy, ux)", ha="center", color=INK)
    third.text(0, -1.25, "90° is a pulse about +y:\nz goes to +x", ha="center", color=INK)
    return fig


CENTRES = {
    "mosflm": "F = Ybeam + ½ pixel\nS = Xbeam + ½ pixel",
    "denzo": "F = Ybeam\nS = Xbeam",
    "adxv": "F = Xbeam\nS = height − Ybeam",
    "xds": "F = (ORGX − ½) pixel\nS = (ORGY − ½) pixel",
    "dials": "F = (ORGX − ½) pixel\nS = (ORGY − ½) pixel",
}


def _on_image(axes: Any, convention: Convention) -> None:
    """Draw a convention as its image is shown: fast to the right, slow downwards."""
    fast, slow = np.array(convention.fast), np.array(convention.slow)
    paper = np.stack([fast, -slow], axis=1)  # columns: right and up on paper
    away = np.cross(fast, slow)
    _blank(axes, convention.name.upper())
    axes.plot([-1, 1, 1, -1, -1], [1, 1, -1, -1, 1], color=FAINT, lw=1.5)
    _arrow(axes, (-1, 1), (-0.3, 1), BLUE, width=2.4)
    axes.text(-0.22, 1.0, "fast, F", color=BLUE, va="center", bbox={"fc": "white", "ec": "none", "pad": 1})
    _arrow(axes, (-1, 1), (-1, 0.3), VERMILION, width=2.4)
    axes.text(-1.0, 0.14, "slow, S", color=VERMILION, ha="center", bbox={"fc": "white", "ec": "none", "pad": 1})
    for name, v in LAB:
        if np.abs(v @ paper).max() > 0.5:
            _arrow(axes, (0.1, -0.1), np.array([0.1, -0.1]) + 0.55 * v @ paper, MUTED, name, width=1.2)
    named = next(name for name, v in LAB if abs(v @ np.array(convention.beam)) > 0.5)
    is_away = np.array(convention.beam) @ away > 0
    axes.plot(0.1, -0.1, "o", ms=11, mfc="white", mec=ORANGE, mew=1.6)
    axes.plot(0.1, -0.1, "x" if is_away else "o", ms=6 if is_away else 3, color=ORANGE)
    axes.text(-0.02, -0.3, f"beam = {named}", color=ORANGE, ha="right", va="center")
    along = 0.75 * np.array(convention.spindle) @ paper
    axes.plot(*np.stack([np.array([0.1, -0.1]) - along, np.array([0.1, -0.1])]).T, color=GREEN, lw=1.2, ls="--")
    axes.text(*(np.array([0.1, -0.1]) - 0.75 * along + (0.0, 0.1)), "spindle", color=GREEN, ha="center", fontsize=9)
    axes.text(0, -1.3, CENTRES[convention.name], ha="center", va="center", color=INK, fontsize=9)


@styled
def draw_diffraction() -> Any:
    """Draw the axes and the beam centre of every detector convention, and how pixels are counted."""
    fig = figure(8.4, 6.4)
    panels = fig.subplots(2, 3).ravel()
    for axes, name in zip(panels, CENTRES, strict=False):
        _on_image(axes, CONVENTIONS[name])
    axes = panels[-1]
    _blank(axes, "PIXELS OF AN IMAGE [slow, fast]")
    for edge in np.linspace(-1, 1, 5):
        axes.plot([edge, edge], [-1, 1], color=FAINT, lw=1)
        axes.plot([-1, 1], [edge, edge], color=FAINT, lw=1)
    axes.plot(-0.75, 0.75, "o", ms=4, color=INK)
    axes.text(-0.65, 0.62, "[0, 0]", color=INK, fontsize=9)
    axes.plot(0.25, 0.25, "o", ms=4, color=INK)
    axes.text(0.35, 0.12, "[1, 2]", color=INK, fontsize=9)
    _arrow(axes, (-1, 1.14), (0.25, 1.14), BLUE)
    axes.text(0.32, 1.14, "F = 2½ pixels", color=BLUE, va="center")
    _arrow(axes, (-1.14, 1), (-1.14, 0.25), VERMILION)
    axes.text(-1.14, 0.12, "S = 1½", color=VERMILION, ha="center", va="center")
    counted = "F, S from the outer corner of the first pixel;\nspots.csv counts pixel centres from 0"
    axes.text(0, -1.3, counted, ha="center", va="center", color=INK, fontsize=9)
    return fig


@styled
def draw_tomography() -> Any:
    """Draw the laboratory of mumott's defaults, a projection's pixels, and a voxel's axis."""
    fig = figure(9.0, 3.4)
    first, second, third = fig.subplots(1, 3, width_ratios=(1.5, 1.1, 1))
    _laboratory(first)
    _projection(second)
    _voxel(third)
    return fig


def _laboratory(axes: Any) -> None:
    _blank(axes, "Laboratory (mumott's default)", reach=1.75)
    axes.set(xlim=(-1.75, 2.15), ylim=(-1.55, 1.75))

    def at(*v: float) -> np.ndarray:
        return np.array(v) @ Y_AWAY

    _arrow(axes, at(0, -2.4, 0), at(0, -0.1, 0), ORANGE, width=2.6)
    axes.text(*at(0.1, -2.3, -0.25), "beam p = y", color=ORANGE, ha="center")
    for name, v, color in (
        ("x = j = azimuth 0°", (1.05, 0, 0), BLUE),
        ("z = k = azimuth 90°", (0, 0, 1.05), VERMILION),
    ):
        _arrow(axes, (0, 0), at(*v), color)
        if name[0] == "x":
            axes.text(*at(0.25, 0, -0.24), name, color=color, fontsize=8.5)
        else:
            axes.text(*at(-0.05, 0, 1.15), name, color=color, fontsize=8.5, ha="center")
    corners = np.array(
        [at(sx, 1.9, sz) for sx, sz in ((-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8), (-0.8, -0.8))]
    )
    axes.plot(*corners.T, color=FAINT, lw=1.5)
    axes.text(*at(0.8, 1.9, 0.92), "detector", color=MUTED, ha="right", fontsize=8.5)
    turn = np.linspace(0.0, np.deg2rad(60), 30)
    ring = np.array([at(0.55 * np.cos(f), 1.9, 0.55 * np.sin(f)) for f in turn])
    axes.plot(*np.stack([at(0, 1.9, 0), at(0.7, 1.9, 0)]).T, color=FAINT, lw=1)
    _arc(axes, ring, PURPLE)
    axes.text(*at(0.62, 1.9, 0.28), "azimuth", color=PURPLE, fontsize=8.5)
    axes.plot(*np.stack([at(0, 0, 0), at(0, 0, -1.0)]).T, color=GREEN, lw=1.4, ls="--")
    axes.text(*at(0.3, 0, -1.05), "inner axis −z\n(rotation)", color=GREEN, fontsize=8.5, va="center")
    spin = np.linspace(0.2 * np.pi, -1.2 * np.pi, 40)  # right-handed about -z: x towards -y
    _arc(axes, np.array([at(0.26 * np.cos(f), 0.26 * np.sin(f), -0.85) for f in spin]), GREEN)
    axes.plot(*np.stack([at(-1.05, 0, 0), at(0, 0, 0)]).T, color=GREEN, lw=1.4, ls="--")
    axes.text(*at(-1.1, 0, 0.38), "outer axis +x\n(tilt)", color=GREEN, fontsize=8.5, ha="center")
    tilt = np.linspace(-0.6 * np.pi, 0.7 * np.pi, 40)  # right-handed about x: y towards z
    _arc(axes, np.array([at(-0.85, 0.2 * np.cos(f), 0.2 * np.sin(f)) for f in tilt]), GREEN)


def _projection(axes: Any) -> None:
    _blank(axes, "Pixels of a projection [j, k]")
    for edge in np.linspace(-0.9, 0.9, 7):
        axes.plot([edge, edge], [-0.75, 0.75], color=FAINT, lw=1)
    for edge in np.linspace(-0.75, 0.75, 6):
        axes.plot([-0.9, 0.9], [edge, edge], color=FAINT, lw=1)
    axes.plot(-0.75, -0.6, "o", ms=4, color=INK)
    axes.text(-0.68, -0.55, "[0, 0]", color=INK, fontsize=8.5)
    axes.plot(0, 0, "+", ms=12, color=ORANGE, mew=2)
    axes.text(0.08, 0.06, "middle", color=ORANGE, fontsize=8.5)
    _arrow(axes, (-0.9, -0.95), (0.9, -0.95), BLUE, "j")
    _arrow(axes, (-1.05, -0.75), (-1.05, 0.75), VERMILION, "k")
    told = "the ray of pixel j passes j + ½ − J/2 + j_offset;\nj_offset > 0 moves the image to smaller j"
    axes.text(0, -1.3, told, ha="center", va="center", color=INK, fontsize=8.5)


def _voxel(axes: Any) -> None:
    _blank(axes, "Axis u of a voxel")
    _frame(axes, Y_RIGHT, 0.95)
    theta, phi = np.deg2rad(38), np.deg2rad(62)
    u = np.array([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)])
    _arrow(axes, (0, 0), 1.05 * u @ Y_RIGHT, BLUE, "u", width=2.6)
    foot = np.array([u[0], u[1], 0])
    axes.plot(*np.stack([np.zeros(2), 1.05 * foot @ Y_RIGHT, 1.05 * u @ Y_RIGHT]).T, color=FAINT, lw=1, ls="--")
    turn, meridian = np.linspace(0, theta, 30)[:, None], np.array([np.cos(phi), np.sin(phi), 0])
    _arc(axes, 0.5 * (np.sin(turn) * meridian + np.cos(turn) * LAB[2][1]) @ Y_RIGHT, PURPLE)
    axes.text(-0.06, 0.5, "theta_op", color=PURPLE, fontsize=8.5, ha="right")
    turn = np.linspace(0, phi, 30)
    _arc(axes, 0.45 * np.stack([np.cos(turn), np.sin(turn), 0 * turn], axis=1) @ Y_RIGHT, GREEN)
    axes.text(0.0, -0.48, "phi_op", color=GREEN, fontsize=8.5, ha="center")
    q = np.array([-0.1, 0.9, 0.42])
    _arrow(axes, (0, 0), q @ Y_RIGHT, ORANGE, "q", width=1.8)
    between = np.stack([(1 - s) * u + s * q / np.linalg.norm(q) for s in np.linspace(0, 1, 30)])
    arc = 0.75 * between / np.linalg.norm(between, axis=1, keepdims=True) @ Y_RIGHT
    axes.plot(*arc.T, color=INK, lw=1.4)
    axes.text(*(arc[14] + (0.1, 0.06)), "Θ", color=INK, fontsize=11)
    axes.text(
        0,
        -1.2,
        "x, y, z of the sample; cos Θ = u · q\nintensity A² exp(−B sin²Θ)",
        ha="center",
        va="center",
        color=INK,
        fontsize=8.5,
    )


PICTURES = {"pulses": draw_pulses, "diffraction": draw_diffraction, "tomography": draw_tomography}


def main(arguments: list[str]) -> int:
    """Draw every picture into a folder."""
    folder = Path(arguments[0]) if arguments else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        with matplotlib.rc_context(SVG):
            draw().savefig(folder / f"conventions_{name}.svg", metadata={"Date": None, "Creator": None})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

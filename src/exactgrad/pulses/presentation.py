"""What a design shows: its figures and its report page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.pulses import figures as draw
from exactgrad.pulses.bloch import simulate
from exactgrad.pulses.certificate import Dense
from exactgrad.pulses.formats import list_formats
from exactgrad.pulses.problem import PulseProblem
from exactgrad.pulses.pulse import Pulse
from exactgrad.pulses.targets import parse_axis
from exactgrad.report.page import Page
from exactgrad.report.style import png_bytes

FIGURES = ("pulse", "profile", "map", "convergence", "trajectory")


def figures(problem: PulseProblem, pulse: Pulse, dense: Dense, histories: list[np.ndarray]) -> dict[str, tuple]:
    """Return the figures of a design: file name to (title, PNG bytes, caption)."""
    nominal = int(np.argmin(np.abs(dense.b1 - 1.0)))
    shown = sorted({0, nominal, dense.b1.size - 1})
    training = np.unique(problem.ensemble.offset_hz)
    pictures: dict[str, Callable[[], tuple]] = {
        "pulse": lambda: ("The pulse", draw.pulse_plot(pulse), "Amplitude, phase and Cartesian components, as played."),
        "trajectory": lambda: _trajectory(problem, pulse),
        "convergence": lambda: (
            "Convergence",
            draw.convergence(histories),
            "Loss (1 - quality, penalties included) of every start; the best one stands out.",
        ),
    }
    if dense.offset_hz.size > 1:
        pictures["profile"] = lambda: (
            "Offset profile",
            draw.offset_profile(
                dense.offset_hz, dense.quality[:, shown], dense.b1[shown], training_offsets_hz=training
            ),
            f"Quality against offset on {dense.offset_hz.size} offsets, by independent simulation; "
            "marks are the training offsets.",
        )
    if dense.offset_hz.size > 1 and dense.b1.size > 1:
        pictures["map"] = lambda: (
            "Offset-B1 map",
            draw.offset_b1_map(dense.offset_hz, dense.b1, dense.quality),
            "Quality over offset and relative B1 on the dense grid.",
        )
    out = {}
    for name in FIGURES:
        if name in pictures:
            title, figure, caption = pictures[name]()
            out[name] = (title, png_bytes(figure), caption)
    return out


def _trajectory(problem: PulseProblem, pulse: Pulse) -> tuple:
    offsets = problem.ensemble.offset_hz
    chosen = np.unique(np.array([offsets.min(), offsets[np.argmin(np.abs(offsets))], offsets.max()]))
    aim = problem.job.target.transfer or (problem.job.target.band[0].transfer if problem.job.target.band else None)
    start = aim[0] if aim else "z"
    path = simulate(pulse, chosen, np.ones(chosen.size), parse_axis("start", start), trajectory=True)
    return (
        "Trajectory",
        draw.trajectory(np.swapaxes(path, 0, 1), [f"{offset / 1e3:g} kHz" for offset in chosen]),
        f"Path of the magnetisation that starts along {start} at three offsets, nominal B1.",
    )


def describe(problem: PulseProblem) -> str:
    """Return the task in one line: what is turned into what, over which spins, in what time."""
    target, offsets, b1 = problem.job.target, problem.ensemble.offset_hz, problem.ensemble.b1
    if target.map is not None:
        aim = f"{_axis(target.start)} to the end states of {target.map}"
    elif target.transfer is not None:
        aim = f"{_axis(target.transfer[0])} to {_axis(target.transfer[1])}"
    elif target.rotation is not None:
        aim = f"rotation by {target.rotation.angle_deg:g} degrees about {_axis(target.rotation.axis)}"
    elif target.band:
        aim = f"{len(target.band)} bands"
    else:
        aim = f"saturation of {target.saturation}" if target.saturation else f"{target.transverse} to any phase"
    span = f"{offsets.min() / 1e3:g} to {offsets.max() / 1e3:g} kHz, B1 {b1.min():g} to {b1.max():g}"
    return f"{aim}, {span}, {problem.step_s.sum() * 1e6:g} us in {problem.steps} steps"


def _axis(axis: Any) -> str:
    return axis if isinstance(axis, str) else f"({', '.join(f'{part:g}' for part in axis)})"


def report_html(problem: PulseProblem, summary: dict[str, Any], pictures: dict[str, tuple]) -> str:
    """Return the self-contained report page of a design."""
    certificate = float(f"{summary['certificate_error']:.1e}")
    page = Page("Pulse design", f"{describe(problem)}: {summary['message']}")
    page.numbers(
        [
            ("Quality", round(summary["quality"], 6), "", "mean over the training grid"),
            ("Worst", round(summary["quality_min"], 6), "", "on the training grid"),
            ("Dense mean", round(summary["quality_dense_mean"], 6), "", "401 offsets x 11 B1, independent simulation"),
            ("Dense worst", round(summary["quality_dense_min"], 6), "", "the least of them"),
            ("Dense 1 %", round(summary["quality_dense_p01"], 6), "", "1st percentile"),
            ("Peak", round(summary["peak_hz"], 1), "Hz", "largest rf amplitude"),
            ("Rms", round(summary["rms_hz"], 1), "Hz", "time-weighted"),
            ("Energy", round(summary["energy_hz2_s"], 3), "Hz² s", "sum of |u|² dt"),
            ("Length", summary["duration_us"], "us", f"{summary['steps']} steps"),
            ("Certificate", certificate, "", "|file re-read and re-simulated - design|"),
        ]
    )
    page.warnings(summary["warnings"])
    for title, png, caption in pictures.values():
        page.figure(title, png, caption)
    kinds = {item.suffix: item.title for item in list_formats().values()}
    rows = [(Path(name).name, kinds[Path(name).suffix]) for name in summary["pulse_files"]]
    page.table("Pulse files", ("file", "format"), rows, "Amplitude at 100 % is the RFmax that each header states.")
    page.code("The job", problem.text)
    page.code("The command that repeats it", f"exactgrad pulse design job.toml --out DIR --seed {summary['seed']}")
    page.summary(summary)
    return page.html()

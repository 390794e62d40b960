"""The files of a design: pulse files with their certificate, result.h5, figures, report. Nothing is written in part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.errors import InputError
from exactgrad.pulses.certificate import Dense, fold_z, qualities
from exactgrad.pulses.formats import get_format, read_shape, write_shape
from exactgrad.pulses.job import Job
from exactgrad.pulses.problem import PulseProblem
from exactgrad.pulses.pulse import Pulse
from exactgrad.pulses.targets import WeightedMean

FIGURES = ("pulse", "profile", "map", "convergence", "trajectory")
FOLD_TOLERANCE = 1e-6  # how much quality a file may lose by holding uz as phase
FOLD_PARTS = (1, 2, 5, 10, 20, 50)
MOST_FOLDED_STEPS = 100_000


@dataclass
class PulseFiles:
    """What became of the formats that were asked for.

    Attributes
    ----------
    written : list of Path
    refused : dict of str to str
        Format to the reason why it cannot hold this pulse.
    notes : list of str
    certificate_error : float
        Largest |quality of a written file, re-read and re-simulated independently - quality of the design|.
    """

    written: list[Path] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    certificate_error: float = 0.0


def check_formats(names: list[str]) -> None:
    """Raise `InputError` for an unknown or repeated format, before any work is done."""
    for name in names:
        get_format(name)
    if len(set(names)) != len(names):
        raise InputError(f"output.formats: {', '.join(names)}: a format is named twice")


def file_names(job: Job) -> list[str]:
    """Return the names of the pulse files that a job asks for."""
    return [job.output.name + get_format(name).suffix for name in job.output.formats]


def mean_quality(problem: PulseProblem, pulse: Pulse) -> float:
    """Return the training grid's mean quality of a pulse by independent simulation."""
    values = qualities(pulse, problem.ensemble, problem.cost, problem.response)
    return WeightedMean().evaluate(values, problem.weight)[0]


def write_pulse_files(problem: PulseProblem, pulse: Pulse, quality: float, folder: Path, overwrite: bool) -> PulseFiles:
    """Write the job's formats; re-read, re-simulate and compare each with `quality`.

    A format without uz gets it as accumulated phase, if that keeps the quality within 1e-6; else it is refused.
    """
    result = PulseFiles()
    output = problem.job.output
    for name, file in zip(output.formats, file_names(problem.job), strict=True):
        path = folder / file
        try:
            error, note = _write_one(problem, pulse, quality, name, path, overwrite)
        except _Refused as reason:
            result.refused[name] = str(reason)
            continue
        result.written.append(path)
        result.certificate_error = max(result.certificate_error, error)
        if note:
            result.notes.append(f"{path.name}: {note}")
    return result


class _Refused(Exception):
    """This pulse cannot be held by this format."""


def _write_one(
    problem: PulseProblem, pulse: Pulse, quality: float, name: str, path: Path, overwrite: bool
) -> tuple[float, str]:
    fmt, output = get_format(name), problem.job.output
    target = problem.job.target
    label: dict[str, Any] = {
        "title": output.name,
        "rf_max_hz": output.rf_max_hz,
        "phase_sign": output.phase_sign,
        "flip_angle_deg": target.rotation.angle_deg if target.rotation else None,
        "exmode": _exmode(problem),
        "bandwidth_hz": float(np.ptp(problem.ensemble.offset_hz)) or None,
    }
    if fmt.needs_uniform_steps and not pulse.uniform:
        raise _Refused("the steps differ in length, and this format has one dwell time")
    if not pulse.has_z or fmt.holds_z:
        write_shape(path, pulse, name, overwrite=overwrite, **label)
        return abs(_quality_of_file(problem, pulse, name, path) - quality), ""
    least = np.inf
    for parts in FOLD_PARTS:
        if pulse.steps * parts > MOST_FOLDED_STEPS:
            break
        folded = fold_z(pulse, parts)
        loss = abs(mean_quality(problem, folded) - quality)
        least = min(least, loss)
        if loss > FOLD_TOLERANCE:
            continue
        write_shape(path, folded, name, overwrite=overwrite, **label)
        error = abs(_quality_of_file(problem, folded, name, path) - quality)
        if error <= FOLD_TOLERANCE:
            return error, f"uz is held as accumulated phase, {parts} points a step"
        path.unlink()
        least = min(least, error)
    raise _Refused(
        f"it has no offset control, and as accumulated phase the quality changes by {least:.1e} or more "
        f"({FOLD_TOLERANCE:g} is allowed); csv and matlab hold uz"
    )


def _quality_of_file(problem: PulseProblem, pulse: Pulse, name: str, path: Path) -> float:
    """Return the quality of what the file says, length and amplitude given only where the format cannot hold them."""
    fmt, output = get_format(name), problem.job.output
    shape = read_shape(
        path,
        name,
        duration_us=None if fmt.holds_duration else pulse.duration_s * 1e6,
        rf_max_hz=None if fmt.holds_rf_max else (output.rf_max_hz or pulse.peak_hz),
        phase_sign=output.phase_sign,
    )
    return mean_quality(problem, shape.pulse)


def _exmode(problem: PulseProblem) -> str:
    target = problem.job.target
    if target.rotation is not None:
        return "Universal180" if abs(target.rotation.angle_deg) == 180 else "Universal"
    if target.transfer is not None and target.transfer in (("z", "-z"), ("-z", "z")):
        return "Inversion"
    return "Excitation" if target.transfer or target.transverse or target.saturation else "None"


def result_arrays(
    problem: PulseProblem, x: np.ndarray, pulse: Pulse, dense: Dense, histories: list[np.ndarray]
) -> dict[str, object]:
    """Return what ``result.h5`` holds."""
    arrays: dict[str, object] = {
        "x": x,
        "pulse/step_s": pulse.step_s,
        "pulse/ux_hz": pulse.ux_hz,
        "pulse/uy_hz": pulse.uy_hz,
        "pulse/uz_hz": pulse.uz_hz,
        "training/offset_hz": problem.ensemble.offset_hz,
        "training/b1": problem.ensemble.b1,
        "training/weight": problem.weight,
        "training/quality": problem.qualities(x),
        "dense/offset_hz": dense.offset_hz,
        "dense/b1": dense.b1,
        "dense/quality": dense.quality,
    }
    arrays.update({f"histories/{i}": history for i, history in enumerate(histories)})
    return arrays


def figures(problem: PulseProblem, pulse: Pulse, dense: Dense, histories: list[np.ndarray]) -> dict[str, tuple]:
    """Return the figures of a design: file name to (title, PNG bytes, caption)."""
    from exactgrad.pulses import figures as draw
    from exactgrad.report.style import png_bytes

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
    from exactgrad.pulses import figures as draw
    from exactgrad.pulses.bloch import simulate

    offsets = problem.ensemble.offset_hz
    chosen = np.unique(np.array([offsets.min(), offsets[np.argmin(np.abs(offsets))], offsets.max()]))
    aim = problem.job.target.transfer or (problem.job.target.band[0].transfer if problem.job.target.band else None)
    start = aim[0] if aim else "z"
    from exactgrad.pulses.targets import parse_axis

    path = simulate(pulse, chosen, np.ones(chosen.size), parse_axis("start", start), trajectory=True)
    return (
        "Trajectory",
        draw.trajectory(np.swapaxes(path, 0, 1), [f"{offset / 1e3:g} kHz" for offset in chosen]),
        f"Path of the magnetisation that starts along {start} at three offsets, nominal B1.",
    )


def report_html(summary: dict, job_text: str, command: str, pictures: dict[str, tuple], warnings: list[str]) -> str:
    """Return the self-contained report page of a design."""
    from exactgrad.report.page import Page

    page = Page("Pulse design", summary["message"])
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
            ("Certificate", summary["certificate_error"], "", "|file re-read and re-simulated - design|"),
        ]
    )
    page.warnings(warnings)
    for title, png, caption in pictures.values():
        page.figure(title, png, caption)
    rows = [(Path(name).name, Path(name).suffix) for name in summary["pulse_files"]]
    page.table("Pulse files", ("file", "kind"), rows, "Amplitude at 100 % is the RFmax that each header states.")
    page.table("Numbers", ("key", "value"), [(key, _text(value)) for key, value in summary.items()])
    page.code("The job", job_text)
    page.code("The command that repeats it", command)
    return page.html()


def _text(value: object) -> object:
    return value if isinstance(value, int | float | str) else str(value)

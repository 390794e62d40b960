"""The files of a design: pulse files with their certificate, and what result.h5 holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.errors import InputError, NotWritten
from exactgrad.pulses.certificate import Dense, fold_z, qualities
from exactgrad.pulses.formats import get_format, read_shape, write_shape
from exactgrad.pulses.job import Job
from exactgrad.pulses.problem import PulseProblem
from exactgrad.pulses.pulse import Pulse
from exactgrad.pulses.targets import WeightedMean

FOLD_TOLERANCE = 1e-6  # how much quality a file may lose by holding uz as phase
CERTIFICATE_TOLERANCE = 1e-4  # a larger error is told; the coarsest format keeps amplitudes to 1e-5
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
    warnings : list of str
        Refused formats, and files whose certificate does not hold.
    """

    written: list[Path] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    certificate_error: float = 0.0
    warnings: list[str] = field(default_factory=list)


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
            result.warnings.append(f"format {name} was refused: {reason}")
            if overwrite:
                path.unlink(missing_ok=True)  # what an earlier part of this run wrote is not this pulse
            continue
        result.written.append(path)
        result.certificate_error = max(result.certificate_error, error)
        if error > CERTIFICATE_TOLERANCE:
            result.warnings.append(
                f"{path.name}: re-read and simulated, its quality is off by {error:.1e} (at most "
                f"{CERTIFICATE_TOLERANCE:g} is expected): do not use it"
            )
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
        _write(path, pulse, name, overwrite, label)
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
        _write(path, folded, name, overwrite, label)
        error = abs(_quality_of_file(problem, folded, name, path) - quality)
        if error <= FOLD_TOLERANCE:
            return error, f"uz is held as accumulated phase, {parts} points a step"
        path.unlink()
        least = min(least, error)
    raise _Refused(
        f"it has no offset control, and as accumulated phase the quality changes by {least:.1e} or more "
        f"({FOLD_TOLERANCE:g} is allowed); csv and matlab hold uz"
    )


def _write(path: Path, pulse: Pulse, name: str, overwrite: bool, label: dict[str, Any]) -> None:
    try:
        write_shape(path, pulse, name, overwrite=overwrite, **label)
    except NotWritten:
        raise
    except InputError as reason:  # the search is done: one format less must not lose its result
        raise _Refused(str(reason)) from None


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
    problem: PulseProblem,
    x: np.ndarray,
    pulse: Pulse,
    values: np.ndarray,
    dense: Dense,
    histories: list[np.ndarray],
) -> dict[str, object]:
    """Return what ``result.h5`` holds; `values` are the training spins' qualities under `pulse`."""
    arrays: dict[str, object] = {
        "x": x,
        "pulse/step_s": pulse.step_s,
        "pulse/ux_hz": pulse.ux_hz,
        "pulse/uy_hz": pulse.uy_hz,
        "pulse/uz_hz": pulse.uz_hz,
        "training/offset_hz": problem.ensemble.offset_hz,
        "training/b1": problem.ensemble.b1,
        "training/weight": problem.weight,
        "training/quality": values,
        "dense/offset_hz": dense.offset_hz,
        "dense/b1": dense.b1,
        "dense/quality": dense.quality,
    }
    arrays.update({f"histories/{i}": history for i, history in enumerate(histories)})
    return arrays

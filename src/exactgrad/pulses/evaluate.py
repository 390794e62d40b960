"""Judge and convert pulse files, without a design."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import exactgrad
from exactgrad.errors import InputError
from exactgrad.pulses.assemble import ensemble_of, target_of
from exactgrad.pulses.bloch import simulate
from exactgrad.pulses.certificate import qualities
from exactgrad.pulses.ensemble import Ensemble
from exactgrad.pulses.formats import list_formats, read_shape, write_shape
from exactgrad.pulses.job import check_job
from exactgrad.pulses.pulse import Pulse


def parse_target(text: str) -> dict[str, Any]:
    """Read a target as the command line gives it: the table of `[target]`.

    Raises
    ------
    InputError
        If it is none of the four kinds.

    Examples
    --------
    >>> parse_target("rotation:x,90")
    {'rotation': {'axis': 'x', 'angle_deg': 90.0}}
    """
    kind, _, rest = text.partition(":")
    parts = [part.strip() for part in rest.split(",")]
    if kind == "transfer" and len(parts) == 2:
        return {"transfer": parts}
    if kind == "rotation" and len(parts) == 2:
        try:
            return {"rotation": {"axis": parts[0], "angle_deg": float(parts[1])}}
        except ValueError:
            raise InputError(f"--target {text!r}: {parts[1]!r} is not an angle in degrees") from None
    if kind in ("saturation", "transverse") and len(parts) == 1 and parts[0]:
        return {kind: parts[0]}
    raise InputError(
        f"--target {text!r}: must be transfer:FROM,TO or rotation:AXIS,DEGREES or saturation:AXIS or transverse:AXIS"
    )


def evaluate_file(
    path: Path,
    target: str,
    ensemble: dict[str, Any],
    duration_us: float | None = None,
    rf_max_hz: float | None = None,
    phase_sign: int = 1,
    shape_format: str | None = None,
    t1_s: float | None = None,
    t2_s: float | None = None,
) -> dict[str, Any]:
    """Simulate a pulse file over an ensemble; with T1 or T2 only point-to-point kinds of target make sense.

    Parameters
    ----------
    path : Path
    target : str
        As on the command line: "transfer:z,x".
    ensemble : dict
        Keys of [ensemble].
    duration_us, rf_max_hz : float, optional
        What the file does not say.
    phase_sign : int
    shape_format : str, optional
    t1_s, t2_s : float, optional

    Returns
    -------
    dict
        Keys quality, quality_min, quality_p01, peak_hz, rms_hz, and more.

    Raises
    ------
    InputError
        If the file or an argument is wrong.
    """
    shape = read_shape(path, shape_format, duration_us=duration_us, rf_max_hz=rf_max_hz, phase_sign=phase_sign)
    pulse = shape.pulse
    tables = {
        "pulse": {"duration_us": pulse.duration_s * 1e6, "step_us": pulse.duration_s * 1e6},
        "target": parse_target(target),
        "ensemble": ensemble,
    }
    job = check_job(tables, "command line")
    spins = ensemble_of(job, Path())
    if t1_s is None and t2_s is None:
        values = qualities(pulse, spins, target_of(job, spins, pulse.duration_s)[0])
    else:
        values = _relaxed_qualities(job.target, pulse, spins, t1_s, t2_s)
    return {
        "system": "pulses",
        "command": "evaluate",
        "version": exactgrad.__version__,
        "status": "done",
        "message": f"{target} over {spins.spins} spins",
        "file": str(path),
        "format": shape.format,
        "quality": float(values.mean()),
        "quality_min": float(values.min()),
        "quality_p01": float(np.percentile(values, 1)),
        "peak_hz": pulse.peak_hz,
        "rms_hz": pulse.rms_hz,
        "energy_hz2_s": pulse.energy_hz2_s,
        "rf_max_hz": shape.rf_max_hz,
        "duration_us": pulse.duration_s * 1e6,
        "steps": pulse.steps,
        "notes": list(shape.notes),
    }


def _relaxed_qualities(
    target: Any, pulse: Pulse, spins: Ensemble, t1_s: float | None, t2_s: float | None
) -> np.ndarray:
    """Qualities of a point-to-point target with relaxation."""
    from exactgrad.pulses.targets import parse_axis

    if target.transfer is None and target.saturation is None and target.transverse is None:
        raise InputError("--t1-s, --t2-s: a rotation has no quality with relaxation; choose a transfer")
    start = target.transfer[0] if target.transfer else (target.saturation or target.transverse)
    rho = simulate(pulse, spins.offset_hz, spins.b1, parse_axis("target", start), t1_s=t1_s, t2_s=t2_s)
    if target.transfer:
        return rho @ parse_axis("target", target.transfer[1])
    along = rho @ parse_axis("target", start)
    return 1 - along**2 if target.saturation else np.sqrt(np.maximum(np.sum(rho**2, axis=1) - along**2, 0.0))


def convert_file(
    source: Path,
    destination: Path,
    to: str | None = None,
    duration_us: float | None = None,
    rf_max_hz: float | None = None,
    phase_sign: int = 1,
    shape_format: str | None = None,
) -> dict[str, Any]:
    """Read a pulse file and write it in another format.

    Raises
    ------
    InputError
        If the source cannot be read, the destination exists, or the format cannot hold the pulse.
    """
    shape = read_shape(source, shape_format, duration_us=duration_us, rf_max_hz=rf_max_hz)
    name = to or _format_of_suffix(destination)
    write_shape(
        destination,
        shape.pulse,
        name,
        title=shape.title or source.stem,
        rf_max_hz=max(shape.rf_max_hz, shape.pulse.peak_hz),
        phase_sign=phase_sign,
    )
    return {
        "system": "pulses",
        "command": "convert",
        "version": exactgrad.__version__,
        "status": "done",
        "message": f"{shape.format} to {name}",
        "from": shape.format,
        "to": name,
        "file": str(destination),
        "rf_max_hz": shape.rf_max_hz,
        "duration_us": shape.pulse.duration_s * 1e6,
        "steps": shape.pulse.steps,
        "notes": list(shape.notes),
    }


def _format_of_suffix(path: Path) -> str:
    for name, fmt in list_formats().items():
        if fmt.suffix.lower() == path.suffix.lower():
            return name
    known = ", ".join(f"{name} ({fmt.suffix})" for name, fmt in list_formats().items())
    raise InputError(f"{path}: its suffix names no format; give --to one of {known}")

"""`exactgrad report`, of a reconstruction: its figures and its report anew, from the data and what the run left."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.core.run_folder import RESULT, RUN, Description, Pictures, left_by, read_summary
from exactgrad.errors import FormatError
from exactgrad.files import read_hdf5
from exactgrad.tomography import formats, presentation, q_output
from exactgrad.tomography.formats import result
from exactgrad.tomography.reconstruct_job import Job
from exactgrad.tomography.resolution import Halves
from exactgrad.tomography.stages import DESCENTS, Journal
from exactgrad.tomography.tables import read_job

FITS = ("place", "mean", "tensor", "align", "weight", "again", "all", "swap", "last")


def redraw(folder: Path) -> tuple[Pictures, str]:
    """Return the figures and the report page of a run folder; nothing is written.

    Raises
    ------
    InputError
        If the run was cut off before it left its results, or its data have changed.
    """
    description = Description.read(folder, "reconstruct")
    job, _ = read_job(description.job, Job)
    several = read_summary(folder)
    if several is not None and "runs" in several:
        return q_output.presented(several, description.job, job.output.figures)
    summary = left_by(folder)
    pictures: presentation.Pictures = {}
    if job.output.figures:
        description.refuse_changed_inputs()
        arrays, _ = read_hdf5(folder / RESULT)
        try:
            pictures = _figures(folder, description, job, summary, arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"{folder}: {RESULT} and {RUN} are not those of one reconstruction ({error})") from None
    return pictures, presentation.report_html(summary, presentation.job_text(folder, job), pictures)


def _figures(
    folder: Path, description: Description, job: Job, summary: dict[str, Any], arrays: Mapping[str, Any]
) -> presentation.Pictures:
    path = Path(description.base) / next(iter(description.inputs))
    data = formats.one_of(path, formats.read(path), job.data.number)
    geometry = data.geometry.with_offsets(arrays["offsets/j"], arrays["offsets/k"])
    volume = result.read(folder)
    data = data.with_geometry(geometry)
    return presentation.figures(data, job, volume, _journal(summary, arrays), _halves(summary, arrays))


def _journal(summary: dict[str, Any], arrays: Mapping[str, Any]) -> Journal:
    """Return what the figures show of the fits: their losses, and the weights that were tried."""
    names = (name.removeprefix("convergence/") for name in arrays if name.startswith("convergence/"))
    fits = sorted(names, key=_turn)
    found = {f"{fit}/history": np.asarray(arrays[f"convergence/{fit}"]) for fit in fits}
    ways_down = [fit for fit in fits if fit.split(" ")[0] in DESCENTS]
    tried = zip(ways_down, arrays.get("held_out/weight", ()), arrays.get("held_out/cost", ()), strict=False)
    for fit, weight, cost in tried:
        found |= {f"{fit}/tried": np.array(weight), f"{fit}/held": np.array([cost])}
    if found and "held_out/cost" in arrays and summary["weight"] is not None:
        found["weight"] = np.array(summary["weight"])
    return Journal(found)


def _turn(fit: str) -> tuple[int, int]:
    """Return when a fit's turn is; HDF5 has its own order."""
    kind, _, number = fit.partition(" ")
    return FITS.index(kind), int(number or 0)


def _halves(summary: dict[str, Any], arrays: Mapping[str, Any]) -> Halves | None:
    if "halves/frequency" not in arrays:
        return None
    parts = {
        name: np.asarray(arrays[f"halves/{name}"]) for name in ("frequency", "correlation", "threshold", "axis_deg")
    }
    return Halves(**parts, same_sign=summary["half_same_sign_fraction"])

"""What a refinement leaves behind: numbers with their errors, what the errors rest on, files, report."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import exactgrad
from exactgrad.core.least_squares import Covariance, Failed, covariance
from exactgrad.core.run_folder import RESULT, leave
from exactgrad.diffraction.parameters.table import find
from exactgrad.diffraction.problem import Fitted
from exactgrad.diffraction.refinement.search import Found
from exactgrad.diffraction.refinement.shown import Shown
from exactgrad.files import write_hdf5
from exactgrad.kernels.threads import available_threads

if TYPE_CHECKING:
    from exactgrad.diffraction.refine import Task

FIGURES = (
    "figure_fit",
    "figure_panels",
    "figure_spots",
    "figure_convergence",
    "figure_correlations",
    "figure_residuals",
)
TOLD_CORRELATION = 0.8
MOST_CORRELATIONS = 20
MISFIT_SIGMA = 5.0


@dataclass(frozen=True)
class Result:
    """A refinement with its errors.

    Attributes
    ----------
    found : Found
    covariance : Covariance
        Of all unknowns.
    fitted : list of Fitted
    z : list of ndarray
        (recorded - model)/sigma of every compared pixel, one array an image.
    chi2 : float
        Sum of z^2 over pixels less what was fitted, background included: 1 if the model is right.
    failed : tuple of Failed
        Conditions that the standard errors rest on and that do not hold.
    """

    found: Found
    covariance: Covariance
    fitted: list[Fitted]
    z: list[np.ndarray]
    chi2: float
    failed: tuple[Failed, ...]

    @classmethod
    def of(cls, found: Found) -> Result:
        """Return the errors of a refinement and what they rest on."""
        problem, x = found.problem, found.x
        errors = covariance(problem.information(x), problem.parameters(x))
        fitted = problem.fitted(x)
        z = [one.z(seen.observed.readout_photons) for one, seen in zip(fitted, problem.exposures, strict=True)]
        left = problem.pixels - problem.size - sum(one.coefficients.size for one in fitted)
        chi2 = float(sum((one**2).sum() for one in z) / max(left, 1))
        failed = list(errors.failed)
        if chi2 > 1 + MISFIT_SIGMA * np.sqrt(2 / max(left, 1)):
            text = f"chi^2 is {chi2:.3f} per pixel, not 1: the model leaves something out; errors are too small by"
            failed.append(Failed("misfit", (), f"{text} {np.sqrt(chi2):.2f} at least"))
        if not found.status.converged:
            failed.append(Failed("not converged", (), f"{found.status.value}; errors are those of an unfinished fit"))
        elif not found.progress.settled:
            failed.append(Failed("not settled", (), "the regions around the spots still moved when it ended"))
        return cls(found, errors, fitted, z, chi2, tuple(failed))

    def rows(self) -> list[dict[str, Any]]:
        """Return the result table: a row for every unknown, and for what follows one."""
        found, rows = self.found, []
        columns = zip(found.problem.unknowns.members, found.values, found.start, self.covariance.esd, strict=True)
        for member, value, start, esd in columns:
            label, unit = member.label, find(member.name).unit
            error = float(esd) if np.isfinite(esd) else None
            row = {"name": label, "value": float(value), "unit": unit, "esd": error, "start": float(start)}
            rows.append({**row, "follows": ""})
            for name, ratio in member.ties:
                tied = {"name": label.replace(member.name, name, 1), "value": ratio * float(value)}
                tied |= {"unit": find(name).unit, "esd": None if error is None else abs(ratio) * error}
                follows = label if ratio == 1 else f"{ratio:g} {label}"
                rows.append({**tied, "start": ratio * float(start), "follows": follows})
        return rows

    def correlations(self) -> list[str]:
        """Return the strong correlations as lines, the strongest first."""
        pairs = self.covariance.correlated(TOLD_CORRELATION)[:MOST_CORRELATIONS]
        return [f"{a} and {b}: correlation {r:+.3f}" for a, b, r in pairs]


def write(
    folder: Path, found: Found, head: dict[str, str], names: Sequence[str], task: Task, threads: int | None
) -> dict[str, Any]:
    """Write everything a run leaves behind, the summary last; return the summary."""
    from exactgrad.diffraction.refinement import presentation

    result = Result.of(found)
    shown = Shown.of(result, [shot.image for shot in task.todo], histories(found))
    summary = {
        **head,
        **_numbers(result, names),
        "engine": f"numba, float64, {threads or available_threads()} threads on {platform.machine()}",
    }
    attributes = {"schema": 1, "system": "diffraction", "version": exactgrad.__version__}
    write_hdf5(folder / RESULT, arrays(result, shown), attributes, overwrite=True)
    pictures = presentation.figures(shown, names) if task.table.figures else {}
    html = presentation.report_html(summary, task.text, pictures)
    leave(folder, summary, pictures, html)
    return summary


def arrays(result: Result, shown: Shown) -> dict[str, Any]:
    """Return what ``result.h5`` holds."""
    found, errors = result.found, result.covariance
    return shown.to_arrays() | {
        "parameters/values": found.values,
        "parameters/start": found.start,
        "parameters/esd": errors.esd,
        "parameters/covariance": errors.matrix,
    }


def histories(found: Found) -> list[np.ndarray]:
    """Return the loss per pixel after each iteration, one array for every stage and turn."""
    from exactgrad.core.least_squares import State

    state, kept = found.progress.state, list(found.progress.histories)
    if state is not None:
        pixels = found.problem.pixels if isinstance(state, State) else 1
        kept.append(state.history / pixels)
    return kept


def _numbers(result: Result, names: Sequence[str]) -> dict[str, Any]:
    found, progress = result.found, result.found.progress
    state, problem = progress.state, result.found.problem
    images = [
        {
            "name": name,
            "regions": len(seen.regions.boxes),
            "pixels": int(one.slow.size),
            "photons": float(one.recorded.sum()),
            "chi2": float((z**2).mean()),
        }
        for name, seen, one, z in zip(names, problem.exposures, result.fitted, result.z, strict=True)
    ]
    seen, used, rms = progress.peaks.tolist()
    beyond = "" if result.chi2 < 1e4 else " (the model does not describe the images)"
    count = f"{len(images)} images" if len(images) > 1 else "1 image"
    return {
        "headline": f"{problem.size} parameters from {problem.pixels} pixels of {count}, "
        f"chi2 {result.chi2:.3f}{beyond}",
        "seconds": round(progress.seconds, 3),
        "evaluations": progress.evaluations + (state.evaluations if state is not None else 0),
        "iterations": progress.iterations + (state.iteration if state is not None else 0),
        "loss": problem.value_and_gradient(found.x)[0],
        "chi2": result.chi2,
        "pixels": problem.pixels,
        "parameters": result.rows(),
        "correlations": result.correlations(),
        "failed": [{"kind": one.kind, "names": list(one.names), "text": one.text} for one in result.failed],
        "warnings": [one.text for one in result.failed],
        "images": images,
        "spots_found": None if np.isnan(seen) else int(seen),
        "spots_indexed": None if np.isnan(used) else int(used),
        "spots_rms_px": None if np.isnan(rms) else rms,
        "turns": progress.turn + 1,
    }

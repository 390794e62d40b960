"""What a reconstruction leaves behind: result.h5, summary.json, figures and the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import exactgrad
from exactgrad.core.run_folder import RESULT, leave
from exactgrad.tomography import derived, presentation, resolution, starts, uncertainty
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.formats import result
from exactgrad.tomography.formats.result import Volume
from exactgrad.tomography.problem import TomographyProblem
from exactgrad.tomography.sphere import angles_from_axis
from exactgrad.tomography.stages import Journal, Plan

if TYPE_CHECKING:
    from exactgrad.tomography.reconstruct import Outcome

KEPT = 2e-4  # of a bright voxel's mean intensity: a voxel below is empty (needles are dim beside rings)
SEEN = 0.01  # of the mean modelled intensity: a value below tells nothing of chi^2
SAMPLES = (2, 4)  # of the standard errors where the job says "auto": fewest, and most
SAMPLES_WORK = 1.2e10  # projections x voxels x segments x samples that are worth it
SPLIT_WORK = 2.0e8  # above so many projections x voxels x segments no second reconstruction is made unasked
NOTABLE_UNSEEN = 0.02  # share of the intensity that no voxel explains
SHARP = 1.0  # |B| above which an axis is judged


def finish(
    plan: Plan, journal: Journal, outcome: Outcome, folder: Path, told: dict[str, Any], threads: int | None
) -> dict[str, Any]:
    """Write everything a run leaves behind, the summary last; return the summary."""
    problem, x, job = outcome.problem, outcome.x, plan.job
    problem.limit_threads(threads)
    is_whole = told["status"] == "converged"
    volume = volume_of(problem, x)
    cost, penalty = problem.value_and_gradient(x)[0], problem.penalty_and_gradient(x)[0]
    count = samples_of(problem, job.quality.samples) if is_whole else 0
    quality: dict[str, Any] = {}
    if count:
        values, is_counts = values_seen(problem, x)
        local = uncertainty.Local(problem, x)
        freedom = uncertainty.freedom(local, job.solve.seed)
        chi2 = 2.0 * cost / max(values - freedom, 1.0)
        errors = uncertainty.standard_errors(local, count, 1.0 if is_counts else chi2, job.solve.seed, threads)
        quality |= {"reduced_chi2": chi2, "data_are_counts": is_counts, "freedom": freedom}
        volume.sigma.update({"A": errors.A, "B": errors.B, "axis_deg": errors.axis_deg})
        quality["samples"] = count
    splits = is_whole and _splits(problem, job.quality.split_half)
    half = resolution.split_half(plan, journal, problem, x) if splits else None
    residual = residual_maps(problem, x) if job.output.residuals else {}
    summary: dict[str, Any] = {
        **{key: told[key] for key in ("system", "command", "version", "status", "message", "signal") if key in told},
        "headline": "",
        "seconds": round(outcome.seconds, 3),
        "evaluations": outcome.evaluations,
        "iterations": outcome.iterations,
        "loss": cost + penalty,
        "cost": cost,
        "regularisation": penalty,
        "weight": _weight(plan, journal),
        "voxels": int(volume.mask.sum()),
        "volume_shape": list(volume.shape),
        "projections": problem.geometry.projections,
        "negative_B_fraction": _share(volume.B < 0, volume.mask),
        **quality,
        **_sigma_numbers(volume),
        **_swap_numbers(journal),
        **(half.numbers() if half is not None else {}),
        **_offset_numbers(plan, journal),
        "seed": job.solve.seed,
        "data": told["data"],
        "warnings": [*told["warnings"], *_unseen_warning(unseen_share(problem))],
        "engine": f"numba, float64 on {_threads(threads)} threads",
    }
    summary["headline"] = headline(summary)
    arrays = _arrays(plan, journal, volume, residual, half)
    attributes = {"schema": 1, "system": "tomography", "version": exactgrad.__version__, **_units(plan.data)}
    result.write(folder / RESULT, volume, arrays, attributes, overwrite=True)
    pictures = presentation.figures(problem.data, job, volume, journal, half) if job.output.figures else {}
    html = presentation.report_html(summary, presentation.job_text(folder, job), pictures)
    leave(folder, summary, pictures, html)
    return summary


def _weight(plan: Plan, journal: Journal) -> float | None:
    is_known = plan.given is not None or "weight" in journal.arrays or plan.job.regularisation.weight != "auto"
    return plan.weight(journal) if is_known else None


def volume_of(problem: TomographyProblem, x: np.ndarray) -> Volume:
    """Return A >= 0, B and axis with z >= 0 as volumes; voxels that came out empty leave the mask."""
    fields = problem.fields(x)
    A = np.abs(fields["A"])
    mean = np.where(problem.mask, derived.mean_intensity(A, fields["B"]), 0.0)
    mask = problem.mask & (mean > KEPT * starts.bright(mean))
    axis = fields["axis"] * np.where(fields["axis"][..., 2:] < 0, -1.0, 1.0)
    data = problem.data
    return Volume(
        np.where(mask, A, 0.0), np.where(mask, fields["B"], 0.0), np.where(mask[..., None], axis, 0.0), mask,
        pixel_size=data.pixel_size, length_unit=data.length_unit,
    )  # fmt: skip


def samples_of(problem: TomographyProblem, wanted: int | str) -> int:
    """Return how many samples of the errors are drawn: as wanted, or as many as the size of the problem allows."""
    if wanted != "auto":
        return int(wanted)
    return int(np.clip(SAMPLES_WORK / 60 / work_of(problem), *SAMPLES))


def work_of(problem: TomographyProblem) -> float:
    """Return projections x voxels x segments."""
    return float(problem.geometry.projections) * problem.voxels * problem.geometry.segments


def _splits(problem: TomographyProblem, wanted: bool | str) -> bool:
    enough = problem.geometry.projections >= 4
    return enough and (work_of(problem) <= SPLIT_WORK if wanted == "auto" else bool(wanted))


def values_seen(problem: TomographyProblem, x: np.ndarray) -> tuple[int, bool]:
    """Return how many values a ray through the sample gave, and whether all measured values are counts.

    Empty rays are predicted exactly whatever the parameters are: they would make chi^2 look small.
    """
    rows, total, amount = problem.rows(x), 0.0, 0
    modelled, is_counts = [], True
    for n in range(problem.geometry.projections):
        intensity, weight, through = problem.data.projection(n)
        seen = through[..., None] * problem.projector.segments(problem.projector.forward(problem.model, rows, n))
        is_used = weight > 0
        total, amount = total + float(seen[is_used].sum()), amount + int(is_used.sum())
        is_counts &= bool(np.all(np.rint(intensity[is_used]) == intensity[is_used]))
        is_counts &= bool(np.all(weight[is_used] == 1.0))
        modelled.append(np.sort(seen[is_used].astype(np.float32)))
    least = SEEN * total / max(amount, 1)
    count = sum(values.size - int(np.searchsorted(values, least)) for values in modelled)
    return count, is_counts and total > 0


def unseen_share(problem: TomographyProblem) -> float:
    """Return the share of the intensity, above 0, on rays that meet no voxel that is there."""
    rows = problem.rows(problem.vector(A=1.0, B=0.0))
    unseen = total = 0.0
    for n in range(problem.geometry.projections):
        intensity, weight, _ = problem.data.projection(n)
        bright = weight * np.maximum(intensity, 0.0)
        met = problem.projector.segments(problem.projector.forward(problem.model, rows, n)) > 0
        unseen, total = unseen + float(bright[~met].sum()), total + float(bright.sum())
    return unseen / total if total > 0 else 0.0


def _unseen_warning(share: float) -> list[str]:
    if share <= NOTABLE_UNSEEN:
        return []
    return [
        f"{share:.1%} of the intensity lies on rays that meet no voxel of the sample: projections contradict each "
        "other (are they misaligned? align.rounds = 4 refines their offsets), or mask.threshold is too high"
    ]


def residual_maps(problem: TomographyProblem, x: np.ndarray) -> dict[str, np.ndarray]:
    """Return the root mean square of the residuals by pixel of each projection (n, J, K), and by segment (n, S)."""
    shape = problem.data.shape
    by_pixel, by_segment = np.zeros(shape[:3], np.float32), np.zeros((shape[0], shape[3]))
    rows = problem.rows(x)
    for n in range(shape[0]):
        intensity, weight, through = problem.data.projection(n)
        seen = through[..., None] * problem.projector.segments(problem.projector.forward(problem.model, rows, n))
        square = problem.cost.residual(seen, intensity, weight) ** 2
        some = weight > 0
        by_pixel[n] = np.sqrt(square.sum(axis=2) / np.maximum(some.sum(axis=2), 1))
        by_segment[n] = np.sqrt(square.sum(axis=(0, 1)) / np.maximum(some.sum(axis=(0, 1)), 1))
    return {"residual/pixel": by_pixel, "residual/segment": by_segment}


def _arrays(plan: Plan, journal: Journal, volume: Volume, residual: dict, half: Any) -> dict[str, Any]:
    theta, phi = angles_from_axis(volume.axis)
    arrays: dict[str, Any] = {"theta_op": theta, "phi_op": phi, **residual}
    arrays |= {f"convergence/{name}": history for name, history in journal.histories().items()}
    tried = journal.held_out()
    if tried is not None:
        arrays["held_out/weight"], arrays["held_out/cost"] = tried
    geometry = plan.aligned(journal).geometry
    arrays |= {"offsets/j": geometry.j_offset, "offsets/k": geometry.k_offset}
    return arrays | (half.arrays() if half is not None else {})


def _units(data: Dataset) -> dict[str, Any]:
    known = {"q": data.q, "q_unit": data.q_unit if data.q is not None else None, "name": data.name or None}
    return {key: value for key, value in known.items() if value is not None}


def _sigma_numbers(volume: Volume) -> dict[str, Any]:
    if "axis_deg" not in volume.sigma:
        return {}
    judged = volume.mask & (np.abs(volume.B) > SHARP)
    values = volume.sigma["axis_deg"][judged]
    known = values[np.isfinite(values)]
    if not known.size:
        return {}
    low = {"sigma_axis_median_deg": float(np.median(known)), "sigma_axis_p95_deg": float(np.percentile(known, 95))}
    return low | {"sigma_B_median": float(np.nanmedian(volume.sigma["B"][judged]))}


def _swap_numbers(journal: Journal) -> dict[str, Any]:
    counts = [values for name, values in journal.arrays.items() if name.endswith("/counts")]
    taken = [values for values in counts if values[2] < values[1]]
    return {"voxels_offered": int(sum(v[0] for v in counts)), "voxels_swapped": int(sum(v[0] for v in taken))}


def _offset_numbers(plan: Plan, journal: Journal) -> dict[str, Any]:
    geometry, moved = plan.data.geometry, plan.aligned(journal).geometry
    if geometry is moved:
        return {}
    moves = np.hypot(moved.j_offset - geometry.j_offset, moved.k_offset - geometry.k_offset)
    return {"offset_change_median_px": float(np.median(moves)), "offset_change_max_px": float(moves.max())}


def headline(summary: dict[str, Any]) -> str:
    """Return how good the result is, in one line."""
    parts = [f"{summary['voxels']} voxels"]
    if summary.get("sigma_axis_median_deg") is not None:
        parts.append(f"axis to {summary['sigma_axis_median_deg']:.2f} degrees (median, by its own estimate)")
    if summary.get("reduced_chi2") is not None:
        parts.append(f"reduced chi^2 {summary['reduced_chi2']:.3g}")
    return ", ".join(parts)


def _share(chosen: np.ndarray, mask: np.ndarray) -> float:
    return float(chosen[mask].mean()) if mask.any() else 0.0


def _threads(threads: int | None) -> int:
    from exactgrad.kernels.threads import available_threads

    return threads or available_threads()

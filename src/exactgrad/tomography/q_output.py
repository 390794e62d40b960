"""What a reconstruction at several q leaves beside the runs of each: a summary, figures against q, a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.core.run_folder import Description, Pictures, leave
from exactgrad.files import read_hdf5
from exactgrad.report.page import Page
from exactgrad.report.style import png_bytes
from exactgrad.tomography import figures as draw
from exactgrad.tomography.compare import axis_error_deg
from exactgrad.tomography.formats.result import NAME as RESULT
from exactgrad.tomography.reconstruct_job import Job

SHARP = 1.0  # |B| above which an axis is judged
KEYS = ("status", "voxels", "loss", "reduced_chi2", "weight", "negative_B_fraction", "sigma_axis_median_deg", "seconds")
COLUMNS = (
    ("folder", "folder", ""),
    ("q", "q", "{:.4g}"),
    ("status", "status", ""),
    ("voxels", "voxels", "{}"),
    ("mean intensity", "mean_intensity", "{:.4g}"),
    ("B, median", "B_median", "{:.3g}"),
    ("rings", "negative_B_fraction", "{:.1%}"),
    ("error of the axis (deg)", "sigma_axis_median_deg", "{:.2f}"),
    ("axis from the brightest q's (deg)", "axis_change_median_deg", "{:.2f}"),
    ("reduced chi^2", "reduced_chi2", "{:.3f}"),
    ("time (s)", "seconds", "{:.1f}"),
)


def finish(
    folder: Path,
    description: Description,
    job: Job,
    path: Path,
    q: list[float | None],
    numbers: list[int],
    found: dict[int, dict[str, Any]],
) -> dict[str, Any]:
    """Write summary, figure and report of a series; return the summary.

    Parameters
    ----------
    q : list of float or None
        Of each of `numbers`.
    numbers : list of int
        Those that were asked for.
    found : dict of int to dict
        The summaries of those that were reconstructed, in that order.
    """
    runs = _runs(folder, dict(zip(numbers, q, strict=True)), numbers, found)
    warnings = [text for summary in found.values() for text in summary["warnings"]]
    summary: dict[str, Any] = {
        **description.head(),
        **_ending(numbers, found),
        "headline": "",
        "seconds": round(sum(part["seconds"] for part in found.values()), 3),
        "iterations": sum(part["iterations"] for part in found.values()),
        "q": [value for value, number in zip(q, numbers, strict=True) if number in found],
        "runs": runs,
        "data": str(path.resolve()),
        "warnings": list(dict.fromkeys(warnings)),
    }
    summary["headline"] = _headline(summary, len(numbers))
    leave(folder, summary, *presented(summary, description.job, job.output.figures))
    return summary


def presented(summary: dict[str, Any], job: dict[str, Any], with_figure: bool) -> tuple[Pictures, str]:
    """Return the figure (none of a single q) and the report page of a series from its summary and its job's tables."""
    pictures: Pictures = {}
    if with_figure and len(summary["runs"]) > 1:
        caption = "One point a q. The axes are compared with those of the q that was reconstructed first."
        pictures = {"q": ("Against q", png_bytes(draw.against_q(summary["runs"])), caption)}
    return pictures, _report(summary, job, pictures)


def rows(summary: dict[str, Any]) -> list[list[str]]:
    """Return the cells of a table of the runs, in the order of `COLUMNS`."""
    return [
        ["" if run.get(key) is None else (form or "{}").format(run[key]) for _, key, form in COLUMNS]
        for run in summary["runs"]
    ]


def _runs(
    folder: Path, q: dict[int, float | None], numbers: list[int], found: dict[int, dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return what each q came to, in the order of q."""
    from exactgrad.tomography.q_series import folder_of

    first: tuple[np.ndarray, np.ndarray] | None = None
    runs = {}
    for number, summary in found.items():
        arrays, _ = read_hdf5(folder / folder_of(number) / RESULT)
        mask, axis, B = arrays["mask"].astype(bool), arrays["axis"], arrays["B"]
        judged = mask & (np.abs(B) > SHARP)
        first = (judged, axis) if first is None else first
        both = judged & first[0]
        runs[number] = {
            "number": number,
            "q": q[number],
            "folder": folder_of(number),
            **{key: summary.get(key) for key in KEYS},
            "mean_intensity": float(arrays["mean_intensity"][mask].mean()) if mask.any() else 0.0,
            "B_median": float(np.median(B[mask])) if mask.any() else None,
            "axis_change_median_deg": (
                float(np.median(axis_error_deg(axis[both], first[1][both]))) if both.any() else None
            ),
        }
    return [runs[number] for number in numbers if number in runs]


def _ending(numbers: list[int], found: dict[int, dict[str, Any]]) -> dict[str, str]:
    """Return how the series ended: as its worst part."""
    for summary in found.values():
        if summary["status"] == "interrupted":
            return {key: summary[key] for key in ("status", "message", "signal")}
    unfinished = [number for number, summary in found.items() if summary["status"] != "converged"]
    if unfinished or len(found) < len(numbers):
        many = len(numbers) - len(found) + len(unfinished)
        return {"status": "budget", "message": f"the budget is used up; {many} of {len(numbers)} q are not finished"}
    return {"status": "converged", "message": f"{len(numbers)} q converged"}


def _headline(summary: dict[str, Any], asked: int) -> str:
    errors = [run["sigma_axis_median_deg"] for run in summary["runs"] if run["sigma_axis_median_deg"] is not None]
    parts = [f"{len(summary['runs'])} of {asked} q"]
    if errors:
        parts.append(f"axis to {min(errors):.2f} to {max(errors):.2f} degrees (medians, by their own estimate)")
    return ", ".join(parts)


def _report(summary: dict[str, Any], job: dict[str, Any], pictures: Pictures) -> str:
    page = Page("Tensor tomography at several q", summary["headline"])
    page.warnings(summary["warnings"])
    for title, png, caption in pictures.values():
        page.figure(title, png, caption)
    page.table("Each q", [heading for heading, _, _ in COLUMNS], rows(summary), "Its own report is in its folder.")
    page.code("The job, where it differs from the defaults", json.dumps(job, indent=1))
    page.summary({key: value for key, value in summary.items() if key != "runs"})
    return page.html()

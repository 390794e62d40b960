"""What a reconstruction shows: its figures and its report page."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.core.run_folder import JOB
from exactgrad.files import read_text
from exactgrad.report.page import Page
from exactgrad.report.style import png_bytes
from exactgrad.tomography import derived
from exactgrad.tomography import figures as draw
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.formats.result import Volume
from exactgrad.tomography.problem import TomographyProblem
from exactgrad.tomography.reconstruct_job import Job
from exactgrad.tomography.resolution import Halves
from exactgrad.tomography.stages import Journal

MOST_RESIDUALS = 200_000

Pictures = dict[str, tuple[str, bytes, str]]


def figures(data: Dataset, job: Job, volume: Volume, journal: Journal, half: Halves | None) -> Pictures:
    """Return the figures of a reconstruction: file name to (title, PNG bytes, caption).

    Modelled is the volume as it is written: voxels that came out empty are empty.
    """
    problem = TomographyProblem(data, mask=volume.mask, cost=job.model.cost, e0=job.model.e0)
    x = problem.vector(A=volume.A, B=volume.B, axis=volume.axis)
    mean = derived.mean_intensity(volume.A, volume.B)
    shown = (volume.axis, mean, volume.B, volume.mask)
    sample = _sample(problem, x)
    pictures: dict[str, Callable[[], tuple]] = {
        "slices": lambda: (
            "Slices",
            draw.slices(*shown),
            "Middle slices: colour is the axis (see the sphere), brightness the mean intensity; below them B.",
        ),
        "glyphs": lambda: (
            "Axes in space",
            draw.glyphs(*shown),
            "Axes of brighter voxels; longer where |B| is larger.",
        ),
        "projections": lambda: (
            "Projections",
            draw.projections(*sample[:4]),
            "Measured and modelled intensity, summed over the segments, and the residual.",
        ),
        "residuals": lambda: (
            "Residuals",
            draw.residuals(*sample[4:]),
            "Root mean square of every projection, and the distribution; 1 is the noise of counts.",
        ),
        "histograms": lambda: ("Histograms", draw.histograms(_columns(volume, mean)), "Of the voxels that are there."),
        "convergence": lambda: (
            "Convergence",
            draw.convergence(journal.histories(), journal.held_out(), float(journal.arrays.get("weight", np.nan))),
            "The loss of every fit, one after the other; right: pixels left out of the fit choose the weight.",
        ),
    }
    if not journal.histories():
        del pictures["convergence"]
    if half is not None:
        pictures["resolution"] = lambda: (
            "Two halves of the data",
            draw.resolution(half.frequency, half.correlation, half.threshold, half.axis_deg),
            "Every second projection against the others: Fourier shell correlation of the mean intensity, and axes.",
        )
    out = {}
    for name, picture in pictures.items():
        title, figure, caption = picture()
        out[name] = (title, png_bytes(figure), caption)
    return out


def _columns(volume: Volume, mean: np.ndarray) -> dict[str, np.ndarray]:
    mask = volume.mask
    columns = {"mean intensity": mean[mask], "B": volume.B[mask], "anisotropy": derived.anisotropy(volume.B[mask])}
    if "axis_deg" in volume.sigma:
        columns["error of the axis (deg)"] = volume.sigma["axis_deg"][mask]
    return columns


def _sample(problem: TomographyProblem, x: np.ndarray) -> tuple:
    """Return measured, modelled and residual of a few projections, their numbers, rms by projection, some residuals."""
    count = problem.geometry.projections
    numbers = sorted({int(n) for n in np.linspace(0, count - 1, min(draw.PROJECTIONS_SHOWN, count))})
    rows, rms, values, images = problem.rows(x), np.zeros(count), [], []
    for n in range(count):
        intensity, weight, through = problem.data.projection(n)
        seen = through[..., None] * problem.projector.segments(problem.projector.forward(problem.model, rows, n))
        residual = problem.cost.residual(seen, intensity, weight)
        used = residual[(weight > 0) & (seen > 0.01 * max(float(seen.mean()), 1e-300))]
        rms[n] = np.sqrt(np.mean(used**2)) if used.size else 0.0
        values.append(used[:: max(1, used.size * count // MOST_RESIDUALS)])
        if n in numbers:
            some = weight > 0
            sums = [np.where(some, part, 0.0).sum(axis=2) for part in (intensity, seen, residual)]
            images.append([*sums[:2], sums[2] / np.sqrt(np.maximum(some.sum(axis=2), 1))])
    stacks = [np.array([image[part] for image in images]) for part in range(3)]
    return (*stacks, numbers, rms, np.concatenate(values))


def job_text(folder: Path, job: Job) -> str:
    """Return the job as its user wrote it, or what of it differs from the defaults as JSON."""
    own = folder / JOB
    return read_text(own) if own.exists() else json.dumps(job.model_dump(mode="json", exclude_unset=True), indent=1)


def report_html(summary: dict[str, Any], job: str, pictures: Pictures) -> str:
    """Return the self-contained report page of a reconstruction."""
    shape = " x ".join(str(side) for side in summary["volume_shape"])
    page = Page("Tensor tomography", f"{shape} voxels from {summary['projections']} projections: {summary['message']}")
    page.numbers(_cards(summary))
    page.warnings(summary["warnings"])
    for title, png, caption in pictures.values():
        page.figure(title, png, caption)
    page.code("The job, where it differs from the defaults", job)
    data = shlex.quote(Path(summary["data"]).name)
    page.code("The command that repeats it", f"exactgrad tomography reconstruct {data} --job job.toml --out DIR")
    page.summary(summary)
    return page.html()


def _cards(summary: dict[str, Any]) -> list[tuple[str, Any, str, str]]:
    given = (
        ("Voxels", "voxels", 0, "", "that are there"),
        ("Axis", "sigma_axis_median_deg", 2, "deg", "median error by its own estimate, where |B| > 1"),
        ("Reduced chi²", "reduced_chi2", 3, "", "1 is counting noise"),
        ("Rings", "negative_B_fraction", 3, "", "share of voxels with B < 0"),
        ("Halves' axes", "half_axis_median_deg", 2, "deg", "median angle between two halves of the data"),
        ("Resolution", "resolution_voxels", 2, "voxels", "Fourier shell correlation of the halves"),
        ("Weight", "weight", 6, "", "of the regularisation, from held-out pixels"),
        ("Swapped", "voxels_swapped", 0, "", "voxels moved to the other basin"),
        ("Offsets", "offset_change_median_px", 3, "px", "median change by the alignment"),
        ("Time", "seconds", 1, "s", f"{summary['iterations']} iterations"),
    )
    return [
        (label, round(summary[key], digits) if digits else summary[key], unit, note)
        for label, key, digits, unit, note in given
        if summary.get(key) is not None
    ]

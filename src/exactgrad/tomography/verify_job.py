"""`exactgrad verify --job`, of a scan: the gradient of the user's own rays, cost and prior.

Of a large scan a random part is taken: some projections, a block of voxels in the sample, and the pixels that see it.
It is a scan of its own with the same rotations, rays and segments; what is asked of the gradient is the same.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.core import verify
from exactgrad.core.job_file import read_tables
from exactgrad.core.run_folder import Description
from exactgrad.core.verify import Check, Verified, worst
from exactgrad.errors import InputError
from exactgrad.tomography import choose_weight, formats, reconstruct_job, simulate
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.problem import TomographyProblem
from exactgrad.tomography.tables import read_job
from exactgrad.tomography.verification import (
    ANGLES,
    GEOMETRY,
    check_angles,
    check_gauss_newton,
    check_geometry,
    check_kernel,
    check_stepless,
    check_value,
    jacobian_check,
)

PROJECTIONS, SIDE, WINDOW = (
    4,
    4,
    9,
)  # that are taken: projections, voxels along an edge of the block, pixels of its image
PRIOR = 1e-2  # weight of the regularisation where the job leaves it to the data


def checks(job: Path, cases: int, seed: int) -> Verified:
    """Check the gradient of a scan's reconstruction at `cases` random starts.

    Parameters
    ----------
    job : Path
        A job of `exactgrad tomography simulate`, or the run folder of a reconstruction, whose data are taken.
    cases : int
        Starts, >= 1.
    seed : int
        Of the part that is taken and of the starts.

    Raises
    ------
    InputError
        If the job is wrong.
    """
    if job.is_dir():
        return checked(*_measured(job, seed), cases, seed)
    tables = set(read_tables(job)[0])
    if len(tables & set(reconstruct_job.Job.model_fields)) > len(tables & set(simulate.Job.model_fields)):
        raise InputError(f"{job}: a job of `reconstruct` names no data: give the run folder, or a job of `simulate`")
    made = simulate.make(read_job(job, simulate.Job)[0])
    data, said = some_of(made.data, made.truth["A"] > 0, seed)
    return checked(data, reconstruct_job.Job(), said, cases, seed)


def _measured(folder: Path, seed: int) -> tuple[Dataset, reconstruct_job.Job, str]:
    """Return a part of the data that a run reads, its job, and the part in words."""
    description = Description.read(folder, "reconstruct")
    job, _ = read_job(description.job, reconstruct_job.Job)
    path = Path(description.base) / next(iter(description.inputs))
    data = formats.one_of(path, formats.read(path), job.data.number)
    part, said = some_of(data, np.ones(data.geometry.volume_shape, bool), seed)
    return part, job, said


def checked(data: Dataset, job: reconstruct_job.Job, said: str, cases: int, seed: int) -> Verified:
    """Check the gradient by every unknown of data that are small, with the cost and the prior of a job."""
    problem = TomographyProblem(data, cost=job.model.cost, e0=job.model.e0)
    weight = PRIOR if isinstance(job.regularisation.weight, str) else job.regularisation.weight
    unit = choose_weight.unit_of(problem)
    problem = problem.with_regularisation(choose_weight.regularisation_of(job.regularisation, weight, unit))
    points = [problem.start(seed + i) for i in range(cases)]
    found: list[Check] = [
        worst(check_value(problem, x, "value") for x in points),
        worst(check_stepless(problem, x, "gradient, every entry", i, every=not i) for i, x in enumerate(points)),
        worst(check_kernel(problem, x, "kernel") for x in points),
        jacobian_check(problem, problem.rows(points[0]), "transpose"),
        *(check_angles(problem, points[0], name) for name in ANGLES),
        *(check_geometry(problem, points[0], name) for name in GEOMETRY if _has(data, name)),
        check_gauss_newton(problem, points[0], seed=seed),
        *verify.check_problem(problem, points, seed),
    ]
    return Verified(f"{said}; cost {job.model.cost}; at {cases} random starts (seed {seed})", found)


def _has(data: Dataset, name: str) -> bool:
    return name != "transmission" or data.transmission is not None


def some_of(data: Dataset, support: np.ndarray, seed: int) -> tuple[Dataset, str]:
    """Return a part of a scan that a slow reference can follow, and which part it is in words.

    Parameters
    ----------
    data : Dataset
    support : ndarray of bool, shape (X, Y, Z)
        Voxels around one of which the block lies.
    seed : int
    """
    rng, shape, pixels = np.random.default_rng(seed), data.geometry.volume_shape, data.geometry.projection_shape
    count = data.geometry.projections
    kept = np.sort(rng.choice(count, min(PROJECTIONS, count), replace=False))
    places = np.argwhere(support) if support.any() else np.argwhere(np.ones(shape, bool))
    middle = places[rng.integers(len(places))]
    low = np.clip(middle - SIDE // 2, 0, np.maximum(np.array(shape) - SIDE, 0))
    size = np.minimum(SIDE, shape)
    said = (
        f"{kept.size} of {count} projections, voxels {_range(low, size)} of {_by(shape)} and the pixels that see them, "
        f"taken at random (seed {seed})"
    )
    return _cut(data.subset(kept), low, size, np.minimum(WINDOW, pixels)), said


def _cut(data: Dataset, low: np.ndarray, size: np.ndarray, window: np.ndarray) -> Dataset:
    """Return the scan of a block of voxels, seen through a window of pixels in each projection."""
    g = data.geometry
    centre = low + (size - 1) / 2 - (np.array(g.volume_shape) - 1) / 2  # of the block, from that of the volume
    offsets, firsts = [], []
    for direction, offset, side, seen in zip(
        g.directions()[1:], (g.j_offset, g.k_offset), g.projection_shape, window, strict=True
    ):
        block = offset - direction @ centre  # the rays' offset, as the block sees it
        first = np.clip(np.rint((side - seen) / 2 - block), 0, side - seen).astype(int)
        firsts.append(first)
        offsets.append(block + first + (seen - side) / 2)
    geometry = replace(
        g, projection_shape=tuple(window), volume_shape=tuple(size), j_offset=offsets[0], k_offset=offsets[1]
    )

    def seen_of(array: Any) -> Any:
        if array is None:
            return None
        parts = zip(array, *firsts, strict=True)
        return np.stack([image[j : j + window[0], k : k + window[1]] for image, j, k in parts])

    return replace(
        data,
        geometry=geometry,
        data=seen_of(data.data),
        weights=seen_of(data.weights),
        transmission=seen_of(data.transmission),
    )


def _range(low: np.ndarray, size: np.ndarray) -> str:
    return " x ".join(f"{a}-{a + n - 1}" for a, n in zip(low, size, strict=True))


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))

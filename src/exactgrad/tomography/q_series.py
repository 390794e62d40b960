"""A reconstruction at several q: one scan, one geometry, each q started from its neighbour.

The q with the most intensity is reconstructed from nothing; then its neighbours on both sides, outwards, each from the
one before. A neighbour gives A, B and axis (A rescaled to this q's intensity), offsets if they were aligned, and the
weight of the regularisation: the prior is about the sample, so what it adds to the cost stays the same, and its weight,
which is counted in the intensity, grows where there is less of it. The voxels that are there follow from this q.

Each q is a run of its own in a folder ``q_000``, ``q_001``, ... of the run folder, with its own result.h5 and report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.core.run_folder import RUN, Description, begun, read_summary, with_overrides
from exactgrad.core.solve import Event
from exactgrad.errors import InputError
from exactgrad.files import read_hdf5
from exactgrad.tomography import choose_weight, formats, q_output, starts
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.formats.result import NAME as RESULT
from exactgrad.tomography.problem import TomographyProblem
from exactgrad.tomography.reconstruct_job import DataTable, Job
from exactgrad.tomography.tables import read_job

Listener = Callable[[Event], None]

ON_DISK = 0  # bytes held in memory of the data of all q: those of one are read by its own run
FAINT = 0.1  # of the median A: the start of a voxel that scatters at this q and not at its neighbour


def chosen(path: Path, table: DataTable) -> list[int]:
    """Return the numbers of the q that a job names, from 0.

    Raises
    ------
    InputError
        If there is none in the range, the file does not say its q, or nothing was measured at one of them.
    """
    sets = formats.read(path, ON_DISK).datasets
    numbers = _named([data.q for data in sets], path, table)
    for number in numbers:
        if not _brightness(sets[number]) > 0:
            raise InputError(
                f"{path}: q number {number}: no intensity above 0 has a weight; data.q_range leaves it out"
            )
    return numbers


def _named(q: list[float | None], path: Path, table: DataTable) -> list[int]:
    if table.q_range is None:
        return list(range(len(q)))
    low, high = table.q_range
    if any(value is None for value in q):
        raise InputError(f"data.q_range: {path} does not say its q; choose by number, data.q = 0 to {len(q) - 1}")
    inside = [number for number, value in enumerate(q) if value is not None and low <= value <= high]
    if not inside:
        raise InputError(f"data.q_range = [{low:g}, {high:g}]: {path} has q = {', '.join(f'{value:g}' for value in q)}")
    return inside


def order_of(brightness: list[float]) -> list[tuple[int, int | None]]:
    """Return each place with that of its neighbour (None for the first), in the order of reconstruction.

    Examples
    --------
    >>> order_of([1.0, 5.0, 3.0, 2.0])
    [(1, None), (2, 1), (3, 2), (0, 1)]
    """
    first = int(np.argmax(brightness))
    up = [(i, i - 1) for i in range(first + 1, len(brightness))]
    down = [(i, i + 1) for i in range(first - 1, -1, -1)]
    return [(first, None), *up, *down]


def folder_of(number: int) -> str:
    """Return the name of the folder of a q, from 0."""
    return f"q_{number:03d}"


def reconstruct(
    path: Path,
    folder: Path,
    tables: dict[str, Any],
    text: str | None,
    numbers: list[int],
    threads: int | None,
    on_event: Listener,
) -> dict[str, Any]:
    """Reconstruct several q; parameters and errors as of `reconstruct.reconstruct`.

    Parameters
    ----------
    tables : dict
        The whole job's, with what the command line changed.
    text : str or None
        The job as its user wrote it.
    numbers : list of int
        Which q.
    """
    description = Description.of("tomography", "reconstruct", tables, path.parent, formats.files_of(path), threads)
    with begun(folder, description, text, [folder_of(number) for number in numbers]):
        return carry_on(path, folder, description, numbers, threads, on_event)


def carry_on(
    path: Path, folder: Path, description: Description, numbers: list[int], threads: int | None, on_event: Listener
) -> dict[str, Any]:
    """Reconstruct the q that are not finished, in their order, and sum up."""
    job, _ = read_job(description.job, Job)
    found: dict[int, dict[str, Any]] = {}
    sets = formats.read(path, ON_DISK).datasets
    for place, beside in order_of([_brightness(sets[number]) for number in numbers]):
        number = numbers[place]
        spent = sum(summary["seconds"] for summary in found.values())
        if job.solve.max_seconds is not None and spent >= job.solve.max_seconds:
            break
        one, start = folder / folder_of(number), None
        done = read_summary(one)
        if done is not None and done.get("status") == "converged":
            found[number] = done
            continue
        if beside is not None:
            neighbour = numbers[beside]
            start = start_from(folder / folder_of(neighbour), sets[neighbour], sets[number], job, threads)
        tables = _tables_of(description.job, number, start, spent)
        found[number] = _one(path, one, tables, start, threads, _titled(number, on_event))
        if found[number]["status"] == "interrupted":
            break
    return q_output.finish(folder, description, job, path, [sets[n].q for n in numbers], numbers, found)


def _titled(number: int, tell: Listener) -> Listener:
    return lambda event: tell(replace(event, phase=f"q {number}: {event.phase}"))


def _one(
    path: Path, folder: Path, tables: dict[str, Any], start: dict[str, Any] | None, threads: int | None, tell: Listener
) -> dict[str, Any]:
    """Reconstruct one q, or carry it on."""
    from exactgrad.tomography import reconstruct

    if (folder / RUN).exists():
        budgets = {key: tables.get("solve", {}).get(key) for key in ("max_iterations", "max_seconds")}
        return reconstruct.resume(folder, threads, budgets, tell, start)
    return reconstruct.reconstruct(path, folder, tables, None, threads, tell, start)


def _tables_of(tables: dict[str, Any], number: int, start: dict[str, Any] | None, spent_s: float) -> dict[str, Any]:
    """Return the job of one q: what is left of the seconds, and no alignment where its neighbour was aligned."""
    one = {**tables, "data": {"q": number}}
    limit = tables.get("solve", {}).get("max_seconds")
    if limit is not None:
        one = with_overrides(one, "solve", {"max_seconds": limit - spent_s})
    return one if start is None else with_overrides(one, "align", {"rounds": 0})


def start_from(folder: Path, neighbour: Dataset, data: Dataset, job: Job, threads: int | None) -> dict[str, np.ndarray]:
    """Return what `stages.Plan` starts from: the result of a neighbouring q, fitted to the data of this one.

    Parameters
    ----------
    folder : Path
        The neighbour's run folder.
    neighbour, data : Dataset
        The neighbour's data, and those to reconstruct.

    Returns
    -------
    dict
        ``A``, ``B``, ``axis``, ``mask``, ``weight``, ``offsets``.
    """
    arrays, _ = read_hdf5(folder / RESULT)
    summary = read_summary(folder) or {}
    offsets = np.array([arrays["offsets/j"], arrays["offsets/k"]])
    data = data.with_geometry(data.geometry.with_offsets(*offsets))
    whole = TomographyProblem(data, cost=job.model.cost, e0=job.model.e0, threads=threads)
    mask = starts.hull_of(whole, job.mask.threshold) if job.mask.automatic else np.ones(whole.mask.shape, bool)
    problem = whole.with_mask(mask)
    was_there = arrays["mask"].astype(bool)
    fields = {
        "A": np.where(was_there, arrays["A"], FAINT * np.median(arrays["A"][was_there]) if was_there.any() else 1.0),
        "B": np.where(was_there, arrays["B"], starts.FIRST_B[0]),
        "axis": np.where(was_there[..., None], arrays["axis"], [0.0, 0.0, 1.0]),
    }
    fields["A"] = fields["A"] * np.sqrt(_scale(problem, problem.vector(**fields)))
    weight = job.regularisation.weight
    if weight == "auto":
        before, now = (choose_weight.unit_of(problem.with_data(part)) for part in (neighbour, data))
        weight = float(summary.get("weight") or choose_weight.WEIGHTS[0]) * before / now
    return {**fields, "mask": mask.astype(np.uint8), "weight": np.array(float(weight)), "offsets": offsets}


def _scale(problem: TomographyProblem, x: np.ndarray) -> float:
    """Return the measured over the modelled intensity, all of it."""
    rows = problem.rows(x)
    measured = modelled = 0.0
    for n in range(problem.geometry.projections):
        intensity, weight, through = problem.data.projection(n)
        seen = through[..., None] * problem.projector.segments(problem.projector.forward(problem.model, rows, n))
        measured, modelled = measured + float(np.sum(weight * intensity)), modelled + float(np.sum(weight * seen))
    return measured / modelled if measured > 0 and modelled > 0 else 1.0


def _brightness(data: Dataset) -> float:
    parts = (data.projection(n) for n in range(data.geometry.projections))
    return float(sum(np.sum(weight * np.maximum(intensity, 0.0)) for intensity, weight, _ in parts))

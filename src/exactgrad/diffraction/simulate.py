"""A simulation from job to files: images, spots, figures, report.

A run folder holds job.toml, run.json, the images in the formats asked for, a table of predicted spots an image,
summary.json, report.html and figures. Nothing that stands in it is overwritten.
"""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.core.run_folder import Description, begun, leave, refuse_used
from exactgrad.diffraction import output, presentation
from exactgrad.diffraction.from_job import Shot, shots
from exactgrad.diffraction.job import Job, input_files, read_job
from exactgrad.diffraction.render import engine_of, image
from exactgrad.diffraction.scene import Scene
from exactgrad.diffraction.spots import Spots, predict
from exactgrad.errors import InputError
from exactgrad.kernels.threads import available_threads

Say = Callable[[str], None]


@dataclass(frozen=True)
class Taken:
    """One image as it was simulated: what was expected (photons), what was recorded (ADU) if there is noise, spots.

    `no_spots` says why there are none.
    """

    shot: Shot
    scene: Scene
    expected: np.ndarray
    counts: np.ndarray | None
    photons: float
    overloads: int
    spots: Spots | None
    no_spots: str = ""

    @property
    def shown(self) -> np.ndarray:
        """What the files hold: counts, or expected photons."""
        return self.expected if self.counts is None else self.counts

    @property
    def unit(self) -> str:
        """The unit of `shown`."""
        return "photons" if self.counts is None else "ADU"


def simulate(
    source: Any, folder: Path, threads: int | None = None, say: Say = lambda line: None, seed: int | None = None
) -> dict[str, Any]:
    """Simulate the images of a job and write its run folder.

    Parameters
    ----------
    source : path or dict
        The job.
    folder : Path
        The run folder; made if missing, refused if a file that would be written stands in it.
    threads : int, optional
        At most so many; the images do not depend on it.
    say : callable
        Takes a line of progress an image.
    seed : int, optional
        Replaces noise.seed.

    Returns
    -------
    dict
        The content of ``summary.json``.

    Raises
    ------
    InputError
        For bad input; nothing was written then.
    """
    folder, began = Path(folder), time.perf_counter()
    job, base, text = read_job(source)
    name = "job" if isinstance(source, dict) else str(source)
    if seed is not None:
        job = _with_seed(job, seed, name)
    with _blaming(name):
        todo = shots(job, base)
    tables = job.model_dump(mode="json", by_alias=True, exclude_unset=True)
    description = Description.of("diffraction", "simulate", tables, base, input_files(tables, base), threads)
    own_text, written = None if isinstance(source, dict) else text, _written(job, todo)
    refuse_used(folder, own_text, written, description)  # before anything is computed
    with _blaming(name):
        first = take(todo[0], job, 0, threads)  # what cannot be computed is told before anything is written
    with begun(folder, description, own_text, written, again=True):
        return _run(job, todo, first, folder, description, text, threads, say, began)


def take(shot: Shot, job: Job, index: int, threads: int | None = None) -> Taken:
    """Return one simulated image of a job, nothing written."""
    scene = shot.settings.scene()
    expected = image(scene, threads)
    rendered = np.zeros(expected.shape, bool)
    rendered[scene.detector.rendered()] = True
    for background, coefficients in shot.backgrounds(scene):
        expected = expected + np.where(rendered, background.image(coefficients), 0.0)
    found = output.recorded(job, expected, index, scene.detector.roi)
    spots, why = _spots(scene, job)
    if found is None:
        return Taken(shot, scene, expected, None, float(expected.sum()), 0, spots, why)
    return Taken(shot, scene, expected, found.counts, found.photons, found.overloads, spots, why)


def _spots(scene: Scene, job: Job) -> tuple[Spots | None, str]:
    """Return the spots, if they are wanted and can be predicted, and why not."""
    if not job.output.spots:
        return None, ""
    try:
        return predict(scene, job.output.least_excitation), ""
    except InputError as error:
        return None, str(error)


def _run(
    job: Job,
    todo: list[Shot],
    first: Taken,
    folder: Path,
    description: Description,
    text: str,
    threads: int | None,
    say: Say,
    began: float,
) -> dict[str, Any]:
    rows, written, notes = [], list[str](), list[str]()
    kept: list[Taken] = []
    warnings = list(dict.fromkeys(warning for shot in todo for warning in shot.warnings))
    for index, shot in enumerate(todo):
        taken = take(shot, job, index, threads) if index else first
        files = output.write_image(folder, shot.name, job, taken.expected, taken.counts, taken.scene, shot.header)
        if taken.spots is not None:
            files.written.append(folder / f"{shot.name}_spots.csv")
            output.write_spots(files.written[-1], taken.spots, overwrite=True)
        rows.append(_numbers(taken))
        written += [str(path.resolve()) for path in files.written]
        notes += files.notes
        if taken.no_spots:
            warnings.append(f"{shot.name}: no table of spots: {taken.no_spots}")
        if taken.overloads:
            warnings.append(f"{shot.name}: overloaded pixels: {taken.overloads}")
        if job.output.figures and len(kept) < presentation.MOST_SHOWN:
            kept.append(taken)
        say(f"{shot.name}: {rows[-1]['brightest']:.6g} {taken.unit} at most, {rows[-1]['spots'] or 0} spots")
    seconds = time.perf_counter() - began
    summary = {
        **description.head(),
        "status": "converged",
        "message": _message(rows),
        "headline": _message(rows),
        "seconds": round(seconds, 3),
        "images": rows,
        "files": written,
        "notes": notes,
        "warnings": warnings,
        "seed": None if job.noise is None else job.noise.seed,
        "engine": f"{engine_of(todo[0].settings.scene())}, float64, {threads or available_threads()} threads on "
        f"{platform.machine()}",
    }
    pictures = presentation.figures(kept) if job.output.figures else {}
    html = presentation.report_html(todo[0], summary, text, pictures)
    leave(folder, summary, pictures, html)
    return summary


def _numbers(taken: Taken) -> dict[str, Any]:
    slow, fast = np.unravel_index(int(taken.shown.argmax()), taken.shown.shape)
    return {
        "name": taken.shot.name,
        "shape": list(taken.expected.shape),
        "unit": taken.unit,
        "brightest": float(taken.shown[slow, fast]),
        "brightest_at_px": [int(slow), int(fast)],
        "mean": float(taken.shown.mean()),
        "photons": taken.photons,
        "overloads": taken.overloads,
        "spots": None if taken.spots is None else len(taken.spots),
        "steps": taken.scene.steps,
    }


def _message(rows: list[dict[str, Any]]) -> str:
    spots = [row["spots"] for row in rows if row["spots"] is not None]
    predicted = f", {sum(spots)} predicted spots" if spots else ""
    slow, fast = rows[0]["shape"]
    images = f"{len(rows)} images" if len(rows) > 1 else "an image"
    return f"{images} of {slow} x {fast} pixels, {sum(row['photons'] for row in rows):.4g} photons{predicted}"


@contextlib.contextmanager
def _blaming(name: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise type(error)(f"{name}: {error}") from None


def _with_seed(job: Job, seed: int, name: str) -> Job:
    from exactgrad.diffraction.job import check_job

    tables = job.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if tables.get("noise") is None:
        raise InputError(f"{name}: --seed: there is no [noise] that it could seed")
    return check_job({**tables, "noise": {**tables["noise"], "seed": seed}}, "command line")


def _written(job: Job, todo: list[Shot]) -> list[str]:
    """Return the names of figures and images that the run writes."""
    pictures = [f"{name}.png" for name in presentation.FIGURES]
    images = output.file_names(job, [shot.name for shot in todo])
    taken = sorted(set(pictures) & set(images)) if job.output.figures else []
    if taken:
        raise InputError(f"output.name: {taken[0]} is the name of a figure; choose another")
    return [*pictures, *images]

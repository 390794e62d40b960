"""Where reflections show on the detector of a job's image: the table of spots, without rendering."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exactgrad.diffraction import output
from exactgrad.diffraction.from_job import shots
from exactgrad.diffraction.job import read_job
from exactgrad.diffraction.spots import predict
from exactgrad.errors import InputError

COLUMNS = ("h", "k", "l", "slow (px)", "fast (px)", "d (A)", "excitation", "partiality", "intensity")


def predict_job(
    source: Any, path: Path | None = None, image: int = 0, least_excitation: float | None = None, rows: int = 20
) -> dict[str, Any]:
    """Predict the spots of one image of a job; write them all as CSV if `path` is given.

    Returns
    -------
    dict
        "spots" (how many), "message", "columns", and the first "rows", the most intense.

    Raises
    ------
    InputError
        If the job is wrong, has no such image, or the file exists.
    """
    job, base, _ = read_job(source)
    todo = shots(job, base)
    if not 0 <= image < len(todo):
        raise InputError(f"--image {image}: the job has {len(todo)}, counted from 0")
    threshold = job.output.least_excitation if least_excitation is None else least_excitation
    spots = predict(todo[image].settings.scene(), threshold)
    if path is not None:
        output.write_spots(Path(path), spots, overwrite=False)
    columns = zip(
        spots.hkl[:rows].tolist(),
        spots.position_px[:rows].round(3).tolist(),
        spots.d_A[:rows].tolist(),
        spots.excitation[:rows].tolist(),
        spots.partiality[:rows].tolist(),
        spots.intensity[:rows].tolist(),
        strict=True,
    )
    return {
        "system": "diffraction",
        "command": "predict",
        "message": f"{todo[image].name}: {len(spots)} spots of an excitation of at least {threshold:g}",
        "spots": len(spots),
        "columns": list(COLUMNS),
        "rows": [[*hkl, *position, *rest] for hkl, position, *rest in columns],
        "file": None if path is None else str(Path(path).resolve()),
    }

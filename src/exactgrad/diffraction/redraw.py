"""`exactgrad report`, of a refinement or a simulation: its figures and its report anew.

A refinement's are made of what the run left; a simulation's images are made again, which gives the same ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exactgrad.core.run_folder import RESULT, RUN, SUMMARY, Description, Pictures, job_text, left_by, read_object
from exactgrad.diffraction.job import Job, check_job
from exactgrad.errors import FormatError
from exactgrad.files import read_hdf5


def redraw(folder: Path) -> tuple[Pictures, str]:
    """Return the figures and the report page of a run folder; nothing is written.

    Raises
    ------
    InputError
        If the run was cut off before it left its results, or a file that a simulation reads has changed.
    """
    command = "refine" if read_object(folder / RUN).get("command") == "refine" else "simulate"
    summary = left_by(folder, (SUMMARY, RESULT) if command == "refine" else (SUMMARY,))
    description = Description.read(folder, command)
    job = check_job(description.job, str(folder / RUN))
    text = job_text(folder, description)
    try:
        if command == "refine":
            return _refinement(folder, job, summary, text)
        return _simulation(description, job, summary, text)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise FormatError(f"{folder}: {SUMMARY} and {RESULT} are not those of this version ({error})") from None


def _refinement(folder: Path, job: Job, summary: dict[str, Any], text: str) -> tuple[Pictures, str]:
    from exactgrad.diffraction.refine_job import refine_table
    from exactgrad.diffraction.refinement import presentation
    from exactgrad.diffraction.refinement.shown import Shown

    shown = Shown.from_arrays(read_hdf5(folder / RESULT)[0])
    names = [row["name"] for row in summary["images"]]
    pictures = presentation.figures(shown, names) if refine_table(job, str(folder / RUN)).figures else {}
    return pictures, presentation.report_html(summary, text, pictures)


def _simulation(description: Description, job: Job, summary: dict[str, Any], text: str) -> tuple[Pictures, str]:
    from exactgrad.diffraction import presentation
    from exactgrad.diffraction.from_job import shots
    from exactgrad.diffraction.simulate import take

    description.refuse_changed_inputs()
    todo = shots(job, Path(description.base))
    kept = todo[: presentation.MOST_SHOWN] if job.output.figures else []
    taken = [take(shot, job, index) for index, shot in enumerate(kept)]
    pictures = presentation.figures(taken) if taken else {}
    return pictures, presentation.report_html(todo[0], summary, text, pictures)

"""`exactgrad report`, of a design: its figures and its report anew, from the job and what the run left."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from exactgrad.core.run_folder import RESULT, RUN, Description, Pictures, job_text, left_by
from exactgrad.errors import FormatError
from exactgrad.files import read_hdf5
from exactgrad.pulses import presentation
from exactgrad.pulses.certificate import Dense
from exactgrad.pulses.design import played
from exactgrad.pulses.job import blaming, check_job
from exactgrad.pulses.problem import PulseProblem


def redraw(folder: Path) -> tuple[Pictures, str]:
    """Return the figures and the report page of a run folder; nothing is written.

    Raises
    ------
    InputError
        If the run was cut off before it left its results, or a file that it reads has changed.
    """
    summary = left_by(folder)
    description = Description.read(folder, "design")
    description.refuse_changed_inputs()
    name = str(folder / RUN)
    job = check_job(description.job, name)
    with blaming(name):
        problem = PulseProblem(job, Path(description.base), text=job_text(folder, description))
    arrays, _ = read_hdf5(folder / RESULT)
    try:
        pulse = played(problem, np.asarray(arrays["x"]))[0]
        dense = Dense(*(np.asarray(arrays[f"dense/{key}"]) for key in ("offset_hz", "b1", "quality")))
        count = sum(key.startswith("histories/") for key in arrays)
        histories = [np.asarray(arrays[f"histories/{i}"]) for i in range(count)]
        pictures = presentation.figures(problem, pulse, dense, histories) if job.output.figures else {}
        return pictures, presentation.report_html(problem, summary, pictures)
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{folder}: {RESULT} and summary.json are not those of a design ({error})") from None

"""The embedded example: two noisy stills are simulated, then refined from a start that is off, and reported."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

OFF = {  # where the refinement begins; the truth is in demo.toml
    "cell": "[32.13, 40.85, 47.2, 90.0, 101.3, 90.0]",
    "misset": "[20.2, -34.8, 50.15]",
    "mosaic": "0.65",
    "distance": "60.4",
}


def run(folder: Path) -> dict[str, Any]:
    """Simulate the embedded job into `folder`/recorded and refine it into `folder`.

    Returns
    -------
    dict
        The refinement's summary; its headline says how far from the truth it ended.
    """
    from exactgrad.core.run_folder import JOB
    from exactgrad.diffraction.from_job import shots
    from exactgrad.diffraction.job import check_job
    from exactgrad.diffraction.refine import refine
    from exactgrad.diffraction.simulate import simulate
    from exactgrad.files import write_atomic

    folder, text = Path(folder), (files("exactgrad.diffraction") / "demo.toml").read_text(encoding="utf-8")
    job = tomllib.loads(text)
    simulate({key: table for key, table in job.items() if key != "refine"}, folder / "recorded")
    write_atomic(folder / JOB, off_job(text))
    summary = refine(folder / JOB, folder)
    truth = shots(check_job(job, "demo.toml"), Path())[0].settings
    pulls = [abs(row["value"] - truth.value(row["name"])) / row["esd"] for row in summary["parameters"]]
    headline = f"{summary['headline']}; the farthest ends {max(pulls):.1f} esd from the truth"
    return summary | {"headline": headline, "picture": "figure_spots.png"}


def off_job(text: str) -> str:
    """Return the embedded job with the values of `OFF` in place of the truth.

    Examples
    --------
    >>> off_job("mosaic = 0.5  # degrees")
    'mosaic = 0.65  # degrees'
    """
    for key, value in OFF.items():
        text = re.sub(rf"^{key} = (\[.*?\]|\S+)", f"{key} = {value}", text, flags=re.MULTILINE)
    return text

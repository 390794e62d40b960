"""The embedded example: two noisy stills are simulated, then refined from a start that is off, and reported."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

OFF = {  # where the refinement begins; the truth is in demo.toml
    "cell": [32.13, 40.85, 47.2, 90.0, 101.3, 90.0],
    "misset": [20.2, -34.8, 50.15],
    "mosaic": 0.65,
}
OFF_DISTANCE_MM = 60.4


def run(folder: Path) -> dict[str, Any]:
    """Simulate the embedded job into `folder`/recorded and refine it into `folder`.

    Returns
    -------
    dict
        The refinement's summary; its headline says how far from the truth it ended.
    """
    from exactgrad.diffraction.from_job import shots
    from exactgrad.diffraction.job import check_job
    from exactgrad.diffraction.refine import refine
    from exactgrad.diffraction.simulate import simulate

    job = tomllib.loads((files("exactgrad.diffraction") / "demo.toml").read_text(encoding="utf-8"))
    recorded = Path(folder) / "recorded"
    simulate({key: table for key, table in job.items() if key != "refine"}, recorded)
    truth = shots(check_job(job, "demo.toml"), Path())[0].settings
    job["crystal"] |= OFF
    job["detector"]["distance"] = OFF_DISTANCE_MM
    job["refine"]["data"] = [str((Path(folder) / name).resolve()) for name in job["refine"]["data"]]
    summary = refine(job, Path(folder))
    pulls = [abs(row["value"] - truth.value(row["name"])) / row["esd"] for row in summary["parameters"]]
    return summary | {"headline": f"{summary['headline']}; the farthest ends {max(pulls):.1f} esd from the truth"}

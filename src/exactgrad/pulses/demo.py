"""The embedded example: a broadband excitation pulse, designed, certified and reported in seconds."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from exactgrad.pulses.design import design


def run(folder: Path) -> dict[str, Any]:
    """Design the embedded job into `folder`; return its summary."""
    with as_file(files("exactgrad.pulses") / "demo.toml") as job:
        return design(job, folder) | {"picture": "trajectory.png"}

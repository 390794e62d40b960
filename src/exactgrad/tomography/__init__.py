"""Tomography: A, B and the axis of every voxel from SAXS projections, with gradients that are exact."""

from __future__ import annotations

import importlib
from typing import Any

from exactgrad.core.system import System

SYSTEM = System(
    name="tomography",
    aliases=("saxs",),
    title="reconstruct axes from SAXS tensor tomography",
    commands="exactgrad.tomography.commands:app",
    problems="exactgrad.tomography.configurations:example_problems",
    verify="exactgrad.tomography.verification:checks",
    demo="exactgrad.tomography.demo:run",
    resume="exactgrad.tomography.reconstruct:resume",
    trace="exactgrad.tomography.trace:trace",
    traced="exactgrad.tomography.trace:names",
    jobs=("exactgrad.tomography.simulate:Job", "exactgrad.tomography.reconstruct_job:Job"),
    verify_job="exactgrad.tomography.verify_job:checks",
    report="exactgrad.tomography.redraw:redraw",
    parameters="exactgrad.tomography.trace:names",
)

_PUBLIC = {
    "Dataset": "exactgrad.tomography.dataset",
    "Geometry": "exactgrad.tomography.geometry",
    "Regularisation": "exactgrad.tomography.regularisation",
    "TomographyProblem": "exactgrad.tomography.problem",
    "load": "exactgrad.tomography.formats",
    "load_all": "exactgrad.tomography.formats",
    "DataWarning": "exactgrad.tomography.formats",
}

__all__ = ["SYSTEM", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

"""Diffraction: the image of a mosaic nanocrystal on a detector, and its exact derivatives.

What stands: the physics as a readable model (`model.image` of a `scene.Scene`) and fused with its derivatives
(`Simulator`), the C program's command line as data (`options.parse`) and as a command (`nanobragg`), its random
numbers, noise and file formats, and the refinement of images (`refine.refine`, `problem.DiffractionProblem`).
"""

from __future__ import annotations

import importlib
from typing import Any

from exactgrad.core.system import System

SYSTEM = System(
    name="diffraction",
    aliases=("diffract",),
    title="simulate and refine X-ray images of mosaic nanocrystals",
    commands="exactgrad.diffraction.commands:app",
    problems="exactgrad.diffraction.verification:example_problems",
    verify="exactgrad.diffraction.verification:checks",
    demo="exactgrad.diffraction.demo:run",
    resume="exactgrad.diffraction.refine:resume",
    trace="exactgrad.diffraction.trace:trace",
    traced="exactgrad.diffraction.trace:names",
    jobs=("exactgrad.diffraction.job:Job",),
    verify_job="exactgrad.diffraction.verify_job:checks",
    report="exactgrad.diffraction.redraw:redraw",
    parameters="exactgrad.diffraction.parameters.table:names",
)

_PUBLIC = {
    "Simulator": "exactgrad.diffraction.simulator",
    "Settings": "exactgrad.diffraction.settings",
    "Scene": "exactgrad.diffraction.scene",
}

__all__ = ["SYSTEM", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

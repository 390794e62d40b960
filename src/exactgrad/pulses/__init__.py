"""Pulses: exact-gradient optimal control of spin-1/2 ensembles (NMR, EPR, MRI)."""

from __future__ import annotations

import importlib
from typing import Any

from exactgrad.core.system import System

SYSTEM = System(
    name="pulses",
    aliases=("pulse",),
    title="design rf pulses for spin-1/2 ensembles",
    commands="exactgrad.pulses.commands:app",
    problems="exactgrad.pulses.verification:example_problems",
    verify="exactgrad.pulses.verification:checks",
    demo="exactgrad.pulses.demo:run",
    resume="exactgrad.pulses.design:resume",
    trace="exactgrad.pulses.trace:trace",
    traced="exactgrad.pulses.trace:names",
    jobs=("exactgrad.pulses.job:Job",),
    verify_job="exactgrad.pulses.verify_job:checks",
    report="exactgrad.pulses.redraw:redraw",
    parameters="exactgrad.pulses.trace:names",
)

_PUBLIC = {
    "Pulse": "exactgrad.pulses.pulse",
    "PulseProblem": "exactgrad.pulses.problem",
    "Ensemble": "exactgrad.pulses.ensemble",
    "simulate": "exactgrad.pulses.bloch",
    "read_shape": "exactgrad.pulses.formats",
    "write_shape": "exactgrad.pulses.formats",
}

__all__ = ["SYSTEM", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

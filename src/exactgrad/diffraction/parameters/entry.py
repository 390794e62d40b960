"""What one parameter is: its names, unit and bounds, where its value stands in the settings, how the scene moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from exactgrad.diffraction.movement import Movement
from exactgrad.diffraction.settings import Settings
from exactgrad.errors import InputError

MM, UM, DEGREE, PERCENT = 1e-3, 1e-6, np.pi / 180, 0.01
INF = float("inf")
Get = Callable[[Settings, Any], Any]
Put = Callable[[Settings, Any, Any], Settings]
Move = Callable[[Settings, Any], Movement]
Pull = Callable[[Settings, Any, Movement], Any]
Aliases = tuple[tuple[str, str, float], ...]


@dataclass(frozen=True)
class Entry:
    """One parameter.

    Attributes
    ----------
    name, unit, si : str, str, float
        As the options have them, and how many of the settings' own units one unit is.
    get, put, move : callables
        Its value, the settings with another value, the movement per one of the settings' own units; all take the
        settings and an index (None where there is none). Of an array `move` takes a change instead.
    meaning : str
    aliases : tuple of (str, str, float)
        Other names, with unit and how many of the settings' own units that is.
    low, high : float
        Bounds in `unit`.
    moves_spots : bool
        Whether it moves reflections across pixels.
    pull : callable or None
        Settings, index and cotangent (a loss's derivative by the scene's arrays, as a `Movement`) to the loss's
        derivative, where that is less work than a movement.
    array : bool
        Whether its value is an array.
    """

    name: str
    unit: str
    si: float
    get: Get
    put: Put
    move: Move
    meaning: str
    aliases: Aliases = ()
    low: float = -INF
    high: float = INF
    moves_spots: bool = True
    pull: Pull | None = None
    array: bool = False


@dataclass(frozen=True)
class Named:
    """An entry under one of its names, with that name's unit; `index` is None, a source's or a reflection's."""

    name: str
    entry: Entry
    unit: str
    si: float
    index: Any = None

    def within_bounds(self, value: np.ndarray) -> Any:
        """Return a value in this name's unit, a float or an array, if it is within bounds."""
        factor = self.si / self.entry.si
        if (value * factor < self.entry.low).any() or (value * factor > self.entry.high).any():
            low, high = self.entry.low / factor, self.entry.high / factor
            worst = float(value.ravel()[np.abs(value * factor - max(self.entry.low, 0.0)).argmax()])
            raise InputError(f"{self.name} = {worst:g} {self.unit}".rstrip() + f": must be from {low:g} to {high:g}")
        return float(value) if value.ndim == 0 else value


def field(path: str, index: int | None = None) -> tuple[Get, Put]:
    """Return get and put of a field of the settings ("crystal.osc_rad"), or of number `index` of it."""
    parts = path.split(".")

    def whole(settings: Settings) -> Any:
        value: Any = settings
        for part in parts:
            value = getattr(value, part)
        return value

    def get(settings: Settings, _: Any) -> Any:
        return whole(settings) if index is None else whole(settings)[index]

    def put(settings: Settings, _: Any, value: Any) -> Settings:
        if index is not None:
            value = tuple(value if i == index else float(old) for i, old in enumerate(whole(settings)))
        return with_field(settings, parts, value)

    return get, put


def with_field(owner: Any, parts: list[str], value: Any) -> Any:
    """Return a dataclass with the field at the path `parts` replaced."""
    if len(parts) > 1:
        value = with_field(getattr(owner, parts[0]), parts[1:], value)
    return replace(owner, **{parts[0]: value})

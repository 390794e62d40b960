"""How a scene moves when one of its parameters grows: what tangents hand to the derivative of an image.

Units: those of the scene's own arrays (metres, 1/m, photons/m^2, electrons) per one unit of the parameter.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Movement:
    """The derivative of everything in a `Scene` that an image depends on smoothly; None or 0: it does not move.

    Attributes
    ----------
    lattices : ndarray, shape (M, 3, 3), or None
        Of `Crystal.lattices()`: M spindle angles x domains, rows a, b, c.
    reciprocal : ndarray, shape (3, 3), or None
        Of `Crystal.reciprocal`; only the metric of that name uses it.
    cells : ndarray, shape (3,), or None
    origin, fast, slow, normal : ndarray, shape (3,), or None
        Of the detector.
    layer_m, attenuation_per_m : float
        Of the sensor.
    distance_m : float
        Of the nominal distance; only the C program's curved detector uses it.
    wavelengths_m, shares : ndarray, shape (S,), or None
        Of the sources; `shares` of the weights that sum to one (the C program ignores weights: None).
    kahn, fluence, water_m : float
    table : ndarray, shape (H, K, L) or (S, H, K, L), or None
        Of the structure factors.
    default : float
        Of the structure factor of every reflection that is not in the table.

    Examples
    --------
    >>> move = Movement(fluence=2.0) + 3.0 * Movement(kahn=1.0, cells=np.ones(3))
    >>> move.fluence, move.kahn, move.cells, move.lattices
    (2.0, 3.0, array([3., 3., 3.]), None)
    """

    lattices: Any = None
    reciprocal: Any = None
    cells: Any = None
    origin: Any = None
    fast: Any = None
    slow: Any = None
    normal: Any = None
    layer_m: float = 0.0
    attenuation_per_m: float = 0.0
    distance_m: float = 0.0
    wavelengths_m: Any = None
    shares: Any = None
    kahn: float = 0.0
    fluence: float = 0.0
    water_m: float = 0.0
    table: Any = None
    default: float = 0.0

    def __add__(self, other: Movement) -> Movement:
        summed: dict[str, Any] = {name: _sum(getattr(self, name), getattr(other, name)) for name in NAMES}
        return Movement(**summed)

    def __rmul__(self, factor: float) -> Movement:
        moved = {name: getattr(self, name) for name in NAMES}
        scaled: dict[str, Any] = {name: None if value is None else factor * value for name, value in moved.items()}
        return Movement(**scaled)


NAMES = tuple(part.name for part in fields(Movement))


def _sum(ours: Any, theirs: Any) -> Any:
    if ours is None or theirs is None:
        return theirs if ours is None else ours
    return np.add(ours, theirs) if isinstance(ours, np.ndarray) else ours + theirs

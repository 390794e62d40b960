"""Named parameters: value, unit, bounds, fixed or free, standard error, and every name that people use for them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from exactgrad.errors import InputError, require_finite


@dataclass(frozen=True)
class Parameter:
    """One named parameter: a number or an array.

    Attributes
    ----------
    name : str
        The field's own name.
    value : ndarray
        float64, any shape.
    unit : str
        "" where it has none.
    low, high : float
        Bounds (infinite where there is none).
    fixed : bool
        True: the solver leaves it alone.
    esd : ndarray or None
        Standard error, where one was computed; setting a value clears it.
    aliases : tuple of str
        Names in the papers, the seed documents, options.
    meaning : str
        One phrase for tables.
    """

    name: str
    value: np.ndarray
    unit: str = ""
    low: float = -np.inf
    high: float = np.inf
    fixed: bool = False
    esd: np.ndarray | None = None
    aliases: tuple[str, ...] = ()
    meaning: str = ""

    def __post_init__(self) -> None:
        value = require_finite(self.name, self.value, self.unit)
        if (value < self.low).any() or (value > self.high).any():
            raise InputError(f"{self.name}: outside [{self.low:g}, {self.high:g}] {self.unit}".rstrip())
        object.__setattr__(self, "value", value)


@dataclass(frozen=True)
class Parameters:
    """An ordered set of parameters, the `members`, and its free part as a flat vector.

    Examples
    --------
    >>> p = Parameters((Parameter("distance", 0.1, "m"), Parameter("tilt", [0.0, 1.0], "rad", fixed=True)))
    >>> p.vector().tolist(), p.find("distance").unit
    ([0.1], 'm')
    """

    members: tuple[Parameter, ...]
    _names: dict[str, Parameter] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        names: dict[str, Parameter] = {}
        for member in self.members:
            for name in (member.name, *member.aliases):
                if name in names:
                    raise InputError(f"parameter name {name!r} is used twice")
                names[name] = member
        object.__setattr__(self, "_names", names)

    def find(self, name: str) -> Parameter:
        """Return the parameter of this name or alias; raises `InputError` listing the names there are."""
        if name not in self._names:
            raise InputError(f"{name!r}: no such parameter; there are: {', '.join(m.name for m in self.members)}")
        return self._names[name]

    def free(self) -> tuple[Parameter, ...]:
        """Return the parameters that are not fixed."""
        return tuple(member for member in self.members if not member.fixed)

    def vector(self) -> np.ndarray:
        """Return the free values as one flat vector."""
        return np.concatenate([member.value.ravel() for member in self.free()] or [np.zeros(0)])

    def labels(self) -> list[str]:
        """Return a name for each entry of `vector`: "x[3]"."""
        return [
            member.name + ("" if member.value.ndim == 0 else f"[{', '.join(map(str, index))}]")
            for member in self.free()
            for index in np.ndindex(member.value.shape)
        ]

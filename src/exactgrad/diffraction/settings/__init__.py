"""All the numbers that a user states, in one place that stays live: a scene is made of them at any moment.

Files are read once, before; a changed number costs what depends on it and no reading. Names and units are those of
`parameters.table`: the options' own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from exactgrad.diffraction.movement import Movement
from exactgrad.diffraction.scene import Scene
from exactgrad.diffraction.settings.beam import BeamSettings
from exactgrad.diffraction.settings.crystal import CrystalSettings
from exactgrad.diffraction.settings.detector import DetectorSettings
from exactgrad.diffraction.structure_factors import StructureFactors
from exactgrad.errors import InputError, require_finite, require_shape


@dataclass(frozen=True)
class Settings:
    """What a scene is made of.

    Attributes
    ----------
    crystal, beam, detector : CrystalSettings, BeamSettings, DetectorSettings
    structure_factors : StructureFactors
    unlisted : ndarray of bool, shape (H, K, L), or None
        Entries of the table that are not in the list and follow the default.
    water_m, d_min_m, c_compat, per_sample
        As those of `Scene`.

    Examples
    --------
    >>> from exactgrad.diffraction.options import read
    >>> from exactgrad.diffraction.assemble import settings_of
    >>> words = "-cell 50 60 70 90 90 90 -default_F 10 -detpixels 4 -pixel 1 -distance 80"
    >>> settings = settings_of(read(words.split()))
    >>> settings.value("cell_b"), settings.value("distance_mm"), settings.replace(cell_b=61.0).value("cell_b")
    (60.0, 80.0, 61.0)
    >>> settings.movement("fluence").fluence
    1.0
    """

    crystal: CrystalSettings
    beam: BeamSettings
    detector: DetectorSettings
    structure_factors: StructureFactors
    unlisted: Any = None
    water_m: float = 0.0
    d_min_m: float = 0.0
    c_compat: bool = False
    per_sample: Any = None

    def scene(self) -> Scene:
        """Return the scene; raises `InputError` if a number is out of its range."""
        return Scene(
            self.crystal.crystal(),
            self.beam.beam(),
            self.detector.detector(),
            self.structure_factors,
            water_m=self.water_m,
            d_min_m=self.d_min_m,
            c_compat=self.c_compat,
            per_sample=self.per_sample,
        )

    def value(self, name: str) -> Any:
        """Return a parameter's value in the unit of the name: a float, or an array for "F", "lambda[]", "weight[]"."""
        from exactgrad.diffraction.parameters.table import find

        named = find(name)
        value = named.entry.get(self, named.index)
        return value / named.si if isinstance(value, np.ndarray) else float(value) / named.si

    def replace(self, values: Mapping[str, Any] | None = None, /, **named: Any) -> Settings:
        """Return settings with other values.

        Parameters
        ----------
        values : mapping of str to float, or to ndarray, optional
            By any name of a parameter, in the unit of that name.
        **named : float
            The same, as keywords.

        Raises
        ------
        InputError
            If a name is unknown, or a value is not finite, of the wrong shape, or out of the parameter's bounds.
        """
        from exactgrad.diffraction.parameters.table import find

        changed = self
        for name, value in {**(values or {}), **named}.items():
            found = find(name)
            shape = np.shape(found.entry.get(changed, found.index))
            given = require_shape(name, require_finite(name, value, found.unit), shape)
            changed = found.entry.put(changed, found.index, found.within_bounds(given) * found.si)
        return changed

    def movement(self, name: str) -> Movement:
        """Return the exact derivative of the scene's arrays per one unit of the named parameter.

        Raises
        ------
        InputError
            If the name is unknown, is that of an array, or the parameter has no derivative here; the line says why.
        """
        from exactgrad.diffraction.parameters.table import find

        named = find(name)
        named.entry.get(self, named.index)
        if named.entry.array:
            raise InputError(f"{name}: an array; its derivative needs a direction, or a pullback")
        self.require_derivative(name)
        return named.si * named.entry.move(self, named.index)

    def movement_along(self, name: str, direction: Any) -> Movement:
        """Return the derivative of the scene's arrays along a change of a parameter.

        Parameters
        ----------
        name : str
            Any name of a parameter.
        direction : float, or ndarray of the parameter's shape
            The change, in the unit of the name.

        Raises
        ------
        InputError
            If there is no such parameter, no derivative by it, or the change is not finite or of another shape.
        """
        from exactgrad.diffraction.parameters.table import find

        named = find(name)
        shape = np.shape(named.entry.get(self, named.index))
        change = require_shape(name, require_finite(name, direction, named.unit), shape)
        if not named.entry.array:
            return float(change) * self.movement(name)
        self.require_derivative(name)
        return named.entry.move(self, change * named.si)

    def smooth(self) -> Settings:
        """Return these settings without the C program's rounding of mosaic angles to float32.

        Derivatives are taken here: a rounded angle is a staircase.
        """
        mosaic = self.crystal.mosaic
        if not mosaic.rounded:
            return self
        return replace(self, crystal=replace(self.crystal, mosaic=replace(mosaic, rounded=False)))

    def require_derivative(self, name: str) -> None:
        """Check that an image of these settings has a derivative by the parameter called `name`.

        Raises
        ------
        InputError
            If it has none; the message says why.
        """
        from exactgrad.diffraction.parameters.table import find

        if self.crystal.shape == "tophat" and find(name).entry.moves_spots:
            raise InputError(f"tophat spots have no derivative by {name}: their edge is a step")

    def cautions(self) -> tuple[str, ...]:
        """Return what derivatives by cell, orientation and geometry leave out: the steps of this model."""
        found = []
        if self.structure_factors.table.size and not self.structure_factors.interpolate:
            found.append(
                "F is that of the nearest reflection: its steps halfway between reflections have no derivative"
            )
        if self.d_min_m:
            found.append("d_min cuts in a step: its edge has no derivative")
        return tuple(found)

    def with_structure_factors(self, table: np.ndarray) -> Settings:
        """Return settings with another table of F, of the same shape; its entries stop following the default."""
        factors = replace(self.structure_factors, table=table)
        return replace(self, structure_factors=factors, unlisted=None)

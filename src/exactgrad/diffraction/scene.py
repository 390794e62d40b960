"""A scene: everything that an image depends on.

Correct physics is the default. `c_compat` asks for the image of the C program (with its three repairs of 2026 merged):
solid angle and polarization of a pixel's first sub-pixel and first source, capture fraction of the last layer times
the sum over layers, source weights ignored, and a water background that grows with the square of the fluence and is
divided by the number of steps. What it does to the crystal (lattice of triclinic cells, "reciprocal" metric, "random"
orientation) and to the sensor's layers (one step too thick) is in these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from exactgrad.diffraction.beam import Beam
from exactgrad.diffraction.crystal import Crystal
from exactgrad.diffraction.detector import Detector
from exactgrad.diffraction.structure_factors import StructureFactors
from exactgrad.errors import InputError, require_range

FACTORS = ("solid angle", "polarization", "capture")


@dataclass(frozen=True)
class Scene:
    """Crystal, beam, detector, structure factors, and what surrounds them.

    Attributes
    ----------
    crystal : Crystal
    beam : Beam
    detector : Detector
    structure_factors : StructureFactors
        One table for all sources, or one for each.
    water_m : float
        Side of a cube of water that scatters evenly into all directions.
    d_min_m : float
        Diffraction at a smaller lattice spacing is left out; 0 keeps all.
    c_compat : bool
        See above.
    per_sample : tuple of str
        Those of `FACTORS` taken at every sub-pixel, layer and source; by default all, none with `c_compat`.

    Raises
    ------
    InputError
        If a value is out of its range, the structure factors are for another number of sources, or correct physics is
        asked for with a factor taken once a pixel.
    """

    crystal: Crystal
    beam: Beam
    detector: Detector
    structure_factors: StructureFactors
    water_m: float = 0.0
    d_min_m: float = 0.0
    c_compat: bool = False
    per_sample: Any = None

    def __post_init__(self) -> None:
        require_range("scene.water", self.water_m, "m", low=0.0, high=1.0)
        require_range("scene.d_min", self.d_min_m, "m", low=0.0, high=1e-6)
        given = (() if self.c_compat else FACTORS) if self.per_sample is None else tuple(self.per_sample)
        if not set(given) <= set(FACTORS) or (not self.c_compat and set(given) != set(FACTORS)):
            raise InputError(f"scene.per_sample = {given}: must be {FACTORS}, or some of them with c_compat")
        object.__setattr__(self, "per_sample", given)
        if self.structure_factors.tables not in (1, self.beam.sources):
            counts = f"{self.structure_factors.tables} tables for {self.beam.sources} sources"
            raise InputError(f"structure_factors: {counts}; one for all or one for each is needed")

    @property
    def steps(self) -> int:
        """Samples averaged in a pixel: sources x spindle angles x domains x sub-pixels (layers are summed)."""
        sweep = self.crystal.phi_steps * len(self.crystal.domains)
        return self.beam.sources * sweep * self.detector.oversample**2

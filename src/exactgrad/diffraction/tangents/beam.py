"""How the sources of a beam move."""

from __future__ import annotations

import numpy as np

from exactgrad.diffraction.movement import Movement
from exactgrad.diffraction.settings.beam import BeamSettings
from exactgrad.errors import InputError


def wavelength(beam: BeamSettings) -> Movement:
    """Return the movement per metre of the nominal wavelength."""
    if not beam.follows.any():
        raise InputError("lambda: every source has a wavelength of its own; name lambda[0], lambda[1], ... or lambda[]")
    return Movement(wavelengths_m=beam.follows * (1.0 + beam.dispersion * beam.shares))


def dispersion(beam: BeamSettings) -> Movement:
    """Return the movement per unit of the spectrum's width."""
    if not (beam.follows * beam.shares).any():
        raise InputError("dispersion: the beam has no spectrum of steps; give -dispersion and -dispsteps")
    return Movement(wavelengths_m=beam.follows * beam.wavelength_m * beam.shares)


def wavelengths(change: np.ndarray) -> Movement:
    """Return the movement where the sources' wavelengths change by `change`, shape (S,), in metres."""
    return Movement(wavelengths_m=np.array(change, dtype=np.float64))


def weights(beam: BeamSettings, change: np.ndarray) -> Movement:
    """Return the movement where the stated weights change by `change`, shape (S,); shares stay at sum one."""
    total = beam.weights.sum()
    return Movement(shares=(change - beam.weights / total * np.sum(change)) / total)


def kahn(beam: BeamSettings) -> Movement:
    """Return the movement per unit of Kahn's factor."""
    if beam.kahn is None:
        raise InputError("polar: -nopolar leaves no polarization; give -polar")
    return Movement(kahn=1.0)

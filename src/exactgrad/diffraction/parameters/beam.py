"""The parameters of the beam, as entries of the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from exactgrad.diffraction.crystal import ANGSTROM
from exactgrad.diffraction.movement import Movement
from exactgrad.diffraction.parameters.entry import PERCENT, Entry, field, with_field
from exactgrad.diffraction.settings import Settings
from exactgrad.diffraction.tangents import beam as tangents_beam
from exactgrad.errors import InputError

SHORTEST, LONGEST = 1e-3, 1e4  # A


def entries() -> Iterator[Entry]:
    """Yield the entries."""
    yield Entry(
        "lambda",
        "A",
        ANGSTROM,
        *field("beam.wavelength_m"),
        lambda settings, _: tangents_beam.wavelength(settings.beam),
        "wavelength; the spectrum goes with it, a cell that was read does not",
        (("lambda_A", "A", ANGSTROM), ("wavelength_A", "A", ANGSTROM), ("wavelength", "A", ANGSTROM)),
        SHORTEST,
        LONGEST,
    )
    yield Entry(
        "dispersion",
        "%",
        PERCENT,
        *field("beam.dispersion"),
        lambda settings, _: tangents_beam.dispersion(settings.beam),
        "width of the spectrum",
        low=0.0,
        high=190.0,
    )
    yield Entry(
        "fluence",
        "photons/m^2",
        1.0,
        *field("beam.fluence"),
        lambda settings, _: Movement(fluence=1.0),
        "photons of all sources together",
        low=0.0,
        high=1e45,
        moves_spots=False,
    )
    yield Entry(
        "polar",
        "",
        1.0,
        _kahn,
        field("beam.kahn")[1],
        lambda settings, _: tangents_beam.kahn(settings.beam),
        "Kahn's polarization factor",
        (("polarization_factor", "", 1.0), ("kahn_factor", "", 1.0), ("polarization", "", 1.0)),
        -1.0,
        1.0,
        moves_spots=False,
    )
    yield Entry(
        "lambda[]",
        "A",
        ANGSTROM,
        lambda settings, _: settings.beam.wavelengths_m(),
        lambda settings, _, value: _put_wavelengths(settings, value),
        lambda settings, change: tangents_beam.wavelengths(change),
        "wavelength of each source",
        low=SHORTEST,
        high=LONGEST,
        pull=lambda settings, _, cotangent: cotangent.wavelengths_m,
        array=True,
    )
    yield Entry(
        "weight[]",
        "",
        1.0,
        *field("beam.weights"),
        _move_weights,
        "weight of each source; the sources' shares of the fluence stay at sum one",
        low=0.0,
        moves_spots=False,
        pull=_pull_weights,
        array=True,
    )


def of_one_source() -> dict[str, Entry]:
    """Return the entries that take the index of a source."""
    wavelength = Entry(
        "lambda[i]",
        "A",
        ANGSTROM,
        lambda settings, i: float(_source(settings, i, "lambda") @ settings.beam.wavelengths_m()),
        lambda settings, i, value: _put_wavelengths(
            settings, np.where(_source(settings, i, "lambda") == 1, value, settings.beam.wavelengths_m())
        ),
        lambda settings, i: tangents_beam.wavelengths(_source(settings, i, "lambda")),
        "wavelength of source i",
        low=SHORTEST,
        high=LONGEST,
    )
    weight = Entry(
        "weight[i]",
        "",
        1.0,
        lambda settings, i: float(_source(settings, i, "weight") @ settings.beam.weights),
        lambda settings, i, value: with_field(
            settings,
            ["beam", "weights"],
            np.where(_source(settings, i, "weight") == 1, value, settings.beam.weights),
        ),
        lambda settings, i: _move_weights(settings, _source(settings, i, "weight")),
        "weight of source i; the sources' shares of the fluence stay at sum one",
        low=0.0,
        moves_spots=False,
    )
    return {"lambda": wavelength, "weight": weight}


def _kahn(settings: Settings, _: Any) -> Any:
    tangents_beam.kahn(settings.beam)
    return settings.beam.kahn


def _put_wavelengths(settings: Settings, value: np.ndarray) -> Settings:
    beam = settings.beam
    return replace(settings, beam=replace(beam, own_m=beam.own_m + value - beam.wavelengths_m()))


def _move_weights(settings: Settings, change: np.ndarray) -> Movement:
    return Movement() if settings.c_compat else tangents_beam.weights(settings.beam, change)


def _pull_weights(settings: Settings, _: Any, cotangent: Movement) -> np.ndarray:
    weights = settings.beam.weights
    if settings.c_compat:
        return np.zeros(weights.shape)
    return (cotangent.shares - weights @ cotangent.shares / weights.sum()) / weights.sum()


def _source(settings: Settings, index: int, name: str) -> np.ndarray:
    """Return a change of one source, shape (S,)."""
    sources = len(settings.beam.weights)
    if not 0 <= index < sources:
        raise InputError(f"{name}[{index}]: the beam has {sources} sources, 0 to {sources - 1}")
    return np.eye(1, sources, index)[0]

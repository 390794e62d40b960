"""The parameters of the crystal, as entries of the table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from exactgrad.diffraction.crystal import ANGSTROM
from exactgrad.diffraction.movement import Movement
from exactgrad.diffraction.parameters.entry import DEGREE, Aliases, Entry, Move, field, with_field
from exactgrad.diffraction.settings import Settings
from exactgrad.diffraction.tangents import crystal as tangents_crystal
from exactgrad.errors import InputError

AXES = ("a", "b", "c")
CELL = (*(f"cell_{axis}" for axis in AXES), "cell_alpha", "cell_beta", "cell_gamma")


def entries() -> Iterator[Entry]:
    """Yield the entries."""
    for i, name in enumerate(CELL[:3]):
        aliases: Aliases = ((f"{name}_A", "A", 1.0), (f"{name}_angstrom", "A", 1.0), (f"{name}_m", "m", 1 / ANGSTROM))
        place = field("crystal.cell", i)
        yield Entry(name, "A", 1.0, *place, _cell(i), "cell edge", aliases, 0.1, 1e5)
    for i, name in enumerate(CELL[3:], 3):
        aliases = ((f"{name}_deg", "deg", 1.0), (f"{name}_rad", "rad", 1 / DEGREE))
        place = field("crystal.cell", i)
        yield Entry(name, "deg", 1.0, *place, _cell(i), "cell angle", aliases, 1.0, 179.0)
    for i, axis in enumerate("xyz"):
        name = f"misset_{axis}"
        aliases = ((f"misset_rot_{axis}", "deg", 1.0), (f"{name}_deg", "deg", 1.0), (f"{name}_rad", "rad", 1 / DEGREE))
        place = field("crystal.misset_deg", i)
        yield Entry(name, "deg", 1.0, *place, _misset(i), f"missetting angle about the fixed {axis}", aliases)
    yield from _mosaic_entries()
    aliases = (("N_cells", "cells", 1.0),)
    yield Entry("N", "cells", 1.0, _all_cells, _put_all_cells, _grown(0, 1, 2), "cells on each edge", aliases, 1.0, 1e6)
    for i, axis in enumerate(AXES):
        aliases = ((f"N_cells_{axis}", "cells", 1.0),)
        place = field("crystal.cells", i)
        yield Entry(f"N{axis}", "cells", 1.0, *place, _grown(i), f"cells along {axis}", aliases, 1.0, 1e6)
    aliases = (("phi0", "deg", DEGREE), ("phi_start_deg", "deg", DEGREE), ("phi_deg", "deg", DEGREE))
    yield Entry(
        "phi",
        "deg",
        DEGREE,
        *field("crystal.phi0_rad"),
        lambda settings, _: tangents_crystal.phi0(settings.crystal),
        "spindle angle where the sweep begins",
        (*aliases, ("phi_rad", "rad", 1.0)),
    )
    yield Entry(
        "osc",
        "deg",
        DEGREE,
        *field("crystal.osc_rad"),
        lambda settings, _: tangents_crystal.osc(settings.crystal),
        "range of the sweep, its number of steps kept",
        (("osc_range_deg", "deg", DEGREE), ("osc_deg", "deg", DEGREE), ("osc_rad", "rad", 1.0)),
    )


def _mosaic_entries() -> Iterator[Entry]:
    aliases: Aliases = (
        ("mosaic_spread_rad", "rad", 1.0),
        ("mosaic_spread_deg", "deg", DEGREE),
        ("mosaic_spread", "deg", DEGREE),
        ("mosaic_deg", "deg", DEGREE),
        ("mosaic_rad", "rad", 1.0),
    )
    meaning = "mosaic spread, of all axes"
    yield Entry("mosaic", "deg", DEGREE, _spread, _put_spread, _mosaic(None), meaning, aliases, 0.0, 180.0)
    for i, axis in enumerate(AXES):

        def get(settings: Settings, _: Any, i: int = i) -> float:
            return float(_three_spreads(settings)[i])

        def put(settings: Settings, _: Any, value: float, i: int = i) -> Settings:
            spreads = np.where(np.arange(3) == i, value, _three_spreads(settings))
            return with_field(settings, ["crystal", "mosaic", "spread_rad"], spreads)

        aliases = ((f"mosaic_{axis}_deg", "deg", DEGREE), (f"mosaic_{axis}_rad", "rad", 1.0))
        meaning = f"mosaic spread about {('a*', 'c x a*', 'c')[i]}"
        yield Entry(f"mosaic_{axis}", "deg", DEGREE, get, put, _mosaic(i), meaning, aliases, 0.0, 180.0)


def _cell(index: int) -> Move:
    return lambda settings, _: tangents_crystal.cell(settings.crystal, index)


def _misset(index: int) -> Move:
    return lambda settings, _: tangents_crystal.misset(settings.crystal, index)


def _grown(*axes: int) -> Move:
    return lambda settings, _: Movement(cells=np.isin(np.arange(3), axes).astype(np.float64))


def _all_cells(settings: Settings, _: Any) -> float:
    first, *rest = settings.crystal.cells
    if any(n != first for n in rest):
        raise InputError("N: Na, Nb and Nc differ; name one of them")
    return first


def _put_all_cells(settings: Settings, _: Any, value: float) -> Settings:
    return with_field(settings, ["crystal", "cells"], (value,) * 3)


def _mosaic(axis: int | None) -> Move:
    def move(settings: Settings, _: Any) -> Movement:
        if axis is None:
            return tangents_crystal.mosaic(settings.crystal, 1.0)
        _three_spreads(settings)
        return tangents_crystal.mosaic(settings.crystal, np.eye(3)[axis])

    return move


def _spread(settings: Settings, _: Any) -> float:
    spread = settings.crystal.mosaic.spread_rad
    if np.ptp(spread):
        raise InputError("mosaic: the spreads about the axes differ; name mosaic_a, mosaic_b or mosaic_c")
    return float(np.ravel(spread)[0])


def _put_spread(settings: Settings, _: Any, value: float) -> Settings:
    shape = np.shape(settings.crystal.mosaic.spread_rad)
    return with_field(settings, ["crystal", "mosaic", "spread_rad"], np.full(shape, value) if shape else value)


def _three_spreads(settings: Settings) -> np.ndarray:
    if not settings.crystal.mosaic.anisotropic:
        raise InputError("mosaic_a, mosaic_b, mosaic_c: the mosaicity has one spread; name mosaic")
    return settings.crystal.mosaic.spread_rad

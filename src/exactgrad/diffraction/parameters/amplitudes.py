"""The parameters of the structure factors, as entries of the table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from exactgrad.diffraction.movement import Movement
from exactgrad.diffraction.parameters.entry import Entry
from exactgrad.diffraction.settings import Settings
from exactgrad.errors import InputError


def entries() -> Iterator[Entry]:
    """Yield the entries."""
    yield Entry(
        "default_F",
        "electrons",
        1.0,
        lambda settings, _: settings.structure_factors.default,
        _put_default,
        _move_default,
        "F of every reflection that is not listed",
        moves_spots=False,
        pull=_pull_default,
    )
    yield Entry(
        "F",
        "electrons",
        1.0,
        lambda settings, _: _table(settings),
        lambda settings, _, value: settings.with_structure_factors(value),
        lambda settings, change: Movement(table=change),
        "structure factors, the whole table",
        moves_spots=False,
        pull=lambda settings, _, cotangent: cotangent.table.reshape(_table(settings).shape),
        array=True,
    )


def of_one_reflection() -> dict[str, Entry]:
    """Return the entry that takes the indices of a reflection."""
    entry = Entry(
        "F[h,k,l]",
        "electrons",
        1.0,
        lambda settings, hkl: float(_table(settings)[_place(settings, hkl)]),
        _put_one,
        _move_one,
        "structure factor of one reflection",
        moves_spots=False,
        pull=lambda settings, hkl, cotangent: cotangent.table.reshape(_table(settings).shape)[_place(settings, hkl)],
    )
    return {"F": entry}


def _put_default(settings: Settings, _: Any, value: float) -> Settings:
    factors = settings.structure_factors
    table = factors.table if settings.unlisted is None else np.where(settings.unlisted, value, factors.table)
    return replace(settings, structure_factors=replace(factors, default=value, table=table))


def _move_default(settings: Settings, _: Any) -> Movement:
    table = None
    if settings.unlisted is not None:
        table = np.broadcast_to(settings.unlisted.astype(np.float64), settings.structure_factors.table.shape)
    return Movement(default=1.0, table=table)


def _pull_default(settings: Settings, _: Any, cotangent: Movement) -> float:
    if settings.unlisted is None:
        return cotangent.default
    table = cotangent.table.reshape(settings.structure_factors.table.shape)
    return cotangent.default + float(table[..., settings.unlisted].sum())


def _table(settings: Settings) -> np.ndarray:
    if not settings.structure_factors.table.size:
        raise InputError("F: there is no list of structure factors; name default_F")
    return settings.structure_factors.table


def _place(settings: Settings, hkl: tuple[int, ...]) -> tuple[int, ...]:
    name, factors = f"F[{','.join(map(str, hkl))}]", settings.structure_factors
    if _table(settings).ndim == 4:
        raise InputError(f"{name}: each source has its own structure factors; name F, the tables of all")
    place = tuple(int(i) for i in np.array(hkl) - factors.lowest)
    if any(not 0 <= i < side for i, side in zip(place, factors.sides, strict=True)):
        raise InputError(f"{name}: not in the table of structure factors; default_F stands for it")
    return place


def _put_one(settings: Settings, hkl: tuple[int, ...], value: float) -> Settings:
    place = _place(settings, hkl)
    table, unlisted = settings.structure_factors.table.copy(), settings.unlisted
    table[place] = value
    if unlisted is not None:
        unlisted = unlisted.copy()
        unlisted[place] = False
    return replace(settings, structure_factors=replace(settings.structure_factors, table=table), unlisted=unlisted)


def _move_one(settings: Settings, hkl: tuple[int, ...]) -> Movement:
    table = np.zeros(_table(settings).shape)
    table[_place(settings, hkl)] = 1.0
    return Movement(table=table)

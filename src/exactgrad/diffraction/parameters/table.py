"""Every parameter that an image can be differentiated by: its names, unit, bounds, and how the scene moves with it.

The first name and its unit are the options' own. Aliases are those of the seed document and of the PyTorch port; an
alias may have another unit (`mosaic_spread_rad`). Every interface of the system takes every name.

Some names take an index: ``lambda[2]`` and ``weight[2]`` of a source, ``F[1,-2,3]`` of a reflection. ``lambda[]``,
``weight[]`` and ``F`` are the whole arrays.
"""

from __future__ import annotations

import re

from exactgrad.diffraction.parameters import amplitudes, beam, crystal, detector
from exactgrad.diffraction.parameters.entry import Entry, Named
from exactgrad.errors import InputError

ENTRIES: tuple[Entry, ...] = (
    *crystal.entries(),
    *beam.entries(),
    *detector.entries(),
    *amplitudes.entries(),
)
INDEXED = beam.of_one_source() | amplitudes.of_one_reflection()
INDEXED_NAME = re.compile(rf"({'|'.join(INDEXED)})\[([-+0-9, ]{{1,40}})\]")
NAMES = {entry.name: (entry, entry.unit, entry.si) for entry in ENTRIES}
NAMES |= {name: (entry, unit, si) for entry in ENTRIES for name, unit, si in entry.aliases}


def find(name: str) -> Named:
    """Return the entry of a name or alias.

    Raises
    ------
    InputError
        If there is none; the message lists the names.

    Examples
    --------
    >>> find("misset_rot_x").entry.name, find("mosaic_spread_rad").si, find("F[1, -2, 3]").index
    ('misset_x', 1.0, (1, -2, 3))
    """
    if name in NAMES:
        entry, unit, si = NAMES[name]
        return Named(name, entry, unit, si)
    matched = INDEXED_NAME.fullmatch(name)
    if matched:
        entry, numbers = INDEXED[matched[1]], _whole_numbers(matched[2])
        if len(numbers) == 3 and matched[1] == "F":
            return Named(name, entry, entry.unit, entry.si, numbers)
        if len(numbers) == 1 and matched[1] != "F":
            return Named(name, entry, entry.unit, entry.si, numbers[0])
    raise InputError(f"{name[:60]}: no such parameter; there are: {', '.join(names())}")


def names() -> tuple[str, ...]:
    """Return the first names of all parameters, without aliases; an index stands for any."""
    return (*(entry.name for entry in ENTRIES), *(entry.name for entry in INDEXED.values()))


def _whole_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        return ()

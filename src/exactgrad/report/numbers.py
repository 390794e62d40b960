"""How a table cell is written for people; used by the console and by the run report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

UNITS = {  # by the end of a key
    "_hz2_s": "Hz² s",
    "_hz": "Hz",
    "_us": "us",
    "_deg": "deg",
    "_px": "pixel",
    "_voxels": "voxel",
    "seconds": "s",
}


def unit_of(key: str) -> str:
    """Return the unit that a key of a summary names.

    Examples
    --------
    >>> unit_of("peak_hz"), unit_of("seconds"), unit_of("loss")
    ('Hz', 's', '')
    """
    return next((unit for end, unit in UNITS.items() if key.endswith(end)), "")


def value_text(value: Any) -> Any:
    """Return a value of a summary as one cell of a table: what it holds, where it holds several.

    Examples
    --------
    >>> value_text([12, 12, 8]), value_text({"csv": "no"}), value_text([]), value_text(0.5)
    ('12, 12, 8', 'csv: no', 'none', 0.5)
    """
    if isinstance(value, dict):
        value = [f"{key}: {item}" for key, item in value.items()]
    if not isinstance(value, list):
        return value
    return ("; " if any(isinstance(item, str) for item in value) else ", ").join(map(str, value)) or "none"


def is_number(cell: Any) -> bool:
    """Say whether a cell is a number, or text that a caller made of one; such cells stand to the right.

    Examples
    --------
    >>> is_number(1e-3), is_number("0.9998"), is_number(True), is_number("x")
    (True, True, False, False)
    """
    if isinstance(cell, bool | np.bool_):
        return False
    if isinstance(cell, int | float | np.integer | np.floating):
        return True
    if not isinstance(cell, str):
        return False
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # float() reads "1_0", which is a name


def cell_text(cell: Any) -> str:
    """Write one cell: six significant digits, yes or no, and a dash where there is nothing.

    Examples
    --------
    >>> [cell_text(cell) for cell in (0.123456789, 12000, True, None, "free text")]
    ['0.123457', '12000', 'yes', '–', 'free text']
    """
    if cell is None:
        return "–"
    if isinstance(cell, bool | np.bool_):
        return "yes" if cell else "no"
    if isinstance(cell, float | np.floating):
        return f"{float(cell):.6g}"
    return str(cell)


def number_columns(columns: int, rows: list[list[Any]]) -> list[bool]:
    """Say of each column whether it holds numbers: at least one, and beside them only empty (None) cells.

    Examples
    --------
    >>> number_columns(2, [["a", 1.0], ["b", None]])
    [False, True]
    """
    kinds = []
    for index in range(columns):
        cells = [row[index] for row in rows if row[index] is not None]
        kinds.append(bool(cells) and all(is_number(cell) for cell in cells))
    return kinds


def checked_rows(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
    """Return the rows as lists, or raise ValueError if one does not have a cell for each column.

    Examples
    --------
    >>> checked_rows(["seed", "loss"], [(0, 0.5)])
    [[0, 0.5]]
    """
    cells = [list(row) for row in rows]
    for index, row in enumerate(cells):
        if len(row) != len(columns):
            raise ValueError(f"row {index} has {len(row)} cells, the table {len(columns)} columns")
    return cells

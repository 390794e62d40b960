"""mmCIF reflection files (``_refln``), packed or not: amplitudes expanded to P1 with Friedel mates; through gemmi."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.diffraction.formats.reflections import Reflections, collect, expand_to_p1
from exactgrad.diffraction.formats.symmetry import cell_of, damage_told, read_unpacked, rotations
from exactgrad.errors import FormatError, InputError

# (h k l, Friedel mate, whether intensities), in the order of preference
COLUMNS = (
    ("pdbx_F_plus", "pdbx_F_minus", False),
    ("F_meas_au", None, False),
    ("F_meas", None, False),
    ("F_squared_meas", None, True),
    ("pdbx_I_plus", "pdbx_I_minus", True),
    ("intensity_meas", None, True),
    ("F_calc_au", None, False),
    ("F_calc", None, False),
)


def read(path: Path, column: str | None = None) -> Reflections:
    """Read amplitudes from the first reflection block of an mmCIF file.

    Parameters
    ----------
    path : Path
        The file, gzipped or not, at most 256 MiB unpacked.
    column : str or None
        One of the first names of `COLUMNS`; by default the first that the file has.

    Raises
    ------
    FormatError
        If it has no such block, or an entry is not a number.
    InputError
        If the column is not there.
    RefusedFile
        If it is too large.
    """
    import gemmi

    path = Path(path)
    text = read_unpacked(path)
    with damage_told(path, "mmCIF file"):
        blocks = gemmi.as_refln_blocks(gemmi.cif.read_string(text))
        block = next((item for item in blocks if item.default_loop), None)
        if block is None:
            raise FormatError(f"{path}: no _refln loop; for coordinates use formats.coordinates")
        if block.spacegroup is None:
            raise FormatError(f"{path}: its space group is not known")
        label, plus, minus = _amplitudes(path, block, column)
        hkl = block.make_miller_array()
        cell = cell_of(path, block.cell)
        plus, minus = np.where(np.isnan(plus), minus, plus), np.where(np.isnan(minus), plus, minus)
        known = ~np.isnan(plus)
        indices, values = expand_to_p1(hkl[known], plus[known], minus[known], rotations(block.spacegroup))
        return collect(path, indices, values, cell, block.spacegroup.hm, label)


def _amplitudes(path: Path, block: Any, column: str | None) -> tuple[str, np.ndarray, np.ndarray]:
    labels = block.column_labels()
    for first, second, intensity in COLUMNS:
        if first in labels and column in (None, first):
            plus = np.array(block.make_float_array(first), np.float64)
            minus = np.array(block.make_float_array(second), np.float64) if second in labels else plus
            if intensity:
                return f"sqrt({first})", np.sqrt(np.maximum(plus, 0)), np.sqrt(np.maximum(minus, 0))
            return first, plus, minus
    wanted = "amplitude or intensity column" if column is None else f"column {column[:40]!r}"
    raise InputError(f"{path}: no {wanted}; there are: {', '.join(labels)[:200]}")

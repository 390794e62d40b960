"""Structure-factor amplitudes from a file of any format: text, MTZ, mmCIF reflections or coordinates."""

from __future__ import annotations

from pathlib import Path

from exactgrad.diffraction.formats.reflections import Reflections
from exactgrad.errors import InputError


def read_amplitudes(path: Path, d_min_angstrom: float | None = None, column: str | None = None) -> Reflections:
    """Read amplitudes in P1; the suffix names the format (.gz may follow).

    Parameters
    ----------
    path : Path
        ``.mtz``; ``.pdb``, ``.ent``; ``.cif`` (coordinates if `d_min_angstrom` is given, reflections otherwise);
        anything else is read as text, ``h k l F``.
    d_min_angstrom : float or None
        Resolution of amplitudes computed from coordinates.
    column : str or None
        Column of an MTZ or reflection file.

    Raises
    ------
    InputError
        If coordinates come without a resolution; else as the format's own reader.
    """
    from exactgrad.diffraction.formats import cif, coordinates, hkl, mtz

    path = Path(path)
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    if suffix == ".mtz":
        return mtz.read(path, column)
    if suffix in (".pdb", ".ent") or (suffix == ".cif" and d_min_angstrom is not None):
        if d_min_angstrom is None:
            raise InputError(f"{path}: coordinates need a resolution (d_min in A)")
        return coordinates.read(path, d_min_angstrom)
    return cif.read(path, column) if suffix == ".cif" else hkl.read(path)

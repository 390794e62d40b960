"""Amplitudes computed from atomic coordinates (PDB or mmCIF, gzipped or not), in P1 with Friedel mates; through gemmi.

The atoms' electron density (X-ray form factors of the International Tables, isotropic or anisotropic displacement,
occupancy) is put on a grid and Fourier transformed; a flat bulk solvent can be added. The amplitudes are on the
absolute scale, in electrons. Anomalous scattering is not included, so Friedel mates are equal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.diffraction.formats.reflections import Reflections, collect, expand_to_p1
from exactgrad.diffraction.formats.symmetry import cell_of, damage_told, read_unpacked, rotations
from exactgrad.errors import FormatError, RefusedFile, require_range

MAX_GRID_POINTS = 1 << 27  # half a gigabyte of float32
SAMPLING = 1.5  # grid points per d_min / 2; amplitudes are then right to about 1e-4 of themselves


def read(path: Path, d_min_angstrom: float, k_sol: float = 0.0, b_sol_a2: float = 46.0) -> Reflections:
    """Return the amplitudes of a structure to a resolution.

    Parameters
    ----------
    path : Path
        Coordinates, at most 256 MiB unpacked; the first model is used.
    d_min_angstrom : float
        Resolution, 0.3 A or more.
    k_sol : float
        Electrons per cubic angstrom of bulk solvent, at most 1; about 0.35 is usual, 0 leaves it out.
    b_sol_a2 : float
        Its B factor in square angstrom.

    Returns
    -------
    Reflections
        Including 0 0 0 and the systematic absences, so that no default amplitude takes their place.

    Raises
    ------
    FormatError
        If there is no model with a unit cell and a known space group.
    InputError
        If a number is out of range.
    RefusedFile
        If the file or the grid is too large.
    """
    import gemmi

    path = Path(path)
    require_range("d_min", d_min_angstrom, "A", low=0.3)
    require_range("k_sol", k_sol, "e/A^3", low=0.0, high=1.0)
    require_range("b_sol", b_sol_a2, "A^2", low=0.0, high=1000.0)
    text = read_unpacked(path)
    with damage_told(path, "coordinate file"):
        structure = _structure(path, text)
        cell = cell_of(path, structure.cell)
        group = gemmi.find_spacegroup_by_name(structure.spacegroup_hm, structure.cell.alpha, structure.cell.gamma)
        if group is None:
            raise FormatError(f"{path}: space group {structure.spacegroup_hm[:20]!r} is not known")
        points = structure.cell.volume * (2 * SAMPLING / d_min_angstrom) ** 3
        if points > MAX_GRID_POINTS:
            raise RefusedFile(f"{path}: {points:.3g} grid points to {d_min_angstrom:g} A; at most {MAX_GRID_POINTS}")
        hkl, factors = _structure_factors(structure, d_min_angstrom)
        if k_sol:
            factors = factors + _solvent(structure, hkl, d_min_angstrom, k_sol, b_sol_a2)
        amplitude = np.abs(factors)
        indices, values = expand_to_p1(hkl, amplitude, amplitude, rotations(group))
        return collect(path, indices, values, cell, group.hm, f"F calculated to {d_min_angstrom:g} A")


def _structure(path: Path, text: bytes) -> Any:
    import gemmi

    if b"_atom_site." in text:
        structure = gemmi.make_structure_from_block(gemmi.cif.read_string(text).sole_block())
    else:
        structure = gemmi.read_pdb_string(text)
    if not len(structure) or not structure[0].count_atom_sites():
        raise FormatError(f"{path}: no atoms: neither PDB nor mmCIF coordinates")
    if not structure.cell.is_crystal():
        raise FormatError(f"{path}: no unit cell (CRYST1 record or _cell)")
    atoms = [site.atom for site in structure[0].all()]
    numbers = np.array([(atom.pos.x, atom.pos.y, atom.pos.z, atom.occ, atom.b_iso) for atom in atoms])
    if not (np.isfinite(numbers).all() and np.abs(numbers).max() < 1e6):
        raise FormatError(f"{path}: an atom's position, occupancy or B is not finite or beyond 1e6")
    return structure


def _structure_factors(structure: Any, d_min: float) -> tuple[np.ndarray, np.ndarray]:
    import gemmi

    density = gemmi.DensityCalculatorX()
    density.d_min, density.rate = d_min, SAMPLING
    density.grid.setup_from(structure)
    density.set_refmac_compatible_blur(structure[0])
    density.put_model_density_on_grid(structure[0])
    grid = gemmi.transform_map_to_f_phi(density.grid)
    data = grid.prepare_asu_data(dmin=d_min, unblur=density.blur, with_000=True, with_sys_abs=True)
    return data.miller_array, data.value_array


def _solvent(structure: Any, hkl: np.ndarray, d_min: float, k_sol: float, b_sol: float) -> np.ndarray:
    import gemmi

    mask = gemmi.FloatGrid()
    mask.setup_from(structure, spacing=min(0.6, d_min / 3))
    gemmi.SolventMasker(gemmi.AtomicRadiiSet.Cctbx).put_mask_on_float_grid(mask, structure[0])
    factors = gemmi.transform_map_to_f_phi(mask)
    values = factors.get_value_by_hkl(hkl)
    stol2 = structure.cell.calculate_1_d2_array(hkl) / 4
    return k_sol * np.exp(-b_sol * stol2) * values

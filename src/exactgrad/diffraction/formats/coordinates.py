"""Amplitudes computed from atomic coordinates (PDB or mmCIF, gzipped or not), in P1 with Friedel mates; through gemmi.

The atoms' electron density (X-ray form factors of the International Tables, isotropic or anisotropic displacement,
occupancy) is put on a grid and Fourier transformed; a flat bulk solvent can be added. The amplitudes are on the
absolute scale, in electrons. `read` leaves anomalous scattering out, so Friedel mates are equal; `read_anomalous` has
f' and f'' of every element (Cromer and Liberman, J. Chem. Phys. 53 (1970) 1891) at each of some wavelengths:

    F(h) = F0(h) + sum over elements of (f' + i f'') G(h)     G: the element's atoms as points of one electron
    |F(-h)| = |F0(h) + sum (f' - i f'') G(h)|                 since F0 and G are transforms of what is real
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from exactgrad.diffraction.beam import EV_ANGSTROM
from exactgrad.diffraction.formats.reflections import Reflections, collect, expand_to_p1
from exactgrad.diffraction.formats.symmetry import cell_of, damage_told, read_unpacked, rotations
from exactgrad.errors import FormatError, InputError, RefusedFile, require_range

MOST_WAVELENGTHS = 10_000
HEAVIEST = 92  # atomic number
MAX_GRID_POINTS = 1 << 27  # half a gigabyte of float32
LONGEST_EDGE = 5000.0  # angstrom; the longest known are below 2000
SOLVENT_SPACING = 0.6  # angstrom, and a third of d_min at most
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
    path = Path(path)
    _check_numbers(d_min_angstrom, k_sol, b_sol_a2)
    text = read_unpacked(path)
    with damage_told(path, "coordinate file"):
        model = _Model(path, text, d_min_angstrom, k_sol, b_sol_a2)
        amplitude = np.abs(model.factors)
        return model.expanded(amplitude, amplitude, f"F calculated to {d_min_angstrom:g} A")


def read_anomalous(
    path: Path, wavelengths_angstrom: Sequence[float], d_min_angstrom: float, k_sol: float = 0.0, b_sol_a2: float = 46.0
) -> list[Reflections]:
    """Return the amplitudes of a structure at each of some wavelengths, of the same reflections in the same order.

    Parameters
    ----------
    path, d_min_angstrom, k_sol, b_sol_a2
        As of `read`.
    wavelengths_angstrom : sequence of float
        From 0.1 to 6.

    Notes
    -----
    `StructureFactors.from_lists(lists[0].hkl, [one.amplitude for one in lists])` is what a beam of these wavelengths
    sees. The table of Cromer and Liberman is of lone atoms: within some 10 eV of an edge it is not to be trusted.

    Raises
    ------
    FormatError, InputError, RefusedFile
        As `read`.
    """
    import gemmi

    path = Path(path)
    if not 1 <= len(wavelengths_angstrom) <= MOST_WAVELENGTHS:
        raise InputError(f"wavelengths: {len(wavelengths_angstrom)}; from 1 to {MOST_WAVELENGTHS} are needed")
    for wavelength in wavelengths_angstrom:
        require_range("wavelength", wavelength, "A", low=0.1, high=6.0)
    _check_numbers(d_min_angstrom, k_sol, b_sol_a2)
    text = read_unpacked(path)
    with damage_told(path, "coordinate file"):
        model = _Model(path, text, d_min_angstrom, k_sol, b_sol_a2)
        points = model.points_of_elements()
        lists = []
        for wavelength in wavelengths_angstrom:
            real, imaginary = model.factors.copy(), np.zeros_like(model.factors)
            for number, point in points.items():
                f1, f2 = gemmi.cromer_liberman(number, EV_ANGSTROM / float(wavelength))
                real += f1 * point
                imaginary += f2 * point
            label = f"F calculated to {d_min_angstrom:g} A at {wavelength:g} A"
            lists.append(model.expanded(np.abs(real + 1j * imaginary), np.abs(real - 1j * imaginary), label))
        return lists


def _check_numbers(d_min: float, k_sol: float, b_sol: float) -> None:
    require_range("d_min", d_min, "A", low=0.3)
    require_range("k_sol", k_sol, "e/A^3", low=0.0, high=1.0)
    require_range("b_sol", b_sol, "A^2", low=0.0, high=1000.0)


class _Model:
    """A structure and its complex factors, shape (n,), of the unique reflections `hkl`."""

    def __init__(self, path: Path, text: bytes, d_min: float, k_sol: float, b_sol: float):
        import gemmi

        self.path, self.d_min, self.structure = path, d_min, _structure(path, text)
        cell = self.structure.cell
        self.cell = cell_of(path, cell)
        self.group = gemmi.find_spacegroup_by_name(self.structure.spacegroup_hm, cell.alpha, cell.gamma)
        if self.group is None:
            raise FormatError(f"{path}: space group {self.structure.spacegroup_hm[:20]!r} is not known")
        _check_grid(path, self.structure, d_min, k_sol)
        self.hkl, self.factors = _structure_factors(self.structure, d_min)
        self.factors = self.factors.astype(np.complex128)
        if k_sol:
            self.factors += _solvent(self.structure, self.hkl, d_min, k_sol, b_sol)
        if not np.isfinite(self.factors).all():
            raise FormatError(f"{path}: its structure factors are not finite: an atom's B or U is out of all bounds")

    def points_of_elements(self) -> dict[int, np.ndarray]:
        """Return, by atomic number, the factors of an element's atoms as if each scattered one electron.

        What the element's atoms give, over the form factor that all of them have.
        """
        import gemmi

        stol2 = self.structure.cell.calculate_1_d2_array(self.hkl) / 4
        numbers = {site.atom.element.atomic_number for site in self.structure[0].all()}
        if max(numbers) > HEAVIEST:
            name = gemmi.Element(max(numbers)).name
            raise FormatError(f"{self.path}: element {name}: f' and f'' are known up to {gemmi.Element(HEAVIEST).name}")
        found: dict[int, np.ndarray] = {}
        for number in sorted(numbers - {0, 1}):
            alone = self.structure.clone()
            for chain in alone[0]:
                for residue in chain:
                    for place in reversed(range(len(residue))):
                        if residue[place].element.atomic_number != number:
                            del residue[place]
            hkl, factors = _structure_factors(alone, self.d_min)
            if not np.array_equal(hkl, self.hkl):
                raise RuntimeError("the reflections of a part are not those of the whole")
            form = gemmi.Element(number).it92
            found[number] = factors / np.array([form.calculate_sf(s) for s in stol2])
        return found

    def expanded(self, plus: np.ndarray, minus: np.ndarray, label: str) -> Reflections:
        """Return the amplitudes of unique reflections and of their Friedel mates in P1."""
        indices, values = expand_to_p1(self.hkl, plus, minus, rotations(self.group))
        return collect(self.path, indices, values, self.cell, self.group.hm, label)


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


def _check_grid(path: Path, structure: Any, d_min: float, k_sol: float) -> None:
    longest = max(structure.cell.a, structure.cell.b, structure.cell.c)
    if longest > LONGEST_EDGE:
        raise FormatError(f"{path}: a cell edge of {longest:g} A: must not exceed {LONGEST_EDGE:g} A")
    spacing = min(d_min / (2 * SAMPLING), _solvent_spacing(d_min) if k_sol else d_min)
    points = structure.cell.volume / spacing**3
    if points > MAX_GRID_POINTS:
        raise RefusedFile(f"{path}: {points:.3g} grid points to {d_min:g} A; at most {MAX_GRID_POINTS} are made")


def _solvent_spacing(d_min: float) -> float:
    return min(SOLVENT_SPACING, d_min / 3)


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
    mask.setup_from(structure, spacing=_solvent_spacing(d_min))
    gemmi.SolventMasker(gemmi.AtomicRadiiSet.Cctbx).put_mask_on_float_grid(mask, structure[0])
    factors = gemmi.transform_map_to_f_phi(mask)
    values = factors.get_value_by_hkl(hkl)
    stol2 = structure.cell.calculate_1_d2_array(hkl) / 4
    return k_sol * np.exp(-b_sol * stol2) * values

"""The crystal as its user states it: a cell, how it is set and misset, its size, mosaic spread and sweep.

Units: Angstrom and degrees for the cell and the missetting angles, radians for the rest.

The unturned cell has a* along x and c along z. It is turned by the setting matrix (of a MOSFLM matrix, or a drawn
orientation; fixed), then by the missetting angles: lattice = cell (M S)^T.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from exactgrad.diffraction import crystal as crystals
from exactgrad.diffraction.crystal import ANGSTROM, Crystal
from exactgrad.diffraction.mosaic import Mosaic
from exactgrad.rotations import maps


@dataclass(frozen=True)
class CrystalSettings:
    """A crystal as stated.

    Attributes
    ----------
    cell : tuple of 6 floats
        a, b, c in Angstrom; alpha, beta, gamma in degrees.
    setting : ndarray, shape (3, 3)
        Orthogonal; turns the unturned cell. Not a parameter.
    misset_deg : tuple of 3 floats
        About the fixed x, then y, then z.
    cells, shape, metric, fudge, spindle, phi0_rad, osc_rad, phi_steps
        As those of `Crystal`.
    mosaic : Mosaic
    c_lattice : bool
        Keep the C program's lattice of triclinic cells.
    rows : ndarray, shape (3, 3), or None
        Unturned a*, b*, c* in 1/m whose directions count, with the lengths of `cell`: the C program's ``-mat`` together
        with ``-cell``.

    Examples
    --------
    >>> CrystalSettings((50, 60, 70, 90, 90, 90)).crystal().lattice.diagonal().round(12)
    array([5.e-09, 6.e-09, 7.e-09])
    """

    cell: tuple[float, ...]
    setting: np.ndarray = field(default_factory=lambda: np.eye(3))
    misset_deg: tuple[float, ...] = (0.0, 0.0, 0.0)
    cells: tuple[float, ...] = (1.0, 1.0, 1.0)
    shape: str = "square"
    metric: str = "hkl"
    fudge: float = 1.0
    mosaic: Mosaic = field(default_factory=Mosaic)
    spindle: Any = (0.0, 0.0, 1.0)
    phi0_rad: float = 0.0
    osc_rad: float = 0.0
    phi_steps: int = 1
    c_lattice: bool = False
    rows: Any = None

    def crystal(self) -> Crystal:
        """Return the crystal."""
        lengths, rows = crystals.reciprocal_of_cell(self.cell, self.c_lattice and self.rows is None)
        domains = self.mosaic.rotations
        if self.mosaic.anisotropic:
            frame = self.frame
            domains = frame @ domains @ frame.T
        return Crystal.from_reciprocal(
            (rows if self.rows is None else self.rows) @ self.setting.T,
            crystals.misset_matrix(self.misset_deg),
            lengths if self.c_lattice else None,
            cells=self.cells,
            shape=self.shape,
            metric=self.metric,
            fudge=self.fudge,
            domains=domains,
            domains_follow=self.mosaic.anisotropic,
            spindle=self.spindle,
            phi0_rad=self.phi0_rad,
            osc_rad=self.osc_rad,
            phi_steps=self.phi_steps,
        )

    @cached_property
    def frame(self) -> np.ndarray:
        """The rotation M S, shape (3, 3), of the unturned cell."""
        return crystals.misset_matrix(self.misset_deg) @ self.setting

    @cached_property
    def spindle_rotations(self) -> np.ndarray:
        """The rotations R about the spindle, shape (P, 3, 3), of the phi steps."""
        angles = self.phi0_rad + self.osc_rad / self.phi_steps * np.arange(self.phi_steps)
        return maps.exp(angles[:, None] * crystals.unit_vector("crystal.spindle", self.spindle))


def cell_and_setting(reciprocal: np.ndarray) -> tuple[tuple[float, ...], np.ndarray]:
    """Return the cell (Angstrom, degrees) and the setting matrix of rows a*, b*, c* in 1/m.

    Of a left-handed matrix the setting is a reflection.

    Examples
    --------
    >>> rows = crystals.reciprocal_of_cell((50, 60, 70, 80, 95, 100))[1]
    >>> cell, setting = cell_and_setting(rows)
    >>> [round(number, 9) for number in cell], bool(np.abs(setting - np.eye(3)).max() < 1e-12)
    ([50.0, 60.0, 70.0, 80.0, 95.0, 100.0], True)
    """
    lattice = crystals.reciprocal_of(crystals.require_lattice("crystal.reciprocal", reciprocal))
    edges = np.linalg.norm(lattice, axis=1) / ANGSTROM
    pairs = [(lattice[i], lattice[j]) for i, j in ((1, 2), (0, 2), (0, 1))]
    angles = [np.degrees(np.arctan2(np.linalg.norm(np.cross(u, v)), u @ v)) for u, v in pairs]
    cell = tuple(float(number) for number in (*edges, *angles))
    unturned = crystals.reciprocal_of_cell(cell)[1]
    return cell, np.linalg.solve(unturned, reciprocal).T

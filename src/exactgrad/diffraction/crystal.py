"""The crystal: its lattice, how it is turned, how many cells it has, and the shape that these cells fill.

Units: metres, radians; cell edges enter in Angstrom and angles in degrees, as the field has them. Vectors are lab
vectors; a lattice is an array whose rows are a, b, c (or a*, b*, c*).

The lattice is first turned about the spindle by phi, then by a mosaic domain's rotation: U_m R_phi a. Domains that
belong to the crystal turn with it: R_phi U_m a.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from math import pi
from typing import Any

import numpy as np

from exactgrad.diffraction.mosaic import Mosaic, c_axis_and_share
from exactgrad.diffraction.random_numbers import Ran1
from exactgrad.errors import InputError, require_finite, require_range, require_shape
from exactgrad.rotations import euler, maps, quaternions

SHAPES = ("square", "round", "gauss", "tophat")
METRICS = ("hkl", "reciprocal")
ANGSTROM = 1e-10
MOST_STEPS = 1_000_000  # of phi, and of mosaic domains


@dataclass(frozen=True)
class Crystal:
    """A crystal of Na x Nb x Nc cells in D mosaic domains, swept over P spindle angles.

    Attributes
    ----------
    lattice : ndarray, shape (3, 3)
        Rows a, b, c in metres, in the lab at phi = 0.
    cells : ndarray, shape (3,)
        Na, Nb, Nc >= 1; any real numbers.
    shape : str
        One of `SHAPES`: parallelepiped, ellipsoid, Gaussian spots, top-hat spots.
    metric : str
        In what the radius of a gauss or tophat spot is measured: "hkl", sum((dh_i N_i)^2), or "reciprocal", the
        C program's (Na Nb Nc)^2 |dh a* + dk b* + dl c*|^2 in Angstrom^-2 (dimensionally odd).
    fudge : float
        Factor on the squared radius of round, gauss and tophat spots.
    domains : ndarray, shape (D, 3, 3)
        Rotations of the mosaic domains, all of the same weight.
    domains_follow : bool
        Whether the domains belong to the crystal and turn with the spindle.
    spindle : ndarray, shape (3,)
        Unit vector of the right-handed rotation axis.
    phi0_rad, osc_rad, phi_steps : float, float, int
        The sweep; its steps are sampled at their left edges, phi0 + i osc/steps.
    reciprocal : ndarray, shape (3, 3)
        Rows a*, b*, c* in 1/m, used by the metric of that name only; by default those of the lattice.

    Raises
    ------
    InputError
        If a value is not finite or out of its range, the lattice has no volume, or a domain is not a rotation.

    Examples
    --------
    >>> Crystal.from_cell((50, 60, 70, 90, 90, 90), cells=(5, 5, 5)).lattice.diagonal().round(12)
    array([5.e-09, 6.e-09, 7.e-09])
    """

    lattice: np.ndarray
    cells: Any = (1.0, 1.0, 1.0)
    shape: str = "square"
    metric: str = "hkl"
    fudge: float = 1.0
    domains: np.ndarray = field(default_factory=lambda: np.eye(3)[None])
    domains_follow: bool = False
    spindle: Any = (0.0, 0.0, 1.0)
    phi0_rad: float = 0.0
    osc_rad: float = 0.0
    phi_steps: int = 1
    reciprocal: Any = None

    def __post_init__(self) -> None:
        lattice = require_lattice("crystal.lattice", self.lattice)
        cells = require_shape("crystal.cells", require_finite("crystal.cells", self.cells), (3,))
        if (cells < 1).any() or (cells > 1e6).any():
            raise InputError(f"crystal.cells = {cells.tolist()}: each must be >= 1 and <= 1e6")
        for name, value, allowed in (("shape", self.shape, SHAPES), ("metric", self.metric, METRICS)):
            if value not in allowed:
                raise InputError(f"crystal.{name} = {value!r}: must be one of {', '.join(allowed)}")
        domains = require_shape("crystal.domains", require_finite("crystal.domains", self.domains), (None, 3, 3))
        if not 1 <= len(domains) <= MOST_STEPS:
            raise InputError(f"crystal.domains: {len(domains)} rotations; 1 to {MOST_STEPS} are allowed")
        quaternions.require_rotation("crystal.domains", domains)
        require_range("crystal.fudge", self.fudge, low=0.0)
        require_range("crystal.phi0_rad", self.phi0_rad, "rad")
        require_range("crystal.osc_rad", self.osc_rad, "rad")
        if int(self.phi_steps) != self.phi_steps or not 1 <= self.phi_steps <= MOST_STEPS:
            raise InputError(f"crystal.phi_steps = {self.phi_steps}: a whole number from 1 to {MOST_STEPS} is needed")
        reciprocal = reciprocal_of(lattice) if self.reciprocal is None else self.reciprocal
        object.__setattr__(self, "lattice", lattice)
        object.__setattr__(self, "cells", cells)
        object.__setattr__(self, "domains", domains)
        object.__setattr__(self, "spindle", unit_vector("crystal.spindle", self.spindle))
        object.__setattr__(self, "reciprocal", require_lattice("crystal.reciprocal", reciprocal))

    @classmethod
    def from_cell(cls, cell: Any, misset: np.ndarray | None = None, c_compat: bool = False, **rest: Any) -> Crystal:
        """Crystal of a unit cell (a, b, c in Angstrom, alpha, beta, gamma in degrees), turned by the matrix `misset`.

        Unturned, a* lies along x and b* in the xy plane. `c_compat` keeps the C program's lattice of triclinic cells,
        whose edges are right and whose angles are off by some 0.01 degrees. The `rest` are the class's fields.
        """
        edges, reciprocal = reciprocal_of_cell(cell, c_compat)
        return cls.from_reciprocal(reciprocal, misset, edges if c_compat else None, **rest)

    @classmethod
    def from_reciprocal(
        cls, reciprocal: np.ndarray, misset: np.ndarray | None = None, cell: Any = None, **rest: Any
    ) -> Crystal:
        """Crystal of rows a*, b*, c* in 1/m, turned by the matrix `misset`.

        `cell` (a, b, c in metres, volume in m^3) forces the C program's lengths on the vectors that are derived; the
        `rest` are the class's fields.
        """
        rows = require_lattice("crystal.reciprocal", reciprocal)
        if misset is not None:
            rows = rows @ quaternions.require_rotation("misset", require_finite("misset", misset)).T
        if cell is None:
            return cls(reciprocal_of(rows), **rest)
        a, b, c, volume = cell
        lattice = np.cross(rows[[1, 2, 0]], rows[[2, 0, 1]])
        lattice *= np.array([a, b, c])[:, None] / np.linalg.norm(lattice, axis=1, keepdims=True)
        return cls(lattice, reciprocal=np.cross(lattice[[1, 2, 0]], lattice[[2, 0, 1]]) / volume, **rest)

    @property
    def phi_rad(self) -> np.ndarray:
        """Spindle angles, shape (P,)."""
        return self.phi0_rad + self.osc_rad / self.phi_steps * np.arange(self.phi_steps)

    @cached_property
    def orientations(self) -> np.ndarray:
        """U_m R_phi, or R_phi U_m, of every phi step and domain, shape (P D, 3, 3), domains varying fastest."""
        turned = maps.exp(self.phi_rad[:, None] * self.spindle)
        both = turned[:, None] @ self.domains if self.domains_follow else self.domains @ turned[:, None]
        both.flags.writeable = False
        return both.reshape(-1, 3, 3)

    def lattices(self) -> np.ndarray:
        """Return the lattice of every phi step and domain, shape (P D, 3, 3), rows a, b, c in metres."""
        return self.lattice @ self.orientations.transpose(0, 2, 1)

    def with_mosaic(self, spread_rad: float, count: int, seed: int) -> Crystal:
        """Return this crystal with `count` domains within `spread_rad`, those of the C program for that seed."""
        return replace(self, domains=mosaic_domains(spread_rad, count, seed))


def reciprocal_of_cell(cell: Any, c_compat: bool = False) -> tuple[tuple[float, ...], np.ndarray]:
    """Return (a, b, c in m, volume in m^3) and the rows a*, b*, c* in 1/m of an unturned unit cell.

    Raises
    ------
    InputError
        If the cell is not six numbers, an edge or angle is out of range, or the angles close no cell.

    Examples
    --------
    c*_z is 1/c; the C program has c* V/(abc sin gamma*), which differs for triclinic cells:

    >>> right, wrong = (reciprocal_of_cell((70, 80, 90, 85, 95, 105), bug)[1][2, 2] * 90e-10 for bug in (False, True))
    >>> print(f"{right:.6f} {wrong:.6f}")
    1.000000 0.998447
    """
    six = require_shape("cell", require_finite("cell", cell, "Angstrom, degrees"), (6,))
    for name, edge in zip("abc", six[:3], strict=True):
        require_range(f"cell {name}", edge, "Angstrom", low=0.1, high=1e5)
    for name, angle in zip(("alpha", "beta", "gamma"), six[3:], strict=True):
        require_range(f"cell {name}", angle, "deg", low=1.0, high=179.0)
    a, b, c = six[:3] * ANGSTROM
    al, be, ga = np.radians(six[3:])
    half = (al + be + ga) / 2
    skew = np.sin(half) * np.sin(half - al) * np.sin(half - be) * np.sin(half - ga)
    if skew < 1e-12:
        raise InputError(f"cell angles {six[3:].tolist()} deg: they close no cell")
    volume = 2 * a * b * c * np.sqrt(skew)
    a_star, b_star, c_star = b * c * np.sin(al) / volume, c * a * np.sin(be) / volume, a * b * np.sin(ga) / volume
    cos_al, cos_be, cos_ga = (
        (np.cos(be) * np.cos(ga) - np.cos(al)) / (np.sin(be) * np.sin(ga)),
        (np.cos(ga) * np.cos(al) - np.cos(be)) / (np.sin(ga) * np.sin(al)),
        (np.cos(al) * np.cos(be) - np.cos(ga)) / (np.sin(al) * np.sin(be)),
    )
    sin_ga = c / (volume * a_star * b_star)
    along_z = c_star * volume / (a * b * c * sin_ga) if c_compat else 1 / c
    rows = np.array(
        [
            [a_star, 0.0, 0.0],
            [b_star * cos_ga, b_star * sin_ga, 0.0],
            [c_star * cos_be, c_star * (cos_al - cos_be * cos_ga) / sin_ga, along_z],
        ]
    )
    return (a, b, c, volume), rows


def reciprocal_of(lattice: np.ndarray) -> np.ndarray:
    """Return the rows reciprocal to the rows of a lattice: row i . row j of the two is 1 or 0."""
    return np.linalg.inv(lattice).T


def require_lattice(name: str, rows: Any) -> np.ndarray:
    """Return three vectors as float64, shape (3, 3), if they span a volume."""
    lattice = require_shape(name, require_finite(name, rows), (3, 3))
    lengths = np.linalg.norm(lattice, axis=1)
    if not (lengths > 0).all() or abs(np.linalg.det(lattice / lengths[:, None])) < 1e-6:
        raise InputError(f"{name}: the three vectors span no volume")
    return lattice


def unit_vector(name: str, vector: Any) -> np.ndarray:
    """Return a vector of three numbers at length 1; raises `InputError` if it has no length."""
    given = require_shape(name, require_finite(name, vector), (3,))
    length = np.linalg.norm(given)
    if not 1e-12 < length < 1e12:
        raise InputError(f"{name} = {given.tolist()}: a vector with a length is needed")
    return given / length


def mosaic_domains(spread_rad: float, count: int, seed: int, c_compat: bool = False) -> np.ndarray:
    """Return the rotations of `count` mosaic domains, shape (count, 3, 3); the first is not turned.

    With `c_compat` the angles are rounded to float32, as in the C program.

    Raises
    ------
    InputError
        If the spread is negative or above pi, or the count is out of range.
    """
    return Mosaic.cap(spread_rad, count, seed, c_compat).rotations


def random_orientation(seed: int) -> np.ndarray:
    """Return a rotation matrix drawn uniformly from all orientations (Shoemake's quaternion of three deviates)."""
    stream = Ran1(seed)
    u, v, w = (stream.uniform() for _ in range(3))
    first, second = np.sqrt(1 - u), np.sqrt(u)
    x, y = first * np.sin(2 * pi * v), first * np.cos(2 * pi * v)
    z, real = second * np.sin(2 * pi * w), second * np.cos(2 * pi * w)
    return quaternions.to_matrix(np.array([real, x, y, z]))


def c_random_orientation(seed: int) -> np.ndarray:
    """Return the C program's ``-misset random``: a turn by up to 90 radians (not degrees), so not uniform."""
    axis, share = c_axis_and_share(Ran1(seed))
    return maps.exp(axis * float(np.float32(90.0) * np.float32(share)))


def misset_matrix(angles_deg: Any) -> np.ndarray:
    """Return the rotation by missetting angles: about the fixed x, then y, then z axis, degrees."""
    angles = require_shape("misset", require_finite("misset", angles_deg, "deg"), (3,))
    return euler.to_matrix(np.radians(angles), "extrinsic-XYZ")

"""How the lattices of a crystal move: exact derivatives by cell, orientation, mosaic spread, sweep and size.

The unturned lattice in units of its edges, with v the volume of the cell of unit edges:

    a = (v/sin al, (cos ga - cos al cos be)/sin al, cos be)    b = (0, sin al, cos al)    c = (0, 0, 1)
    v^2 = 1 - cos^2 al - cos^2 be - cos^2 ga + 2 cos al cos be cos ga,   dv/d al = sin al (cos al - cos be cos ga)/v

A lattice of phi step p and domain m is cell T^T with T = U_m R_p Q, or R_p Q E_m where the domains belong to the
crystal; T is linear in each factor, and a factor R moves by [w]x R. Nothing is singular at zero angles.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from exactgrad.diffraction.crystal import ANGSTROM, unit_vector
from exactgrad.diffraction.movement import Movement
from exactgrad.diffraction.settings.crystal import CrystalSettings
from exactgrad.diffraction.tangents.detector import euler_turn
from exactgrad.errors import InputError
from exactgrad.rotations import maps

RADIAN = np.pi / 180  # of a degree
SECOND, THIRD = [1, 2, 0], [2, 0, 1]  # of b x c, c x a, a x b, and of the components of a product


def cell(settings: CrystalSettings, index: int) -> Movement:
    """Return the movement per Angstrom or degree of number `index` of the cell."""
    lattice, by_cell, reciprocal = unturned(settings, index)
    turn = turns(settings)
    frame = settings.frame
    by_reciprocal = -reciprocal @ by_cell.T @ reciprocal
    if settings.c_lattice:  # cross products over the cell's volume, which is not that of the lattice
        crossed = _cross(by_cell[SECOND], lattice[THIRD]) + _cross(lattice[SECOND], by_cell[THIRD])
        by_reciprocal = crossed / _volume(settings.cell) - reciprocal * _log_volume_by(settings.cell, index)
    return Movement(lattices=_turned(by_cell, turn), reciprocal=by_reciprocal @ frame.T)


def misset(settings: CrystalSettings, index: int) -> Movement:
    """Return the movement per degree of missetting angle `index`."""
    angles = np.radians(settings.misset_deg)
    turning = maps.skew(euler_turn(tuple(angles), tuple(RADIAN * np.eye(3)[index])))
    frame = settings.frame
    lattice, _, reciprocal = unturned(settings)
    by_frame = turning @ frame
    return Movement(
        lattices=_turned(lattice, turns(settings, frame=by_frame)),
        reciprocal=reciprocal @ by_frame.T,
    )


def mosaic(settings: CrystalSettings, change: Any) -> Movement:
    """Return the movement per radian of the spread, or of the three spreads in the proportions of `change`."""
    if settings.mosaic.matrices is not None:
        raise InputError("mosaic: the domains are given as matrices; there is no spread")
    if not settings.mosaic.vectors.any():
        raise InputError("mosaic: no domain is turned; give -mosaic above 0 and at least two -mosaic_domains")
    by_domains = settings.mosaic.rotations_by(change)
    return Movement(lattices=_turned(unturned(settings)[0], turns(settings, domains=by_domains)))


def phi(settings: CrystalSettings, by_angle: np.ndarray) -> Movement:
    """Return the movement where spindle angle p grows by `by_angle[p]`, shape (P,)."""
    about = maps.skew(unit_vector("crystal.spindle", settings.spindle))
    by_spindle = by_angle[:, None, None] * (about @ settings.spindle_rotations)
    return Movement(lattices=_turned(unturned(settings)[0], turns(settings, spindle=by_spindle)))


def phi0(settings: CrystalSettings) -> Movement:
    """Return the movement per radian of the sweep's start."""
    return phi(settings, np.ones(settings.phi_steps))


def osc(settings: CrystalSettings) -> Movement:
    """Return the movement per radian of the sweep's range."""
    if settings.phi_steps == 1:
        raise InputError("osc: the sweep has one step, at its start; give -phisteps 2 or more")
    return phi(settings, np.arange(settings.phi_steps) / settings.phi_steps)


def turns(settings: CrystalSettings, frame: Any = None, domains: Any = None, spindle: Any = None) -> np.ndarray:
    """Return T of every phi step and domain, shape (P, D, 3, 3), with one factor replaced by its derivative."""
    frame = settings.frame if frame is None else frame
    domains = settings.mosaic.rotations if domains is None else domains
    spindle = settings.spindle_rotations if spindle is None else spindle
    if settings.mosaic.anisotropic:
        return spindle[:, None] @ (frame @ domains)
    return domains @ (spindle @ frame)[:, None]


def unturned(settings: CrystalSettings, index: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the unturned lattice (m), its derivative per Angstrom or degree of a cell's number, and the reciprocal."""
    edges = np.array(settings.cell[:3]) * ANGSTROM
    if settings.rows is not None:
        directions, by_angles = _directions(settings.rows, np.zeros((3, 3, 3)))
    else:
        directions, by_angles = (c_unit_edges if settings.c_lattice else unit_edges)(settings.cell[3:])
    lattice, by = edges[:, None] * directions, np.zeros((3, 3))
    if index is not None and index < 3:
        by[index] = ANGSTROM * directions[index]
    elif index is not None:
        by = RADIAN * edges[:, None] * by_angles[index - 3]
    if settings.c_lattice:
        reciprocal = _cross(lattice[SECOND], lattice[THIRD]) / _volume(settings.cell)
    else:
        reciprocal = np.linalg.inv(lattice).T
    return lattice, by, reciprocal


def unit_edges(angles_deg: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return a, b, c of a cell of unit edges, shape (3, 3), and their derivatives per radian of each angle, (3, 3, 3).

    Examples
    --------
    >>> unit_edges((90, 90, 90))[0].round(12) + 0.0
    array([[1., 0., 0.],
           [0., 1., 0.],
           [0., 0., 1.]])
    """
    al, be, ga = np.radians(angles_deg)
    (sin_al, sin_be, sin_ga), (cos_al, cos_be, cos_ga) = np.sin([al, be, ga]), np.cos([al, be, ga])
    v, by_v = unit_volume(angles_deg)
    across = cos_ga - cos_al * cos_be
    rows = np.array([[v / sin_al, across / sin_al, cos_be], [0.0, sin_al, cos_al], [0.0, 0.0, 1.0]])
    by = np.zeros((3, 3, 3))
    by[:, 0, 0] = by_v / sin_al
    by[:, 0, 1] = np.array([sin_al * cos_be, cos_al * sin_be, -sin_ga]) / sin_al
    by[0, 0, :2] -= cos_al / sin_al * rows[0, :2]
    by[1, 0, 2] = -sin_be
    by[0, 1] = 0.0, cos_al, -sin_al
    return rows, by


def unit_volume(angles_deg: Any) -> tuple[float, np.ndarray]:
    """Return the volume v of a cell of unit edges and its derivatives per radian of each angle, shape (3,)."""
    angles = np.radians(angles_deg)
    half = angles.sum() / 2
    v = 2.0 * float(np.sqrt(np.sin(half) * np.prod(np.sin(half - angles))))
    sines, cosines = np.sin(angles), np.cos(angles)
    return v, sines * (cosines - cosines[SECOND] * cosines[THIRD]) / v


def c_unit_edges(angles_deg: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return what `unit_edges` does for the C program's lattice.

    Its c*_z is too large by t = sin al sin be sin ga/v; its axes are cross products of the reciprocal ones, brought to
    the edges' lengths.
    """
    right, by_right = unit_edges(angles_deg)
    angles = np.radians(angles_deg)
    v, by_v = unit_volume(angles_deg)
    rows = np.linalg.inv(right).T
    by_rows = -rows @ by_right.transpose(0, 2, 1) @ rows
    t = float(np.prod(np.sin(angles))) / v
    rows[2, 2] = t  # that of the right lattice is 1
    by_rows[:, 2, 2] = t * (1.0 / np.tan(angles) - by_v / v)
    return _directions(rows, by_rows)


def _directions(rows: np.ndarray, by_rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the unit vectors along b* x c*, c* x a*, a* x b*, shape (3, 3), and their derivatives, (n, 3, 3)."""
    crossed = _cross(rows[SECOND], rows[THIRD])
    by = _cross(by_rows[:, SECOND], rows[THIRD]) + _cross(rows[SECOND], by_rows[:, THIRD])
    length = np.linalg.norm(crossed, axis=1, keepdims=True)
    unit = crossed / length
    return unit, (by - unit * (by * unit).sum(axis=-1, keepdims=True)) / length


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the cross products of rows; NumPy's takes twice as long on so few."""
    return u[..., SECOND] * v[..., THIRD] - u[..., THIRD] * v[..., SECOND]


def _volume(cell_numbers: Any) -> float:
    return float(np.prod(np.array(cell_numbers[:3]) * ANGSTROM)) * unit_volume(cell_numbers[3:])[0]


def _log_volume_by(cell_numbers: Any, index: int) -> float:
    if index < 3:
        return 1.0 / cell_numbers[index]
    v, by_v = unit_volume(cell_numbers[3:])
    return float(RADIAN * by_v[index - 3] / v)


def _turned(lattice: np.ndarray, turn: np.ndarray) -> np.ndarray:
    return (lattice @ turn.swapaxes(-1, -2)).reshape(-1, 3, 3)

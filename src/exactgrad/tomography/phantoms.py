"""Phantoms: volumes whose amplitude, B and axis are known, shaped like what is measured at synchrotrons.

Lengths are in voxels, arrays are [x, y, z] with voxel centres at index - (shape - 1) / 2, as everywhere in this system.
The density along a unit scattering vector q is A^2 exp(-B (1 - (u.q)^2)): needles for B > 0, rings for B < 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from exactgrad.errors import InputError, require_range

LONGEST_SIDE = 1024
MARGIN_VOXELS = 2  # empty layers all round, so that no ray is cut at the edge of the volume


@dataclass(frozen=True)
class Phantom:
    """A volume of uniaxial voxels; A = 0 outside its support.

    Attributes
    ----------
    A : ndarray, shape (x, y, z), float64
        Amplitude; the mean density goes with A^2.
    B : ndarray, shape (x, y, z), float64
        Sharpness of either sign, dimensionless.
    axis : ndarray, shape (x, y, z, 3), float64
        Unit vectors; the sign of one means nothing. Empty voxels have z.
    """

    A: np.ndarray
    B: np.ndarray
    axis: np.ndarray

    @property
    def support(self) -> np.ndarray:
        """Where there is material, shape (x, y, z), bool."""
        return self.A > 0


def make(name: str, shape: tuple[int, int, int], seed: int = 0, sharpness: float = 3.0) -> Phantom:
    """Return the phantom of this name.

    Parameters
    ----------
    name : str
        One of ``NAMES``: "fibres" (a twisted bundle), "trabecula" (struts between random nodes), "woven" (a plain
        weave), "rings" (lamellae around z; their outer half scatters in equatorial rings, B < 0).
    shape : (int, int, int)
        Voxels along x, y, z; each from 8 to 1024.
    seed : int
        Of everything that is random in it.
    sharpness : float
        Mean of \\|B\\| over the support, about; single voxels differ by up to 40 %.

    Raises
    ------
    InputError
        If the name is not known or a number is out of range.

    Examples
    --------
    >>> phantom = make("fibres", (16, 16, 16))
    >>> bool(np.allclose(np.linalg.norm(phantom.axis, axis=-1), 1.0)), bool(phantom.A[0].any())
    (True, False)
    """
    if name not in _MAKERS:
        raise InputError(f"phantom.name = {name!r}: must be one of {', '.join(NAMES)}")
    for side in shape:
        require_range("phantom.shape", side, "voxels", low=8, high=LONGEST_SIDE)
    require_range("phantom.sharpness", sharpness, low=0.0, high=50.0, open_low=True)
    random = np.random.default_rng(seed)
    inside, axis, sign = _MAKERS[name](_centres(shape), _radius(shape), random)
    inside &= _within_margin(shape)
    waves = [_smooth_wave(shape, random) for _ in range(2)]
    amplitude = np.where(inside, 1.0 + 0.3 * waves[0], 0.0)
    return Phantom(amplitude, np.where(inside, sign * sharpness * (1.0 + 0.4 * waves[1]), 0.0), _unit(axis, inside))


def _centres(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y, z = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in shape), indexing="ij")
    return x, y, z


def _radius(shape: tuple[int, int, int]) -> float:
    """The radius of the widest upright cylinder that leaves the margin."""
    return min(shape[:2]) / 2 - MARGIN_VOXELS


def _within_margin(shape: tuple[int, int, int]) -> np.ndarray:
    inside = np.zeros(shape, bool)
    inside[tuple(slice(MARGIN_VOXELS, n - MARGIN_VOXELS) for n in shape)] = True
    return inside


def _smooth_wave(shape: tuple[int, int, int], random: np.random.Generator) -> np.ndarray:
    """Return a slow wave across the volume with values from -1 to 1."""
    way = random.normal(size=3)
    phase = 2 * np.pi * random.random()
    x, y, z = _centres(shape)
    along = (way[0] * x + way[1] * y + way[2] * z) / (np.linalg.norm(way) * max(shape))
    return np.sin(2 * np.pi * along + phase)


def _unit(axis: np.ndarray, inside: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(axis, axis=-1)
    known = inside & (length > 0)
    fallback = np.broadcast_to([0.0, 0.0, 1.0], axis.shape)
    return np.where(known[..., None], axis / np.where(known, length, 1.0)[..., None], fallback)


_Parts = tuple[np.ndarray, np.ndarray, np.ndarray]  # inside, axis of any length, sign of B


def _fibres(at: _Parts, radius: float, random: np.random.Generator) -> _Parts:
    """Fibres wound about z like a rope: straight at the core, 50 degrees at the surface, the strands apart by gaps."""
    x, y, z = at
    r = np.hypot(x, y)
    pitch = np.tan(np.deg2rad(50.0)) / radius  # a helix of this pitch leans by atan(pitch r)
    axis = np.stack([-pitch * y, pitch * x, np.ones_like(z)], axis=-1)
    strand = np.arctan2(y, x) - pitch * z + 2 * np.pi * random.random()
    gap = (np.cos(5 * strand) < -0.9) & (r > 0.55 * radius)
    return (r <= radius) & ~gap, axis, np.ones_like(x)


def _trabecula(at: _Parts, radius: float, random: np.random.Generator) -> _Parts:
    """Struts between random nodes; a voxel has the direction of the strut that it is nearest to."""
    points = np.stack(at, axis=-1)
    half = np.array([radius, radius, points[0, 0, -1, 2] - MARGIN_VOXELS])
    nodes = random.uniform(-1.0, 1.0, size=(14, 3)) * half
    nearest = np.full(at[0].shape, np.inf)
    axis = np.zeros((*at[0].shape, 3))
    for start in nodes:
        for end in nodes[np.argsort(np.linalg.norm(nodes - start, axis=1))[1:4]]:
            way = end - start
            part = np.clip((points - start) @ way / max(way @ way, 1e-12), 0.0, 1.0)
            distance = np.linalg.norm(points - start - part[..., None] * way, axis=-1)
            closer = distance < nearest
            nearest[closer] = distance[closer]
            axis[closer] = way
    return nearest <= max(1.5, 0.18 * radius), axis, np.ones_like(at[0])


def _woven(at: _Parts, radius: float, random: np.random.Generator) -> _Parts:
    """A plain weave in layers along z: yarns along x and along y that pass over and under each other."""
    x, y, z = at
    period = max(8.0, radius)  # two yarns
    k = 2 * np.pi / period
    height = period / 4
    shift = 2 * np.pi * random.random(2)
    lift = 0.3 * height * np.sin(k * x + shift[0]) * np.cos(k * y + shift[1])
    layer = np.floor((z - lift) / height).astype(int) % 2 == 0  # warp and weft by turns
    slope_x = 0.3 * height * k * np.cos(k * x + shift[0]) * np.cos(k * y + shift[1])
    slope_y = -0.3 * height * k * np.sin(k * x + shift[0]) * np.sin(k * y + shift[1])
    zero, one = np.zeros_like(x), np.ones_like(x)
    warp, weft = np.stack([one, zero, slope_x], axis=-1), np.stack([zero, one, slope_y], axis=-1)
    between = np.where(layer, np.cos(2 * k * y), np.cos(2 * k * x)) < -0.85
    return (np.hypot(x, y) <= radius) & ~between, np.where(layer[..., None], warp, weft), one


def _rings(at: _Parts, radius: float, random: np.random.Generator) -> _Parts:
    """Lamellae around z as in an osteon: the axis lies in the lamella and leans by turns; B < 0 in the outer half."""
    x, y, _ = at
    r = np.hypot(x, y)
    lean = np.deg2rad(35.0 + 10.0 * random.random()) * np.sin(2 * np.pi * r / max(4.0, radius / 2))
    around = np.stack([-y, x, np.zeros_like(x)], axis=-1) / np.maximum(r, 1e-12)[..., None]
    axis = np.cos(lean)[..., None] * around + np.sin(lean)[..., None] * np.array([0.0, 0.0, 1.0])
    canal = max(1.0, 0.12 * radius)
    return (r <= radius) & (r >= canal), axis, np.where(r > 0.6 * radius, -1.0, 1.0)


_MAKERS: dict[str, Callable[[_Parts, float, np.random.Generator], _Parts]] = {
    "fibres": _fibres,
    "trabecula": _trabecula,
    "woven": _woven,
    "rings": _rings,
}
NAMES = tuple(_MAKERS)

"""A scene as the kernels read it: flat arrays of numbers, and how they move with the scene.

What may be refined lies in arrays; the rest (the sampling, the switches) is in the same arrays at places that never
move. `Numbers` is what an image needs; `Tangents` says how the numbers move when each of K parameters grows by one
unit; `Cotangents` is the derivative of a loss by the numbers. A loss's derivative by a parameter is the scalar product
of the two, `Cotangents.along`.

Units: metres, electrons, photons. A crystal's shape enters as the form B: the kernel's spot is a function of |off B|^2,
and its derivatives are those by the metric B B', whose six entries are (11, 22, 33, 12, 13, 23).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from exactgrad.diffraction import kernel, model
from exactgrad.diffraction.beam import ELECTRON_RADIUS_SQUARED
from exactgrad.diffraction.crystal import ANGSTROM, SHAPES, Crystal
from exactgrad.diffraction.movement import Movement
from exactgrad.diffraction.scene import FACTORS, Scene

SHAPE_CODES = {"square": kernel.SQUARE, "round": kernel.ROUND, "gauss": kernel.GAUSS, "tophat": kernel.TOPHAT}
PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))  # the entries of a metric


@dataclass(frozen=True)
class Numbers:
    """What the kernels read of a scene; the fields of the crystal are the kernels' arguments, in their order."""

    g: np.ndarray  # (kernel.GEOMETRY,)
    sources: np.ndarray  # (S, kernel.SOURCE)
    lattices: np.ndarray  # (M, 9)
    shape: int
    cells: np.ndarray  # (3,)
    form: np.ndarray  # (9,)
    table: np.ndarray  # (H K L,), or (S H K L,) with each source's own
    lowest: np.ndarray  # (3,)
    sides: np.ndarray  # (3,)
    default: float
    interpolate: int

    def crystal(self) -> tuple[Any, ...]:
        """Return the kernels' arguments `lattices` ... `interpolate`."""
        shape_and_factors = self.shape, self.cells, self.form, self.table, self.lowest, self.sides, self.default
        return self.lattices, *shape_and_factors, self.interpolate


def numbers_of(scene: Scene, names: tuple[str, ...]) -> Numbers:
    """Return the numbers of a scene whose kernel shall apply the corrections `names`, of `scene.FACTORS`."""
    crystal, factors = scene.crystal, scene.structure_factors
    return Numbers(
        g=detector_numbers(scene, names),
        sources=source_numbers(scene),
        lattices=np.ascontiguousarray(crystal.lattices().reshape(-1, 9)),
        shape=SHAPE_CODES[crystal.shape],
        cells=crystal.cells,
        form=spot_form(crystal).ravel(),
        table=np.ascontiguousarray(factors.table).ravel(),
        lowest=factors.lowest.astype(np.float64),
        sides=np.array(factors.sides, dtype=np.float64),
        default=float(factors.default),
        interpolate=int(factors.interpolate),
    )


def detector_numbers(scene: Scene, names: tuple[str, ...]) -> np.ndarray:
    """Return what the kernel needs of a detector and the named corrections, shape (kernel.GEOMETRY,)."""
    detector = scene.detector
    g = np.zeros(kernel.GEOMETRY)
    for place, vector in zip(range(0, 12, 3), ("origin", "fast", "slow", "normal"), strict=True):
        g[place : place + 3] = getattr(detector, vector)
    g[kernel.STEP], g[kernel.LAYER] = detector.pixel_m / detector.oversample, detector.layer_m
    g[kernel.ATTENUATION] = detector.attenuation_per_m * detector.layer_m
    g[kernel.CURVED] = detector.curved
    g[kernel.KAHN] = 0.0 if scene.beam.kahn is None else scene.beam.kahn
    g[kernel.D_MIN_SQUARED], g[kernel.WATER] = scene.d_min_m**2, model.water(scene)
    g[kernel.SCALE] = sum_scale(scene.crystal)
    g[kernel.NO_SOLID_ANGLE : kernel.AT_FIRST] = _switches(scene, names)
    if scene.c_compat:
        once = [name for name in FACTORS if name not in names]
        g[kernel.AT_FIRST : kernel.AT_LAST] = _switches(scene, [name for name in once if name != "capture"])
        g[kernel.AT_LAST : kernel.GEOMETRY] = _switches(scene, [name for name in once if name == "capture"])
        g[kernel.ONCE], g[kernel.C_WATER] = 1.0, model.c_water(scene) * detector.oversample**2
    return g


def _switches(scene: Scene, names: Sequence[str]) -> np.ndarray:
    """Return the kernel's switches from NO_SOLID_ANGLE on, shape (7,), with which it applies the named factors."""
    detector, kahn = scene.detector, scene.beam.kahn
    on = np.zeros(kernel.GEOMETRY)
    if "solid angle" not in names:
        on[kernel.NO_SOLID_ANGLE] = 1.0
    elif detector.point_pixel:
        on[kernel.FACING] = 1.0
    else:  # the same, but on the C program's curved detector
        on[kernel.CLOSE if scene.c_compat else kernel.OBLIQUITY] = detector.pixel_m**2
    polarizes = "polarization" in names and kahn is not None
    on[kernel.POLARIZATION if polarizes else kernel.NO_POLARIZATION] = 0.5 if polarizes else 1.0
    on[kernel.CAPTURES] = "capture" in names and detector.thickness_m > 0
    return on[kernel.NO_SOLID_ANGLE : kernel.AT_FIRST]


def source_numbers(scene: Scene) -> np.ndarray:
    """Return what the kernel needs of the sources, shape (S, kernel.SOURCE)."""
    beam = scene.beam
    return np.column_stack([beam.directions, 1 / beam.wavelengths_m, shares_of(scene), *beam.field_axes])


def shares_of(scene: Scene) -> np.ndarray:
    """Return the share of every source, shape (S,); the C program ignores their weights."""
    beam = scene.beam
    return np.full(beam.sources, 1 / beam.sources) if scene.c_compat else beam.weights


def sum_scale(crystal: Crystal) -> float:
    """Return the factor that makes the kernel's sum the mean of F^2 L^2."""
    return peak(crystal) ** 2 / (crystal.phi_steps * len(crystal.domains))


def peak(crystal: Crystal) -> float:
    """Return the constant factor of L that the kernel leaves out."""
    volume = float(crystal.cells.prod())
    return {"square": 1.0, "round": volume * model.ROUND_NORM}.get(crystal.shape, volume)


def spot_form(crystal: Crystal) -> np.ndarray:
    """Return B, shape (3, 3): the kernel's L is a function of |off B|^2, in units of the shape's own width."""
    metric = np.diag(crystal.cells)
    if _is_reciprocal(crystal):
        metric = crystal.cells.prod() * ANGSTROM * crystal.reciprocal
    return _width_factor(crystal) * metric


def _is_reciprocal(crystal: Crystal) -> bool:
    return crystal.shape in SHAPES[2:] and crystal.metric == "reciprocal"


def _width_factor(crystal: Crystal) -> float:
    width = {"gauss": model.GAUSS_RADIUS, "tophat": model.TOPHAT_RADIUS}.get(crystal.shape, 1.0)
    return float(np.sqrt(crystal.fudge / width))


# -- how they move ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tangents:
    """How the numbers move when each of K parameters grows by one unit: the kernel's arguments, in its order.

    Attributes
    ----------
    g : ndarray, shape (K, kernel.GEOMETRY)
    sources : ndarray, shape (K, S, 2)
        1/wavelength and share.
    lattices, lattice_of : ndarray, shape (L, M, 9) and (K,)
        The row of the first that a parameter moves, or -1.
    cells, metric : ndarray, shape (K, 3) and (K, 6)
    table, table_of, default : ndarray, shape (T, H K L) or (T, S H K L), (K,) and (K,)
    photons : ndarray, shape (K,)
        Of r_e^2 fluence.
    """

    g: np.ndarray
    sources: np.ndarray
    lattices: np.ndarray
    lattice_of: np.ndarray
    cells: np.ndarray
    metric: np.ndarray
    table: np.ndarray
    table_of: np.ndarray
    default: np.ndarray
    photons: np.ndarray

    def kernel_arguments(self) -> tuple[np.ndarray, ...]:
        """Return what the kernel's forward derivative takes."""
        crystal = self.lattices, self.lattice_of, self.cells, self.metric, self.table, self.table_of, self.default
        return self.g, self.sources, *crystal

    def move_rays(self) -> bool:
        """Return whether any moves what the detector and the beam give the kernel."""
        return bool(self.g.any() or self.sources.any())

    def move_extent(self) -> bool:
        """Return whether any moves how far the crystal extends: its numbers of cells, or the metric of its shape."""
        return bool(self.cells.any() or self.metric.any())


def tangents_of(scene: Scene, movements: Sequence[Movement]) -> Tangents:
    """Return how the numbers of a scene move with each of its movements."""
    k, sources = len(movements), scene.beam.sources
    lattices = [None if m.lattices is None else m.lattices.reshape(-1, 9) for m in movements]
    tables = [None if m.table is None else np.ravel(m.table) for m in movements]
    steps = scene.crystal.phi_steps * len(scene.crystal.domains)
    return Tangents(
        g=np.array([_move_g(scene, m) for m in movements]).reshape(k, kernel.GEOMETRY),
        sources=np.array([_move_sources(scene, m) for m in movements]).reshape(k, sources, 2),
        lattices=_stacked(lattices, (steps, 9)),
        lattice_of=_rows(lattices),
        cells=np.array([_or_zero(m.cells, 3) for m in movements]).reshape(k, 3),
        metric=np.array([_move_metric(scene.crystal, m) for m in movements]).reshape(k, 6),
        table=_stacked(tables, (scene.structure_factors.table.size,)),
        table_of=_rows(tables),
        default=np.array([m.default for m in movements], dtype=float),
        photons=np.array([ELECTRON_RADIUS_SQUARED * m.fluence for m in movements]),
    )


def _move_g(scene: Scene, m: Movement) -> np.ndarray:
    detector, crystal = scene.detector, scene.crystal
    g = np.zeros(kernel.GEOMETRY)
    for place, vector in zip(range(0, 12, 3), (m.origin, m.fast, m.slow, m.normal), strict=True):
        g[place : place + 3] = _or_zero(vector, 3)
    g[kernel.LAYER] = m.layer_m
    g[kernel.ATTENUATION] = detector.attenuation_per_m * m.layer_m + m.attenuation_per_m * detector.layer_m
    g[kernel.KAHN] = m.kahn
    if scene.c_compat:
        g[kernel.C_WATER] = _move_c_water(scene, m) * detector.oversample**2
    else:
        g[kernel.WATER] = 3 * model.WATER_F**2 * model.WATER_PER_M3 * scene.water_m**2 * m.water_m
    if m.cells is not None and crystal.shape != "square":
        g[kernel.SCALE] = 2 * sum_scale(crystal) * (m.cells / crystal.cells).sum()
    return g


def _move_sources(scene: Scene, m: Movement) -> np.ndarray:
    beam = scene.beam
    per_wavelength = -_or_zero(m.wavelengths_m, beam.sources) / beam.wavelengths_m**2
    shares = np.zeros(beam.sources) if scene.c_compat else _or_zero(m.shares, beam.sources)
    return np.column_stack([per_wavelength, shares])


def _move_metric(crystal: Crystal, m: Movement) -> np.ndarray:
    """Move B B', its entries off the diagonal counted twice, so that off' (dB B' + B dB') off is a sum of six."""
    cells = _or_zero(m.cells, 3)
    if _is_reciprocal(crystal):
        grown = (cells / crystal.cells).sum() * crystal.reciprocal
        metric = crystal.cells.prod() * ANGSTROM * (grown + _or_zero(m.reciprocal, (3, 3)))
    else:
        metric = np.diag(cells)
    moved = _width_factor(crystal) * metric @ spot_form(crystal).T
    moved = moved + moved.T
    return np.array([moved[i, j] if i == j else 2 * moved[i, j] for i, j in PAIRS])


def _move_c_water(scene: Scene, m: Movement) -> float:
    by_fluence = scene.water_m**3 * m.fluence + 3 * scene.water_m**2 * m.water_m * scene.beam.fluence
    return model.C_WATER * by_fluence / scene.steps


def _or_zero(moved: np.ndarray | None, shape: Any) -> np.ndarray:
    return np.zeros(shape) if moved is None else np.asarray(moved, dtype=float)


def _stacked(arrays: list[np.ndarray | None], shape: tuple[int, ...]) -> np.ndarray:
    moved = [array for array in arrays if array is not None]
    return np.ascontiguousarray(np.stack(moved)) if moved else np.zeros((0, *shape))


def _rows(arrays: list[np.ndarray | None]) -> np.ndarray:
    row, places = 0, np.full(len(arrays), -1, dtype=np.int64)
    for i, array in enumerate(arrays):
        if array is not None:
            places[i], row = row, row + 1
    return places


@dataclass
class Cotangents:
    """The derivative of a loss by the numbers; the fields are those of `Tangents`, without its axis K.

    Those by g and by the sources together, by the cells and the metric together, and by the table are of no size where
    nobody asked for them.
    """

    g: np.ndarray
    sources: np.ndarray
    lattices: np.ndarray
    cells: np.ndarray
    metric: np.ndarray
    table: np.ndarray
    default: np.ndarray
    photons: float = 0.0

    @classmethod
    def zero(cls, numbers: Numbers, with_table: bool, with_rays: bool = True, with_extent: bool = True) -> Cotangents:
        """Return zeros, without the table's, the rays' or the extent's where nobody asks for them."""
        table = np.zeros(numbers.table.size if with_table else 0)
        g = np.zeros(kernel.GEOMETRY if with_rays else 0)
        sources = np.zeros((len(numbers.sources) if with_rays else 0, 2))
        cells, metric = (np.zeros(count if with_extent else 0) for count in (3, 6))
        return cls(g, sources, np.zeros((len(numbers.lattices), 9)), cells, metric, table, np.zeros(1))

    def kernel_arguments(self) -> tuple[np.ndarray, ...]:
        """Return what the kernel's reverse derivative adds to."""
        return self.g, self.sources, self.lattices, self.cells, self.metric, self.table, self.default

    def add(self, other: Cotangents) -> None:
        """Add another part of the image's."""
        for mine, its in zip(self.kernel_arguments(), other.kernel_arguments(), strict=True):
            mine += its
        self.photons += other.photons

    def along(self, tangents: Tangents) -> np.ndarray:
        """Return the derivative of the loss by each of the K parameters, shape (K,)."""
        total = tangents.default * self.default[0] + tangents.photons * self.photons
        if tangents.move_extent():
            total += tangents.cells @ self.cells + tangents.metric @ self.metric
        if tangents.move_rays():
            total += tangents.g @ self.g + np.tensordot(tangents.sources, self.sources, 2)
        for k, (lattice, table) in enumerate(zip(tangents.lattice_of, tangents.table_of, strict=True)):
            if lattice >= 0:
                total[k] += np.vdot(tangents.lattices[lattice], self.lattices)
            if table >= 0:
                total[k] += tangents.table[table] @ self.table
        return total

"""Refinement from where spots are, not from how bright their pixels are: a basin some degrees wide.

Every spot that was found is a point q on the Ewald sphere; with A, the lattice turned to its spindle angle, A q is
its index, whole where the model is right. The nearest whole index is the spot's, as long as the model's error is well
below half an index; so the spots at low resolution are indexed first, and others as the fit improves. What is
minimised is the distance of q from its lattice point, in three directions: two across the ray, which the spot's
position measures; one along the sphere's normal, the excitation error, which size and mosaicity leave open. Robust:
a Cauchy weight takes their pull from spots that belong to nothing.

Derivatives by cell, orientation, distance, tilt and wavelength are exact: they are the settings' own movements.
Units: 1/m for q.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from exactgrad.core.least_squares import minimise
from exactgrad.diffraction.mosaic import Mosaic
from exactgrad.diffraction.movement import Movement
from exactgrad.diffraction.parameters.table import find
from exactgrad.diffraction.refinement.peaks import Peaks
from exactgrad.diffraction.refinement.plan import GROUPS
from exactgrad.diffraction.refinement.restraints import Restraint, restrained
from exactgrad.diffraction.refinement.unknowns import Unknowns
from exactgrad.diffraction.scene import Scene
from exactgrad.diffraction.settings import Settings
from exactgrad.errors import InputError

REACHES = (0.45, 0.6, 0.8, 1.0, 1.0)  # of the largest |q| that is seen, round by round; orientation alone in the first
FURTHEST_INDEX = 0.4  # from a whole index, in any of the three, beyond which a spot is left out
EXTRA_PX = 0.3  # of a centroid: a spot cut by the sphere is not where its lattice point projects
PATIENCE = 20  # steps of a round
CAUCHY = 3.0  # standard errors at which a spot's weight is halved
MOSAIC_RAD = 0.005  # taken for any crystal: its own spread is not known yet


@dataclass(frozen=True)
class Indexed:
    """Spots of one image that were given an index.

    Attributes
    ----------
    place : ndarray of int, shape (n,)
        Of the spot in the image's peaks.
    hkl : ndarray of int, shape (n, 3)
    step : ndarray of int, shape (n,)
        Of the spindle.
    """

    place: np.ndarray
    hkl: np.ndarray
    step: np.ndarray


@dataclass(frozen=True)
class Fit:
    """How a refinement from positions ended.

    Attributes
    ----------
    x : ndarray
        Of the unknowns that were given.
    indexed : tuple of Indexed
        One an image.
    rms_px : float
        Of the distances across the ray; NaN if no spot was indexed.
    found, used : int
        Spots seen, and indexed.
    """

    x: np.ndarray
    indexed: tuple[Indexed, ...]
    rms_px: float
    found: int
    used: int


def refine_positions(unknowns: Unknowns, peaks: Sequence[Peaks], restraints: Sequence[Restraint] = ()) -> Fit:
    """Return the unknowns that bring the lattice points to the spots.

    Parameters
    ----------
    unknowns : Unknowns
        Only such as move spots: a mosaic spread, say, has no say here.
    peaks : sequence of Peaks
        One an image.
    restraints : sequence of Restraint

    Raises
    ------
    InputError
        If fewer spots than unknowns can be indexed, or the detector is curved.
    """
    if any(settings.detector.curved for settings in unknowns.images):
        raise InputError("refine.positions: not on a curved detector; set positions = false")
    x = np.zeros(unknowns.size)
    resting = [_one_domain(settings) for settings in unknowns.images]
    bare = unknowns.among(range(unknowns.size), resting)
    furthest = max((float(_lengths(s, p).max()) for s, p in zip(resting, peaks, strict=True) if len(p)), default=0.0)
    indexed: list[Indexed] = []
    turning = np.array([find(member.name).entry.name in GROUPS["orientation"] for member in bare.members])
    for turn, reach in enumerate(REACHES):
        indexed = _index(bare, x, peaks, reach * furthest * 1.0001)
        used = sum(len(one.place) for one in indexed)
        if 2 * used < unknowns.size:
            continue
        moving = turning if turn == 0 and turning.any() else np.ones(unknowns.size, dtype=bool)
        x = minimise(_Positions(bare, peaks, indexed, restraints, x, moving), x, PATIENCE, 1e-7).x
    indexed = _index(bare, x, peaks, furthest * 1.0001)
    used, found = sum(len(one.place) for one in indexed), sum(len(one) for one in peaks)
    if 2 * used < unknowns.size:
        raise InputError(
            f"refine: {found} spots were found in the images, of which {used} could be indexed; that is too few to "
            f"refine {unknowns.size} parameters from positions; check cell and orientation, or set positions = false"
        )
    residuals = _Positions(bare, peaks, indexed, restraints, x).residuals(x)
    across = np.concatenate([one.across_px for one in residuals])
    return Fit(x, tuple(indexed), float(np.sqrt(np.median(across**2) / np.log(2))), found, used)


@dataclass(frozen=True)
class _Residuals:
    """Of the indexed spots of an image.

    z (n, 3): distances over their standard errors; moved (K, n, 3): their derivatives; across_px (n,).
    """

    z: np.ndarray
    moved: np.ndarray
    across_px: np.ndarray


class _Positions:
    """The loss of given indices, for Levenberg-Marquardt: sum of c^2/2 log(1 + |z|^2/c^2).

    Directions and standard errors are those at `x`, and rest. Distances in 1/m are brought to the detector's scale as
    it is (distance times wavelength): else all would vanish for a large cell far from the detector.
    """

    def __init__(
        self,
        unknowns: Unknowns,
        peaks: Sequence[Peaks],
        indexed: Sequence[Indexed],
        restraints: Sequence[Restraint],
        x: np.ndarray,
        moving: np.ndarray | None = None,
    ) -> None:
        self.unknowns, self.restraints = unknowns, restraints
        self.moving = np.ones(unknowns.size, dtype=bool) if moving is None else moving
        self.seen = [seen.position_px[one.place] for seen, one in zip(peaks, indexed, strict=True)]
        self.sigma_px = [np.hypot(seen.sigma_px[one.place], EXTRA_PX) for seen, one in zip(peaks, indexed, strict=True)]
        self.indexed = indexed
        scenes = [settings.scene() for settings in unknowns.settings(x)]
        self.scales = [_scale(scene) for scene in scenes]
        self.frames = [_frame(*of_image) for of_image in zip(scenes, self.seen, self.sigma_px, strict=True)]

    def residual_products(self, x: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Return loss, gradient and J^T W J by x; infinite where there is no scene."""
        size = self.unknowns.size
        try:
            every = self.residuals(x)
        except InputError:
            return np.inf, np.zeros(size), np.zeros((size, size))
        total, gradient, curvature = restrained(self.restraints, self.unknowns, x)
        slopes = self.unknowns.slopes(x)
        for image, one in enumerate(every):
            own = self.unknowns.of_image(image)
            rows = (slopes[own, None, None] * one.moved).reshape(len(own), -1)
            ratio = 1.0 + (one.z**2).sum(axis=1) / CAUCHY**2
            weight = np.repeat(1.0 / ratio, 3)
            total += 0.5 * CAUCHY**2 * float(np.log(ratio).sum())
            gradient[own] += rows @ (weight * one.z.ravel())
            curvature[np.ix_(own, own)] += (rows * weight) @ rows.T
        return total, gradient * self.moving, curvature * self.moving[:, None] * self.moving

    def residuals(self, x: np.ndarray) -> list[_Residuals]:
        """Return those of every image."""
        return [self._of_image(image, settings) for image, settings in enumerate(self.unknowns.settings(x))]

    def _of_image(self, image: int, settings: Settings) -> _Residuals:
        scene, indexed = settings.scene(), self.indexed[image]
        movements = self.unknowns.movements(settings, image)
        lattices = scene.crystal.lattices()[indexed.step]  # (n, 3, 3), rows a, b, c
        q, _, moved = _scattering(scene, self.seen[image], movements)
        back = np.linalg.inv(lattices)
        index = np.einsum("nij,nj->ni", lattices, q)
        away = np.einsum("nij,nj->ni", back, index - indexed.hkl)
        for k, movement in enumerate(movements):
            if movement.lattices is not None:  # r* = A^-1 h moves by -A^-1 dA r*
                turned = np.einsum("nij,nj->ni", movement.lattices[indexed.step], q - away)
                moved[k] += np.einsum("nij,nj->ni", back, turned)
        frame, sigma = self.frames[image]
        growth = _scale(scene) / self.scales[image]
        z = growth * np.einsum("nij,nj->ni", frame, away) / sigma
        moved = growth * np.einsum("nij,knj->kni", frame, moved) / sigma
        moved += np.array([_log_scale_by(scene, movement) for movement in movements])[:, None, None] * z
        return _Residuals(z, moved, np.hypot(z[:, 0], z[:, 1]) * self.sigma_px[image])


def _scale(scene: Scene) -> float:
    """Return how far on the detector, in metres, a unit of q reaches where the beam is."""
    return scene.detector.close_distance_m * float(scene.beam.weights @ scene.beam.wavelengths_m)


def _log_scale_by(scene: Scene, movement: Movement) -> float:
    """Return the derivative of the logarithm of `_scale`."""
    detector, beam, total = scene.detector, scene.beam, 0.0
    if movement.origin is not None:
        total += float(movement.origin @ detector.normal)
    if movement.normal is not None:
        total += float(detector.origin @ movement.normal)
    total /= detector.close_distance_m
    if movement.wavelengths_m is not None:
        total += float(beam.weights @ movement.wavelengths_m) / float(beam.weights @ beam.wavelengths_m)
    return total


def _frame(scene: Scene, position_px: np.ndarray, sigma_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return three directions of each spot, shape (n, 3, 3), the third along its ray, and standard errors in 1/m."""
    q, d, _ = _scattering(scene, position_px, ())
    helper = np.eye(3)[np.argmin(np.abs(d), axis=1)]
    first = np.cross(d, helper)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    frame = np.stack([first, np.cross(d, first), d], axis=1)
    across = scene.detector.pixel_m / _scale(scene) * sigma_px
    edges = np.linalg.norm(scene.crystal.lattice, axis=1) * scene.crystal.cells
    along = np.hypot(0.5 / edges.min(), _tilt(scene) * np.linalg.norm(q, axis=1))
    return frame, np.stack([across, across, np.hypot(along, across)], axis=1)


def _tilt(scene: Scene) -> float:
    """Return the angle by which a sweep's steps lie apart, within which an excitation error says nothing."""
    return float(scene.crystal.osc_rad / scene.crystal.phi_steps / 2) + MOSAIC_RAD


def _scattering(
    scene: Scene, position_px: np.ndarray, movements: Sequence[Movement]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return q, shape (n, 3), the rays, and how q moves at a fixed pixel, shape (K, n, 3)."""
    detector, beam = scene.detector, scene.beam
    slow, fast = ((position_px[:, i : i + 1] + 0.5) * detector.pixel_m for i in (0, 1))
    x = detector.origin + fast * detector.fast + slow * detector.slow
    length = np.linalg.norm(x, axis=1, keepdims=True)
    d, s0 = x / length, beam.weights @ beam.directions
    s0 = s0 / np.linalg.norm(s0)
    wavelength = float(beam.weights @ beam.wavelengths_m)
    q = (d - s0) / wavelength
    moved = np.zeros((len(movements), *q.shape))
    for k, movement in enumerate(movements):
        parts = ((movement.origin, 1.0), (movement.fast, fast), (movement.slow, slow))
        dx = sum((by * np.asarray(axis) for axis, by in parts if axis is not None), np.zeros(x.shape))
        moved[k] = (dx - d * (d * dx).sum(axis=1, keepdims=True)) / length / wavelength
        if movement.wavelengths_m is not None:
            moved[k] -= q * float(beam.weights @ movement.wavelengths_m) / wavelength
    return q, d, moved


def _index(unknowns: Unknowns, x: np.ndarray, peaks: Sequence[Peaks], furthest: float) -> list[Indexed]:
    """Give spots within a resolution the nearest index, at the spindle angle where it is nearest."""
    found = []
    for settings, seen in zip(unknowns.settings(x), peaks, strict=True):
        scene = settings.scene()
        q, _, _ = _scattering(scene, seen.position_px, ())
        index = np.einsum("pij,nj->npi", scene.crystal.lattices(), q)
        off = np.abs(index - np.rint(index)).max(axis=2)
        step = off.argmin(axis=1)
        rows = np.arange(len(seen))
        hkl = np.rint(index[rows, step]).astype(np.int64)
        near = (off[rows, step] < FURTHEST_INDEX) & hkl.any(axis=1) & (np.linalg.norm(q, axis=1) <= furthest)
        near &= scene.structure_factors.nearest(hkl.astype(np.float64)) != 0
        found.append(Indexed(rows[near], hkl[near], step[near]))
    return found


def _lengths(settings: Settings, peaks: Peaks) -> np.ndarray:
    return np.linalg.norm(_scattering(settings.scene(), peaks.position_px, ())[0], axis=1)


def _one_domain(settings: Settings) -> Settings:
    """Return the settings of a crystal without mosaicity."""
    return replace(settings, crystal=replace(settings.crystal, mosaic=Mosaic()))

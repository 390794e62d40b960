"""Where reflections show on the detector, and how much of each is excited: a prediction without rendering.

A sample is one spindle angle, mosaic domain and source. Its Ewald sphere passes each reciprocal lattice point h at
some distance, the excitation error |s0/lambda + r*| - 1/lambda. On the sphere near it the lattice factor L has its
largest value at the point of closest approach in the crystal's own metric (cells for a square crystal, so that the
shape of the spot decides, not the distance in 1/Angstrom), or for a square crystal where the sphere crosses one of the
three streaks, if L is larger there. Found by Newton's method on the sphere, not on its tangent plane.

    excitation    L^2 there over L^2 at the lattice point: 1 on the sphere; of the sample that gives the most light, its
                  source's weight counted
    partiality    the mean of that over all samples, sources by their weights, 0 for those that miss the detector: the
                  share of the peak that all samples would make if each were in exact Bragg condition. Not the share
                  of an integrated intensity, which it is where spots are Gaussian.
    intensity     F^2 x partiality, in electrons^2; solid angle, polarization and Na Nb Nc are not in it
    position      of the sample that gives the most light, (slow, fast) in pixels, whole numbers being pixel centres;
                  `first` and `last` hold those of all its samples
                  (a spot that d_min cuts off before its closest point is left out, as is what a sensor's depth adds)

Units: 1/Angstrom, Angstrom, pixels; inside, metres. Memory: blocks of candidate indices, and the spots found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np

from exactgrad.diffraction import model
from exactgrad.diffraction.crystal import ANGSTROM, Crystal, reciprocal_of
from exactgrad.diffraction.scene import Scene
from exactgrad.errors import InputError, require_range

BLOCK = 1 << 16  # indices at a time, and at most about so many pairs of index and sample
MOST_INDICES = 2_000_000_000  # in the box of all indices within the detector's resolution
MOST_SPOTS = 5_000_000
NEWTON_STEPS = 3  # quadratic: a spot is a small part of the sphere
BEND = 1.2  # allowance for the sphere's curvature where candidates are chosen on its tangent plane
GRID = 65  # points along each side where the detector's resolution is looked up
MARGIN = 1.02  # of that resolution, for what lies between these points and around a spot


@dataclass(frozen=True)
class Spots:
    """Predicted reflections, the most intense first.

    Attributes
    ----------
    hkl : ndarray of int, shape (n, 3)
    position_px, first_px, last_px : ndarray, shape (n, 2)
        (slow, fast) of the brightest sample; the smallest and largest over all samples.
    d_A : ndarray, shape (n,)
        Lattice spacing; infinite for (0, 0, 0).
    excitation_error_per_A : ndarray, shape (n,)
        Of the brightest sample; > 0: the lattice point lies outside the Ewald sphere.
    excitation, partiality, intensity : ndarray, shape (n,)
        See the module.
    """

    hkl: np.ndarray
    position_px: np.ndarray
    first_px: np.ndarray
    last_px: np.ndarray
    d_A: np.ndarray
    excitation_error_per_A: np.ndarray
    excitation: np.ndarray
    partiality: np.ndarray
    intensity: np.ndarray

    def __len__(self) -> int:
        return len(self.hkl)

    def chosen(self, which: np.ndarray) -> Spots:
        """Return the spots of a mask, a slice or an array of places."""
        return Spots(**{one.name: getattr(self, one.name)[which] for one in fields(self)})


def predict(scene: Scene, least_excitation: float = 0.01) -> Spots:
    """Return the reflections that show on a scene's detector, the region of interest and mask disregarded.

    Parameters
    ----------
    scene : Scene
        With a detector that is flat, or curved with correct physics.
    least_excitation : float
        Samples that excite a reflection less are left out of it, 1e-6 to 1; reflections of F = 0, and (0, 0, 0), too.

    Raises
    ------
    InputError
        If there are too many indices or spots, or the detector is the C program's curved one.

    Examples
    --------
    >>> from exactgrad.diffraction.options import parse
    >>> words = "-cell 50 60 70 90 90 90 -N 20 -default_F 10 -lambda 1 -distance 100 -detpixels 100 -pixel 0.5 -xds"
    >>> spots = predict(parse(words.split())[0], least_excitation=0.5)
    >>> spots.hkl[0].tolist(), spots.position_px[0].round(2).tolist(), spots.excitation[0].round(3).tolist()
    ([-1, -10, -1], [15.68, 45.44], 0.944)
    """
    threshold = require_range("least_excitation", least_excitation, low=1e-6, high=1.0)
    if scene.detector.curved and scene.c_compat:
        raise InputError("detector: spots are not predicted on the C program's curved detector")
    sweep = _Sweep.of(scene, threshold)
    parts, count = [], 0
    for hkl in _candidates(scene):
        part = sweep.spots(hkl)
        count += len(part)
        if count > MOST_SPOTS:
            raise InputError(f"spots: more than {MOST_SPOTS}; a larger least_excitation or d_min is needed")
        parts.append(part)
    names = [one.name for one in fields(Spots)]
    everything = Spots(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
    return everything.chosen(np.lexsort((*everything.hkl.T, -everything.intensity)))


def pixel_of(scene: Scene, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where rays along d, shape (n, 3), are caught: (slow, fast) in pixels, shape (n, 2), and whether they are.

    In a sensor of layers: at the mean of the layers' fronts by what each captures.

    Examples
    --------
    >>> from exactgrad.diffraction.options import parse
    >>> scene, _ = parse("-cell 50 50 50 90 90 90 -N 5 -default_F 1 -xds -detpixels 9 -pixel 1".split())
    >>> pixel_of(scene, np.array([[0, 0, 1.0], [0.03, 0, 1.0], [0, 0, -1.0]]))[0].round(9).tolist()
    [[4.0, 4.0], [4.0, 7.0], [4.0, 4.0]]
    """
    detector = scene.detector
    towards = d @ detector.normal
    ahead = towards > 1e-9 * np.sqrt((d * d).sum(axis=1))
    towards = np.where(ahead, towards, 1.0)
    if detector.curved:
        along_slow = d @ detector.slow
        arcs = np.arctan2(d @ detector.fast, np.hypot(along_slow, towards)), np.arctan2(along_slow, towards)
        reached = [detector.close_distance_m * arc for arc in arcs]
    else:
        reach = (detector.close_distance_m + _depth(scene, towards)) / towards
        reached = [reach * (d @ axis) for axis in (detector.fast, detector.slow)]
    f, s = (near + along for near, along in zip(detector.near_point_m, reached, strict=True))
    places = np.stack([s, f], axis=1) / detector.pixel_m - 0.5
    caught = ahead & (places >= -0.5).all(axis=1) & (places < np.array(detector.shape) - 0.5).all(axis=1)
    places[~ahead] = (np.array(detector.shape) - 1) / 2
    return places, caught


def _depth(scene: Scene, cosine: np.ndarray) -> np.ndarray:
    """Return the mean depth in metres at which a sensor's layers are sampled."""
    detector = scene.detector
    shares = np.stack([model.capture(scene, cosine, layer) for layer in range(detector.layers)])
    total = shares.sum(axis=0)
    depths = detector.layer_m * np.arange(detector.layers) @ shares
    return np.divide(depths, total, out=np.zeros_like(total), where=total > 0)


# -- candidates -------------------------------------------------------------------------------------------------------


def _candidates(scene: Scene) -> Iterator[np.ndarray]:
    """Yield blocks of indices, shape (n, 3), within the resolution that the detector sees, of F that is not zero."""
    crystal, factors = scene.crystal, scene.structure_factors
    furthest = _resolution(scene)
    reach = np.floor(furthest * np.linalg.norm(crystal.lattice, axis=1))
    low, high = -reach, reach
    if factors.default == 0:
        low = np.maximum(low, factors.lowest)
        high = np.minimum(high, factors.lowest + np.array(factors.sides) - 1)
    sides = [int(side) for side in np.maximum(high - low + 1, 0)]
    box = sides[0] * sides[1] * sides[2]
    if box > MOST_INDICES:
        raise InputError(f"spots: a box of {sides} indices lies within the detector's resolution; d_min is needed")
    reciprocal = reciprocal_of(crystal.lattice)
    for start in range(0, max(box, 1), BLOCK):
        flat = np.arange(start, min(start + BLOCK, box))
        hkl = np.stack(np.unravel_index(flat, [max(side, 1) for side in sides]), axis=1) + low
        r = hkl @ reciprocal
        yield hkl[((r * r).sum(axis=1) <= furthest**2) & hkl.any(axis=1) & (factors.nearest(hkl) != 0)]


def _resolution(scene: Scene) -> float:
    """Return the largest |q| on the detector in 1/m, with a margin, or what d_min leaves of it."""
    along = [np.unique(np.linspace(0, pixels - 1, min(pixels, GRID)).astype(int)) for pixels in scene.detector.shape]
    slow, fast = (indices.ravel() for indices in np.meshgrid(*along, indexing="ij"))
    d = model.direction(model.position(scene, slow, fast, 0, 0, 0))
    cosines = (d @ scene.beam.directions.T).min(axis=0)
    furthest = MARGIN * float((np.sqrt(2 - 2 * cosines) / scene.beam.wavelengths_m).max())
    return min(furthest, MARGIN / scene.d_min_m) if scene.d_min_m else furthest


# -- excitation -------------------------------------------------------------------------------------------------------


def _metric(crystal: Crystal) -> np.ndarray:
    """Return G, shape (3, 3): near a reflection the lattice factor falls with off' G off."""
    named = crystal if crystal.shape in ("gauss", "tophat") else replace(crystal, metric="hkl")
    axes = np.eye(3)
    sums = model.spot_radius(named, (axes[:, None] + axes).reshape(9, 3)).reshape(3, 3)
    own = model.spot_radius(named, axes)
    return 0.5 * (sums - own[:, None] - own)


def _furthest_radius(crystal: Crystal, threshold: float) -> float:
    """Return sqrt(off' G off) beyond which the excitation is below the threshold."""
    fudge = max(crystal.fudge, 1e-12)
    if crystal.shape == "gauss":
        return float(np.sqrt(-0.5 * model.GAUSS_RADIUS * np.log(threshold) / fudge))
    if crystal.shape == "tophat":
        return float(np.sqrt(model.TOPHAT_RADIUS / fudge))
    if crystal.shape == "round":  # the transform stays below 3.3/x^2 for x > sqrt 3
        return float(max((3.3**2 / threshold) ** 0.25, np.sqrt(3)) / np.pi / np.sqrt(fudge))
    return float(0.5 / np.sqrt(threshold) + 1)  # a factor is at most 1/(2 N x)^2, the largest is on a streak


@dataclass(frozen=True)
class _Sweep:
    """All samples of a scene, seen from its crystal: the lattice rests and the beam turns about it."""

    scene: Scene
    threshold: float
    reciprocal: np.ndarray  # (3, 3)
    inverse_metric: np.ndarray  # (3, 3): of off' G off as a function of q in 1/m
    radius: float
    turns: np.ndarray  # (P, D, 3, 3)
    k: np.ndarray  # (S, 3), in 1/m, of the sources that shine
    kappa: np.ndarray  # (S,)
    shares: np.ndarray  # (S,)

    @classmethod
    def of(cls, scene: Scene, threshold: float) -> _Sweep:
        crystal, beam = scene.crystal, scene.beam
        reciprocal = reciprocal_of(crystal.lattice)
        inverse = reciprocal.T @ np.linalg.inv(_metric(crystal)) @ reciprocal
        turns = crystal.orientations.reshape(crystal.phi_steps, -1, 3, 3)
        shares = np.full(beam.sources, 1 / beam.sources) if scene.c_compat else beam.weights
        lit = shares > 0
        kappa = 1 / beam.wavelengths_m[lit]
        k, radius = kappa[:, None] * beam.directions[lit], _furthest_radius(crystal, threshold)
        return cls(scene, threshold, reciprocal, inverse, radius, turns, k, kappa, shares[lit])

    def spots(self, hkl: np.ndarray) -> Spots:
        """Return those of the reflections that are excited on the detector, in the order given."""
        r, n = hkl @ self.reciprocal, len(hkl)
        brightest, best, partiality, error = (np.zeros(n) for _ in range(4))
        position, first, last = np.zeros((n, 2)), np.full((n, 2), np.inf), np.full((n, 2), -np.inf)
        for turns in self.turns:
            for places, excitation, pixel, excess, share in self._excited(r, turns):
                light = share * excitation
                np.add.at(partiality, places, light)
                np.minimum.at(first, places, pixel)
                np.maximum.at(last, places, pixel)
                top = np.lexsort((light, places))
                top = top[np.append(places[top][1:] != places[top][:-1], True)]  # the brightest pair of each place
                top = top[light[top] > brightest[places[top]]]
                place = places[top]
                brightest[place], best[place] = light[top], excitation[top]
                error[place], position[place] = excess[top], pixel[top]
        kept = brightest > 0
        partiality /= self.turns.shape[0] * self.turns.shape[1]
        f = self.scene.structure_factors.of_source(0).nearest(hkl)
        spacing = 1 / np.sqrt((r * r).sum(axis=1)) / ANGSTROM
        whole = hkl.astype(np.int64)
        columns = whole, position, first, last, spacing, error * ANGSTROM, best, partiality, f**2 * partiality
        return Spots(*(column[kept] for column in columns))

    def _excited(self, r: np.ndarray, turns: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield pairs of a place in r and a sample of one spindle angle that excites it on the detector.

        As arrays: place, excitation, pixel (n, 2), excitation error in 1/m, share of the domain's light.
        """
        sources = len(self.k)
        k = np.einsum("dji,sj->dsi", turns, self.k).reshape(-1, 3)
        kappa = np.tile(self.kappa, len(turns))
        squared = (r * r).sum(axis=1)
        width = BEND * self.radius * np.sqrt(np.linalg.eigvalsh(self.inverse_metric)[-1])
        moved = np.linalg.norm(k - k[0], axis=1).max()  # of the beam between samples; the excitation error moves less
        slack = moved * np.minimum(2.2 * np.sqrt(squared) / kappa.min(), 2.0)
        excess = np.sqrt(np.maximum(squared + 2 * (r @ k[0]) + kappa[0] ** 2, 0.0)) - kappa[0]
        near = np.flatnonzero(np.abs(excess) <= width + slack)
        samples = min(len(k), 4096)
        rows = max(1, BLOCK // samples)
        for start in range(0, near.size, rows):
            some = near[start : start + rows]
            for begin in range(0, len(k), samples):
                part = slice(begin, begin + samples)
                length_squared = squared[some, None] + 2 * (r[some] @ k[part].T) + kappa[part] ** 2
                row, sample = np.nonzero(np.abs(np.sqrt(np.maximum(length_squared, 0.0)) - kappa[part]) <= width)
                sample += begin
                pairs = self._pairs(some[row], r[some[row]], k[sample], turns[sample // sources], sample % sources)
                if pairs[0].size:
                    yield pairs

    def _pairs(
        self, places: np.ndarray, r: np.ndarray, k: np.ndarray, turns: np.ndarray, source: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """Return what `_excited` yields of given pairs."""
        scene, kappa, v = self.scene, self.kappa[source], k + r
        length = np.sqrt((v * v).sum(axis=1))
        reach = BEND * self.radius * np.sqrt(((v @ self.inverse_metric) * v).sum(axis=1))
        near = (np.abs(length - kappa) * length <= reach) & (length > 1e-3 * kappa)
        places, v, k, turns, source, kappa = (column[near] for column in (places, v, k, turns, source, kappa))
        excess = length[near] - kappa
        d, excitation = self._closest(v, kappa)
        pixel, caught = pixel_of(scene, np.einsum("nij,nj->ni", turns, d))
        kept = caught & (excitation >= self.threshold) & model.seen(scene, kappa[:, None] * d - k)
        columns = places, excitation, pixel, excess, self.shares[source]
        return tuple(column[kept] for column in columns)

    def _closest(self, v: np.ndarray, kappa: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the direction of the largest L on spheres of radius kappa near the points v, and the excitation."""
        crystal = self.scene.crystal
        w = v
        for _ in range(NEWTON_STEPS):
            d = w / np.linalg.norm(w, axis=1, keepdims=True)
            towards = d @ self.inverse_metric
            gap = (kappa - (v * d).sum(axis=1)) / (towards * d).sum(axis=1)
            w = v + gap[:, None] * towards
        d = w / np.linalg.norm(w, axis=1, keepdims=True)
        excitation = self._excitation((kappa[:, None] * d - v) @ crystal.lattice.T)
        if crystal.shape != "square":
            return d, excitation
        outside = (v * v).sum(axis=1) - kappa**2
        for i, axis in enumerate(self.reciprocal):  # where a streak crosses the sphere: |v + t axis| = kappa
            along = v @ axis
            root = along**2 - outside * (axis @ axis)
            below = along + np.copysign(np.sqrt(np.maximum(root, 0.0)), along)
            t = np.divide(-outside, below, out=np.ones_like(below), where=(root >= 0) & (below != 0))
            there = np.where(np.abs(t) <= 0.5, model.grating(np.clip(t, -0.5, 0.5), crystal.cells[i]), 0.0)
            there = (there / crystal.cells[i]) ** 2
            better = there > excitation
            d[better] = (v[better] + t[better, None] * axis) / kappa[better, None]
            excitation[better] = there[better]
        return d, excitation

    def _excitation(self, off: np.ndarray) -> np.ndarray:
        """Return L^2/L(0)^2; 0 nearer to another reflection."""
        top = model.lattice_factor(self.scene.crystal, np.zeros((1, 3)))
        inside = (np.abs(off) <= 0.5).all(axis=1)
        return np.where(inside, (model.lattice_factor(self.scene.crystal, np.clip(off, -0.5, 0.5)) / top) ** 2, 0.0)


# -- regions ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Regions:
    """Boxes of pixels, one or more spots each.

    Attributes
    ----------
    boxes : ndarray of int, shape (n, 4)
        First and last slow, first and last fast pixel, ends included.
    owner : ndarray of int32, shape (slow, fast)
        Place of the box that a pixel belongs to, -1 for none. A pixel in several boxes belongs to the first.
    """

    boxes: np.ndarray
    owner: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """Whether a pixel lies in any box, shape (slow, fast)."""
        return self.owner >= 0


def regions(spots: Spots, shape: tuple[int, int], radius_px: float) -> Regions:
    """Return boxes around spots: from their first to their last sample, and `radius_px` beyond on every side.

    Boxes whose centres lie in an earlier one are joined to it: spots that overlap share their background.

    Parameters
    ----------
    spots : Spots
        The earlier ones, the brighter, own a pixel that several claim.
    shape : (int, int)
        (slow, fast) of the detector.
    radius_px : float
        0.5 or more.

    Raises
    ------
    InputError
        If the radius is out of range, or there are no spots.
    """
    radius = require_range("radius", radius_px, "px", low=0.5, high=10_000.0)
    if len(spots) == 0:
        raise InputError("regions: no spot is predicted, so there is nothing to put them around")
    top = np.array(shape) - 1
    low = np.clip(np.ceil(spots.first_px - radius), 0, top).astype(np.int64)
    high = np.clip(np.floor(spots.last_px + radius), 0, top).astype(np.int64)
    middle = np.clip(np.rint(spots.position_px), 0, top).astype(np.int64)
    owner, boxes = np.full(shape, -1, dtype=np.int32), list[list[int]]()
    for (s0, f0), (s1, f1), (s, f) in zip(low.tolist(), high.tolist(), middle.tolist(), strict=True):
        place = int(owner[s, f])
        if place < 0:
            place = len(boxes)
            boxes.append([s0, s1, f0, f1])
        else:
            a, b, c, e = boxes[place]
            boxes[place] = [min(a, s0), max(b, s1), min(c, f0), max(e, f1)]
        here = owner[s0 : s1 + 1, f0 : f1 + 1]
        here[here < 0] = place
    return Regions(np.array(boxes), owner)

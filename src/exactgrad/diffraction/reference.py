"""The image once more, from the stated numbers, in numbers of another kind: what exact derivatives are judged by.

Nothing here is shared with the kernel, the model's stages or the tangents: lattice, placement and corrections are
written anew from `Settings`, in SI units, for arrays of complex numbers (a derivative is the imaginary part of an image
moved by 1e-30 i) or of 50 digits (a derivative is a difference over 2e-20). Neither has a step that could be too large
or too small, and neither sees the model's own kinks: both round h by its real part.

What a parameter's number means is for the table to say: `replace` it in the settings, and see how far the stated
numbers go (`moves_of`). They are linear in it or nearly so, and extrapolated differences are right to 1e-13.

Source: the equations at the top of `model`; complex step: Squire & Trapp 1998.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from exactgrad.diffraction.beam import ELECTRON_RADIUS_SQUARED
from exactgrad.diffraction.model import GAUSS_RADIUS, ROUND_NORM, TOPHAT_RADIUS, WATER_F, WATER_PER_M3
from exactgrad.diffraction.parameters.table import find
from exactgrad.diffraction.scene import FACTORS
from exactgrad.diffraction.settings import Settings
from exactgrad.errors import InputError

Stated = dict[str, Any]  # the numbers that move, in SI units
Moves = dict[str, np.ndarray]  # how far each of them that moves goes
FIRST_STEP = 1 / 16  # of a parameter's value, or of its unit where that is 0
HALVINGS = 5


class ComplexStep:
    """Derivatives by a step along the imaginary axis: exact to the rounding of doubles."""

    name = "complex step"
    terms = 14  # of series, for arguments up to one
    pi = np.pi
    _step = 1e-30
    sin: Any = staticmethod(np.sin)
    cos: Any = staticmethod(np.cos)
    sqrt: Any = staticmethod(np.sqrt)
    exp: Any = staticmethod(np.exp)
    expm1: Any = staticmethod(np.expm1)

    def of(self, value: Any) -> np.ndarray:
        """Return floats as numbers of this kind."""
        return np.asarray(value, dtype=np.complex128)

    def real(self, value: Any) -> np.ndarray:
        """Return the numbers as floats."""
        return np.real(value)

    def slope(self, function: Callable[[Any], np.ndarray], size: float = 1.0) -> np.ndarray:
        """Return the derivative at 0 of a function of one number, as floats; any `size` of the number will do."""
        return np.imag(function(1j * self._step)) / self._step


class FiftyDigits:
    """Derivatives by differences in arithmetic of 50 digits: some 25 of them are right."""

    name = "50-digit arithmetic"
    terms = 24

    def __init__(self) -> None:
        import mpmath

        self.context = mpmath.mp.clone()
        self.context.dps = 50
        self.pi = +self.context.pi
        self._step = self.context.mpf("1e-20")
        self._of = np.frompyfunc(self.context.mpf, 1, 1)
        names = ("sin", "cos", "sqrt", "exp", "expm1")
        self.sin, self.cos, self.sqrt, self.exp, self.expm1 = (
            np.frompyfunc(getattr(self.context, name), 1, 1) for name in names
        )

    def of(self, value: Any) -> np.ndarray:
        """Return floats as numbers of this kind."""
        return np.asarray(self._of(np.asarray(value, dtype=np.float64)), dtype=object)

    def real(self, value: Any) -> np.ndarray:
        """Return the numbers as floats."""
        return np.asarray(value, dtype=object).astype(np.float64)

    def slope(self, function: Callable[[Any], np.ndarray], size: float = 1.0) -> np.ndarray:
        """Return the derivative at 0 of a function of one number of that size, as floats."""
        step = self._step * size
        return self.real((function(step) - function(-step)) / (2 * step))


Arithmetic = ComplexStep | FiftyDigits


@dataclass(frozen=True)
class Reference:
    """The photons of some pixels, and their derivatives, of settings without rounded mosaic angles.

    Attributes
    ----------
    settings : Settings
    slow, fast : ndarray of int, shape (n,)
        Pixels.
    numbers : ComplexStep or FiftyDigits

    Examples
    --------
    >>> from exactgrad.diffraction import Simulator
    >>> sim = Simulator.from_nanobragg("-cell 50 60 70 90 90 90 -N 3 -default_F 9 -detpixels 4 -pixel 4 -oversample 1")
    >>> reference = Reference(sim.settings, np.arange(4), np.arange(4))
    >>> bool(np.abs(reference.photons() / sim.image().diagonal() - 1).max() < 1e-12)
    True
    >>> bool(np.abs(reference.derivative("cell_a") / sim.jvp({"cell_a": 1.0}).diagonal() - 1).max() < 1e-11)
    True
    """

    settings: Settings
    slow: np.ndarray
    fast: np.ndarray
    numbers: Arithmetic = field(default_factory=ComplexStep)

    def photons(self) -> np.ndarray:
        """Return the expected photons, shape (n,)."""
        return self.numbers.real(self._photons(self._stated))

    def derivative(self, name: str, direction: Any = 1.0) -> np.ndarray:
        """Return the derivative of the photons, shape (n,), per unit of a named parameter.

        Parameters
        ----------
        name : str
            Any name that the system takes; of an array, `direction` is a change of the whole array.
        """
        moves = moves_of(self.settings, name, direction)
        size = max(1.0, float(np.abs(self.settings.value(name)).max(initial=0.0)))
        return self.numbers.slope(lambda step: self._photons(self._moved(moves, step)), size)

    def miller_slope(self, name: str, direction: Any = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Return h, shape (S, M, samples, n, 3), of all sources, lattices and samples, and its derivative."""
        moves, a = moves_of(self.settings, name, direction), self.numbers
        here = self._miller(self._stated)
        return a.real(here), a.slope(lambda step: self._miller(self._moved(moves, step)))

    @cached_property
    def _stated(self) -> Stated:
        return stated_of(self.settings, self.numbers)

    def _moved(self, moves: Moves, step: Any) -> Stated:
        return self._stated | {key: self._stated[key] + self.numbers.of(far) * step for key, far in moves.items()}

    def _photons(self, stated: Stated) -> np.ndarray:
        return _Image(self.settings, stated, self.numbers).photons(self.slow, self.fast)

    def _miller(self, stated: Stated) -> np.ndarray:
        image = _Image(self.settings, stated, self.numbers)
        d, _ = image.rays(image.positions(self.slow, self.fast))
        return np.stack([image.miller(image.scattering(d, source)) for source in range(len(image.wavelengths))])


def stated_of(settings: Settings, a: Arithmetic) -> Stated:
    """Return the numbers of settings that may move, in SI units, as numbers of the kind `a`."""
    crystal, beam, detector = settings.crystal, settings.beam, settings.detector
    place, factors, degree = detector.placement, settings.structure_factors, a.pi / 180
    thickness = detector.thickness_m
    depth = thickness if detector.attenuation_per_m is None else 1 / detector.attenuation_per_m
    return {
        "edges": a.of(crystal.cell[:3]) * a.of(1e-10),
        "angles": a.of(crystal.cell[3:]) * degree,
        "misset": a.of(crystal.misset_deg) * degree,
        "spread": a.of(np.broadcast_to(crystal.mosaic.spread_rad, 3)),
        "cells": a.of(crystal.cells),
        "phi0": a.of(crystal.phi0_rad),
        "osc": a.of(crystal.osc_rad),
        "wavelength": a.of(beam.wavelength_m),
        "own": a.of(beam.own_m),
        "dispersion": a.of(beam.dispersion),
        "weights": a.of(beam.weights),
        "kahn": a.of(beam.kahn or 0.0),
        "fluence": a.of(beam.fluence),
        "distance": a.of(place.distance_m),
        "position": a.of(place.position),
        "tilt": a.of(place.rotation_rad),
        "twotheta": a.of(place.twotheta_rad),
        "origin": a.of(np.zeros(3) if place.origin is None else place.origin),
        "shift": a.of(place.shift_m),
        "panel_shift": a.of(place.panel_shift_m),
        "panel_turn": a.of(place.panel_turn_rad),
        "thickness": a.of(thickness),
        "depth": a.of(depth),
        "water": a.of(settings.water_m),
        "default": a.of(factors.default),
        "table": a.of(factors.table),
    }


def moves_of(settings: Settings, name: str, direction: Any = 1.0) -> Moves:
    """Return how far the stated numbers go when a parameter grows by one of its units, or an array by `direction`.

    By differences over five halved steps on both sides, or on one where a bound is near, extrapolated (Richardson).

    Raises
    ------
    InputError
        If the parameter has no value on either side, or none of the numbers that are known here moves with it.

    Examples
    --------
    >>> from exactgrad.diffraction import Simulator
    >>> settings = Simulator.from_nanobragg("-cell 50 60 70 90 90 90 -N 3 -default_F 9 -detpixels 4").settings
    >>> {key: float(far.round(9)) for key, far in moves_of(settings, "phi_rad").items()}
    {'phi0': 1.0}
    """
    named = find(name)
    value, change = named.entry.get(settings, named.index), named.si * np.asarray(direction, dtype=float)
    far = np.abs(change).max(initial=0.0) or 1.0
    step = FIRST_STEP * float(np.abs(value).max(initial=0.0) / far or 1.0)

    def stated(steps: float) -> Stated:
        moved = value + steps * step * change
        moved = moved if named.entry.array else float(moved)
        return stated_of(named.entry.put(settings, named.index, moved), ComplexStep())

    for ahead, behind in ((1, -1), (1, 0), (-1, 0)):
        try:
            pairs = [(stated(ahead * part), stated(behind * part)) for part in 0.5 ** np.arange(HALVINGS)]
            break
        except InputError as error:
            refused = str(error)
    else:
        raise InputError(f"{name}: the reference cannot tell what it moves: {refused}")
    here, found = stated(0.0), {}
    for key in here:
        if any((one[key] != here[key]).any() for one in pairs[0]):
            rows = [np.real(a[key] - b[key]) / (ahead - behind) * 2.0**i / step for i, (a, b) in enumerate(pairs)]
            found[key] = _extrapolated(rows, 4.0 if behind else 2.0)
    if not found:
        raise InputError(f"{name}: the reference knows no number that it moves")
    return found


def _extrapolated(rows: list[np.ndarray], base: float) -> np.ndarray:
    """Return the limit of differences over halved steps, whose error goes with powers of `base`."""
    power = base
    while len(rows) > 1:
        rows = [(power * fine - coarse) / (power - 1) for coarse, fine in pairwise(rows)]
        power *= base
    return rows[0]


class _Image:
    """The image of stated numbers; `a` is their arithmetic. Axes: lattices, samples of a pixel, pixels, xyz."""

    def __init__(self, settings: Settings, stated: Stated, a: Arithmetic):
        self.settings, self.stated, self.a = settings, stated, a
        self.beam, self.sensor = settings.beam, settings.detector
        self.lattices, self.reciprocal = self._lattices()
        self.origin, self.fast, self.slow, self.normal = self._placement()
        self.close = self.origin @ self.normal
        beam = self.beam
        scaled = stated["wavelength"] * (1 + stated["dispersion"] * a.of(beam.shares))
        self.wavelengths = stated["own"] + a.of(beam.follows) * scaled
        self.rays_in = self._unit(a.of(beam.directions))
        self.layers = self.sensor.layers if self.sensor.thickness_m > 0 else 1
        self.layer = stated["thickness"] * a.of(self.sensor.layer_share)
        if self.settings.per_sample is None:
            self.names = () if settings.c_compat else FACTORS
        else:
            self.names = settings.per_sample
        self.steps = len(self.lattices) * len(beam.weights) * self.sensor.oversample**2
        self.order = np.array(list(np.ndindex(self.layers, self.sensor.oversample, self.sensor.oversample)))

    def photons(self, slow: np.ndarray, fast: np.ndarray) -> np.ndarray:
        """Return the photons of pixels."""
        s, a, c_compat = self.stated, self.a, self.settings.c_compat
        x = self.positions(slow, fast)
        d, distance = self.rays(x)
        names = self.names
        shares = s["weights"] / s["weights"].sum()
        if c_compat:
            shares = a.of(np.full(shares.shape, 1.0)) / len(shares)
        water = a.of(WATER_F**2 * WATER_PER_M3) * s["water"] ** 3
        factor, polarizations, seen = self._of_rays(names, d, distance), [], []
        total = a.of(np.zeros(slow.size))
        for source, share in enumerate(shares):
            q = self.scattering(d, source)
            inside = self.settings.d_min_m**2 * a.real((q * q).sum(axis=-1)) <= 1.0
            light = np.where(inside, self._diffracted(self.miller(q), source), a.of(0.0)) + (0 if c_compat else water)
            polarization = self._polarization(d, source)
            if "polarization" in names:
                light = light * polarization
            total = total + share * (light * factor).sum(axis=0)
            polarizations.append(polarization)
            seen.append(inside)
        total = total / self.sensor.oversample**2
        if c_compat:
            c_water = water * a.of(ELECTRON_RADIUS_SQUARED) * s["fluence"] / self.steps
            others = tuple(name for name in ("solid angle", "capture") if name not in names)
            total = (total + c_water) * self._once_a_pixel(others, d, distance)
            if "polarization" not in names:
                total = total * self._first_seen(np.stack(polarizations, 1), np.stack(seen, 1))
        return a.of(ELECTRON_RADIUS_SQUARED) * s["fluence"] * total

    # -- crystal ------------------------------------------------------------------------------------------------------

    def _lattices(self) -> tuple[np.ndarray, np.ndarray]:
        """Return rows a, b, c of every lattice, and a*, b*, c* at rest."""
        s, a, crystal = self.stated, self.a, self.settings.crystal
        rows, reciprocal = self._unturned()
        frame = self._euler(s["misset"]) @ a.of(crystal.setting)
        angles = [s["phi0"] + s["osc"] * (i / a.of(crystal.phi_steps)) for i in range(crystal.phi_steps)]
        spindle = self._unit(a.of(crystal.spindle))
        if crystal.mosaic.matrices is not None:
            domains = a.of(crystal.mosaic.matrices)
        else:
            domains = np.stack([self._rotation(a.of(v) * s["spread"]) for v in crystal.mosaic.vectors])
        turns = []
        for angle in angles:
            about = self._rotation(angle * spindle)
            own = crystal.mosaic.anisotropic
            turns += [about @ frame @ domain if own else domain @ about @ frame for domain in domains]
        return np.stack([rows @ turn.T for turn in turns]), reciprocal @ frame.T

    def _unturned(self) -> tuple[np.ndarray, np.ndarray]:
        """Return rows a, b, c and a*, b*, c* with c along z and a* along x: from the edges' scalar products."""
        s, a, crystal = self.stated, self.a, self.settings.crystal
        (al, be, ga), edges, zero = s["angles"], s["edges"], a.of(0.0)
        cos_al, cos_be, cos_ga = (a.cos(angle) for angle in (al, be, ga))
        b_y, a_z = a.sin(al), cos_be
        a_y = (cos_ga - cos_al * cos_be) / b_y
        a_x = a.sqrt(1 - a_y * a_y - a_z * a_z)
        unit = np.array([[a_x, a_y, a_z], [zero, b_y, cos_al], [zero, zero, zero + 1]])
        rows = unit * edges[:, None]
        volume = edges.prod() * a_x * b_y
        reciprocal = _crossed(rows) / volume
        if not crystal.c_lattice:
            return rows, reciprocal
        if crystal.rows is not None:
            reciprocal = a.of(crystal.rows)
        else:  # the C program's: V/(a b c sin ga*) over c sin ga* too many
            wrong = reciprocal.copy()
            sin_star = edges[2] / (volume * self._length(reciprocal[0]) * self._length(reciprocal[1]))
            wrong[2, 2] = self._length(reciprocal[2]) * volume / (edges.prod() * sin_star)
            reciprocal = wrong
        along = _crossed(reciprocal)
        rows = self._unit(along) * edges[:, None]
        return rows, _crossed(rows) / volume

    def scattering(self, d: np.ndarray, source: int) -> np.ndarray:
        """Return q of rays from one source."""
        return (d - self.rays_in[source]) / self.wavelengths[source]

    def miller(self, q: np.ndarray) -> np.ndarray:
        """Return h of scattering vectors, with an axis of lattices in front."""
        return q[None] @ self.lattices.transpose(0, 2, 1)[:, None]

    def _diffracted(self, h: np.ndarray, source: int) -> np.ndarray:
        off = h - np.ceil(self.a.real(h) - 0.5)
        spots = (self._amplitude(h, source) * self._lattice_factor(off)) ** 2
        return spots.sum(axis=0) / len(h)

    def _lattice_factor(self, off: np.ndarray) -> np.ndarray:
        a, crystal, cells = self.a, self.settings.crystal, self.stated["cells"]
        volume, square = cells.prod(), a.pi * a.pi
        if crystal.shape == "square":
            y = square * off * off
            return (cells * self._sinc(y * cells * cells) / self._sinc(y)).prod(axis=-1)
        fudge, radius = a.of(crystal.fudge), ((off * cells) ** 2).sum(axis=-1)
        if crystal.shape == "round":
            return volume * a.of(ROUND_NORM) * self._ball(square * fudge * radius)
        if crystal.metric == "reciprocal":
            radius = volume * volume * ((off @ self.reciprocal * a.of(1e-10)) ** 2).sum(axis=-1)
        if crystal.shape == "gauss":
            return volume * a.exp(-fudge * radius / a.of(GAUSS_RADIUS))
        return volume * (a.real(fudge * radius) < TOPHAT_RADIUS)

    def _amplitude(self, h: np.ndarray, source: int) -> np.ndarray:
        """Return F of the nearest reflection, or the cubic through four points along each axis."""
        a, factors, table = self.a, self.settings.structure_factors, self.stated["table"]
        if table.ndim == 4:
            table = table[source]
        if table.size == 0:
            return self.stated["default"]
        real, sides, lowest = a.real(h), np.array(table.shape), np.asarray(factors.lowest)
        place = (np.ceil(real - 0.5) - lowest).astype(int)
        inside = ((place >= 0) & (place < sides)).all(axis=-1)
        listed = table[tuple(np.moveaxis(np.where(inside[..., None], place, 0), -1, 0))]
        f = np.where(inside, listed, self.stated["default"])
        if factors.interpolate:
            within = ((real >= lowest + 2) & (real <= lowest + sides - 3)).all(axis=-1)
            f[within] = self._cubic(table, h[within], np.floor(real[within]).astype(int) - lowest)
        return f

    def _cubic(self, table: np.ndarray, h: np.ndarray, floor: np.ndarray) -> np.ndarray:
        """Return F at some h by the cubics of Lagrange: through the points -1, 0, 1, 2 along each axis."""
        x, points = h - np.floor(self.a.real(h)), (-1, 0, 1, 2)
        weights = []
        for i in points:
            others = [j for j in points if j != i]
            weights.append(np.prod([(x - j) / (i - j) for j in others], axis=0))
        total = self.a.of(np.zeros(len(h)))
        for i, j, k in np.ndindex(4, 4, 4):
            entries = table[tuple((floor + np.array([i, j, k]) - 1).T)]
            total = total + weights[i][:, 0] * weights[j][:, 1] * weights[k][:, 2] * entries
        return total

    # -- detector -----------------------------------------------------------------------------------------------------

    def _placement(self) -> tuple[np.ndarray, ...]:
        """Return origin, fast, slow and normal, a panel's own shift and turn last."""
        s, a = self.stated, self.a
        origin, *axes = self._placed_as_one()
        own, middle = self._rotation(s["panel_turn"]), a.of([*self.sensor.placement.middle_m, 0.0])
        moved = s["panel_shift"] + middle - own @ middle
        turned = [sum(own[j, i] * axes[j] for j in range(3)) for i in range(3)]
        return origin + s["shift"] + sum(moved[j] * axes[j] for j in range(3)), *turned

    def _placed_as_one(self) -> tuple[np.ndarray, ...]:
        s, a, p = self.stated, self.a, self.sensor.placement
        beam, f, n, o = (a.of(v) for v in (p.beam, p.fast, p.slow, p.normal))
        tilt = self._euler(s["tilt"])
        turn = self._rotation(s["twotheta"] * a.of(p.twotheta_axis)) @ tilt
        fast, slow, normal = turn @ f, turn @ n, turn @ o
        if p.origin is not None:
            return turn @ s["origin"], fast, slow, normal
        cosine, close = beam @ (tilt @ o), p.distance_is_close
        where = "beam" if p.pivot == "beam" else "near"
        at = s["position"]
        if where != p.position_of:  # the beam meets the sensor beside its nearest point, in its own plane at rest
            beside = np.array([beam @ f, beam @ n]) / (beam @ o if close else a.of(1.0)) * s["distance"]
            at = at + beside if where == "beam" else at - beside
        if p.pivot == "beam":
            along = s["distance"] / cosine if close else s["distance"]
            return along * beam - at[0] * fast - at[1] * slow, fast, slow, normal
        near = s["distance"] if close else s["distance"] * cosine
        return near * normal - at[0] * fast - at[1] * slow, fast, slow, normal

    def positions(self, slow: np.ndarray, fast: np.ndarray) -> np.ndarray:
        """Return where rays are caught, shape (samples, n, 3)."""
        a, many = self.a, self.sensor.oversample
        step = a.of(self.sensor.pixel_m) / many
        f = step * a.of(fast * many + self.order[:, 2:3] + 0.5)
        s = step * a.of(slow * many + self.order[:, 1:2] + 0.5)
        depth = a.of(self.order[:, :1]) * self.layer
        f, s, depth = (value[..., None] for value in np.broadcast_arrays(f, s, depth))
        if not self.sensor.curved:
            return self.origin + depth * self.normal + f * self.fast + s * self.slow
        along, across = (f + self.origin @ self.fast) / self.close, (s + self.origin @ self.slow) / self.close
        to_normal = a.cos(along) * a.cos(across) * self.normal
        to_slow = a.cos(along) * a.sin(across) * self.slow
        return (self.close + depth) * (a.sin(along) * self.fast + to_normal + to_slow)

    def rays(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return directions and distances."""
        distance = self._length(x)
        return x / distance[..., None], distance

    def _cosine(self, d: np.ndarray) -> np.ndarray:
        return self.a.of(np.ones(d.shape[:-1])) if self.sensor.curved else d @ self.normal

    def _of_rays(self, names: tuple[str, ...], d: np.ndarray, distance: np.ndarray) -> np.ndarray:
        """Return solid angle and captured share, those of them that are named, of every sample."""
        a, factor, cosine = self.a, self.a.of(np.ones(distance.shape)), self._cosine(d)
        if "solid angle" in names:
            area = a.of(1.0 if self.sensor.point_pixel else self.sensor.pixel_m**2)
            facing = self.close / distance if self.settings.c_compat else cosine  # of the front, at every depth
            seen_as = a.of(np.ones(distance.shape)) if self.sensor.point_pixel else facing
            factor = factor * area * seen_as / (distance * distance)
        if "capture" in names and self.sensor.thickness_m > 0:
            u = self.layer / self.stated["depth"] / cosine
            layer = a.of(self.order[:, :1])
            factor = -factor * a.exp(-layer * u) * a.expm1(-u)
        return factor

    def _polarization(self, d: np.ndarray, source: int) -> np.ndarray:
        a = self.a
        if self.beam.kahn is None:
            return a.of(np.ones(d.shape[:-1]))
        ray, axis = self.rays_in[source], self._unit(a.of(self.beam.polarization_axis))
        b = np.cross(axis, ray)
        if np.abs(a.real(b)).max() > 1e-12:
            b = self._unit(b)
        e = np.cross(ray, b)
        kahn = self.stated["kahn"] * ((d @ e) ** 2 - (d @ b) ** 2)
        return (1 + (d @ ray) ** 2 - kahn) / 2

    def _once_a_pixel(self, names: tuple[str, ...], d: np.ndarray, distance: np.ndarray) -> np.ndarray:
        """Return the C program's factors: solid angle of the first sample, capture of the last layer's first."""
        last = (self.layers - 1) * self.sensor.oversample**2
        angle = self._of_rays(tuple(name for name in names if name == "solid angle"), d, distance)[0]
        return angle * self._of_rays(tuple(name for name in names if name == "capture"), d, distance)[last]

    def _first_seen(self, polarizations: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Return the polarization, shape (samples, sources, n) before, of each pixel's first sample within d_min."""
        many = polarizations.reshape(-1, polarizations.shape[-1])
        inside = seen.reshape(many.shape)
        first = inside.argmax(axis=0)
        return np.where(inside.any(axis=0), many[first, np.arange(first.size)], self.a.of(0.0))

    # -- functions ----------------------------------------------------------------------------------------------------

    def _sinc(self, y: np.ndarray) -> np.ndarray:
        """Return sin x/x of y = x^2."""
        near, far = self._split(y)
        x = self.a.sqrt(far)
        return np.where(near, self._series(y, near, lambda k: 2 * k * (2 * k + 1)), self.a.sin(x) / x)

    def _ball(self, y: np.ndarray) -> np.ndarray:
        """Return 3 (sin x/x - cos x)/x^2 of y = x^2."""
        near, far = self._split(y)
        x = self.a.sqrt(far)
        wide = 3 * (self.a.sin(x) / x - self.a.cos(x)) / far
        return np.where(near, self._series(y, near, lambda k: 2 * k * (2 * k + 3)), wide)

    def _split(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        near = self.a.real(y) < 1.0
        return near, np.where(near, self.a.of(1.0), y)

    def _series(self, y: np.ndarray, near: np.ndarray, divisor: Callable[[int], int]) -> np.ndarray:
        """Return 1 - y/divisor(1) (1 - y/divisor(2) (1 - ...))."""
        small = np.where(near, y, self.a.of(0.0))
        total = self.a.of(np.ones(small.shape))
        for k in range(self.a.terms, 0, -1):
            total = 1 - small / divisor(k) * total
        return total

    def _rotation(self, vector: np.ndarray) -> np.ndarray:
        """Return the rotation by a rotation vector: 1 + sin t/t [v] + (1 - cos t)/t^2 [v]^2."""
        y, (v1, v2, v3), zero = (vector * vector).sum(), vector, self.a.of(0.0)
        skew = np.array([[zero, -v3, v2], [v3, zero, -v1], [-v2, v1, zero]])
        half = self._sinc(y / 4)
        return self.a.of(np.eye(3)) + self._sinc(y) * skew + half * half / 2 * (skew @ skew)

    def _euler(self, angles: np.ndarray) -> np.ndarray:
        """Return the rotation about the fixed x, then y, then z."""
        x, y, z = (self._rotation(angle * self.a.of(axis)) for angle, axis in zip(angles, np.eye(3), strict=True))
        return z @ y @ x

    def _length(self, vectors: np.ndarray) -> np.ndarray:
        return self.a.sqrt((vectors * vectors).sum(axis=-1))

    def _unit(self, vectors: np.ndarray) -> np.ndarray:
        return vectors / np.asarray(self._length(vectors))[..., None]


def _crossed(rows: np.ndarray) -> np.ndarray:
    """Return b x c, c x a, a x b."""
    return np.stack([np.cross(rows[1], rows[2]), np.cross(rows[2], rows[0]), np.cross(rows[0], rows[1])])

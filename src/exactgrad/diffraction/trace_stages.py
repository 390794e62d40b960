"""The stages of `model`, each with its tangent and cotangent maps: what a trace walks.

A stage takes some of the scene's arrays and of what earlier stages made, by name, to one array. Its value is what the
functions of `model` return; `tangent` says how it moves when what it takes moves; `cotangent` takes a loss's
derivative by it to the loss's derivatives by what it takes. Both are the same Jacobian, written once forwards and once
backwards.

N rays are the pixels n at every layer and sub-pixel A, N = A n, pixels varying fastest; S sources, M lattices (phi
steps x domains). Units: metres, radians, electrons, photons.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, ClassVar, Protocol

import numpy as np

from exactgrad.diffraction import model
from exactgrad.diffraction.beam import ELECTRON_RADIUS_SQUARED
from exactgrad.diffraction.crystal import ANGSTROM, Crystal
from exactgrad.diffraction.detector import Detector
from exactgrad.diffraction.losses import Loss, Observed
from exactgrad.diffraction.scene import FACTORS, Scene
from exactgrad.diffraction.structure_factors import StructureFactors, lagrange_weights

Arrays = Mapping[str, np.ndarray]
SERIES = np.array([3.0 * (-1) ** k * 2 * (k + 1) / np.prod(np.arange(1.0, 2 * k + 4)) for k in range(10)])


class StageMap(Protocol):
    """One stage."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def formula(self) -> str:
        """What it does."""

    @property
    def unit(self) -> str:
        """Of its array."""

    @property
    def out(self) -> str:
        """Name of its array."""

    @property
    def takes(self) -> tuple[str, ...]:
        """Names of the arrays that it takes."""

    def value(self, at: Arrays) -> np.ndarray:
        """Return the stage's array."""

    def tangent(self, at: Arrays, d: Arrays) -> np.ndarray:
        """Return how it moves when what it takes moves by `d`."""

    def cotangent(self, at: Arrays, bar: np.ndarray) -> dict[str, np.ndarray]:
        """Return the derivatives by what it takes, given `bar`, that by the stage's array."""


def stages_of(scene: Scene, loss: Loss, observed: Observed) -> tuple[StageMap, ...]:
    """Return the stages from a scene to the loss of its image, in their order."""
    rays = Rays.of(scene.detector)
    return (
        Position(scene, rays),
        Direction(),
        Scattering(scene),
        Miller(),
        Offset(),
        Lattice(scene.crystal),
        Factor(scene.structure_factors),
        Intensity(scene),
        Corrected(scene, rays),
        Photons(scene, rays),
        Total(loss, observed),
    )


def arrays_of(scene: Scene) -> dict[str, np.ndarray]:
    """Return the scene's arrays by the names of `movement.Movement`."""
    crystal, beam, detector, factors = scene.crystal, scene.beam, scene.detector, scene.structure_factors
    found = {
        "lattices": crystal.lattices(),
        "reciprocal": crystal.reciprocal,
        "cells": crystal.cells,
        "origin": detector.origin,
        "fast": detector.fast,
        "slow": detector.slow,
        "normal": detector.normal,
        "layer_m": detector.layer_m,
        "attenuation_per_m": detector.attenuation_per_m,
        "wavelengths_m": beam.wavelengths_m,
        "shares": beam.weights,
        "kahn": 0.0 if beam.kahn is None else beam.kahn,
        "fluence": beam.fluence,
        "water_m": scene.water_m,
        "table": factors.table,
        "default": factors.default,
    }
    return {name: np.asarray(value, dtype=np.float64) for name, value in found.items()}


# -- geometry ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rays:
    """Where the rays are caught: pixels (n,), and of every ray F and S in metres and the layer, (N,)."""

    slow: np.ndarray
    fast: np.ndarray
    samples: tuple[tuple[int, int, int], ...]
    f: np.ndarray
    s: np.ndarray
    layer: np.ndarray

    @classmethod
    def of(cls, detector: Detector) -> Rays:
        """Return the rays of a detector."""
        slow, fast = detector.rendered()
        samples = tuple(model.samples(detector))
        on = [model.on_sensor(detector, slow, fast, sub_slow, sub_fast) for _, sub_slow, sub_fast in samples]
        layer = np.repeat([float(layer) for layer, _, _ in samples], slow.size)
        return cls(slow, fast, samples, np.concatenate([f for f, _ in on]), np.concatenate([s for _, s in on]), layer)


@dataclass(frozen=True)
class Position:
    """Where a ray is caught, shape (N, 3)."""

    scene: Scene
    rays: Rays
    name: ClassVar[str] = "position"
    formula: ClassVar[str] = "x = origin + F fast + S slow + O normal"
    unit: ClassVar[str] = "m"
    out: ClassVar[str] = "x"
    takes: ClassVar[tuple[str, ...]] = ("origin", "fast", "slow", "normal", "layer_m")

    def value(self, at: Arrays) -> np.ndarray:
        """Return x."""
        places = self.rays.slow, self.rays.fast
        return np.concatenate([model.position(self.scene, *places, *sample) for sample in self.rays.samples])

    def tangent(self, at: Arrays, d: Arrays) -> np.ndarray:
        """Return how it moves."""
        rays = self.rays
        depth, d_depth = rays.layer * at["layer_m"], rays.layer * d["layer_m"]
        if not self.scene.detector.curved:
            across = np.outer(rays.f, d["fast"]) + np.outer(rays.s, d["slow"])
            return d["origin"] + across + np.outer(d_depth, at["normal"]) + np.outer(depth, d["normal"])
        origin, fast, slow, normal = (at[name] for name in self.takes[:4])
        a, b, radius = self._arcs(at)
        d_radius = d["origin"] @ normal + origin @ d["normal"]
        d_a = ((d["origin"] @ fast + origin @ d["fast"]) - a * d_radius) / radius
        d_b = ((d["origin"] @ slow + origin @ d["slow"]) - b * d_radius) / radius
        towards = np.outer(np.cos(b), normal) + np.outer(np.sin(b), slow)
        d_towards = np.outer(-np.sin(b) * d_b, normal) + np.outer(np.cos(b) * d_b, slow)
        d_towards += np.outer(np.cos(b), d["normal"]) + np.outer(np.sin(b), d["slow"])
        sin, cos = np.sin(a)[:, None], np.cos(a)[:, None]
        ray = sin * fast + cos * towards
        d_ray = d_a[:, None] * (cos * fast - sin * towards) + sin * d["fast"] + cos * d_towards
        return (d_radius + d_depth)[:, None] * ray + (radius + depth)[:, None] * d_ray

    def cotangent(self, at: Arrays, bar: np.ndarray) -> dict[str, np.ndarray]:
        """Return the derivatives by the detector's vectors and the layers' depth."""
        rays = self.rays
        depth = rays.layer * at["layer_m"]
        if not self.scene.detector.curved:
            by_layer = np.array(rays.layer @ (bar @ at["normal"]))
            along = {"fast": rays.f @ bar, "slow": rays.s @ bar, "normal": depth @ bar}
            return {"origin": bar.sum(axis=0), "layer_m": by_layer, **along}
        origin, fast, slow, normal = (at[name] for name in self.takes[:4])
        a, b, radius = self._arcs(at)
        towards = np.outer(np.cos(b), normal) + np.outer(np.sin(b), slow)
        sin, cos = np.sin(a)[:, None], np.cos(a)[:, None]
        on_depth = (bar * (sin * fast + cos * towards)).sum(axis=1)
        on_ray = (radius + depth)[:, None] * bar
        on_a = (on_ray * (cos * fast - sin * towards)).sum(axis=1)
        on_towards = cos * on_ray
        on_b = on_towards @ slow * np.cos(b) - on_towards @ normal * np.sin(b)
        on_radius = on_depth.sum() - (a @ on_a + b @ on_b) / radius
        along_fast, along_slow = on_a.sum() / radius, on_b.sum() / radius
        return {
            "origin": on_radius * normal + along_fast * fast + along_slow * slow,
            "fast": np.sin(a) @ on_ray + along_fast * origin,
            "slow": np.sin(b) @ on_towards + along_slow * origin,
            "normal": np.cos(b) @ on_towards + on_radius * origin,
            "layer_m": np.array(rays.layer @ on_depth),
        }

    def _arcs(self, at: Arrays) -> tuple[np.ndarray, np.ndarray, float]:
        """Return the angles along fast and along slow, shape (N,), and the radius of a curved detector."""
        radius = self.scene.detector.close_distance_m
        near_f, near_s = self.scene.detector.near_point_m
        return (self.rays.f - near_f) / radius, (self.rays.s - near_s) / radius, radius


@dataclass(frozen=True)
class Direction:
    """Unit vectors from the crystal to where the rays are caught, shape (N, 3)."""

    name: ClassVar[str] = "direction"
    formula: ClassVar[str] = "d = x / |x|"
    unit: ClassVar[str] = ""
    out: ClassVar[str] = "d"
    takes: ClassVar[tuple[str, ...]] = ("x",)

    def value(self, at: Arrays) -> np.ndarray:
        """Return d."""
        return model.direction(at["x"])

    def tangent(self, at: Arrays, d: Arrays) -> np.ndarray:
        """Return how it turns: what is along the ray only lengthens it."""
        return across(at["d"], d["x"]) / model.distance(at["x"])[:, None]

    def cotangent(self, at: Arrays, bar: np.ndarray) -> dict[str, np.ndarray]:
        """Return the derivative by x; the map is symmetric."""
        return {"x": across(at["d"], bar) / model.distance(at["x"])[:, None]}


def across(d: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return what of vectors v, shape (N, 3), is across the unit vectors d."""
    return v - d * (d * v).sum(axis=-1, keepdims=True)


@dataclass(frozen=True)
class Scattering:
    """Scattering vectors, shape (S, N, 3)."""

    scene: Scene
    name: ClassVar[str] = "scattering vector"
    formula: ClassVar[str] = "q = (d - s0) / lambda"
    unit: ClassVar[str] = "1/m"
    out: ClassVar[str] = "q"
    takes: ClassVar[tuple[str, ...]] = ("d", "wavelengths_m")

    def value(self, at: Arrays) -> np.ndarray:
        """Return q."""
        beam = self.scene.beam
        pairs = zip(beam.directions, beam.wavelengths_m, strict=True)
        return np.stack([model.scattering_vector(at["d"], s0, wavelength) for s0, wavelength in pairs])

    def tangent(self, at: Arrays, d: Arrays) -> np.ndarray:
        """Return how it moves."""
        wavelengths, moved = at["wavelengths_m"][:, None, None], d["wavelengths_m"][:, None, None]
        return (d["d"] - at["q"] * moved) / wavelengths

    def cotangent(self, at: Arrays, bar: np.ndarray) -> dict[str, np.ndarray]:
        """Return the derivatives by d and the wavelengths."""
        wavelengths = at["wavelengths_m"]
        on_d = (bar / wavelengths[:, None, None]).sum(axis=0)
        return {"d": on_d, "wavelengths_m": -(bar * at["q"]).sum(axis=(1, 2)) / wavelengths}


# -- crystal ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Miller:
    """Fractional indices, shape (M, S, N, 3)."""

    name: ClassVar[str] = "fractional hkl"
    formula: ClassVar[str] = "h = (a.q, b.q, c.q)"
    unit: ClassVar[str] = ""
    out: ClassVar[str] = "h"
    takes: ClassVar[tuple[str, ...]] = ("q", "lattices")

    def value(self, at: Arrays) -> np.ndarray:
        """Return h."""
        return np.stack([model.miller(lattice, at["q"]) for lattice in at["lattices"]])

    def tangent(self, at: Arrays, d: Arrays) -> np.ndarray:
        """Return how it moves."""
        pairs = zip(at["lattices"], d["lattices"], strict=True)
        return np.stack([model.miller(lattice, d["q"]) + model.miller(moved, at["q"]) for lattice, moved in pairs])

    def cotangent(self, at: Arrays, bar: np.ndarray) -> dict[str, np.ndarray]:
        """Return the derivatives by q and the lattices."""
        on_q = np.einsum("msni,mij->snj", bar, at["lattices"])
        return {"q": on_q, "lattices": np.einsum("msni,snj->mij", bar, at["q"])}


@dataclass(frozen=True)
class Offset:
    """What h lacks from a reflection, shape (M, S, N, 3)."""

    name: ClassVar[str] = "off the reflection"
    formula: ClassVar[str] = "off = h - round(h)"
    unit: ClassVar[str] = ""
    out: ClassVar[str] = "off"
    takes: ClassVar[tuple[str, ...]] = ("h",)

    def value(self, at: Arrays) -> np.ndarray:
        """Return off."""
        return at["h"] - model.nearest(at["h"])

    def tangent(self, at: Arrays, d: Arrays) -> np.ndarray:
        """Return how it moves: as h, the reflection stays."""
        return d["h"]

    def cotangent(self, at: Arrays, bar: np.ndarray) -> dict[str, np.ndarray]:
        """Return the derivative by h."""
        return {"h": bar}


@dataclass(frozen=True)
class Lattice:
    """The lattice factor, shape (M, S, N)."""

    crystal: Crystal
    unit: ClassVar[str] = ""
    name: ClassVar[str] = "lattice factor"
    out: ClassVar[str] = "L"

    @property
    def formula(self) -> str:
        """What the shape makes of `off`."""
        return {
            "square": "L = prod sin(pi N off) / sin(pi off)",
            "round": "L = Na Nb Nc 0.7236 ball(pi^2 fudge |N off|^2)",
            "gauss": "L = Na Nb Nc exp(-fudge r^2 / 0.63)",
            "tophat": "L = Na Nb Nc (fudge r^2 < 0.3969)",
        }[self.crystal.shape]

    @property
    def takes(self) -> tuple[str, ...]:
        """The reciprocal lattice only where the spot is measured in it."""
        return ("off", "cells", "reciprocal") if self._reciprocal else ("off", "cells")

    @property
    def _reciprocal(self) -> bool:
        return self.crystal.shape in ("gauss", "tophat") and self.crystal.metric == "reciprocal"

    def value(self, at: Arrays) -> np.ndarray:
        """Return L."""
        off = at["off"]
        return model.lattice_factor(self.crystal, off.reshape(-1, 3)).reshape(off.shape[:-1])

    def tangent(self, at: Arrays, d: Arrays) -> np.ndarray:
        """Return how it moves."""
        off, d_off = at["off"], d["off"]
        if self.crystal.shape == "square":
            by_off, by_cells = self._gratings(off)
            return (by_off * d_off + by_cells * d["cells"]).sum(axis=-1)
        metric, grown = self._metric(at), (d["cells"] / at["cells"]).sum()
        if self._reciprocal:
            d_metric = metric * grown + at["cells"].prod() * ANGSTROM * d["reciprocal"]
        else:
            d_metric = np.diag(d["cells"])
        d_radius = 2.0 * ((off @ metric) * (d_off @ metric + off @ d_metric)).sum(axis=-1)
        return at["L"] * grown + self._slope(off @ metric) * d_radius

    def cotangent(self, at: Arrays, bar: np.ndarray) -> dict[str, np.ndarray]:
        """Return the derivatives by off, the cells and the reciprocal lattice."""
        off, cells = at["off"], at["cells"]
        if self.crystal.shape == "square":
            by_off, by_cells = self._gratings(off)
            return {"off": bar[..., None] * by_off, "cells": (bar[..., None] * by_cells).sum(axis=(0, 1, 2))}
        metric = self._metric(at)
        reach = off @ metric
        on_reach = 2.0 * (bar * self._slope(reach))[..., None] * reach
        on_metric = np.einsum("msni,msnj->ij", off, on_reach)
        found = {"off": on_reach @ metric.T, "cells": np.vdot(bar, at["L"]) / cells}
        if self._reciprocal:
            found["cells"] = found["cells"] + np.vdot(on_metric, metric) / cells
            found["reciprocal"] = cells.prod() * ANGSTROM * on_metric
        else:
            found["cells"] = found["cells"] + np.diag(on_metric)
        return found

    def _gratings(self, off: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the derivatives of the product of three gratings by off and by the cells, shape (..., 3) each."""
        cells = self.crystal.cells
        one = np.stack([model.grating(off[..., i], n) for i, n in enumerate(cells)])
        others = np.stack([one[1] * one[2], one[2] * one[0], one[0] * one[1]], axis=-1)
        slopes = [grating_slopes(off[..., i], n) for i, n in enumerate(cells)]
        by_off, by_cells = (np.stack([slope[which] for slope in slopes], axis=-1) for which in (0, 1))
        return others * by_off, others * by_cells

    def _metric(self, at: Arrays) -> np.ndarray:
        """Return M, shape (3, 3): the spot's radius is |off M|."""
        if self._reciprocal:
            return at["cells"].prod() * ANGSTROM * at["reciprocal"]
        return np.diag(at["cells"])

    def _slope(self, reach: np.ndarray) -> np.ndarray:
        """Return dL by the squared radius."""
        crystal, radius = self.crystal, (reach**2).sum(axis=-1)
        volume = crystal.cells.prod()
        if crystal.shape == "round":
            per = np.pi**2 * crystal.fudge
            return volume * model.ROUND_NORM * per * sphere_slope(per * radius)
        if crystal.shape == "gauss":
            per = crystal.fudge / model.GAUSS_RADIUS
            return -volume * per * np.exp(-per * radius)
        return np.zeros_like(radius)


def grating_slopes(x: np.ndarray, n: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the derivatives of `model.grating` by x and by n.

    sinc'(x) is -pi j1(pi x), and j1(y) is y/3 times the transform of a ball: nothing cancels at x = 0.

    Examples
    --------
    >>> [slope.round(12).tolist() for slope in grating_slopes(np.array([0.0, 0.25]), 2.0)]
    [[0.0, -4.442882938158], [1.0, 0.0]]
    """
    below, above = np.sinc(x), np.sinc(n * x)
    by_x = n * (n * sinc_slope(n * x) - above * sinc_slope(x) / below) / below
    return by_x, np.cos(np.pi * n * x) / below


def sinc_slope(x: np.ndarray) -> np.ndarray:
    """Return the derivative of sin(pi x)/(pi x)."""
    return -(np.pi**2) / 3.0 * x * model.sphere((np.pi * x) ** 2)


def sphere_slope(y: np.ndarray) -> np.ndarray:
    """Return the derivative of `model.sphere`, 3/2 (sin x/x - sphere)/y with x^2 = y; a series near 0.

    Examples
    --------
    >>> sphere_slope(np.array([0.0, 4.0])).round(9).tolist()
    [-0.1, -0.074417981]
    """
    far = np.where(y < model.SERIES_BELOW, 1.0, y)
    closed = 1.5 * (np.sinc(np.sqrt(far) / np.pi) - model.sphere(far)) / far
    terms = SERIES[1:] * np.arange(1, SERIES.size)
    return np.where(y < model.SERIES_BELOW, np.polynomial.polynomial.polyval(np.minimum(y, 1.0), terms), closed)


@dataclass(frozen=True)
class Factor:
    """The structure factor, shape (M, S, N)."""

    factors: StructureFactors
    name: ClassVar[str] = "structure factor"
    unit: ClassVar[str] = "electrons"
    out: ClassVar[str] = "F"

    @property
    def _cubic(self) -> bool:
        return self.factors.interpolate and self.factors.table.size > 0

    @property
    def formula(self) -> str:
        """Of the nearest reflection, or between reflections."""
        return "F = cubic through the reflections around h" if self._cubic else "F = F(round(h))"

    @property
    def takes(self) -> tuple[str, ...]:
        """The indices only where F is interpolated: elsewhere they move it in steps, which have no derivative."""
        return ("h", "table", "default") if self._cubic else ("table", "default")

    def value(self, at: Arrays) -> np.ndarray:
        """Return F."""
        h = at["h"]
        return self.factors.at(h.reshape(-1, 3)).reshape(h.shape[:-1])

    def tangent(self, at: Arrays, d: Arrays) -> np.ndarray:
        """Return how it moves."""
        h, d_h = at["h"].reshape(-1, 3), d["h"].reshape(-1, 3)
        entries, moved = self._entries(at), self._entries(d)
        total = np.zeros(len(h))
        for rows, place, weight, slope in self._terms(h):
            total[rows] += weight * moved[place]
            if slope is not None:
                total[rows] += (slope * d_h[rows]).sum(axis=-1) * entries[place]
        return total.reshape(at["h"].shape[:-1])

    def cotangent(self, at: Arrays, bar: np.ndarray) -> dict[str, np.ndarray]:
        """Return the derivatives by the table, the default, and h where F is interpolated."""
        h, bar = at["h"].reshape(-1, 3), bar.ravel()
        entries, on_h = self._entries(at), np.zeros((bar.size, 3))
        on_entries = np.zeros(entries.size)
        for rows, place, weight, slope in self._terms(h):
            on_entries += np.bincount(place, weight * bar[rows], entries.size)
            if slope is not None:
                on_h[rows] += slope * (bar[rows] * entries[place])[:, None]
        found = {"table": on_entries[:-1].reshape(at["table"].shape), "default": np.array(on_entries[-1])}
        return {**found, "h": on_h.reshape(at["h"].shape)} if self._cubic else found

    @staticmethod
    def _entries(at: Arrays) -> np.ndarray:
        """Return the table with the default after its last entry."""
        return np.append(at["table"].ravel(), at["default"])

    def _terms(self, h: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, Any, np.ndarray | None]]:
        """Yield rows of h, the entries that F there takes, with which weight, and how the weight moves with h."""
        sides, lowest = np.array(self.factors.table.shape), self.factors.lowest
        cubic = np.zeros(len(h), bool)
        if self._cubic:
            cubic = ((h >= lowest + 2) & (h <= lowest + sides - 3)).all(axis=-1)
        rows = np.flatnonzero(~cubic)
        place = model.nearest(h[rows]).astype(np.int64) - lowest
        yield rows, self._flat(place), 1.0, None
        rows = np.flatnonzero(cubic)
        if rows.size == 0:
            return
        floor = np.floor(h[rows])
        weights, slopes = lagrange_weights(h[rows] - floor), lagrange_slopes(h[rows] - floor)
        first = floor.astype(np.int64) - lowest - 1
        for corner in product(range(4), repeat=3):
            u, v, w = (weights[c, :, axis] for axis, c in enumerate(corner))
            du, dv, dw = (slopes[c, :, axis] for axis, c in enumerate(corner))
            yield rows, self._flat(first + corner), u * v * w, np.stack([du * v * w, u * dv * w, u * v * dw], axis=-1)

    def _flat(self, place: np.ndarray) -> np.ndarray:
        """Return indices into `_entries`."""
        shape = self.factors.table.shape
        inside = np.all((place >= 0) & (place < shape), axis=-1)
        kept = np.where(np.expand_dims(inside, -1), place, 0)
        return np.where(inside, (kept[:, 0] * shape[1] + kept[:, 1]) * shape[2] + kept[:, 2], self.factors.table.size)


def lagrange_slopes(x: np.ndarray) -> np.ndarray:
    """Return the derivatives of `structure_factors.lagrange_weights`, shape (4, ...).

    Examples
    --------
    >>> lagrange_slopes(np.array(0.0)).round(6).tolist()
    [-0.333333, -0.5, 1.0, -0.166667]
    """
    squares = 3.0 * x * x
    return np.stack(
        [
            -(squares - 6 * x + 2) / 6,
            (squares - 4 * x - 1) / 2,
            -(squares - 2 * x - 2) / 2,
            (squares - 1) / 6,
        ]
    )


@dataclass(frozen=True)
class Intensity:
    """What a sample of the lattices scatters, shape (S, N)."""

    scene: Scene
    name: ClassVar[str] = "intensity per sample"
    formula: ClassVar[str] = "I = mean over phi and domains of F^2 L^2, + water"
    unit: ClassVar[str] = "electrons^2"
    out: ClassVar[str] = "I"
    takes: ClassVar[tuple[str, ...]] = ("F", "L", "water_m")

    def value(self, at: Arrays) -> np.ndarray:
        """Return I."""
        return self._seen(at) * ((at["F"] * at["L"]) ** 2).mean(axis=0) + model.water(self.scene)

    def tangent(self, at: Arrays, d: Arrays) -> np.ndarray:
        """Return how it moves."""
        amplitude = at["F"] * at["L"]
        moved = (2.0 * amplitude * (d["F"] * at["L"] + at["F"] * d["L"])).mean(axis=0)
        return self._seen(at) * moved + self._water_slope() * d["water_m"]

    def cotangent(self, at: Arrays, bar: np.ndarray) -> dict[str, np.ndarray]:
        """Return the derivatives by F, L and the water's side."""
        lattices = len(at["F"])
        on_amplitude = 2.0 / lattices * (bar * self._seen(at)) * at["F"] * at["L"]
        on_water = np.array(self._water_slope() * bar.sum())
        return {"F": on_amplitude * at["L"], "L": on_amplitude * at["F"], "water_m": on_water}

    def _seen(self, at: Arrays) -> np.ndarray:
        return model.seen(self.scene, at["q"])

    def _water_slope(self) -> float:
        return 3.0 * model.WATER_F**2 * model.WATER_PER_M3 * self.scene.water_m**2


# -- detector ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corrected:
    """What the detector makes of it, shape (S, N)."""

    scene: Scene
    rays: Rays
    name: ClassVar[str] = "corrected"
    formula: ClassVar[str] = "I solid angle(x) polarization(x) capture(x)"
    unit: ClassVar[str] = "electrons^2 sr"
    out: ClassVar[str] = "y"
    takes: ClassVar[tuple[str, ...]] = ("I", "x", "normal", "kahn", "layer_m", "attenuation_per_m")

    def value(self, at: Arrays) -> np.ndarray:
        """Return I times the corrections."""
        return at["I"] * self._product(at)

    def tangent(self, at: Arrays, d: Arrays) -> np.ndarray:
        """Return how it moves."""
        solid, polar, share = self._factors
        d_ray = across(at["d"], d["x"]) / model.distance(at["x"])[:, None]
        d_cosine = np.zeros(len(d_ray))
        if not self.scene.detector.curved:
            d_cosine = d_ray @ at["normal"] + at["d"] @ d["normal"]
        d_solid = (self._by_x * d["x"]).sum(axis=-1) + self._by_cosine * d_cosine
        d_path = (d["attenuation_per_m"] * at["layer_m"] + at["attenuation_per_m"] * d["layer_m"]) / self._cosine
        d_share = self._by_path * (d_path - self._path * d_cosine / self._cosine)
        by_d, by_kahn = self._polar_slopes
        d_polar = (by_d * d_ray).sum(axis=-1) + by_kahn * d["kahn"]
        moved = d_solid * polar * share + solid * d_polar * share + solid * polar * d_share
        return d["I"] * self._product(at) + at["I"] * moved

    def cotangent(self, at: Arrays, bar: np.ndarray) -> dict[str, np.ndarray]:
        """Return the derivatives by I, x, the normal, Kahn's factor and the sensor."""
        solid, polar, share = self._factors
        weight = bar * at["I"]
        on_solid, on_share = (weight * polar * share).sum(axis=0), (weight * polar * solid).sum(axis=0)
        on_polar = weight * solid * share
        by_d, by_kahn = self._polar_slopes
        on_path = on_share * self._by_path
        on_cosine = on_solid * self._by_cosine - on_path * self._path / self._cosine
        on_ray = np.einsum("sn,snj->nj", on_polar, by_d)
        on_normal = np.zeros(3)
        if not self.scene.detector.curved:
            on_ray, on_normal = on_ray + on_cosine[:, None] * at["normal"], on_cosine @ at["d"]
        on_x = on_solid[:, None] * self._by_x + across(at["d"], on_ray) / model.distance(at["x"])[:, None]
        along = (on_path / self._cosine).sum()
        return {
            "I": bar * self._product(at),
            "x": on_x,
            "normal": on_normal,
            "kahn": np.array((on_polar * by_kahn).sum()),
            "layer_m": np.array(along * at["attenuation_per_m"]),
            "attenuation_per_m": np.array(along * at["layer_m"]),
        }

    def _product(self, at: Arrays) -> np.ndarray:
        layer, sources = self.rays.layer, range(self.scene.beam.sources)
        return np.stack([model.corrections(self.scene, FACTORS, at["x"], layer, source) for source in sources])

    @cached_property
    def _x(self) -> np.ndarray:
        return Position(self.scene, self.rays).value({})

    @cached_property
    def _cosine(self) -> np.ndarray:
        return model.incidence(self.scene, self._x)

    @cached_property
    def _factors(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return solid angle (N,), polarization (S, N), capture (N,)."""
        d, sources = model.direction(self._x), range(self.scene.beam.sources)
        polar = np.stack([model.polarization(self.scene, d, source) for source in sources])
        share = model.capture(self.scene, self._cosine, self.rays.layer)
        return model.solid_angle(self.scene, self._x), polar, share

    @cached_property
    def _by_x(self) -> np.ndarray:
        """Return the solid angle's derivative by x at a fixed cosine, shape (N, 3): it falls as 1/R^2."""
        return -2.0 * self._factors[0][:, None] * self._x / (self._x**2).sum(axis=-1, keepdims=True)

    @cached_property
    def _by_cosine(self) -> np.ndarray:
        """Return the solid angle's derivative by the cosine of incidence, shape (N,)."""
        if self.scene.detector.point_pixel:
            return np.zeros(len(self._x))
        return self._factors[0] / self._cosine

    @cached_property
    def _path(self) -> np.ndarray:
        """Return the absorption in a layer, u = mu dt/cos, shape (N,)."""
        detector = self.scene.detector
        return detector.attenuation_per_m * detector.layer_m / self._cosine

    @cached_property
    def _by_path(self) -> np.ndarray:
        """Return the derivative by u of what a layer captures, exp(-t u) - exp(-(t + 1) u), shape (N,)."""
        if self.scene.detector.thickness_m == 0:
            return np.zeros(len(self._x))
        u, layer = self._path, self.rays.layer
        return np.exp(-layer * u) * ((layer + 1.0) * np.exp(-u) - layer)

    @cached_property
    def _polar_slopes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the polarization's derivatives by d, shape (S, N, 3), and by Kahn's factor, (S, N)."""
        beam, d = self.scene.beam, model.direction(self._x)
        if beam.kahn is None:
            return np.zeros((beam.sources, *d.shape)), np.zeros((beam.sources, len(d)))
        e, b = beam.field_axes
        along, on_e, on_b = beam.directions @ d.T, e @ d.T, b @ d.T
        by_d = along[..., None] * beam.directions[:, None]
        by_d = by_d - beam.kahn * (on_e[..., None] * e[:, None] - on_b[..., None] * b[:, None])
        return by_d, -0.5 * (on_e**2 - on_b**2)


@dataclass(frozen=True)
class Photons:
    """The expected photons, shape (slow, fast)."""

    scene: Scene
    rays: Rays
    name: ClassVar[str] = "photons"
    formula: ClassVar[str] = "r_e^2 fluence mean over sub-pixels, sources (shares), sum over layers"
    unit: ClassVar[str] = "photons"
    out: ClassVar[str] = "photons"
    takes: ClassVar[tuple[str, ...]] = ("y", "fluence", "shares")

    def value(self, at: Arrays) -> np.ndarray:
        """Return the image."""
        return self._image(ELECTRON_RADIUS_SQUARED * at["fluence"] * (at["shares"] @ at["y"]))

    def tangent(self, at: Arrays, d: Arrays) -> np.ndarray:
        """Return how it moves."""
        moved = at["fluence"] * (d["shares"] @ at["y"] + at["shares"] @ d["y"]) + d["fluence"] * (
            at["shares"] @ at["y"]
        )
        return self._image(ELECTRON_RADIUS_SQUARED * moved)

    def cotangent(self, at: Arrays, bar: np.ndarray) -> dict[str, np.ndarray]:
        """Return the derivatives by the samples, the fluence and the sources' shares."""
        detector = self.scene.detector
        per_ray = np.tile(detector.picked(bar), len(self.rays.samples)) / detector.oversample**2
        scaled = ELECTRON_RADIUS_SQUARED * per_ray
        return {
            "y": at["fluence"] * at["shares"][:, None] * scaled,
            "fluence": np.array(at["shares"] @ at["y"] @ scaled),
            "shares": at["fluence"] * (at["y"] @ scaled),
        }

    def _image(self, rays: np.ndarray) -> np.ndarray:
        """Return an image of rays, shape (N,)."""
        detector = self.scene.detector
        sums = rays.reshape(len(self.rays.samples), -1).sum(axis=0)
        return detector.laid_out(sums / detector.oversample**2)


@dataclass(frozen=True)
class Total:
    """The loss, a number."""

    loss: Loss
    observed: Observed
    name: ClassVar[str] = "loss"
    formula: ClassVar[str] = "-log P(recorded photons | expected photons), summed"
    unit: ClassVar[str] = ""
    out: ClassVar[str] = "loss"
    takes: ClassVar[tuple[str, ...]] = ("photons",)

    def value(self, at: Arrays) -> np.ndarray:
        """Return the loss."""
        return np.array(self.loss.at(at["photons"], self.observed).total)

    def tangent(self, at: Arrays, d: Arrays) -> np.ndarray:
        """Return how it moves."""
        return np.array(np.vdot(self._slope(at), d["photons"]))

    def cotangent(self, at: Arrays, bar: np.ndarray) -> dict[str, np.ndarray]:
        """Return the derivative by the photons."""
        return {"photons": bar * self._slope(at)}

    def _slope(self, at: Arrays) -> np.ndarray:
        return self.loss.at(at["photons"], self.observed).derivative

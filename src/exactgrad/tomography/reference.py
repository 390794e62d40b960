"""The cost once more, from the stated numbers, in complex numbers: what exact derivatives are judged by.

Nothing here is shared with the kernel, the equation sheet or the costs: rays, shares, models and priors are written
anew, densely, voxel by pixel. A derivative is the imaginary part of a cost whose argument moved by 1e-30 i, exact to
the rounding of doubles: no step that could be too large or too small (Squire & Trapp 1998).

Source: the seed note with the audit's corrections; the table at the top of `model` says what is computed.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from exactgrad.tomography.problem import TomographyProblem

STEP = 1e-30
_HALF = ((-0.9061798459386640, 0.2369268850561891), (-0.5384693101056831, 0.4786286704993665))
ARC = (*_HALF, (0.0, 128 / 225), *((-node, weight) for node, weight in _HALF))  # Gauss-Legendre, five points
LEGENDRE = ((1,), (-1 / 2, 3 / 2), (3 / 8, -30 / 8, 35 / 8), (-5 / 16, 105 / 16, -315 / 16, 231 / 16))  # P0, P2, P4, P6
Numbers = dict[str, np.ndarray]


def slope(function: Any, value: np.ndarray, direction: np.ndarray) -> float:
    """Return the derivative of a function of complex numbers at `value` along `direction`.

    Examples
    --------
    >>> slope(lambda x: np.exp(x).sum(), np.zeros(2), np.array([1.0, 2.0]))
    3.0
    """
    return float(np.imag(function(value + 1j * STEP * direction)) / STEP)


class Reference:
    """The cost of a problem, of real or complex numbers.

    Attributes
    ----------
    problem : TomographyProblem

    Examples
    --------
    >>> from exactgrad.tomography.configurations import small_problem
    >>> problem = small_problem()
    >>> x = problem.start(0)
    >>> bool(abs(Reference(problem).loss(x) - problem.value_and_gradient(x)[0]) < 1e-11)
    True
    """

    def __init__(self, problem: TomographyProblem):
        self.problem = problem

    @cached_property
    def _shares(self) -> list[np.ndarray]:
        """The shares of each projection at the offsets as they are."""
        g = self.problem.geometry
        return [self._seen(n, g.j_offset[n], g.k_offset[n]) for n in range(g.projections)]

    def _seen(self, n: int, j_offset: Any, k_offset: Any) -> np.ndarray:
        return shares(self.problem.geometry, n, j_offset, k_offset)[:, self.problem.mask.ravel()]

    def loss(self, x: np.ndarray) -> Any:
        """Return cost + regularisation at a solver's vector x."""
        scaled = self.numbers(x)
        units = {field.name: self.problem.scale**field.scaling for field in self.problem.model.fields}
        in_units = {name: units[name] * value for name, value in scaled.items()}
        return self.cost(in_units) + self.penalty(scaled)

    def numbers(self, x: np.ndarray) -> Numbers:
        """Return each field of the active voxels, (V,) or (V, components), in the solver's units; axes are unit."""
        problem = self.problem
        found, first = {}, 0
        for field in problem.model.fields:
            if field not in problem.free:
                held = problem.fields(np.real(x))[field.name]
                found[field.name] = held[problem.mask] / problem.scale**field.scaling
                continue
            count = field.components * problem.voxels
            part = x[first : first + count].reshape(field.components, problem.voxels).T
            first += count
            if field.direction:
                part = part / np.sqrt(np.sum(part * part, axis=1, keepdims=True))
            found[field.name] = part[:, 0] if field.components == 1 else part
        return found

    def cost(self, fields: Numbers, **moved: np.ndarray) -> Any:
        """Return the cost of fields in the data's units.

        Parameters
        ----------
        fields : dict
            As `numbers` gives them, in the data's units.
        **moved
            ``j_offset``, ``k_offset``, shape (n,), or ``transmission``, shape (n, J, K), in place of the data's.
        """
        total: Any = 0.0
        for n, (measured, weight) in enumerate(self._measured):
            through = moved.get("transmission", self.problem.data.transmission)
            modelled = self.image(fields, n, moved)
            if through is not None:
                modelled = modelled * through[n].reshape(-1, 1)
            total = total + apart(self.problem.cost, modelled, measured, weight)
        return total

    @cached_property
    def _measured(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Intensity and weight of each projection, shape (J K, S)."""
        data, found = self.problem.data, []
        for n in range(self.problem.geometry.projections):
            intensity = np.array(data.data[n], dtype=float)
            weight = np.broadcast_to(1.0 if data.weights is None else data.weights[n], intensity.shape).copy()
            weight[~np.isfinite(intensity)], intensity[~np.isfinite(intensity)] = 0.0, 0.0
            found.append((intensity.reshape(-1, weight.shape[-1]), weight.reshape(-1, weight.shape[-1])))
        return found

    def image(self, fields: Numbers, n: int, moved: Numbers) -> np.ndarray:
        """Return the modelled image of projection n before absorption, shape (J K, S)."""
        g = self.problem.geometry
        density = sum(weight * scattering(self.problem.model.name, fields, q) for weight, q in probed(g, n))
        if not {"j_offset", "k_offset"} & set(moved):
            return self._shares[n] @ density
        return self._seen(n, *(moved.get(name, getattr(g, name))[n] for name in ("j_offset", "k_offset"))) @ density

    def penalty(self, fields: Numbers) -> Any:
        """Return the regularisation of the free fields, in the solver's units: pair by pair over the whole volume."""
        problem, total = self.problem, 0.0
        light = np.ones(problem.mask.shape)
        if problem.regularisation.light is not None:
            light[problem.mask] = problem.regularisation.light
        for field in problem.free:
            if not problem.regularisation.acts_on(field.name):
                continue
            smooth, delta, ridge, positive = problem.regularisation.terms(field.name)
            f = fields[field.name].reshape(problem.voxels, -1)
            total = total + ridge / 2 * np.sum(f * f) + positive / 2 * np.sum(np.where(np.real(f) < 0, f, 0) ** 2)
            volume = np.zeros((*problem.mask.shape, f.shape[1]), dtype=f.dtype)
            volume[problem.mask] = f
            for axis in range(3):
                here = [slice(None)] * 3
                there = list(here)
                here[axis], there[axis] = slice(None, -1), slice(1, None)
                a, b = volume[tuple(here)], volume[tuple(there)]
                both = problem.mask[tuple(here)] & problem.mask[tuple(there)]
                s = 1 - np.sum(a * b, axis=-1) ** 2 if field.direction else np.sum((a - b) ** 2, axis=-1)
                rho = s / 2 if np.isinf(delta) else delta**2 * (np.sqrt(1 + s / delta**2) - 1)
                one, other = light[tuple(here)], light[tuple(there)]
                counts = np.minimum(np.minimum(one, other), 1.0) * np.minimum(one / other, other / one)
                total = total + smooth * np.sum((counts * rho)[both])
        return total


def axes(theta_op: np.ndarray, phi_op: np.ndarray) -> np.ndarray:
    """Return the axes, shape (V, 3), of the note's angles, rad."""
    across = np.sin(theta_op)
    return np.stack((across * np.cos(phi_op), across * np.sin(phi_op), np.cos(theta_op)), axis=-1)


def probed(g: Any, n: int) -> list[tuple[float, np.ndarray]]:
    """Return weights and unit scattering vectors in the sample, shape (S, 3), of the points of each segment."""
    azimuth, back = g.detector_angles, g.rotation[n].T

    def q(angle: np.ndarray) -> np.ndarray:
        d0, d90 = g.detector_direction_origin, g.detector_direction_positive_90
        flat = np.cos(angle)[:, None] * d0 + np.sin(angle)[:, None] * d90
        return (np.cos(g.two_theta / 2) * flat - np.sin(g.two_theta / 2) * g.p_direction_0) @ back.T

    if g.integration == "midpoint":
        return [(1.0, q(azimuth))]
    low, high = g.segment_edges().T
    return [(weight / 2, q(low + (high - low) * (1 + node) / 2)) for node, weight in ARC]


def scattering(model: str, fields: Numbers, q: np.ndarray) -> np.ndarray:
    """Return what each voxel scatters along unit vectors q, shape (V, S)."""
    if model == "tensor":
        xx, yy, zz, yz, xz, xy = fields["T"].T
        matrix = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        return np.einsum("si,ijv,sj->vs", q, matrix, q)
    c2 = (fields["axis"] @ q.T) ** 2
    if model == "zonal":
        terms = [sum(p * c2**power for power, p in enumerate(legendre)) for legendre in LEGENDRE]
        return sum(fields["a"][:, i, None] * terms[i] for i in range(fields["a"].shape[1])) ** 2
    return fields["A"][:, None] ** 2 * np.exp(-fields["B"][:, None] * (1 - c2))


def shares(g: Any, n: int, j_offset: Any, k_offset: Any) -> np.ndarray:
    """Return Joseph's shares as a dense matrix, shape (J K, X Y Z): hats around where a ray meets a voxel's slice."""
    p, j, k = (np.asarray(v) @ g.rotation[n] for v in (g.p_direction_0, g.j_direction_0, g.k_direction_0))
    at = np.indices(g.projection_shape).reshape(2, -1)
    along_j, along_k = (
        at[i] + 0.5 - g.projection_shape[i] / 2 + offset for i, offset in enumerate((j_offset, k_offset))
    )
    start = along_j[:, None] * j + along_k[:, None] * k
    centre = np.indices(g.volume_shape).reshape(3, -1).T - (np.array(g.volume_shape) - 1) / 2
    d = int(np.argmax(np.abs(p)))
    reach = (centre[:, d] - start[:, d, None]) / p[d]
    total = 1 / abs(p[d])
    for axis in {0, 1, 2} - {d}:
        beside = start[:, axis, None] + reach * p[axis] - centre[:, axis]
        near = np.abs(np.real(beside)) < 1
        total = total * np.where(near, 1 - np.sign(np.real(beside)) * beside, 0.0)
    return total


def apart(cost: Any, modelled: np.ndarray, measured: np.ndarray, weight: np.ndarray) -> Any:
    """Return the summed cost of modelled and measured intensities."""
    kind = type(cost).__name__
    if kind == "Gaussian":
        return np.sum(weight * (modelled - measured) ** 2) / 2
    mean, counts = modelled + cost.e0, np.maximum(measured + cost.e0, 0.0)
    if kind == "SquareRoot":
        return 2 * np.sum(weight * (np.sqrt(mean) - np.sqrt(counts)) ** 2)
    safe = np.where(counts > 0, counts, 1.0)
    return np.sum(weight * (mean - counts - counts * np.log(np.where(counts > 0, mean, 1.0) / safe)))

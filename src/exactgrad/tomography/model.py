"""The tomography equations stage by stage: the specification that the fused kernel is held to.

Each stage is a function with its tangent and its cotangent beside it, on whole arrays of V voxels and S segments:

==== ============== ============================================================================================
1    axis           u = m/|m|, `sphere.UnitVectors`                 of the solver's vectors, or of two angles
2    cosines        c = cos(Theta) = u . q_s                        q_s: unit scattering vectors in the sample
3    density        f = A^2 exp(-B (1 - c^2))
4    projection     P f: Joseph's rule, one bilinear sample per slice along the dominant axis, times 1/max|p_i|
5    transmission   I^ = T P f
6    cost           2 sum w (sqrt(I^ + e0) - sqrt(I + e0))^2, Poisson or Gaussian, `costs.py`
==== ============== ============================================================================================

Units: lengths in voxel edges, intensities in the data's unit, angles in radians. Sources: the seed note with the
audit's corrections (its R_exp, its inverse, the argument of its back projection and its sin^2 are wrong; its four final
prefactors are right); Joseph 1982.

Written to be read; nobody runs it for speed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from exactgrad.tomography.geometry import Geometry
    from exactgrad.tomography.problem import TomographyProblem

# Stage 2: cosines -------------------------------------------------------------------------------------------------


def cosines(u: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return c, shape (V, S), of axes u, shape (V, 3), and unit scattering vectors q, shape (S, 3)."""
    return u @ q.T


def cosines_tangent(du: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return dc for changes du of the axes."""
    return du @ q.T


def cosines_cotangent(g: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return the gradient by u, shape (V, 3), of the gradient g by c."""
    return g @ q


# Stage 3: density -------------------------------------------------------------------------------------------------


def density(A: np.ndarray, B: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Return A^2 exp(-B sin^2(Theta)), shape (V, S), of A and B, shape (V,)."""
    return (A * A)[:, None] * np.exp(B[:, None] * (c * c - 1.0))


def density_tangent(
    A: np.ndarray, B: np.ndarray, c: np.ndarray, dA: np.ndarray, dB: np.ndarray, dc: np.ndarray
) -> np.ndarray:
    """Return the change of the density."""
    e = np.exp(B[:, None] * (c * c - 1.0))
    growth = dB[:, None] * (c * c - 1.0) + 2.0 * B[:, None] * c * dc
    return e * (2.0 * (A * dA)[:, None] + (A * A)[:, None] * growth)


def density_cotangent(
    A: np.ndarray, B: np.ndarray, c: np.ndarray, g: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the gradients by A, B, shape (V,), and c, shape (V, S), of the gradient g by the density."""
    t = g * np.exp(B[:, None] * (c * c - 1.0))
    by_c = 2.0 * (A * A * B)[:, None] * t * c
    return 2.0 * A * t.sum(axis=1), A * A * np.sum(t * (c * c - 1.0), axis=1), by_c


# Stage 4: projection ----------------------------------------------------------------------------------------------


def joseph_matrix(geometry: Geometry, n: int) -> Any:
    """Return the projector of projection n as a sparse matrix, shape (J K, X Y Z): Joseph's rule, ray by ray.

    Each ray is cut with every plane of voxel centres normal to the dominant component of p; there it takes its four
    neighbours' bilinear shares, times its length between two planes. What lies outside the volume is zero.
    """
    return _sparse(geometry, n, lambda *sample: sample[0] * sample[1])


def joseph_matrix_tangent(geometry: Geometry, n: int, dj: float, dk: float) -> Any:
    """Return the change of `joseph_matrix` when the offsets change: exact where no ray meets a voxel centre."""
    p, j, k = (v[n] for v in geometry.directions())
    moved = dj * j + dk * k
    moved = moved - moved[np.argmax(np.abs(p))] / p[np.argmax(np.abs(p))] * p  # along the planes

    def change(part_a: np.ndarray, part_b: np.ndarray, up_a: int, up_b: int, a: int, b: int) -> np.ndarray:
        return (2 * up_a - 1) * moved[a] * part_b + (2 * up_b - 1) * moved[b] * part_a

    return _sparse(geometry, n, change)


def _sparse(geometry: Geometry, n: int, entry: Callable[..., np.ndarray]) -> Any:
    """Return the matrix whose entries are `entry`'s, over |p_d|, of the shares along both axes of a plane."""
    from scipy.sparse import coo_array

    p, j, k = (v[n] for v in geometry.directions())
    count_j, count_k = geometry.projection_shape
    place_j = np.arange(count_j) + 0.5 - count_j / 2 + geometry.j_offset[n]
    place_k = np.arange(count_k) + 0.5 - count_k / 2 + geometry.k_offset[n]
    start = (place_j[:, None, None] * j + place_k[:, None] * k).reshape(-1, 1, 3)
    volume = np.array(geometry.volume_shape)
    d = int(np.argmax(np.abs(p)))
    a, b = (axis for axis in range(3) if axis != d)
    plane = np.arange(volume[d]) - (volume[d] - 1) / 2
    at = start + ((plane - start[..., d]) / p[d])[..., None] * p + (volume - 1) / 2  # rays, planes, index space
    low_a, low_b = np.floor(at[..., a]).astype(int), np.floor(at[..., b]).astype(int)
    share_a, share_b = at[..., a] - low_a, at[..., b] - low_b
    pixels, planes = np.broadcast_arrays(np.arange(len(start))[:, None], np.arange(volume[d]))
    entries, lines, voxels = [], [], []
    for up_a, part_a in ((0, 1 - share_a), (1, share_a)):
        for up_b, part_b in ((0, 1 - share_b), (1, share_b)):
            index = np.empty((*low_a.shape, 3), dtype=int)
            index[..., d], index[..., a], index[..., b] = planes, low_a + up_a, low_b + up_b
            there = ((index >= 0) & (index < volume)).all(axis=-1)
            lines.append(pixels[there])
            voxels.append(np.ravel_multi_index(tuple(index[there].T), geometry.volume_shape))
            entries.append(entry(part_a, part_b, up_a, up_b, a, b)[there] / abs(p[d]))
    shape = (len(start), int(volume.prod()))
    return coo_array((np.concatenate(entries), (np.concatenate(lines), np.concatenate(voxels))), shape=shape).tocsr()


def project(matrix: Any, f: np.ndarray) -> np.ndarray:
    """Return P f, shape (J K, S), of the density f of all voxels, shape (X Y Z, S); linear, so its own tangent."""
    return matrix @ f


def project_cotangent(matrix: Any, g: np.ndarray) -> np.ndarray:
    """Return P^T g, shape (X Y Z, S)."""
    return matrix.T @ g


# Stage 5: transmission --------------------------------------------------------------------------------------------


def transmit(image: np.ndarray, transmission: np.ndarray) -> np.ndarray:
    """Return I^ = T P f, shape (J K, S); linear, so its own tangent, and its own cotangent."""
    return transmission[:, None] * image


@dataclass(frozen=True)
class Stages:
    """The equation sheet as data: a planted bug is one stage replaced."""

    cosines: Callable = cosines
    cosines_cotangent: Callable = cosines_cotangent
    density: Callable = density
    density_cotangent: Callable = density_cotangent
    joseph_matrix: Callable = joseph_matrix
    project: Callable = project
    project_cotangent: Callable = project_cotangent
    transmit: Callable = transmit
    transmit_cotangent: Callable = transmit


EQUATIONS = Stages()


def forward(problem: TomographyProblem, rows: np.ndarray, n: int, stages: Stages = EQUATIONS) -> np.ndarray:
    """Return I^ of projection n, shape (J K, S), of the active voxels' rows A, B, ux, uy, uz."""
    points, share = problem.geometry.probed()
    matrix = stages.joseph_matrix(problem.geometry, n)[:, problem.mask.ravel()]
    f = sum(
        weight * stages.density(rows[:, 0], rows[:, 1], stages.cosines(rows[:, 2:], q))
        for weight, q in zip(share, points[n], strict=True)
    )
    _, _, through = problem.data.projection(n)
    return stages.transmit(stages.project(matrix, f), through.ravel())


def value_and_gradient_by_rows(
    problem: TomographyProblem, rows: np.ndarray, stages: Stages = EQUATIONS
) -> tuple[float, np.ndarray]:
    """Return the cost and its gradient by the rows A, B, ux, uy, uz of the active voxels, shape (V, 5)."""
    points, share = problem.geometry.probed()
    value, gradient = 0.0, np.zeros_like(rows)
    for n in range(problem.geometry.projections):
        intensity, weight, through = problem.data.projection(n)
        modelled = forward(problem, rows, n, stages)
        flat = modelled.shape
        part, slope = problem.cost.value_and_slope(modelled, intensity.reshape(flat), weight.reshape(flat))
        value += part
        matrix = stages.joseph_matrix(problem.geometry, n)[:, problem.mask.ravel()]
        g = stages.project_cotangent(matrix, stages.transmit_cotangent(slope, through.ravel()))
        for w, q in zip(share, points[n], strict=True):
            c = stages.cosines(rows[:, 2:], q)
            by_a, by_b, by_c = stages.density_cotangent(rows[:, 0], rows[:, 1], c, w * g)
            gradient += np.column_stack((by_a, by_b, stages.cosines_cotangent(by_c, q)))
    return value, gradient


def value_and_gradient(
    problem: TomographyProblem, x: np.ndarray, stages: Stages = EQUATIONS
) -> tuple[float, np.ndarray]:
    """Return the cost before penalties and its gradient by x: what `TomographyProblem` computes with its kernel."""
    value, gradient = value_and_gradient_by_rows(problem, problem.rows(x), stages)
    return value, problem.pull_rows(x, gradient)


def kernel_error(problem: TomographyProblem, x: np.ndarray, stages: Stages = EQUATIONS) -> tuple[float, str]:
    """Return the largest distance between the problem's kernel and the equation sheet, relative, and where it is."""
    value, gradient = problem.value_and_gradient(x)
    expected_value, expected = value_and_gradient(problem, x, stages)
    apart = np.abs(gradient - expected)
    error = float(apart.max() / (max(np.abs(expected).max(), np.abs(gradient).max()) or 1.0))
    off = abs(value - expected_value) / max(abs(expected_value), abs(value), 1e-300)
    if not off <= error:
        return off, "value"
    return error, problem.parameters(x).labels()[int(np.argmax(apart))]

"""Are the shared rotations exact? Against the matrix exponential, its Frechet derivative and SciPy's own conventions.

The references share nothing with `rotations/`: SciPy's expm is a scaled Pade approximant of the matrix [t]x.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from exactgrad.core.verify import Check, judge, plant
from exactgrad.rotations import euler, logarithm, maps, quaternions

TOLERANCE = 1e-12
ANCHORS = ((0.0, 0.0, 0.0), (1e-300, 0.0, 0.0), (1e-9, -1e-9, 1e-9), (np.pi, 0.0, 0.0), (0.0, 2 * np.pi, 0.0))
SCIPY = {"intrinsic-ZYZ": "ZYZ", "intrinsic-ZYX": "ZYX", "extrinsic-XYZ": "xyz"}
Map = Callable[[np.ndarray], np.ndarray]


def checks(cases: int, seed: int) -> list[Check]:
    """Return the checks of `cases` random rotation vectors and of the singular ones, planted bugs included."""
    rng = np.random.default_rng(seed)
    lengths = 10.0 ** rng.uniform(-9, 1.1, cases)
    random = rng.normal(size=(cases, 3))
    t = np.vstack([np.array(ANCHORS), random / np.linalg.norm(random, axis=1, keepdims=True) * lengths[:, None]])
    e, m = rng.normal(size=t.shape), rng.normal(size=t.shape)
    angles = rng.uniform(-np.pi, np.pi, (cases, 3))
    return [
        compared("exp", "expm of [t]x", t, maps.exp, _expm),
        compared(
            "left Jacobian", "integral of exp(s [t]x), by expm of a block matrix", t, maps.left_jacobian, _integral
        ),
        compared("derivative of exp along e", "Frechet derivative of expm", t, lambda t: maps.dexp(t, e), _frechet(e)),
        compared("J^T m", "J transposed", t, lambda t: maps.left_jacobian_transpose_apply(t, m), _transposed(m)),
        compared("J^-1 J", "identity", t[_invertible(t)], _round_trip, lambda t: np.tile(np.eye(3), (len(t), 1, 1))),
        compared("log(exp)", "the vector itself, below a half turn", t[_short(t)], _there_and_back, lambda t: t),
        compared(
            "quaternion", "expm of [t]x", t, lambda t: quaternions.to_matrix(quaternions.from_rotation_vector(t)), _expm
        ),
        *(
            compared(name, f"SciPy's {other!r}", angles, partial(euler.to_matrix, convention=name), _scipy(other))
            for name, other in SCIPY.items()
        ),
        *planted(t, e),
    ]


def compared(name: str, reference: str, t: np.ndarray, found: Map, wanted: Map) -> Check:
    """Return the check of two maps of rotation vectors; errors relative to the largest entry, or to one."""
    expected, got = wanted(t), found(t)
    axes = tuple(range(1, expected.ndim))
    error = np.abs(got - expected).max(axis=axes) / np.maximum(1.0, np.abs(expected).max(axis=axes))
    worst = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
    return judge(name, reference, error.max(), TOLERANCE, where=f"t = {np.round(t[worst], 6).tolist()}")


def planted(t: np.ndarray, e: np.ndarray) -> list[Check]:
    """Return the rows of bugs that the checks above must catch."""

    def first_order(t: np.ndarray) -> np.ndarray:
        return maps.skew(e) @ maps.exp(t)

    bugs: list[tuple[str, Map, Map]] = [
        ("exp transposed", lambda t: maps.exp(-t), _expm),
        ("right Jacobian for the left one", lambda t: maps.left_jacobian(-t), _integral),
        ("derivative to first order: [e]x R", first_order, _frechet(e)),
        (
            "J without its third term",
            lambda t: np.eye(3) + maps.even_coefficients((t * t).sum(-1))[1][:, None, None] * maps.skew(t),
            _integral,
        ),
        ("extrinsic for intrinsic", lambda t: euler.to_matrix(t, "extrinsic-XYZ"), _scipy("XYZ")),
    ]
    return [plant(name, compared(name, "as above", t, found, wanted)) for name, found, wanted in bugs]


def _expm(t: np.ndarray) -> np.ndarray:
    from scipy.linalg import expm

    return expm(maps.skew(t))


def _integral(t: np.ndarray) -> np.ndarray:
    from scipy.linalg import expm

    block = np.zeros((len(t), 6, 6))
    block[:, :3, :3], block[:, :3, 3:] = maps.skew(t), np.eye(3)
    return expm(block)[:, :3, 3:]


def _frechet(e: np.ndarray) -> Map:
    from scipy.linalg import expm_frechet

    def along(t: np.ndarray) -> np.ndarray:
        pairs = zip(maps.skew(t), maps.skew(e), strict=True)
        return np.array([expm_frechet(a, b, compute_expm=False) for a, b in pairs])

    return along


def _transposed(m: np.ndarray) -> Map:
    return lambda t: (maps.left_jacobian(t).transpose(0, 2, 1) @ m[..., None])[..., 0]


def _scipy(convention: str) -> Map:
    from scipy.spatial.transform import Rotation

    return lambda angles: Rotation.from_euler(convention, angles).as_matrix()


def _invertible(t: np.ndarray) -> Any:
    return np.linalg.norm(t, axis=1) < 6.0  # of 2 pi, where J has no inverse


def _short(t: np.ndarray) -> Any:
    return np.linalg.norm(t, axis=1) < 3.0  # of pi, where both signs are one rotation


def _round_trip(t: np.ndarray) -> np.ndarray:
    return maps.left_jacobian_inverse(t) @ maps.left_jacobian(t)


def _there_and_back(t: np.ndarray) -> np.ndarray:
    return logarithm.log(maps.exp(t))

"""Small scans that verification, traces and tests share: every flaw of a measurement on a few voxels."""

from __future__ import annotations

from typing import Any

import numpy as np

from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.geometry import Geometry
from exactgrad.tomography.problem import TomographyProblem
from exactgrad.tomography.regularisation import Regularisation

PRIOR = Regularisation(
    smooth={"axis": 0.3, "B": 0.2, "A": 0.5}, delta={"B": 0.4, "A": 2.0}, ridge={"B": 0.1}, positive={"A": 1.0}
)
CASES: dict[str, dict[str, Any]] = {
    "note": {},
    "note with a prior": {"e0": 0.1, "regularisation": PRIOR},
    "poisson, means, Ewald": {"cost": "poisson", "integration": "mean", "two_theta": 0.2},
    "gaussian, full circle": {"cost": "gaussian", "detector_angles": np.arange(7) * 2 * np.pi / 7},
    "one segment, thin volume": {
        "volume_shape": (1, 2, 7),
        "projection_shape": (9, 2),
        "detector_angles": [0.4],
        "mask": np.ones((1, 2, 7), bool),
    },
    "axis alone": {"free": ("axis",), "regularisation": PRIOR},
    "zonal": {"model": "zonal", "regularisation": Regularisation(smooth={"a": 0.3, "axis": 0.1})},
    "tensor": {"model": "tensor", "cost": "gaussian", "regularisation": Regularisation(smooth={"T": 0.3})},
}
GEOMETRY = ("integration", "two_theta", "detector_angles", "rotation", "n", "projection_shape", "volume_shape")


def example_problems() -> dict[str, TomographyProblem]:
    """Return small problems that together use every model, cost, prior, layout of segments and flaw of data.

    Examples
    --------
    >>> sorted(example_problems())[:2]
    ['axis alone', 'gaussian, full circle']
    """
    return {name: small_problem(**options) for name, options in CASES.items()}


def small_geometry(seed: int = 0, n: int = 4, **options: Any) -> Geometry:
    """Return random rotations and offsets so large that rays run past, half outside and through the volume."""
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(seed)
    given = {
        "rotation": Rotation.random(n, random_state=seed).as_matrix(),
        "projection_shape": (6, 5),
        "volume_shape": (4, 5, 3),
        "detector_angles": (np.arange(5) + 0.5) * np.pi / 5,
        "j_offset": rng.uniform(-1.5, 1.5, n),
        "k_offset": rng.uniform(-1.5, 1.5, n),
    }
    return Geometry(**{**given, **options})


def small_problem(seed: int = 0, **options: Any) -> TomographyProblem:
    """Return a problem of noisy float32 data with a NaN, weights with zeros, transmission and a ragged mask."""
    geometry = small_geometry(seed, **{name: options[name] for name in GEOMETRY if name in options})
    options = {name: value for name, value in options.items() if name not in GEOMETRY}
    rng = np.random.default_rng(seed)
    empty = Dataset(geometry, np.zeros((geometry.projections, *geometry.projection_shape, geometry.segments)))
    whole = TomographyProblem(empty)
    truth = whole.predict(whole.start(99))
    through = rng.uniform(0.3, 1.0, truth.shape[:3])
    data = (rng.poisson(truth * 20) / 20 * through[..., None]).astype(np.float32)
    data[0, 0, 0, 0] = np.nan
    weights = rng.uniform(0, 2, truth.shape) * (rng.random(truth.shape) > 0.1)
    mask = options.pop("mask", rng.random(geometry.volume_shape) > 0.15)
    return TomographyProblem(Dataset(geometry, data, weights, through), mask=mask, **options)


def special_points(seed: int = 4) -> dict[str, tuple[TomographyProblem, np.ndarray]]:
    """Return points where a formula of the note is 0/0 or its coordinates have a pole."""
    problem = small_problem(seed)
    start = problem.fields(problem.start(1))
    q = problem.geometry.q_vectors().reshape(-1, 3)
    shape = problem.mask.shape
    poles = np.broadcast_to([0.0, 0.0, 1.0], (*shape, 3)).copy()
    poles[::2] *= -1
    dark = start["A"].copy()
    dark.ravel()[::3] = 0.0
    along = q[np.arange(dark.size) % len(q)].reshape(*shape, 3)
    ring = np.cross(along, np.roll(along, 1, axis=-1))
    changes: dict[str, dict[str, np.ndarray]] = {
        "axes along measured q": {"axis": along},
        "axes at right angles to measured q": {"axis": ring},
        "axes at the poles": {"axis": poles},
        "B of both signs, zero and large": {"B": np.resize([3.0, -2.0, 0.0, 25.0, -15.0], shape)},
        "B = 0": {"B": np.zeros(shape)},
        "a third of A is zero": {"A": dark},
        "negative A": {"A": -start["A"]},
    }
    return {name: (problem, problem.vector(**{**start, **change})) for name, change in changes.items()}

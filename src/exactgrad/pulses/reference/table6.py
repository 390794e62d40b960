"""The paper's Table 6 again: the time of 1000 derivatives of one step, by each method, beside the paper's figures.

The paper's figures are of compiled Julia, one derivative at a time; ours here are of NumPy and SciPy, of one call on
1000 angles and of 1000 calls on one. Both are references: designs use the compiled kernel.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from exactgrad.errors import require_range
from exactgrad.pulses.reference import augmented, finite_difference, steps, tables

DERIVATIVES = 1000
CARTESIAN, POLAR = "xyz", ("alpha", "xy", "z")

# Microseconds per 1000 derivatives on (laptop, workstation), Table 6; it labels the polar dQ rows dR by mistake.
PAPER_US = {
    ("analytical", "dR", "cartesian"): ((325.9, 368.0), (298.2, 361.7), (326.0, 362.6)),
    ("analytical", "dQ", "cartesian"): ((271.4, 331.3), (278.4, 329.7), (288.7, 333.4)),
    ("exponential", "dR", "cartesian"): ((45788.0, 33467.0), (49442.0, 33990.0), (51196.0, 33152.0)),
    ("exponential", "dQ", "cartesian"): ((43774.0, 32058.0), (49276.0, 32492.0), (48715.0, 32651.0)),
    ("finite differences", "dR", "cartesian"): ((490.8, 915.5), (505.4, 907.5), (501.5, 908.0)),
    ("finite differences", "dQ", "cartesian"): ((311.3, 328.9), (302.7, 325.3), (307.3, 325.3)),
    ("analytical", "dR", "polar"): ((286.6, 337.4), (293.5, 349.2), (276.1, 335.5)),
    ("analytical", "dQ", "polar"): ((287.4, 330.2), (281.9, 354.0), (277.0, 332.5)),
    ("finite differences", "dR", "polar"): ((453.1, 435.8), (451.6, 433.9), (457.3, 443.6)),
    ("finite differences", "dQ", "polar"): ((342.3, 407.3), (410.9, 412.9), (412.7, 416.0)),
}


def table6(repeats: int = 5, seed: int = 0) -> list[dict[str, Any]]:
    """Time 1000 derivatives of one rotation step by each method of the paper.

    Parameters
    ----------
    repeats : int
        Each time is the best of so many.
    seed : int
        Of the random angles.

    Returns
    -------
    list of dict
        `name` ("dR/dtheta_x", ...), `coordinates` ("cartesian" or "polar"), `method` ("analytical", "exponential",
        "finite differences"), `calls` ("whole array" or "one at a time"), `microseconds_per_1000`, and the paper's
        `paper_laptop_us` and `paper_workstation_us` (None where it has no figure: polar exponentials, which it
        holds impossible).

    Raises
    ------
    InputError
        If `repeats` is not at least 1.
    """
    require_range("repeats", repeats, low=1)
    rng = np.random.default_rng(seed)
    theta = rng.uniform(-np.pi, np.pi, (DERIVATIVES, 3))
    polar = np.stack([np.hypot(theta[:, 0], theta[:, 1]), np.arctan2(theta[:, 1], theta[:, 0]), theta[:, 2]], axis=-1)
    rows = []
    for (method, what, coordinates), call in _calls().items():
        angles = polar if coordinates == "polar" and method == "analytical" else theta
        for index, control in enumerate(CARTESIAN if coordinates == "cartesian" else POLAR):
            laptop, workstation = PAPER_US.get((method, what, coordinates), ((None, None),) * 3)[index]
            derive = partial(call, control=control)
            for calls, run in (("whole array", _whole), ("one at a time", _single)):
                rows.append(
                    {
                        "name": f"{what}/d{'alpha' if control == 'alpha' else 'theta_' + control}",
                        "coordinates": coordinates,
                        "method": method,
                        "calls": calls,
                        "microseconds_per_1000": min(run(derive, angles) for _ in range(int(repeats))),
                        "paper_laptop_us": laptop,
                        "paper_workstation_us": workstation,
                    }
                )
    return rows


def _calls() -> dict[tuple[str, str, str], Callable[..., Any]]:
    calls: dict[tuple[str, str, str], Callable[..., Any]] = {
        ("analytical", "dR", "cartesian"): lambda t, control: tables.matrix_derivative(
            tables.CARTESIAN[control], steps.cartesian_step(t)
        ),
        ("analytical", "dQ", "cartesian"): lambda t, control: tables.quaternion_derivative(
            tables.QUATERNION_CARTESIAN[control], steps.cartesian_step(t, half_angle=True)
        ),
        ("analytical", "dR", "polar"): lambda p, control: tables.matrix_derivative(
            tables.POLAR[control], steps.polar_step(p[..., 0], p[..., 1], p[..., 2])
        ),
        ("analytical", "dQ", "polar"): lambda p, control: tables.quaternion_derivative(
            tables.QUATERNION_POLAR[control], steps.polar_step(p[..., 0], p[..., 1], p[..., 2], half_angle=True)
        ),
    }
    for coordinates in ("cartesian", "polar"):
        calls["exponential", "dR", coordinates] = augmented.augmented_exponential
        calls["exponential", "dQ", coordinates] = augmented.augmented_quaternion
        calls["finite differences", "dR", coordinates] = finite_difference.difference_matrix
        calls["finite differences", "dQ", coordinates] = finite_difference.difference_quaternion
    return calls


def _whole(derive: Callable[[np.ndarray], Any], angles: np.ndarray) -> float:
    started = time.perf_counter()
    derive(angles)
    return 1e6 * (time.perf_counter() - started)


def _single(derive: Callable[[np.ndarray], Any], angles: np.ndarray) -> float:
    started = time.perf_counter()
    for angle in angles:
        derive(angle)
    return 1e6 * (time.perf_counter() - started)

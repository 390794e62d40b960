"""The paper's methods for a whole pulse, all against each other and against the independent simulation."""

from __future__ import annotations

import numpy as np
import pytest

from exactgrad.errors import InputError
from exactgrad.pulses import bloch
from exactgrad.pulses.pulse import Pulse
from exactgrad.pulses.reference import METHODS, gradient
from exactgrad.pulses.reference.table6 import PAPER_US, table6
from exactgrad.rotations import maps

RNG = np.random.default_rng(7)
PULSE = Pulse(RNG.uniform(5e-6, 40e-6, 7), *RNG.normal(0, 6e3, (2, 7)), RNG.normal(0, 2e3, 7))
OFFSETS, B1 = np.array([-5e3, -200.0, 1e3, 7e3]), np.array([0.9, 1.0, 1.2, 0.7])
WEIGHTS = np.array([0.1, 0.4, 0.2, 0.3])
TRANSFER = ("transfer", [0.0, 0.0, 1.0], [0.6, -0.8, 0.0])
PER_SPIN = ("transfer", np.eye(4)[:, :3], RNG.normal(size=(4, 3)))
ROTATION = ("rotation", [np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0])
COSTS = {"transfer": TRANSFER, "per spin": PER_SPIN, "rotation": ROTATION, "negative": ("rotation", [-1.0, 0, 0, 0])}
# Largest error relative to the largest gradient entry.
TOLERANCE = {"tables": 1e-13, "augmented": 1e-13, "finite-difference": 1e-7, "finite-difference-cost": 1e-9}


def one_sweep(cost: tuple) -> np.ndarray:
    """The collapsed form, in its own words: m_N from the end state, m_{j-1} = R_j^T m_j, gradient J^T m_j."""
    hz = [np.outer(B1, PULSE.ux_hz), np.outer(B1, PULSE.uy_hz), OFFSETS[:, None] + PULSE.uz_hz]
    theta = 2 * np.pi * PULSE.step_s[None, :, None] * np.stack(hz, axis=-1)
    if cost[0] == "transfer":
        start, target = (np.broadcast_to(v, (4, 3)) for v in cost[1:])
        m = np.cross(bloch.simulate(PULSE, OFFSETS, B1, start), target)
    else:
        q, target = bloch.propagators(PULSE, OFFSETS, B1), np.broadcast_to(cost[1], (4, 4))
        w, v, wf, vf = q[:, :1], q[:, 1:], target[:, :1], target[:, 1:]
        m = 0.5 * (-wf * v + w * vf + np.cross(v, vf))  # vec(Q_F Q_N*) / 2
    slopes = np.empty((3, 7))
    for j in reversed(range(7)):
        per_angle = maps.left_jacobian_transpose_apply(theta[:, j], m)
        per_angle[:, :2] *= B1[:, None]
        slopes[:, j] = WEIGHTS @ per_angle * 2 * np.pi * PULSE.step_s[j]
        m = maps.rotate(-theta[:, j], m)
    return slopes


@pytest.mark.parametrize("cost", COSTS.values(), ids=COSTS)
@pytest.mark.parametrize("method", TOLERANCE)
def test_every_exact_method_gives_the_gradient_of_one_sweep(method: str, cost: tuple) -> None:
    _, slopes = gradient(method, PULSE, OFFSETS, B1, WEIGHTS, cost)
    expected = one_sweep(cost)
    assert slopes.shape == (3, 7)
    assert np.abs(slopes - expected).max() < TOLERANCE[method] * np.abs(expected).max()


@pytest.mark.parametrize("method", METHODS)
def test_the_value_is_that_of_the_independent_simulation(method: str) -> None:
    end = bloch.simulate(PULSE, OFFSETS, B1, TRANSFER[1])
    assert gradient(method, PULSE, OFFSETS, B1, WEIGHTS, TRANSFER)[0] == pytest.approx(WEIGHTS @ end @ TRANSFER[2])
    q = bloch.propagators(PULSE, OFFSETS, B1)
    assert gradient(method, PULSE, OFFSETS, B1, WEIGHTS, ROTATION)[0] == pytest.approx(WEIGHTS @ q @ ROTATION[1])


@pytest.mark.parametrize("cost", [TRANSFER, ROTATION])
def test_grape_is_right_to_first_order_only(cost: tuple) -> None:
    expected = one_sweep(cost)
    _, slopes = gradient("grape", PULSE, OFFSETS, B1, WEIGHTS, cost)
    error = np.abs(slopes - expected).max() / np.abs(expected).max()
    assert 0.05 < error < 2
    errors = []
    for pieces in (8, 16):  # the same pulse in shorter steps: the gradient of a step is the sum over its pieces
        fine = Pulse(*(np.repeat(v, pieces) for v in (PULSE.step_s / pieces, PULSE.ux_hz, PULSE.uy_hz, PULSE.uz_hz)))
        summed = gradient("grape", fine, OFFSETS, B1, WEIGHTS, cost)[1].reshape(3, 7, pieces).sum(axis=-1)
        errors.append(np.abs(summed - expected).max())
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)


def test_a_step_without_rotation_is_nan_in_the_tables_only() -> None:
    blank = Pulse([1e-5] * 3, [5e3, 0.0, 3e3], [0.0, 0.0, 1e3], [0.0] * 3)
    results = {m: gradient(m, blank, [0.0], [1.0], [1.0], TRANSFER)[1] for m in METHODS}
    assert np.isnan(results["tables"][:, 1]).all()
    assert np.isfinite(results["tables"][:, [0, 2]]).all()
    assert np.allclose(results["augmented"], results["finite-difference-cost"], rtol=0, atol=1e-13)
    assert np.isfinite(results["grape"]).all()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("newton", PULSE, OFFSETS, B1, WEIGHTS, TRANSFER), "method 'newton': must be one of tables, grape"),
        (("tables", PULSE, OFFSETS, B1, WEIGHTS[:2], TRANSFER), "weights: shape"),
        (("tables", PULSE, OFFSETS, B1, WEIGHTS, ("swap", [0, 0, 1])), "cost 'swap'"),
        (("tables", PULSE, OFFSETS, B1, WEIGHTS, ("rotation", [0, 0, 1])), r"q_target: shape \(3,\)"),
        (("tables", PULSE, OFFSETS, B1, WEIGHTS, ("transfer", [0, 0, np.nan], [0, 0, 1])), r"rho0\[2\] = nan"),
    ],
)
def test_bad_input_is_named(arguments: tuple, words: str) -> None:
    with pytest.raises(InputError, match=words):
        gradient(*arguments)


def test_table6_has_every_row_of_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exactgrad.pulses.reference.table6.DERIVATIVES", 3)
    rows = table6(repeats=1)
    assert len(rows) == 72
    assert all(row["microseconds_per_1000"] > 0 for row in rows)
    paper = [row for row in rows if row["paper_laptop_us"] is not None and row["calls"] == "whole array"]
    assert len(paper) == 3 * len(PAPER_US) == 30
    first = rows[0]
    assert (first["name"], first["paper_laptop_us"], first["paper_workstation_us"]) == ("dR/dtheta_x", 325.9, 368.0)
    assert {row["name"] for row in rows if row["coordinates"] == "polar"} == {
        f"d{what}/d{control}" for what in "RQ" for control in ("alpha", "theta_xy", "theta_z")
    }

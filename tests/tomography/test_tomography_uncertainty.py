"""Standard errors against the inverse of the whole matrix, formed entry by entry."""

from __future__ import annotations

import numpy as np
import pytest
from tomography_cases import small_geometry

from exactgrad.tomography import uncertainty
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.problem import TomographyProblem
from exactgrad.tomography.regularisation import Regularisation

PRIOR = Regularisation(smooth={"axis": 3.0, "A": 2.0, "B": 4.0}, delta={"A": 0.3, "B": 0.5}, ridge={"B": 0.5})


@pytest.fixture(scope="module")
def case():
    geometry = small_geometry(1, n=16, j_offset=0.2, k_offset=-0.3)
    rng = np.random.default_rng(1)
    blank = TomographyProblem(Dataset(geometry, np.zeros((16, 6, 5, 5))))
    truth = blank.predict(blank.start(5))
    data = Dataset(geometry, rng.poisson(40 * truth).astype(float))
    problem = TomographyProblem(data, regularisation=PRIOR)
    return problem, problem.start(3)


def dense(problem, x):
    local = uncertainty.Local(problem, x)
    count = problem.voxels * uncertainty.LOCAL
    columns = [local.curvature(unit.reshape(-1, uncertainty.LOCAL)).ravel() for unit in np.eye(count)]
    return local, np.array(columns)


def test_the_map_to_local_parameters_has_its_transpose(case):
    problem, x = case
    local = uncertainty.Local(problem, x)
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(problem.voxels, 4)), rng.normal(size=problem.size)
    assert np.sum(local.out(a) * b) == pytest.approx(np.sum(a * local.back(b)), rel=1e-12)


def test_conjugate_gradients_solve_the_whole_matrix(case):
    problem, x = case
    local, matrix = dense(problem, x)
    inverse = np.linalg.inv(uncertainty.data_blocks(problem, x, local) + uncertainty._prior_blocks(problem, x, local))
    right = np.random.default_rng(2).normal(size=(problem.voxels, 4))
    found = uncertainty.solve(local.curvature, inverse, right)
    exact = np.linalg.solve(matrix, right.ravel()).reshape(right.shape)
    assert np.linalg.norm(found - exact) < 0.05 * np.linalg.norm(exact)


def test_the_noise_has_the_matrix_as_covariance(case):
    problem, x = case
    local, matrix = dense(problem, x)
    rng = np.random.default_rng(3)
    draws = np.array([uncertainty.noise(problem, x, local, rng)[0].ravel() for _ in range(1500)])
    covariance = draws.T @ draws / len(draws)
    scale = np.sqrt(np.diag(matrix))
    apart = (covariance - matrix) / scale[:, None] / scale
    assert np.abs(apart).max() < 6 / np.sqrt(len(draws)) * np.sqrt(2)


def test_standard_errors_are_those_of_the_inverse_matrix(case):
    problem, x = case
    errors = uncertainty.standard_errors(problem, x, samples=60, seed=4)
    _, matrix = dense(problem, x)
    covariance = np.linalg.inv(matrix)
    exact = np.sqrt(np.diag(covariance)).reshape(-1, 4)
    for name, column, unit in (("A", 0, np.sqrt(problem.scale)), ("B", 1, 1.0)):
        ratio = getattr(errors, name)[problem.mask] / (unit * exact[:, column])
        assert np.median(ratio) == pytest.approx(1.0, abs=0.1)
        assert ratio.std() < 0.2
    blocks = np.stack([covariance[4 * v + 2 : 4 * v + 4, 4 * v + 2 : 4 * v + 4] for v in range(problem.voxels)])
    ratio = errors.axis_deg[problem.mask] / np.rad2deg(uncertainty.radius(blocks))
    assert np.median(ratio) == pytest.approx(1.0, abs=0.1)
    data_part = TomographyProblem.with_regularisation(problem, None)
    _, alone = dense(data_part, x)
    assert errors.freedom == pytest.approx(np.trace(covariance @ alone), rel=0.1)


def test_the_blocks_alone_are_too_sure(case):
    problem, x = case
    errors = uncertainty.standard_errors(problem, x, samples=20, seed=0)
    assert np.nanmedian(errors.block_axis_deg / errors.axis_deg) < 1.0


def test_the_radius_holds_its_share_of_samples():
    covariance = np.array([[2.0, 0.7], [0.7, 0.5]])
    draws = np.random.default_rng(0).multivariate_normal(np.zeros(2), covariance, 100_000)
    share = np.mean(np.linalg.norm(draws, axis=1) < uncertainty.radius(covariance))
    assert share == pytest.approx(uncertainty.WITHIN, abs=0.006)


def test_errors_scale_with_the_spread_of_the_residuals(case):
    problem, x = case
    errors = uncertainty.standard_errors(problem, x, samples=2)
    np.testing.assert_allclose(errors.scaled(4.0).B, 2.0 * errors.B)
    assert np.nanmax(errors.scaled(1e9).axis_deg) == uncertainty.UNDETERMINED_DEG

"""Standard errors against the inverse of the whole matrix, formed entry by entry, and against known truths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tomography_cases import small_geometry

from exactgrad.core.solve import Budget, Search, Stage, run
from exactgrad.tomography import curvature, uncertainty
from exactgrad.tomography.compare import axis_error_deg
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.problem import TomographyProblem
from exactgrad.tomography.regularisation import Regularisation

PRIOR = Regularisation(smooth={"axis": 3.0, "A": 2.0, "B": 4.0}, delta={"A": 0.3, "B": 0.5}, ridge={"B": 0.5})
COUNTS = 400.0


def smooth_fields(shape):
    """Return A, B and axis that turn slowly, as volumes."""
    x, y, z = np.meshgrid(*(np.linspace(-1.0, 1.0, n) for n in shape), indexing="ij")
    axis = np.stack([0.5 * x, 0.4 * y + 0.3 * z, np.ones_like(x)], axis=-1)
    return {"A": 1.0 + 0.2 * x * y, "B": 2.0 + 0.4 * z, "axis": axis / np.linalg.norm(axis, axis=-1, keepdims=True)}


def measured(fields, seed, counts=COUNTS, **keywords):
    """Return the problem of counts of a sample, from 20 directions."""
    geometry = small_geometry(1, n=20, j_offset=0.2, k_offset=-0.3)
    blank = TomographyProblem(Dataset(geometry, np.zeros((20, 6, 5, 5))))
    mean = counts * blank.forward(**fields)
    return TomographyProblem(Dataset(geometry, np.random.default_rng(seed).poisson(mean).astype(float)), **keywords)


def fitted(problem, x):
    """Return the minimum next to x."""
    return run([Stage(problem, 200)], Search.begin([x]), Budget(tolerance=1e-8)).x


@pytest.fixture(scope="module")
def case():
    fields = smooth_fields(small_geometry(1, n=20).volume_shape)
    problem = measured(fields, 2, regularisation=PRIOR)
    truth = problem.vector(**{**fields, "A": np.sqrt(COUNTS) * fields["A"]})
    return problem, fitted(problem, truth)


def dense(problem, x):
    """Return H, formed column by column."""
    local = curvature.Local(problem, x)
    units = np.eye(problem.voxels * curvature.LOCAL)
    return np.array([local.curvature(unit.reshape(-1, curvature.LOCAL)).ravel() for unit in units])


def blocks(problem, x):
    local = curvature.Local(problem, x)
    return curvature._with_ridge(local.data + local.prior)


def test_the_map_to_local_parameters_has_its_transpose(case):
    problem, x = case
    local = curvature.Local(problem, x)
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(problem.voxels, 4)), rng.normal(size=problem.size)
    assert np.sum(local.out(a) * b) == pytest.approx(np.sum(a * local.back(b)), rel=1e-12)


def test_how_far_another_vector_is_undoes_the_map(case):
    problem, x = case
    local, V = curvature.Local(problem, x), problem.voxels
    step = 1e-5 * np.random.default_rng(1).normal(size=(V, 4))
    np.testing.assert_allclose(local.to(x + local.out(step)), step, atol=1e-13)
    mirrored = np.concatenate([-x[:V], x[V : 2 * V], -3.0 * x[2 * V :]])
    np.testing.assert_allclose(local.to(mirrored), 0.0, atol=1e-12)


def test_turns_are_whole_angles(case):
    problem, x = case
    local = curvature.Local(problem, x)
    half = np.full((problem.voxels, 4), [0.0, 0.0, 0.6, 0.8])  # tan(45 degrees) along one direction
    np.testing.assert_allclose(local.to(x + local.out(half))[:, 2:], np.pi / 4 * half[:, 2:], rtol=1e-12)


def test_conjugate_gradients_solve_the_whole_matrix(case):
    problem, x = case
    local, matrix = curvature.Local(problem, x), dense(problem, x)
    right = np.random.default_rng(2).normal(size=(problem.voxels, 4))
    found = uncertainty.solve(local, right, 1e-2)
    exact = np.linalg.solve(matrix, right.ravel()).reshape(right.shape)
    assert np.linalg.norm(found - exact) < 0.05 * np.linalg.norm(exact)


def test_the_noise_has_the_data_s_matrix_as_covariance(case):
    problem, x = case
    local, matrix = curvature.Local(problem, x), dense(problem.with_regularisation(None), x)
    rng = np.random.default_rng(3)
    draws = np.array([uncertainty.noise(local, rng).ravel() for _ in range(800)])
    scale = np.sqrt(np.diag(matrix))
    apart = (draws.T @ draws / len(draws) - matrix) / scale[:, None] / scale
    assert np.abs(apart).max() < 6 / np.sqrt(len(draws)) * np.sqrt(2)


def test_the_freedom_is_the_trace(case):
    problem, x = case
    exact = np.trace(np.linalg.solve(dense(problem, x), dense(problem.with_regularisation(None), x)))
    assert uncertainty.freedom(curvature.Local(problem, x)) == pytest.approx(exact, rel=0.1)


def test_standard_errors_are_noise_and_smoothing_of_the_whole_matrix(case):
    """With many counts the replicas' mean square is linear theory's, H^-1 J^T W J H^-1 + loss loss^T.

    The loss is that of x with half its own loss of B and turns, H^-1 r, given back.
    """
    problem, x = case
    local = curvature.Local(problem, x)
    data, whole = dense(problem.with_regularisation(None), x), dense(problem, x)
    inverse = np.linalg.inv(whole)
    lost = inverse @ local.back(problem.penalty_and_gradient(x)[1]).ravel()
    lost += 0.5 * inverse @ (whole - data) @ (lost.reshape(-1, 4) * [0, 1, 1, 1]).ravel()
    variance = np.diag(inverse @ data @ inverse)
    own = np.diagonal(np.linalg.inv(blocks(problem, x)), axis1=1, axis2=2)
    exact = uncertainty._by_field((variance + lost**2).reshape(-1, 4)) / uncertainty._by_field(own)
    errors = uncertainty.standard_errors(curvature.Local(problem, x), samples=8, seed=4)
    exact = uncertainty._averaged(problem.mask, exact, np.ones(problem.voxels, bool))
    for column, (volume, unit) in enumerate([(errors.A, np.sqrt(problem.scale)), (errors.B, 1.0)]):
        ratio = volume[problem.mask] / unit / np.sqrt(exact[:, column] * own[:, column])
        assert np.median(ratio) == pytest.approx(1.0, abs=0.1)
        assert ratio.std() < 0.2
    angle = uncertainty.radius(np.linalg.inv(blocks(problem, x))[:, 2:, 2:])
    ratio = np.deg2rad(errors.axis_deg[problem.mask]) / np.sqrt(exact[:, 2]) / angle
    assert np.median(ratio) == pytest.approx(1.0, abs=0.1)


def test_two_in_three_truths_are_within():
    """Five measurements of a smooth sample: the intervals hold 68 % of the truths, of all three fields."""
    fields = smooth_fields(small_geometry(1, n=20).volume_shape)
    inside = []
    for seed in range(5):
        problem = measured(fields, 10 + seed, regularisation=PRIOR)
        x = fitted(problem, problem.vector(**{**fields, "A": np.sqrt(COUNTS) * fields["A"]}))
        errors, found = (
            uncertainty.standard_errors(curvature.Local(problem, x), samples=3, seed=seed),
            problem.fields(x),
        )
        angle = axis_error_deg(found["axis"], fields["axis"])
        inside.append(
            [
                np.mean(np.abs(found["A"] - np.sqrt(COUNTS) * fields["A"]) <= errors.A),
                np.mean(np.abs(found["B"] - fields["B"]) <= errors.B),
                np.mean(angle <= errors.axis_deg),
            ]
        )
    np.testing.assert_allclose(np.mean(inside, axis=0), uncertainty.WITHIN, atol=0.06)


def test_what_is_given_back_of_B_and_axis_is_half_of_what_a_fit_takes_away(case):
    problem, x = case
    local = curvature.Local(problem, x)
    prediction = problem.with_data(replace(problem.data, data=problem.predict(x)))
    taken = local.to(fitted(prediction, x))[:, 1:]
    back = local.to(uncertainty.sharpened(local).x)
    assert np.linalg.norm(taken) > 0.1
    assert np.linalg.norm(back[:, 1:] + 0.5 * taken) < 0.05 * np.linalg.norm(taken)
    np.testing.assert_allclose(back[:, 0], 0.0, atol=1e-12)


def test_a_replica_comes_to_where_a_long_fit_ends(case):
    problem, x = case
    replica = problem.with_data(uncertainty.replicate(problem, x, 1.0, np.random.default_rng(5)))
    local = curvature.Local(problem, x)
    found = local.to(uncertainty.reconstructed(replica, x))
    exact = local.to(fitted(replica, x))
    assert np.all(np.linalg.norm(found - exact, axis=0) < 0.1 * np.linalg.norm(exact, axis=0))


def test_replicas_have_the_variance_that_is_asked_for_and_the_data_s_gaps(case):
    problem, x = case
    weights = np.full(problem.data.shape, 0.25)
    weights[:, 1, :, 2] = 0.0
    gapped = problem.with_data(replace(problem.data, weights=weights))
    mean, rng = problem.predict(x), np.random.default_rng(0)
    drawn = np.array([uncertainty.replicate(gapped, x, 0.5, rng).data for _ in range(200)])
    assert np.isnan(drawn[:, :, 1, :, 2]).all()
    seen = (weights > 0) & (mean > 1.0)
    z = (drawn[:, seen] - mean[seen]) / np.sqrt(2.0 * mean[seen])  # 0.5/0.25 times that of counts
    assert abs(z.mean()) < 0.01
    assert z.var() == pytest.approx(1.0, abs=0.02)


def test_replicas_of_measured_values_are_normal(case):
    problem, x = case
    data = replace(problem.data, weights=np.full(problem.data.shape, 4.0))
    normal = TomographyProblem(data, cost="gaussian")
    drawn = uncertainty.replicate(normal, x, 9.0, np.random.default_rng(0)).data
    assert np.std(drawn - normal.predict(x)) == pytest.approx(1.5, rel=0.03)


def test_replicas_without_noise_are_the_prediction(case):
    problem, x = case
    drawn = uncertainty.replicate(problem, x, 0.0, np.random.default_rng(0)).data
    np.testing.assert_allclose(drawn, problem.predict(x), rtol=1e-6)


def test_errors_grow_with_the_spread(case):
    problem, x = case
    free = problem.with_regularisation(Regularisation(smooth={"axis": 0.1, "A": 0.1, "B": 0.1}))
    x = fitted(free, x)
    one, four = (uncertainty.standard_errors(curvature.Local(free, x), 2, spread, seed=1) for spread in (1.0, 4.0))
    assert np.nanmedian(four.B / one.B) == pytest.approx(2.0, rel=0.2)


def test_what_no_data_tell_is_not_sure(case):
    """A replica stays at its start where nothing pulls; that must not look like certainty."""
    problem, x = case
    blind = problem.with_data(replace(problem.data, weights=np.zeros(problem.data.shape)))
    errors = uncertainty.standard_errors(curvature.Local(blind.with_regularisation(None), x), samples=1)
    assert np.all(errors.axis_deg[problem.mask] == uncertainty.UNDETERMINED_DEG)
    errors = uncertainty.standard_errors(curvature.Local(blind, x), samples=1)
    least = 1.0 / np.sqrt(6 * 4.0 + 0.5)  # of B: the neighbours' weight and the ridge
    assert np.nanmin(errors.B) >= 0.99 * least


def test_the_same_seed_gives_the_same_errors_on_any_threads(case):
    problem, x = case
    one, two = (
        uncertainty.standard_errors(curvature.Local(problem, x), 1, seed=3, threads=threads) for threads in (1, 2)
    )
    np.testing.assert_array_equal(one.axis_deg, two.axis_deg)


def test_the_mean_of_the_neighbours_leaves_out_those_that_are_not_chosen():
    mask = np.ones((3, 3, 3), bool)
    mask[0] = False
    values = np.arange(18.0)[:, None]
    chosen = values[:, 0] >= 9
    found = uncertainty._averaged(mask, values, chosen)
    at = np.flatnonzero((np.argwhere(mask) == [2, 0, 0]).all(axis=1))[0]
    assert found[at, 0] == pytest.approx(np.mean([9, 10, 12, 13]))


def test_the_radius_holds_its_share_of_samples():
    covariance = np.array([[2.0, 0.7], [0.7, 0.5]])
    draws = np.random.default_rng(0).multivariate_normal(np.zeros(2), covariance, 100_000)
    share = np.mean(np.linalg.norm(draws, axis=1) < uncertainty.radius(covariance))
    assert share == pytest.approx(uncertainty.WITHIN, abs=0.006)

"""The problem as solvers and users see it: exact derivatives everywhere, also where the note's formulas are 0/0."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from tomography_cases import small_geometry, small_problem

from exactgrad.core import verify
from exactgrad.core.problem import Problem
from exactgrad.errors import InputError
from exactgrad.kernels import threads
from exactgrad.tomography import model
from exactgrad.tomography import problem as problem_module
from exactgrad.tomography.configurations import CASES, PRIOR
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.geometry import Geometry
from exactgrad.tomography.problem import TomographyProblem
from exactgrad.tomography.regularisation import neighbours
from exactgrad.tomography.sphere import angles_from_axis

each = pytest.mark.parametrize("options", CASES.values(), ids=CASES)


@each
def test_derivatives_are_exact(options: dict) -> None:
    problem = small_problem(**options)
    assert isinstance(problem, Problem)
    x = problem.start(5)
    checks = (
        verify.check_gradient(problem, x),
        verify.check_taylor(problem, x),
        *verify.check_hessian(problem, x),
    )
    for check in checks:
        assert check.passed, check


@each
def test_gauss_newton_is_symmetric_positive_and_the_hessian_of_a_perfect_fit(options: dict) -> None:
    problem = small_problem(**options)
    x = problem.start(2)
    u, v = np.random.default_rng(0).normal(size=(2, problem.size))
    hu, hv = problem.gauss_newton_product(x, u), problem.gauss_newton_product(x, v)
    assert abs(u @ hv - v @ hu) <= 1e-12 * np.linalg.norm(hu) * np.linalg.norm(v)
    assert u @ hu >= 0
    data = problem.data
    perfect = Dataset(data.geometry, problem.predict(x), data.weights, data.transmission)
    fitted = problem.with_data(perfect).with_regularisation(None)
    exact = fitted.hessian_product(x, u)
    assert np.abs(fitted.gauss_newton_product(x, u) - exact).max() <= 1e-10 * np.abs(exact).max()


def special(kind: str) -> tuple[TomographyProblem, np.ndarray]:
    """A problem at a point where a formula of the note is 0/0 or its coordinates have a pole."""
    problem = small_problem(4)
    volumes = problem.fields(problem.start(1))
    q = problem.geometry.q_vectors().reshape(-1, 3)
    if kind == "axes along measured q":
        volumes["axis"] = q[np.arange(volumes["B"].size) % len(q)].reshape(volumes["axis"].shape)
    if kind == "axes at the poles":
        volumes["axis"] = np.broadcast_to([0.0, 0.0, 1.0], volumes["axis"].shape).copy()
        volumes["axis"][::2] *= -1
    if kind == "B of both signs, zero and large":
        volumes["B"] = np.resize([3.0, -2.0, 0.0, 25.0, -15.0], volumes["B"].shape)
    if kind == "a third of A is zero":
        volumes["A"].ravel()[::3] = 0.0
    if kind == "negative A":
        volumes["A"] *= -1
    return problem, problem.vector(**volumes)


SPECIAL = (
    "axes along measured q",
    "axes at the poles",
    "B of both signs, zero and large",
    "a third of A is zero",
    "negative A",
)


@pytest.mark.parametrize("kind", SPECIAL)
def test_gradients_are_exact_at_special_points(kind: str) -> None:
    problem, x = special(kind)
    prior = replace(PRIOR, positive={})  # whose second derivative jumps at A = 0
    check = verify.check_gradient(problem.with_regularisation(prior), x)
    assert check.passed, check
    assert model.kernel_error(problem, x)[0] <= 1e-12


@pytest.mark.parametrize("kind", SPECIAL)
def test_gradients_by_angles_are_exact_at_special_points(kind: str) -> None:
    problem, x = special(kind)
    fields = problem.fields(x)
    theta, phi = angles_from_axis(fields["axis"])
    at = {"A": fields["A"], "B": fields["B"], "theta_op": theta, "phi_op": phi}
    _, gradient = problem.loss_and_gradient(**at)
    assert set(gradient) == set(at)
    rng = np.random.default_rng(0)
    for name in at:
        step = rng.normal(size=theta.shape)

        def loss(t: np.ndarray, name: str = name, step: np.ndarray = step) -> float:
            return problem.loss_and_gradient(**{**at, name: at[name] + t[0] * step})[0]

        found = verify.best_central_difference(loss, np.zeros(1), np.ones(1), 0.01)
        largest = max(np.abs(g).max() for g in gradient.values())
        assert abs(float(found.value) - np.sum(gradient[name] * step)) <= 1e-8 * largest * np.sqrt(theta.size), name


def test_empty_rays_and_dead_segments_leave_gradients_exact() -> None:
    """No voxel lies on the outer rays; where nothing is measured either, cost and gradient are smooth at zero."""
    geometry = small_geometry(1, projection_shape=(14, 13))
    rng = np.random.default_rng(0)
    whole = TomographyProblem(Dataset(geometry, np.zeros((4, 14, 13, 5))))
    data = whole.predict(whole.start(7))
    assert (data == 0).any()
    weights = rng.random((4, 14, 13, 5))
    weights[..., 2] = 0.0
    problem = TomographyProblem(Dataset(geometry, data, weights))
    check = verify.check_gradient(problem, problem.start(1))
    assert check.passed, check
    assert np.isfinite(problem.hessian_product(problem.start(1), problem.start(2))).all()


def test_an_empty_volume_has_finite_gradients_at_its_kink() -> None:
    """With A = 0 on every ray the cost is a cone in A: its gradient is the middle of both sides, zero."""
    problem = small_problem(1)
    x = problem.vector(A=np.zeros(problem.mask.shape))
    value, gradient = problem.value_and_gradient(x)
    assert np.isfinite(value)
    assert not gradient.any()
    tiny = problem.vector(A=np.full(problem.mask.shape, 1e-12))
    by_field = [np.abs(g).max() for _, g in problem._blocks(problem.value_and_gradient(tiny)[1])]
    assert np.isfinite(by_field).all()
    assert by_field[0] > 1  # the cone's side
    assert max(by_field[1:]) < 1e-9


@pytest.mark.parametrize("name", ["tensor", "zonal", "uniaxial"])
def test_offsets_and_transmission_have_exact_gradients(name: str) -> None:
    problem = small_problem(2, model=name, cost="gaussian")
    x = problem.start(3)
    gradient = problem.geometry_gradient(x)
    g, count = problem.geometry, problem.geometry.projections
    for key in ("j_offset", "k_offset"):
        for n in range(count):

            def loss(t: np.ndarray, key: str = key, n: int = n) -> float:
                offsets = {"j_offset": g.j_offset.copy(), "k_offset": g.k_offset.copy()}
                offsets[key][n] += t[0]
                return problem.with_offsets(**offsets).value_and_gradient(x)[0]

            found = verify.best_central_difference(loss, np.zeros(1), np.ones(1), 1e-4)  # within one piece
            assert float(found.value) == pytest.approx(gradient[key][n], rel=1e-7, abs=1e-7)
    at = (1, 2, 3)

    def by_transmission(t: np.ndarray) -> float:
        through = problem.data.transmission.copy()
        through[at] += t[0]
        data = Dataset(g, problem.data.data, problem.data.weights, through)
        return problem.with_data(data).value_and_gradient(x)[0]

    found = verify.best_central_difference(by_transmission, np.zeros(1), np.ones(1), 0.05)
    assert float(found.value) == pytest.approx(gradient["transmission"][at], rel=1e-9)


def test_transmission_in_the_model_is_divided_data_with_weight_transmission() -> None:
    """The audit's identity: cost(T in the model, raw I) = cost(I/T, weight T)."""
    problem = small_problem(5)
    data = problem.data
    divided = Dataset(
        data.geometry, data.data / data.transmission[..., None], data.weights * data.transmission[..., None]
    )
    x = problem.start(1)
    one, other = problem.value_and_gradient(x), problem.with_data(divided).value_and_gradient(x)
    assert one[0] == pytest.approx(other[0], rel=1e-7)  # float32 data
    assert np.abs(one[1] - other[1]).max() <= 1e-6 * np.abs(one[1]).max()


def test_results_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problem_module, "UNIT_S", 1.0)  # so that even this problem is worth every thread
    assert threads.choose_threads(1.0, 4) == 4
    problem = small_problem(1, n=7)
    check = verify.check_determinism(problem, problem.start(1))
    assert check.passed, check
    seen = []
    for limit in (1, 3):
        problem.limit_threads(limit)
        seen.append((problem.predict(problem.start(2)).tobytes(), problem.cost_terms(problem.start(2)).tobytes()))
    assert seen[0] == seen[1]


def test_terms_residuals_and_value_agree() -> None:
    problem = small_problem(2)
    x = problem.start(4)
    value, _ = problem.value_and_gradient(x)
    assert problem.cost_terms(x).sum() == pytest.approx(value, rel=1e-13)
    assert 0.5 * np.sum(problem.residuals(x) ** 2) == pytest.approx(value, rel=1e-13)
    assert not problem.residuals(x)[0, 0, 0, 0]  # a NaN was measured there


def test_fields_and_vectors_are_inverse() -> None:
    problem = small_problem(3)
    x = problem.start(2)
    fields = problem.fields(x)
    assert not fields["A"][~problem.mask].any()
    assert np.allclose(np.linalg.norm(fields["axis"][problem.mask], axis=-1), 1)
    assert np.allclose(problem.vector(**fields), x, rtol=0, atol=1e-15)
    theta, phi = angles_from_axis(fields["axis"])
    again = problem.vector(A=fields["A"], B=fields["B"], theta_op=theta, phi_op=phi)
    assert np.allclose(again, x, rtol=0, atol=1e-14)
    only = problem.vector(x=x, B=np.full(problem.mask.shape, 7.0))
    assert np.flatnonzero(only != x).tolist() == list(range(problem.voxels, 2 * problem.voxels))


def test_free_fields_hold_the_others() -> None:
    problem = small_problem(3)
    x = problem.start(2)
    part = problem.with_free("axis", x=x)
    y = part.vector()
    assert part.size == 3 * problem.voxels
    (one, by_axis), (other, by_all) = part.value_and_gradient(y), problem.value_and_gradient(x)
    assert one == pytest.approx(other, rel=1e-13)
    assert np.allclose(by_axis, by_all[2 * problem.voxels :], rtol=0, atol=1e-12 * np.abs(by_all).max())
    held = problem.with_fields(B=np.zeros(problem.mask.shape)).with_free("A")
    assert not held.fields(held.vector())["B"].any()


def test_masked_voxels_scatter_nothing() -> None:
    problem = small_problem(3, mask=np.ones((4, 5, 3), bool))
    mask = np.random.default_rng(0).random((4, 5, 3)) > 0.5
    masked = problem.with_mask(mask)
    fields = problem.fields(problem.start(1))
    cut = {**fields, "A": fields["A"] * mask}
    assert np.allclose(masked.forward(**fields), problem.forward(**cut), rtol=1e-13)
    one, other = masked.loss_and_gradient(**fields)[1], problem.loss_and_gradient(**cut)[1]
    assert np.allclose(one["A"], other["A"] * mask, atol=1e-12)
    assert masked.size == 5 * int(mask.sum())


def test_an_evaluation_takes_two_volumes_beside_vector_and_gradient() -> None:
    """Cost and gradient, regularisation included: data + 12 volumes, of which x has 5 and the gradient 5."""
    shape, pixels = (55, 65, 65), (65, 55)
    geometry = small_geometry(0, volume_shape=shape, projection_shape=pixels, detector_angles=np.arange(8) * np.pi / 8)
    data = Dataset(geometry, np.ones((4, *pixels, 8), np.float32))
    small_problem(regularisation=PRIOR).value_and_gradient(small_problem().start(0))  # what is compiled is not counted
    tracemalloc.start()
    try:
        problem = TomographyProblem(data, regularisation=PRIOR, threads=2)
        x = problem.start(1)
        tracemalloc.reset_peak()
        value, gradient = problem.value_and_gradient(x)
        penalty = problem.add_penalty(x, gradient)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert value > 0 and penalty > 0
    assert peak <= 12 * 8 * np.prod(shape)


@pytest.mark.parametrize("is_dim", [False, True])
def test_the_regularisation_plane_by_plane_is_the_whole(is_dim: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = small_problem(2)
    light = 2.0 * np.random.default_rng(0).random(problem.voxels) if is_dim else None
    prior = replace(PRIOR, light=light)
    problem = problem.with_regularisation(prior)
    x = problem.start(1) * np.linspace(0.6, 1.7, problem.size)
    fields, value, expected = {f.name: part for f, part in problem._blocks(x)}, 0.0, []
    for name, part in fields.items():
        u = problem_module.DIRECTION.apply(part) if name == "axis" else part
        term, g = prior.value_and_gradient(name, u, name == "axis", neighbours(problem.mask))
        value += term
        expected.append(problem_module.DIRECTION.pull(part, g) if name == "axis" else g)
    for lot in (1, 7, 10_000):
        monkeypatch.setattr(problem_module, "LOT", lot)
        found, gradient = problem.penalty_and_gradient(x)
        assert found == pytest.approx(value, rel=1e-13)
        assert np.allclose(gradient, np.concatenate(expected).ravel(), rtol=0, atol=1e-13 * np.abs(gradient).max())
        given = np.ones(problem.size)
        problem.add_penalty(x, given)
        assert np.allclose(given - 1, gradient, rtol=0, atol=1e-14 * np.abs(gradient).max() + 1e-15)


@pytest.mark.parametrize("length", [1e-90, 1e-3, 1.0, 7e4, 1e90])
@pytest.mark.parametrize("name", ["uniaxial", "zonal"])
def test_vectors_of_any_length_are_one_axis(name: str, length: float) -> None:
    """The kernel reads x itself and normalises; what over- or underflows in a square goes through the rows."""
    problem = small_problem(1, model=name)
    x = problem.start(1)
    scaled = x.copy()
    stop = problem.size - 3 * problem.voxels
    scaled[stop:] *= length * np.tile(np.linspace(0.5, 2.0, problem.voxels), 3)
    (one, by_one), (other, by_other) = problem.value_and_gradient(x), problem.value_and_gradient(scaled)
    assert other == pytest.approx(one, rel=1e-13)
    assert np.allclose(by_other[:stop], by_one[:stop], rtol=0, atol=1e-12 * np.abs(by_one).max())
    longer = scaled[stop:] / x[stop:]
    assert np.allclose(by_other[stop:] * longer, by_one[stop:], rtol=0, atol=1e-12 * np.abs(by_one).max())
    scaled[[stop, stop + problem.voxels, stop + 2 * problem.voxels]] = 0.0  # no axis
    assert np.isfinite(problem.value_and_gradient(scaled)[1]).all()


def test_x_is_read_whatever_its_memory_is_like_and_never_written_to() -> None:
    problem = small_problem(1)
    x = problem.start(1)
    value, gradient = problem.value_and_gradient(x)
    locked, wide = x.copy(), np.repeat(x, 2)
    locked.flags.writeable = False
    for given in (locked, wide[::2], x):
        found = problem.value_and_gradient(given)
        assert found[0] == value and np.array_equal(found[1], gradient)
    assert np.array_equal(x, problem.start(1))
    assert not np.shares_memory(gradient, x)


def test_a_lazy_stack_is_read_projection_by_projection() -> None:
    problem = small_problem(1)

    class Lazy:
        shape, dtype = problem.data.data.shape, problem.data.data.dtype

        def __getitem__(self, n: int) -> np.ndarray:
            assert isinstance(n, int)
            return problem.data.data[n]

    lazy = Dataset(problem.geometry, Lazy(), problem.data.weights, problem.data.transmission)
    x = problem.start(1)
    assert problem.with_data(lazy).value_and_gradient(x)[0] == problem.value_and_gradient(x)[0]


def test_the_start_explains_the_mean() -> None:
    problem = small_problem(1, n=12)
    ratio = problem.predict(problem.start(0)).sum() / np.nansum(problem.data.data)
    assert 0.7 < ratio < 1.4
    assert problem.scale > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "fibre"}, "model = 'fibre': must be one of uniaxial, zonal, tensor"),
        ({"cost": "mean"}, "cost = 'mean'"),
        ({"e0": -1.0}, "e0 = -1"),
        ({"mask": np.ones((2, 2, 2), bool)}, "mask: shape"),
        ({"mask": np.zeros((4, 5, 3), bool)}, "no voxel"),
        ({"free": ("A", "C")}, "'C' is no field"),
        ({"free": ()}, "at least one field"),
    ],
)
def test_wrong_arguments_are_refused_in_a_line(options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words) as told:
        small_problem(**options)
    assert "\n" not in str(told.value)


def test_wrong_fields_are_refused_in_a_line() -> None:
    problem = small_problem()
    one = np.ones(problem.mask.shape)
    for fields, words in (
        ({"A": one, "B": one}, "axis: missing"),
        ({"A": one, "B": one, "theta_op": one}, "one of them alone"),
        ({"A": one[0], "B": one, "theta_op": one, "phi_op": one}, "A: shape"),
        ({"A": one * np.nan, "B": one, "theta_op": one, "phi_op": one}, "A.*finite"),
        ({"A": one, "B": one, "C": one, "theta_op": one, "phi_op": one}, "'C': no such field"),
    ):
        with pytest.raises(InputError, match=words):
            problem.forward(**fields)
    with pytest.raises(InputError, match="overflows"):
        problem.value_and_gradient(np.full(problem.size, 1e200))


def test_one_voxel_one_ray_by_hand() -> None:
    """I^ = A^2 exp(-B sin^2) with q at 60 degrees to the axis; cost and gradient in closed form."""
    g = Geometry(np.eye(3)[None], (1, 1), (1, 1, 1), [np.pi / 6], detector_direction_positive_90=(0, 0, 1))
    problem = TomographyProblem(Dataset(g, np.full((1, 1, 1, 1), 9.0), np.full((1, 1, 1, 1), 0.5)))
    one = np.ones((1, 1, 1))
    value, gradient = problem.loss_and_gradient(A=2 * one, B=1.2 * one, theta_op=0 * one, phi_op=0 * one)
    c, e = 0.5, np.exp(-1.2 * 0.75)
    modelled = 4 * e
    bp = 0.5 * (np.sqrt(modelled) - 3) / np.sqrt(modelled)
    assert value == pytest.approx(2 * 0.5 * (np.sqrt(modelled) - 3) ** 2, rel=1e-13)
    assert gradient["A"].item() == pytest.approx(4 * 2 * bp * e, rel=1e-13)
    assert gradient["B"].item() == pytest.approx(-2 * 4 * bp * 0.75 * e, rel=1e-13)
    assert gradient["theta_op"].item() == pytest.approx(4 * 4 * 1.2 * bp * c * np.cos(np.pi / 6) * e, rel=1e-13)
    assert gradient["phi_op"].item() == pytest.approx(0, abs=1e-15)

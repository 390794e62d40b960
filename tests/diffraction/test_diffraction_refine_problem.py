"""The refinement problem: exact gradient, curvature with the background's freedom, unknowns, planted bugs."""

import numpy as np
import pytest

from exactgrad.core import verify
from exactgrad.core.lbfgs import Status
from exactgrad.core.least_squares import minimise
from exactgrad.diffraction import losses
from exactgrad.diffraction.losses import Observed, Poisson, observe
from exactgrad.diffraction.problem import DiffractionProblem, look_around_spots, problems
from exactgrad.diffraction.refinement import profile
from exactgrad.diffraction.refinement.likelihood import loss_for
from exactgrad.diffraction.refinement.profile import Backdrop
from exactgrad.diffraction.refinement.restraints import Restraint
from exactgrad.diffraction.refinement.unknowns import Free, Unknowns, image_own
from exactgrad.diffraction.simulator import Simulator
from exactgrad.diffraction.spots import Regions
from exactgrad.errors import InputError

WORDS = "-cell 20 25 30 90 100 90 -N 6 -default_F 100 -lambda 1 -distance 70 -pixel 1 -detpixels 36 -oversample 1"
PROBLEMS = problems()
each = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)


def settings(extra=""):
    return Simulator.from_nanobragg(f"{WORDS} -misset 10 20 30 -fluence 3e26 {extra}").settings


def exposure(truth, seed=1, level=4.0, **rest):
    image = np.random.default_rng(seed).poisson(Simulator(truth).image() + level)
    return look_around_spots(truth, observe(image), 2.5, 0.3, **rest)


@each
def test_products_agree_with_the_reverse_gradient(problem):
    x = problem.start(3)
    value, gradient = problem.value_and_gradient(x)
    penalty, extra = problem.penalty_and_gradient(x)
    total, forward, curvature = problem.residual_products(x)
    assert total == pytest.approx((value + penalty) * problem.pixels, rel=1e-13)
    np.testing.assert_allclose(forward, (gradient + extra) * problem.pixels, rtol=1e-11, atol=1e-9)
    assert np.linalg.eigvalsh(curvature).min() > 0


@each
def test_gradient_by_differences(problem):
    right = verify.check_gradient(problem, problem.start(1), directions=0)
    assert right.passed, right


def test_planted_bugs_are_caught(monkeypatch):
    tied = Free("cell_a", ties=(("cell_b", 1.25),))
    problem = DiffractionProblem([exposure(settings())], [tied, Free("fluence")])
    x = np.array([0.5, -0.4])
    whole, slopes = Unknowns.gradient, problem.unknowns.slopes(x)

    def caught():
        return not verify.check_gradient(problem, x, directions=0).passed

    assert not caught()
    wrong = verify.Altered(problem, value_and_gradient=lambda x: scaled(problem.value_and_gradient(x), 1 / slopes))
    assert not verify.check_gradient(wrong, x, directions=0).passed, "slopes of the maps left out"
    with monkeypatch.context() as planted:
        fit = profile.kernel.fit
        planted.setattr(profile.kernel, "fit", lambda *args: (fit(*args), np.multiply(args[-1], 0.99, out=args[-1])))
        assert caught(), "the background is not at its best"
    with monkeypatch.context() as planted:
        planted.setattr(Unknowns, "gradient", lambda self, i, names: whole(self, i, {**names, "cell_b": 0.0}))
        assert caught(), "what is tied is left out"


def scaled(value_and_gradient, factor):
    return value_and_gradient[0], value_and_gradient[1] * factor


def test_curvature_is_the_schur_complement_of_the_whole():
    """Of the inverse of the joint information of parameters and planes, the parameters' block is the profile's."""
    problem = PROBLEMS["still"]
    x, drop = problem.start(2), problem.backdrops[0]
    at_x = problem.unknowns.settings(x)[0]
    spots = drop.picked(Simulator(at_x).image())
    _, at = drop.fitted(problem.losses[0], spots)
    names = problem.unknowns.names(0)
    moved = drop.picked(Simulator(at_x).jacobian(names))[:, 0] * problem.unknowns.slopes(x)[:, None]
    planes = np.stack([drop.planes.derivative(i)[0] for i in range(drop.planes.size)])
    whole = np.concatenate([moved, planes])
    joint = (whole * at.weight[0]) @ whole.T
    expected = np.linalg.inv(np.linalg.inv(joint)[: problem.size, : problem.size])
    held = problem.residual_products(x)[2]
    held = held - np.diag([0, problem.unknowns.slopes(x)[1] ** 2 / 0.01**2, 0, 0])  # the restraint of cell_b
    np.testing.assert_allclose(held, expected, rtol=1e-8, atol=1e-10 * np.abs(expected).max())


def test_curvature_is_near_the_hessian_at_the_optimum():
    problem = DiffractionProblem([exposure(settings())], [Free("misset_x"), Free("fluence")], background="flat")
    best = minimise(problem, np.zeros(problem.size))
    assert best.status is Status.PLATEAU
    hessian = problem.pixels * np.stack([problem.hessian_product(best.x, axis) for axis in np.eye(problem.size)])
    assert np.abs(hessian - best.curvature).max() < 0.1 * np.abs(hessian).max()


def test_the_background_under_spots_is_the_best_one():
    from scipy.optimize import minimize

    rng = np.random.default_rng(0)
    owner = np.full((12, 20), -1, dtype=np.int32)
    owner[1:8, 1:9], owner[3:11, 11:19] = 0, 1
    image = rng.poisson(3.0 + 0.2 * np.arange(20)[None, :] + np.zeros((12, 1)))
    for observed in (observe(image), Observed(image.astype(float) + 0.3, np.ones(image.shape, bool), 2.0)):
        drop = Backdrop.of(observed, Regions(np.zeros((2, 4), dtype=int), owner))
        spots = np.abs(rng.normal(size=(1, drop.size)))

        def total(c, drop=drop, spots=spots):
            at = Poisson().at(spots + drop.planes.image(c), drop.observed)
            return at.total, drop.planes.pull(at.derivative)

        found, at = drop.fitted(Poisson(), spots)
        other = minimize(total, drop.start, jac=True, method="BFGS", options={"gtol": 1e-9}).x
        np.testing.assert_allclose(found, other, rtol=1e-5, atol=1e-6)
        assert np.abs(drop.planes.pull(at.derivative)).max() < 1e-9


def noisy_regions(level, readout=0.0, seed=0, side=8):
    """Return regions with a spot in each, bright enough to leave walls between light and dark, and the spots."""
    rng, many = np.random.default_rng(seed), 3
    owner = np.full((many * (side + 1),) * 2, -1, dtype=np.int32)
    for region in range(many * many):
        slow, fast = (side + 1) * (region // many), (side + 1) * (region % many)
        owner[slow : slow + side, fast : fast + side] = region
    across = np.exp(-0.5 * ((np.arange(len(owner)) % (side + 1) - 3.6) / 1.2) ** 2)
    spots = 30 * across[:, None] * across
    photons = rng.poisson(1.1 * spots + level) + readout * rng.normal(size=spots.shape)
    observed = Observed(photons, np.ones(photons.shape, bool), readout)
    drop = Backdrop.of(observed, Regions(np.zeros((many * many, 4), dtype=int), owner))
    return drop, observed, drop.picked(spots)


@pytest.mark.parametrize("kind", ["poisson", "gaussian", "student", "huber"])
@pytest.mark.parametrize("readout", [0.0, 2.5])
def test_the_kernel_knows_the_losses(kind, readout):
    """The fused background of each loss is that of the loss's own values and slopes."""
    drop, observed, spots = noisy_regions(4.0, readout)
    loss = loss_for(kind, observed, drop)
    fused, at = drop.fitted(loss, spots)
    plain, there = drop.fitted_to_any(loss, spots)
    np.testing.assert_allclose(fused, plain, rtol=0, atol=1e-9)
    assert at.total == pytest.approx(there.total, rel=1e-13)
    assert (profile.kernel.FLOOR, profile.kernel.WALL) == (losses.FLOOR, losses.WALL)


@pytest.mark.parametrize("level", [0.02, 0.2])
def test_a_dark_background_is_the_best_one_above_zero(level):
    """Most pixels counted nothing: planes lie against many walls. Quadratic programs (SLSQP) do no better."""
    from scipy.optimize import minimize

    drop, _, spots = noisy_regions(level)
    found, at = drop.fitted(Poisson(), spots)
    background, photons = drop.planes.image(found)[0], drop.observed.photons[0]
    assert (spots[0] + background).min() > -1e-5
    assert np.abs(drop.planes.pull(at.derivative)).max() < 1e-6
    for region in range(len(drop.planes.kept)):
        own = drop.planes.region == region
        basis, light, n = drop.planes.basis[own], spots[0][own], photons[own]

        def loss(c, basis=basis, light=light, n=n):
            m = np.maximum(light + basis @ c, 1e-12)
            return m.sum() - n @ np.log(m), basis.T @ (1 - n / m)

        above = {"type": "ineq", "fun": lambda c, b=basis, s=light: s + b @ c, "jac": lambda c, b=basis: b}
        options = {"ftol": 1e-13, "maxiter": 300}
        other = minimize(loss, [0.1, 0, 0], jac=True, constraints=[above], method="SLSQP", options=options)
        assert loss(drop.planes.kept[region] * found.reshape(-1, 3)[region])[0] <= other.fun + 1e-6


@pytest.mark.parametrize("level", [0.02, 0.2, 1.0])
def test_gradient_on_a_dark_background(level):
    """Where a background is not at its best, the gradient at fixed background is not that of the whole."""
    problem = DiffractionProblem([exposure(settings(), 2, level)], [Free("misset_x"), Free("cell_b"), Free("fluence")])
    check = verify.check_gradient(problem, problem.start(1), directions=1)
    assert check.passed, check


def test_a_loss_of_ones_own():
    """A loss that the kernel does not know is fitted all the same."""

    class Own:
        def at(self, expected, observed):
            return Poisson().at(expected, observed)

    drop, _, spots = noisy_regions(4.0)
    np.testing.assert_allclose(drop.fitted(Own(), spots)[0], drop.fitted(Poisson(), spots)[0], atol=1e-9)


def test_backgrounds_of_every_kind():
    seen = exposure(settings())
    sizes = {}
    for kind in ("planes", "flat", "none"):
        problem = DiffractionProblem([seen], [Free("fluence")], background=kind)
        sizes[kind] = problem.backdrops[0].planes.size
        best = minimise(problem, np.zeros(1))
        assert best.status.converged
    assert sizes["none"] == 0
    assert sizes["flat"] == 1
    assert sizes["planes"] > 3
    with pytest.raises(InputError, match=r"refine.background = 'sky'"):
        DiffractionProblem([seen], [Free("fluence")], background="sky")


@pytest.mark.parametrize("loss", ["gaussian", "student", "huber"])
def test_other_losses_have_exact_gradients(loss):
    problem = DiffractionProblem([exposure(settings())], [Free("misset_x"), Free("fluence")], loss)
    check = verify.check_gradient(problem, problem.start(1), directions=0)
    assert check.passed, check


def test_an_unknown_loss_is_refused():
    with pytest.raises(InputError, match="must be poisson, gaussian, student, huber"):
        DiffractionProblem([exposure(settings())], [Free("fluence")], "least absolute")


def test_shared_own_and_tied_unknowns():
    first = settings()
    images = [first, first.replace(phi=20.0)]
    members = [Free("cell_a", (0, 1), ties=(("cell_b", 1.25),)), *image_own(Free("misset_x"), 2)]
    unknowns = Unknowns(images, members)
    assert unknowns.parameters(np.zeros(3)).labels() == ["cell_a", "misset_x of image 1", "misset_x of image 2"]
    x = np.array([0.7, 0.3, -2.0])
    moved = unknowns.settings(x)
    for one in moved:
        assert one.value("cell_b") == 1.25 * one.value("cell_a")
    assert moved[0].value("misset_x") != moved[1].value("misset_x")
    # a tie is the sum of both derivatives
    by_name = {"cell_a": 2.0, "cell_b": 3.0, "misset_x": 5.0}
    np.testing.assert_array_equal(unknowns.gradient(0, by_name), [2.0 + 1.25 * 3.0, 5.0, 0.0])
    step = 1e-6
    for place in range(3):
        up, down = (unknowns.values(x + sign * step * np.eye(3)[place]) for sign in (1, -1))
        assert (up - down)[place] / (2 * step) == pytest.approx(unknowns.slopes(x)[place], rel=1e-7)


def test_unknowns_stay_within_bounds():
    unknowns = Unknowns([settings("-mosaic 0.5")], [Free("misset_x", low=9.0, high=10.5), Free("mosaic"), Free("N")])
    for far in (-1e3, 1e3):
        values = unknowns.values(np.array([far, 20.0 * np.sign(far), far / 1e3]))
        assert 9.0 <= values[0] <= 10.5
        assert 0 <= values[1] <= 180
        assert values[2] >= 1
    np.testing.assert_allclose(unknowns.values(np.zeros(3)), [10.0, 0.5, 6.0], rtol=1e-12)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([Free("misset_x", low=11.0)], "starts at 10 deg: must lie between 11 and inf"),
        ([Free("cell_a"), Free("cell_a_A")], "cell_a_A of image 1 is free or tied twice"),
        ([Free("cell_a", ties=(("cell_a", 2.0),))], "free or tied twice"),
        ([Free("cel_a")], "no such parameter"),
        ([Free("mosaic")], "mosaic: no domain is turned"),
        ([], "nothing to refine"),
    ],
)
def test_bad_unknowns_are_told(members, message):
    with pytest.raises(InputError, match=message):
        DiffractionProblem([exposure(settings())], members)


def test_where_there_is_no_cell_the_loss_is_infinite():
    problem = DiffractionProblem([exposure(settings())], [Free("cell_alpha"), Free("cell_beta")])
    value, gradient, _ = problem.residual_products(np.array([2000.0, 2000.0]))
    assert value == np.inf
    assert not gradient.any()
    with pytest.raises(InputError):
        problem.residual_products(np.array([np.nan, 0.0]))


def test_a_restraint_counts_as_a_measurement():
    seen = exposure(settings())
    free = DiffractionProblem([seen], [Free("cell_b"), Free("fluence")])
    held = DiffractionProblem([seen], free.unknowns.members, restraints=[Restraint("cell_b_m", 24.9e-10, 1e-12)])
    x = np.zeros(2)
    more = held.information(x) - free.information(x)
    np.testing.assert_allclose(more, [[1 / 0.01**2, 0], [0, 0]], rtol=1e-6, atol=1e-6 * 1e4)
    assert held.penalty_and_gradient(x)[0] * held.pixels == pytest.approx(0.5 * (0.1 / 0.01) ** 2)
    pulled = minimise(held, x).x
    assert held.unknowns.values(pulled)[0] < free.unknowns.values(minimise(free, x).x)[0]


def test_no_predicted_spot_is_told():
    blind = settings("-distance 70").replace(distance=5000.0)
    with pytest.raises(InputError, match="still 4: no spot is predicted"):
        look_around_spots(blind, observe(np.ones((36, 36))), 2.0, name="still 4")


@pytest.mark.parametrize("names", [("lambda", "lambda[1]"), ("N", "Na"), ("dispersion", "lambda[0]")])
def test_names_that_state_one_number_are_refused_together(names):
    words = "-cell 50 60 70 90 90 90 -N 5 -default_F 100 -detpixels 32 -oversample 1 -dispersion 1 -dispsteps 3"
    settings = Simulator.from_nanobragg(words).settings
    with pytest.raises(InputError, match="the same number"):
        Unknowns([settings], [Free(name, (0,)) for name in names])
    Unknowns([settings], [Free(name, (0,)) for name in ("lambda", "cell_a", "distance", "misset_x", "fluence")])

"""Bugs put in on purpose, each through the checker that judges the real code: a row passes when its bug is caught.

They are the slips of the seed note (see the audit), and those that programs of this field have made: transposes, half
pixels, lost factors, angles that wrap, a transmission applied once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from exactgrad.core import verify
from exactgrad.core.verify import Altered, Check, plant
from exactgrad.tomography import model, reference
from exactgrad.tomography.configurations import PRIOR, small_problem, special_points
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.geometry import Geometry
from exactgrad.tomography.model import EQUATIONS, Stages
from exactgrad.tomography.problem import TomographyProblem
from exactgrad.tomography.sphere import angle_gradients

Rows = Iterator[Check]


def planted_bugs() -> list[Check]:
    """Run every planted bug."""
    makers = (_of_the_stages, _of_the_cotangents, _of_x, _of_the_prior, _of_the_angles, _of_the_data, _of_the_rest)
    return [check for maker in makers for check in maker()]


def _moved(matrix: Callable, **moves: Callable[[Geometry], Any]) -> Callable:
    """Return `joseph_matrix` of a geometry that is wrong in one way."""
    return lambda g, n: matrix(replace(g, **{name: move(g) for name, move in moves.items()}), n)


def printed_inverse(alpha: float, beta: float) -> np.ndarray:
    """Return the note's R_exp as printed, with sin(alpha) cos(beta) in entry (1,2): no rotation."""
    ca, sa, cb, sb = np.cos(alpha), np.sin(alpha), np.cos(beta), np.sin(beta)
    return np.array([[cb, sa * cb, -ca * sb], [0.0, ca, sa], [sb, -sa * cb, ca * cb]])


def _of_the_stages() -> Rows:
    """A wrong value with a gradient to match: only the comparison of kernel and equation sheet sees it."""
    from exactgrad.tomography.verification import check_kernel

    problem = small_problem(1)
    x = problem.start(1)
    matrix: Callable = model.joseph_matrix
    note = printed_inverse(0.5, 0.35)

    def nearest(g: Geometry, n: int) -> Any:
        """The nearest voxel of each slice: no interpolation."""
        whole = matrix(g, n)
        whole.data = np.round(whole.data / whole.data.max()) * whole.data.max()
        return whole

    bugs: dict[str, dict[str, Callable]] = {
        "rotation transposed": {"joseph_matrix": _moved(matrix, rotation=lambda g: g.rotation.transpose(0, 2, 1))},
        "sign of j_offset": {"joseph_matrix": _moved(matrix, j_offset=lambda g: -g.j_offset)},
        "half a pixel": {"joseph_matrix": _moved(matrix, k_offset=lambda g: g.k_offset + 0.5)},
        "j and k swapped": {
            "joseph_matrix": _moved(
                matrix, j_direction_0=lambda g: g.k_direction_0, k_direction_0=lambda g: g.j_direction_0
            )
        },
        "offsets of the next projection": {"joseph_matrix": _moved(matrix, j_offset=lambda g: np.roll(g.j_offset, 1))},
        "length of a ray in a slice dropped": {"project": lambda m, f: 0.99 * model.project(m, f)},
        "nearest voxel, no interpolation": {"joseph_matrix": nearest},
        "sign of B": {"density": lambda A, B, c: model.density(A, -B, c)},
        "cos^2 for sin^2": {"density": lambda A, B, c: model.density(A, B, np.sqrt(np.maximum(1 - c * c, 0.0)))},
        "A for A^2": {"density": lambda A, B, c: model.density(np.sqrt(np.abs(A)), B, c)},
        "exp(-B sin) (note, page 7)": {
            "density": lambda A, B, c: A[:, None] ** 2 * np.exp(-B[:, None] * np.sqrt(np.maximum(1 - c * c, 0.0)))
        },
        "R_exp as printed (note, page 1)": {"cosines": lambda u, q: model.cosines(u, q @ (note @ _right(note)))},
        "q of the next segment": {"cosines": lambda u, q: model.cosines(u, np.roll(q, 1, axis=0))},
    }
    for name, stages in bugs.items():
        yield plant(name, check_kernel(problem, x, stages=replace(EQUATIONS, **stages)))


def _right(printed: np.ndarray) -> np.ndarray:
    """Return the inverse of the rotation that the note's matrix should have been."""
    left, _, right = np.linalg.svd(printed)
    return (left @ right).T


def _of_the_cotangents() -> Rows:
    """A right value with a wrong gradient: complex steps must see it."""
    problem = small_problem(1)

    def density_cotangent(change: Callable) -> dict[str, Callable]:
        return {"density_cotangent": lambda A, B, c, g: change(model.density_cotangent(A, B, c, g), c)}

    bugs = {
        "back projection with equal shares": {
            "project_cotangent": lambda m, g: model.project_cotangent((m > 0) * abs(m).mean(), g)
        },
        "factor two of A lost (note, page 7)": density_cotangent(lambda d, c: (d[0] / 2, d[1], d[2])),
        "sin^2 cos for sin cos (note, page 7)": density_cotangent(
            lambda d, c: (d[0], d[1], d[2] * np.sqrt(np.maximum(1 - c * c, 0.0)))
        ),
        "sign of the derivative by B": density_cotangent(lambda d, c: (d[0], -d[1], d[2])),
        "transmission applied once": {"transmit_cotangent": lambda image, through: image},
        "axis pulled by the next segment's q": {
            "cosines_cotangent": lambda g, q: model.cosines_cotangent(g, np.roll(q, 1, axis=0))
        },
    }
    for name, stages in bugs.items():
        yield plant(name, _gradient_with(problem, replace(EQUATIONS, **stages)))


def _gradient_with(problem: TomographyProblem, stages: Stages) -> Check:
    """Judge the gradient that a corrupted equation sheet gives, beside the right value."""
    from exactgrad.tomography.verification import check_stepless

    x = problem.start(1)
    _, wrong = model.value_and_gradient(problem, x, stages)
    return check_stepless(_with_gradient(problem, lambda y: wrong), x, every=False)


def _with_gradient(problem: TomographyProblem, gradient: Callable[[np.ndarray], np.ndarray]) -> Any:
    return Altered(problem, value_and_gradient=lambda y: (problem.value_and_gradient(y)[0], gradient(y)))


def _of_x() -> Rows:
    """Wrong transposes of what lies between x and the fields."""
    from exactgrad.tomography.verification import check_stepless

    problem = small_problem(1)
    x = problem.start(1) * np.linspace(0.7, 1.4, problem.size)  # vectors of other lengths than one
    voxels = problem.voxels
    by_rows = model.value_and_gradient_by_rows(problem, problem.rows(x))[1]
    right = problem.value_and_gradient(x)[1]

    def changed(part: slice, values: np.ndarray) -> Any:
        wrong = right.copy()
        wrong[part] = values.ravel()
        return _with_gradient(problem, lambda y: wrong)

    axis = slice(2 * voxels, None)
    length = np.linalg.norm(x[axis].reshape(3, -1), axis=0)
    bugs = {
        "axis gradient not made tangent to the sphere": changed(axis, (by_rows[:, 2:].T / length)),
        "axis gradient not divided by |m|": changed(axis, right[axis].reshape(3, -1) * length),
        "unit of A forgotten": changed(slice(0, voxels), by_rows[:, 0]),
        "components last for components first": changed(axis, right[axis].reshape(3, -1).T),
    }
    for name, altered in bugs.items():
        yield plant(name, check_stepless(altered, x, every=False))
    single = _with_gradient(problem, lambda y: problem.value_and_gradient(y)[1].astype(np.float32).astype(float))
    yield plant("gradient in single precision", check_stepless(single, x, every=False))
    half = _with_gradient(problem, lambda y: 0.999 * problem.value_and_gradient(y)[1])
    yield plant("gradient a thousandth too small, Taylor", verify.check_taylor(half, x))


def _of_the_prior() -> Rows:
    """Slips in the regularisation."""
    from exactgrad.tomography.verification import check_stepless

    problem = small_problem(1, regularisation=PRIOR)
    x = problem.start(1)

    def without(**change: Any) -> Any:
        other = problem.with_regularisation(replace(PRIOR, **change))
        return Altered(
            problem,
            penalty_and_gradient=lambda y: (problem.penalty_and_gradient(y)[0], other.penalty_and_gradient(y)[1]),
        )

    def directed(y: np.ndarray) -> tuple[float, np.ndarray]:
        """|u - u'|^2/2: u and -u are not the same axis."""
        value, gradient = problem.with_regularisation(replace(PRIOR, smooth={"B": 0.2, "A": 0.5})).penalty_and_gradient(
            y
        )
        m = y[2 * problem.voxels :].reshape(3, -1)
        u = m / np.linalg.norm(m, axis=0)
        by_u = np.zeros_like(u)
        for one, other in problem._pairs:
            by_u[:, one] += 0.3 * (u[:, one] - u[:, other])
            by_u[:, other] += 0.3 * (u[:, other] - u[:, one])
        gradient[2 * problem.voxels :] += ((by_u - u * np.sum(u * by_u, axis=0)) / np.linalg.norm(m, axis=0)).ravel()
        return value, gradient

    bugs = {
        "u and -u taken for two axes": Altered(problem, penalty_and_gradient=directed),
        "slope of Tikhonov for total variation": without(delta={}),
        "ridge dropped from the gradient": without(ridge={}),
        "smoothness of the axis dropped from the gradient": without(smooth={"B": 0.2, "A": 0.5}),
    }
    for name, altered in bugs.items():
        yield plant(name, check_stepless(altered, x, every=False))


def _of_the_angles() -> Rows:
    """Slips in the gradient by the note's two angles."""
    from exactgrad.tomography.verification import check_angles

    problem = small_problem(2, e0=0.1)
    x = problem.start(2)

    def by(change: Callable[[dict[str, np.ndarray], dict[str, np.ndarray]], dict]) -> Callable:
        def wrong(**at: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
            value, gradient = problem.loss_and_gradient(**at)
            return value, {**gradient, **change(gradient, at)}

        return wrong

    def sine_lost(gradient: dict, at: dict) -> dict:
        sine = np.sin(at["theta_op"])
        return {"phi_op": np.divide(gradient["phi_op"], sine, out=0.0 * sine, where=sine > 0)}

    yield plant("sin(theta_op) lost by phi_op", check_angles(problem, x, "phi_op", by(sine_lost)))
    swapped = by(lambda gradient, at: {"theta_op": gradient["phi_op"], "phi_op": gradient["theta_op"]})
    yield plant("theta_op and phi_op swapped", check_angles(problem, x, "theta_op", swapped))

    point, pole = special_points()["axes along measured q"]

    def divided(**at: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
        """The note's form: a derivative of Theta, over sin(Theta), which is 0 where an axis lies on a measured q."""
        value, gradient = point.loss_and_gradient(**at)
        axis = reference.axes(at["theta_op"], at["phi_op"]).reshape(-1, 3)
        q = point.geometry.q_vectors().reshape(-1, 3)
        sine = np.sqrt(np.maximum(1 - (axis @ q.T) ** 2, 0.0)).min(axis=1).reshape(at["A"].shape)
        with np.errstate(invalid="ignore", divide="ignore"):
            return value, {**gradient, "theta_op": gradient["theta_op"] * sine / np.where(sine < 1e-8, 0.0, sine)}

    yield plant("divided by sin(Theta) (note), axes along q", check_angles(point, pole, "theta_op", divided))
    by_axis = problem.loss_and_gradient(**problem.fields(x))[1]["axis"]

    def degrees(gradient: dict, at: dict) -> dict:
        return {"theta_op": angle_gradients(at["theta_op"], np.degrees(at["phi_op"]), by_axis)[0]}

    yield plant("degrees for radians", check_angles(problem, x, "theta_op", by(degrees)))


def _of_the_data() -> Rows:
    """Slips in what is read: weights, dead pixels, masks, offsets and transmission."""
    from exactgrad.tomography.verification import check_geometry, check_value

    problem = small_problem(1, e0=0.1)
    x, data = problem.start(1), problem.data

    def value_of(other: TomographyProblem) -> Any:
        return Altered(problem, value_and_gradient=other.value_and_gradient)

    bugs = {
        "e0 under the model's root only": replace(data, data=data.data - np.float32(0.1)),
        "weights dropped": replace(data, weights=None),
        "data divided by the transmission, too": Dataset(
            data.geometry, data.data / data.transmission[..., None], data.weights, data.transmission
        ),
        "weights of the next projection": replace(data, weights=np.roll(data.weights, 1, axis=0)),
    }
    for name, wrong in bugs.items():
        yield plant(name, check_value(value_of(problem.with_data(wrong)), x))
    dead = replace(data, data=np.where(np.arange(data.shape[3]) == 2, np.nan, data.data))
    counted = problem.with_data(replace(dead, data=np.nan_to_num(dead.data)))
    blind: Any = Altered(problem.with_data(dead), value_and_gradient=counted.value_and_gradient)
    yield plant("NaN counts as zero, not as weight 0", check_value(blind, x))

    def geometry(**change: Callable) -> Callable:
        def wrong(y: np.ndarray) -> dict[str, np.ndarray]:
            found = problem.geometry_gradient(y)
            return {**found, **{name: act(found) for name, act in change.items()}}

        return wrong

    yield plant(
        "j_offset moves the sample, not the rays",
        check_geometry(problem, x, "j_offset", geometry(j_offset=lambda found: -found["j_offset"])),
    )
    yield plant(
        "derivative by k_offset is that by j_offset",
        check_geometry(problem, x, "k_offset", geometry(k_offset=lambda found: found["j_offset"])),
    )
    yield plant(
        "derivative by the transmission without the last segment",
        check_geometry(problem, x, "transmission", geometry(transmission=lambda found: 0.8 * found["transmission"])),
    )


def _of_the_rest() -> Rows:
    """Hessians, the transpose, the projector."""
    from exactgrad.tomography.verification import check_gauss_newton, jacobian_check, matrix_check

    problem = small_problem(1, regularisation=PRIOR)
    x = problem.start(1)
    bare = problem.with_regularisation(None)
    wrong: Any = Altered(problem, hessian_product=bare.hessian_product)
    yield plant("prior left out of the Hessian", verify.check_hessian(wrong, x)[0])
    wrong = Altered(problem, hessian_product=problem.gauss_newton_product)
    yield plant("Gauss-Newton passed off as the Hessian", verify.check_hessian(wrong, x)[0])
    wrong = Altered(problem, hessian_product=lambda y, v: problem.hessian_product(y, np.roll(v, 1)))
    yield plant("a Hessian that is not symmetric", verify.check_hessian(wrong, x)[1])
    wrong = Altered(bare, gauss_newton_product=lambda y, v: np.linspace(1, 2, v.size) * bare.gauss_newton_product(y, v))
    yield plant("Gauss-Newton that is not symmetric", check_gauss_newton(wrong, x))
    yield plant("tangent and cotangent of two scales", jacobian_check(bare, bare.rows(x), "transpose", wrong=1 + 1e-10))

    def clipped(g: Geometry, n: int, j: Any, k: Any) -> np.ndarray:
        """Rays half outside are left out."""
        whole = reference.shares(g, n, j, k)
        whole[:, 0] = 0.0
        return whole

    yield plant("a voxel at the edge left out", matrix_check(0, clipped))

"""`exactgrad verify tomography`: everything that must be true of the cost and of its derivative by every quantity.

References: the equation sheet (`model`), the cost anew in complex numbers (`reference`), differences, whole matrices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from exactgrad.core import verify
from exactgrad.core.solve import total_loss
from exactgrad.core.verify import Check, judge, worst
from exactgrad.tomography import kernel, model, reference
from exactgrad.tomography.configurations import example_problems, small_geometry, small_problem, special_points
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.problem import TomographyProblem
from exactgrad.tomography.projection import Projector
from exactgrad.tomography.reference import Reference
from exactgrad.tomography.sphere import angles_from_axis

KERNEL_TOLERANCE = 1e-12
STEPLESS_TOLERANCE = 1e-11  # of max |g|: the kernel's exponential is good to 2e-14, a derivative multiplies it by |B|
DENSE = 4  # random directions at each point
MOST_SWEPT = 2  # points that are also checked by sweeps of differences
BY = "complex step of the stated formulas"
ANGLES = ("A", "B", "theta_op", "phi_op")
GEOMETRY = ("j_offset", "k_offset", "transmission")


def checks(cases: int, seed: int) -> list[Check]:
    """Check the gradients of all example problems, at `cases` random points each, and run the planted bugs.

    Parameters
    ----------
    cases : int
        Random points of each problem, >= 1.
    seed : int
        Of the first point.

    Returns
    -------
    list of Check
    """
    from exactgrad.tomography.planted import planted_bugs

    problems = example_problems()
    points = {name: [problem.start(seed + i) for i in range(cases)] for name, problem in problems.items()}
    found: list[Check] = []
    for name, problem in problems.items():
        found += _problem_checks(name, problem, points[name], seed)
    found += _field_checks(problems, points)
    found += [_of_quantity(name, (case_check(name, seed + i) for i in range(cases))) for name in (*ANGLES, *GEOMETRY)]
    found += [singular_check(name, problem, x) for name, (problem, x) in special_points().items()]
    found += [*limit_checks(), matrix_check(seed), *_transpose_checks(seed), _thread_check()]
    return found + planted_bugs()


# -- problems ---------------------------------------------------------------------------------------------------------


def _problem_checks(name: str, problem: TomographyProblem, points: list[np.ndarray], seed: int) -> list[Check]:
    """Return a row of each kind for one problem: the worst over its points."""
    few = points[:MOST_SWEPT]
    hessian = [verify.check_hessian(problem, x, f"Hessian: {name}", seed) for x in few]
    rows = [
        worst(check_value(problem, x, f"value: {name}") for x in points),
        worst(check_stepless(problem, x, f"gradient: {name}", i, every=not i) for i, x in enumerate(points)),
        worst(verify.check_gradient(problem, x, f"gradient, differences: {name}", seed) for x in few),
        worst(verify.check_taylor(problem, x, f"Taylor slope: {name}", seed) for x in few),
        worst(pair[0] for pair in hessian),
        worst(pair[1] for pair in hessian),
        worst(check_gauss_newton(problem, x, f"Gauss-Newton: {name}", seed) for x in few),
        worst(verify.check_determinism(problem, x, f"bit-equal: {name}") for x in few),
    ]
    if problem.model.name == "uniaxial":
        rows.append(worst(check_kernel(problem, x, f"kernel: {name}") for x in points))
    return rows


def check_value(problem: TomographyProblem, x: np.ndarray, name: str = "value") -> Check:
    """Compare cost + regularisation with the reference's; error relative to it."""
    expected = float(Reference(problem).loss(x))
    error = abs(total_loss(problem)(x)[0] - expected) / max(abs(expected), 1e-300)
    return judge(name, "the stated formulas anew (reference.py)", error, KERNEL_TOLERANCE)


def check_stepless(
    problem: TomographyProblem, x: np.ndarray, name: str = "gradient", seed: int = 0, every: bool = True
) -> Check:
    """Compare the gradient with complex steps along random directions, and of `every` entry; relative to max |g|."""
    gradient = total_loss(problem)(x)[1]
    if not np.isfinite(gradient).all():
        return judge(name, BY, np.nan, STEPLESS_TOLERANCE)
    directions = list(np.random.default_rng(seed).normal(size=(DENSE, x.size)) / np.sqrt(x.size))
    directions += list(np.eye(x.size)) if every else []
    loss = Reference(problem).loss
    errors = np.array([abs(reference.slope(loss, x, v) - gradient @ v) for v in directions])
    error = errors.max() / max(np.abs(gradient).max(), verify.STATIONARY)
    where = problem.parameters(x).labels()[int(np.argmax(errors[DENSE:]))] if every else ""
    return judge(name, BY, error, STEPLESS_TOLERANCE, where)


def check_kernel(
    problem: TomographyProblem, x: np.ndarray, name: str = "kernel", stages: model.Stages = model.EQUATIONS
) -> Check:
    """Compare the fused kernel's value and gradient with the equation sheet's; error relative to max |g|."""
    error, where = model.kernel_error(problem, x, stages)
    return judge(name, "equation sheet (model.py)", error, KERNEL_TOLERANCE, where)


def check_gauss_newton(problem: TomographyProblem, x: np.ndarray, name: str = "Gauss-Newton", seed: int = 0) -> Check:
    """Require symmetry, no negative value of v.Hv, and that of a perfect fit to be the Hessian."""
    u, v = np.random.default_rng(seed).normal(size=(2, problem.size))
    hu, hv = problem.gauss_newton_product(x, u), problem.gauss_newton_product(x, v)
    asymmetry = abs(u @ hv - v @ hu) / max(np.linalg.norm(hu) * np.linalg.norm(v), 1e-300)
    data = problem.data
    perfect = Dataset(data.geometry, problem.predict(x), data.weights, data.transmission)
    fitted = problem.with_data(perfect).with_regularisation(None)
    exact = fitted.hessian_product(x, u)
    apart = np.abs(fitted.gauss_newton_product(x, u) - exact).max() / max(np.abs(exact).max(), 1e-300)
    error = np.inf if u @ hu < 0 else max(asymmetry, apart)
    return judge(name, "u.Hv = v.Hu >= 0; the Hessian of a perfect fit", error, 1e-10)


# -- quantities -------------------------------------------------------------------------------------------------------


def _of_quantity(name: str, rows: Any) -> Check:
    return replace(worst(rows), name=f"gradient: {name}")


def _field_checks(problems: dict[str, TomographyProblem], points: dict[str, list[np.ndarray]]) -> list[Check]:
    """Return a row for each field of each model, over the problems in which it is free: entry by entry."""
    rows: dict[str, list[Check]] = {}
    for which, problem in problems.items():
        x = points[which][0]
        gradient = total_loss(problem)(x)[1]
        loss = Reference(problem).loss
        first = 0
        for field in problem.free:
            inside = range(first, first := first + field.components * problem.voxels)
            wanted = np.array([reference.slope(loss, x, np.eye(1, x.size, i)[0]) for i in inside])
            error = np.abs(wanted - gradient[inside.start : inside.stop]).max() / max(np.abs(wanted).max(), 1e-3)
            row = judge(f"gradient: {problem.model.name}.{field.name}", BY, error, STEPLESS_TOLERANCE, which)
            rows.setdefault(row.name, []).append(row)
    return [worst(found) for found in rows.values()]


def case_check(name: str, seed: int, quantity: Callable[..., Check] | None = None) -> Check:
    """Check the derivative by a quantity that x does not hold: an angle, an offset, the transmission."""
    problem = small_problem(seed % 100, e0=0.1)
    x = problem.start(seed)
    if quantity is not None:
        return quantity(problem, x, name)
    return check_angles(problem, x, name) if name in ANGLES else check_geometry(problem, x, name)


def check_angles(
    problem: TomographyProblem,
    x: np.ndarray,
    name: str,
    loss_and_gradient: Callable[..., tuple[float, dict[str, np.ndarray]]] | None = None,
) -> Check:
    """Compare every entry of the gradient by A, B, theta_op or phi_op, as volumes, with a complex step."""
    volumes = problem.fields(x)
    theta, phi = angles_from_axis(volumes["axis"])
    at = {"A": volumes["A"], "B": volumes["B"], "theta_op": theta, "phi_op": phi}
    _, gradient = (loss_and_gradient or problem.loss_and_gradient)(**at)
    anew = Reference(problem)

    def cost(values: np.ndarray) -> Any:
        flat = {**{key: value[problem.mask] for key, value in at.items()}, name: values}
        axis = reference.axes(flat["theta_op"], flat["phi_op"])
        return anew.cost({"A": flat["A"], "B": flat["B"], "axis": axis})

    start, found = at[name][problem.mask], gradient[name][problem.mask]
    wanted = np.array([reference.slope(cost, start, v) for v in np.eye(start.size)])
    error = np.abs(found - wanted)
    outside = np.abs(gradient[name][~problem.mask]).max(initial=0.0)
    voxel = np.argwhere(problem.mask)[int(np.argmax(error))]
    scale = max(np.abs(wanted).max(), verify.STATIONARY)
    return judge(
        f"gradient: {name}", BY, max(error.max(), outside) / scale, STEPLESS_TOLERANCE, f"{name}{voxel.tolist()}"
    )


def check_geometry(
    problem: TomographyProblem,
    x: np.ndarray,
    name: str,
    geometry_gradient: Callable[[np.ndarray], dict[str, np.ndarray]] | None = None,
) -> Check:
    """Compare every entry of the gradient by an offset or the transmission with a complex step."""
    found = (geometry_gradient or problem.geometry_gradient)(x)[name]
    volumes = {key: value[problem.mask] for key, value in problem.fields(x).items()}
    start = problem.data.transmission if name == "transmission" else getattr(problem.geometry, name)
    anew = Reference(problem)

    def cost(values: np.ndarray) -> Any:
        return anew.cost(volumes, **{name: values})

    entries = np.eye(start.size).reshape(-1, *start.shape)[:: 1 if start.size < 50 else 7]
    wanted = np.array([reference.slope(cost, start, v) for v in entries])
    error = np.abs(wanted - [np.sum(found * v) for v in entries])
    scale = max(np.abs(wanted).max(), verify.STATIONARY)
    return judge(f"gradient: {name}", BY, error.max() / scale, STEPLESS_TOLERANCE, f"entry {int(np.argmax(error))}")


# -- singular points, limits ------------------------------------------------------------------------------------------


def singular_check(name: str, problem: TomographyProblem, x: np.ndarray) -> Check:
    """Check kernel, gradient by x and gradients by both angles at a point where printed formulas are 0/0."""
    if (problem.fields(x)["A"][problem.mask] == 0).any():  # and so some rays: the cost is a cone there
        problem = TomographyProblem(problem.data, e0=0.1, mask=problem.mask)
    rows = [check_kernel(problem, x), check_stepless(problem, x)]
    rows += [check_angles(problem, x, angle) for angle in ANGLES]
    found = worst(rows)
    return replace(found, name=f"singular: {name}", note=f"worst of {len(rows)}: {found.name}")


def limit_checks() -> list[Check]:
    """Check the gradient where rays are empty, and where all are: finite, and the limit's."""
    geometry = small_geometry(1, projection_shape=(14, 13))
    empty = Dataset(geometry, np.zeros((4, 14, 13, 5)))
    whole = TomographyProblem(empty)
    weights = np.random.default_rng(0).random((4, 14, 13, 5))
    weights[..., 2] = 0.0
    problem = TomographyProblem(Dataset(geometry, whole.predict(whole.start(7)), weights))
    x = problem.start(1)
    rows = [replace(check_stepless(problem, x, every=False), name="singular: empty rays and dead segments")]
    dark = small_problem(1)
    by_field = []
    for amplitude in (0.0, 1e-12):
        x = dark.vector(A=np.full(dark.mask.shape, amplitude))
        gradient = dark.value_and_gradient(x)[1]
        by_field.append(np.abs(gradient).reshape(5, -1).max(axis=1))
    at_zero, near = by_field
    # at A = 0 the cost is a cone in A: the middle of its sides is zero; beside it B and the axis have none either
    error = max(at_zero.max(), near[1:].max()) if np.isfinite(near).all() and near[0] > 1 else np.nan
    return [*rows, judge("singular: every ray empty (A = 0)", "the limit in closed form", error, 1e-9)]


# -- projection -------------------------------------------------------------------------------------------------------


def matrix_check(seed: int, shares: Callable[..., np.ndarray] = reference.shares) -> Check:
    """Compare P and P^T, entry by entry, with Joseph's shares written anew; absolute (shares are of order one)."""
    errors = []
    for n, geometry in ((n, small_geometry(seed % 100 + i)) for i in range(3) for n in range(4)):
        projector = Projector(geometry, np.ones(geometry.volume_shape, bool))
        forward, back = _matrices(projector, n)
        expected = shares(geometry, n, geometry.j_offset[n], geometry.k_offset[n])
        errors.append(max(np.abs(forward - expected).max(), np.abs(back - forward).max()))
    return judge("projection: whole matrices", "Joseph's shares anew; the transpose", max(errors), KERNEL_TOLERANCE)


def _matrices(projector: Projector, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return P and P^T, transposed, of one projection, column by column and row by row through the kernel."""
    pixels, last = int(np.prod(projector.geometry.projection_shape)), projector.geometry.segments - 1
    forward, back = np.empty((2, pixels, projector.voxels))
    for voxel in range(projector.voxels):
        density, image = np.zeros((projector.voxels, projector.lanes)), projector.image()
        density[voxel] = 1.0
        kernel.project(projector._slices(n, density), *projector.rays_through(n), image)
        forward[:, voxel] = projector.segments(image)[..., last].ravel()
    for pixel in range(pixels):
        image = projector.image()
        image[pixel * projector.lanes + last] = 1.0
        back[pixel] = projector._back_project(n, image, projector.whole)[1][:, last]
    return forward, back


def _transpose_checks(seed: int) -> list[Check]:
    """Compare <J v, w> with <v, J^T w> of whole models, and the fused tangent with a step along it."""
    found = []
    for name in ("uniaxial", "zonal", "tensor"):
        problem = small_problem(1, model=name)
        rows = problem.rows(problem.start(seed))
        found.append(jacobian_check(problem, rows, f"transpose: {name}"))
    return found


def jacobian_check(problem: TomographyProblem, rows: np.ndarray, name: str, wrong: float = 1.0) -> Check:
    """Dot test of the tangent and the cotangent of one projection's image by the rows; `wrong` multiplies one."""
    projector, shape = problem.projector, problem.data.shape[1:]

    def push(changes: np.ndarray) -> np.ndarray:
        return wrong * projector.segments(projector.forward_tangent(problem.model, rows, changes, 1)).copy()

    def pull(image: np.ndarray) -> np.ndarray:
        gradient, padded = np.zeros_like(rows), projector.image()
        projector.segments(padded)[:] = image
        projector.backward(problem.model, rows, 1, padded, gradient)
        return gradient

    return verify.dot_test(push, pull, (rows.shape, shape), name)


def _thread_check() -> Check:
    """Check a problem that is large enough to be spread over threads."""
    geometry = small_geometry(0, n=40, projection_shape=(20, 20), volume_shape=(20, 20, 20))
    empty = Dataset(geometry, np.ones((40, 20, 20, 5)))
    problem = TomographyProblem(empty)
    return verify.check_determinism(problem, problem.start(0), "bit-equal: 40 projections of 8000 voxels on threads")

"""Projection: golden sets, an independent oracle, the transpose as a whole matrix, and bugs that must be caught."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.integrate import quad
from tomography_cases import fields_of, golden_mumott, golden_plain, small_geometry, small_problem

from exactgrad.core.verify import dot_test
from exactgrad.tomography import kernel, model, uniaxial_kernel
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.geometry import Geometry
from exactgrad.tomography.problem import TomographyProblem
from exactgrad.tomography.projection import Model, Projector
from exactgrad.tomography.tensor import Tensor
from exactgrad.tomography.uniaxial import Uniaxial
from exactgrad.tomography.zonal import Zonal


@pytest.mark.parametrize("name", ["g1_seed_frame.h5", "g3_needles.h5"])
def test_forward_of_the_golden_sets(name: str) -> None:
    data, held = golden_plain(name)
    found = TomographyProblem(data).forward(**fields_of(held))
    assert np.abs(found - held["I"]).max() <= 1e-12 * held["I"].max()


def test_forward_of_the_mumott_set_holds_the_transmission() -> None:
    data, truth = golden_mumott()
    found = TomographyProblem(data).forward(**fields_of(truth))
    expected = truth["I"] * data.transmission[..., None]
    assert np.linalg.norm(found - expected) <= 1e-7 * np.linalg.norm(expected)


def test_segment_means_of_the_mumott_set() -> None:
    """Its means are a three-point Simpson rule: so close is that to the integral."""
    data, truth = golden_mumott()
    g = data.geometry
    mean = Geometry(
        g.rotation, g.projection_shape, g.volume_shape, g.detector_angles, g.j_offset, g.k_offset, g.p_direction_0,
        g.j_direction_0, g.k_direction_0, g.detector_direction_origin, g.detector_direction_positive_90, 0.0, "mean",
    )  # fmt: skip
    found = TomographyProblem(data.with_geometry(mean)).forward(**fields_of(truth))
    expected = truth["I_simpson"] * data.transmission[..., None]
    assert np.linalg.norm(found - expected) <= 2e-5 * np.linalg.norm(expected)


def test_cost_and_gradient_of_the_golden_set() -> None:
    data, held = golden_plain("g1_seed_frame.h5")
    value, gradient = TomographyProblem(data).loss_and_gradient(**fields_of(held, "eval_"))
    assert value == pytest.approx(float(held["eval_cost"]), rel=1e-12)
    for name, found in gradient.items():
        expected = held[f"eval_grad_{name}"]
        assert np.abs(found - expected).max() <= 1e-12 * np.abs(expected).max(), name


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"integration": "mean", "two_theta": 0.2},
        {"detector_angles": [0.4]},
        {"detector_angles": np.arange(9) * 0.7, "cost": "poisson"},
        {"volume_shape": (1, 1, 7), "projection_shape": (9, 2), "cost": "gaussian", "mask": np.ones((1, 1, 7), bool)},
        {"volume_shape": (9, 11, 10), "mask": np.ones((9, 11, 10), bool)},  # more than a block of voxels in a slice
        {"free": ("B",)},
    ],
)
def test_the_kernel_is_the_equation_sheet(options: dict) -> None:
    problem = small_problem(**options)
    for seed in (1, 2):
        error, where = model.kernel_error(problem, problem.start(seed))
        assert error <= 1e-12, where


@pytest.mark.parametrize(
    ("own", "plain"),
    [
        (Uniaxial(), Uniaxial(kernels=None)),
        (Tensor(), Tensor(kernels=None)),
        (Zonal(), Zonal(is_fused=False)),
        (Zonal(2), Zonal(2, is_fused=False)),
    ],
    ids=["uniaxial", "tensor", "zonal", "zonal of order 2"],
)
def test_the_fused_kernel_is_the_numpy_model(own: Model, plain: Model) -> None:
    """The same model without its kernels goes through the general path."""
    fused = small_problem(integration="mean", model=own)
    other = TomographyProblem(fused.data, model=plain, mask=fused.mask)
    x, v = fused.start(1), fused.start(2)
    for f in ("value_and_gradient", "predict"):
        found, expected = getattr(fused, f)(x), getattr(other, f)(x)
        for one, two in zip(found, expected, strict=True):
            assert np.abs(one - two).max() <= 1e-12 * np.abs(two).max()
    for f in (lambda p: p.hessian_product(x, v), lambda p: p.gauss_newton_product(x, v)):
        assert np.abs(f(fused) - f(other)).max() <= 1e-11 * np.abs(f(other)).max()
    for one, two in zip(fused.geometry_gradient(x).values(), other.geometry_gradient(x).values(), strict=True):
        assert np.abs(one - two).max() <= 1e-11 * np.abs(two).max()


def test_a_walk_is_compiled_when_it_is_asked_for() -> None:
    kernels = kernel.Kernels("again", uniaxial_kernel.density)
    assert "forward" not in vars(kernels)
    assert kernels.forward is kernels.forward
    with pytest.raises(AttributeError, match="sideways"):
        kernels.sideways  # noqa: B018


@pytest.mark.parametrize("exponent", np.linspace(-40, 40, 9))
def test_the_exponential(exponent: float) -> None:
    """Through the kernel: one voxel, one ray, q at right angles to the axis, so that I = exp(-B)."""
    g = Geometry(np.eye(3)[None], (1, 1), (1, 1, 1), [0.0])
    problem = TomographyProblem(Dataset(g, np.ones((1, 1, 1, 1))))
    one = np.ones((1, 1, 1))
    found = problem.forward(A=one, B=exponent * one, theta_op=0 * one, phi_op=0 * one).item()
    assert found == pytest.approx(np.exp(-exponent), rel=1e-13)


@pytest.mark.parametrize(("exponent", "expected"), [(800.0, 0.0), (-709.0, np.exp(709.0))])
def test_the_exponential_at_its_ends(exponent: float, expected: float) -> None:
    g = Geometry(np.eye(3)[None], (1, 1), (1, 1, 1), [0.0])
    problem = TomographyProblem(Dataset(g, np.ones((1, 1, 1, 1))))
    one = np.ones((1, 1, 1))
    found = problem.forward(A=one, B=exponent * one, axis=np.array([[[[0.0, 1.0, 0.0]]]])).item()
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-300)


# The projector alone, through the linear model ---------------------------------------------------------------------


def matrices(projector: Projector, n: int) -> tuple[np.ndarray, np.ndarray]:
    """P and P^T of one projection, column by column, through `project` and `back_project`."""
    voxels = projector.voxels
    columns = []
    for voxel in range(voxels):
        density = np.zeros((voxels, projector.lanes))
        density[voxel] = 1.0
        image = projector.image()
        kernel.project(projector._slices(n, density), *projector.rays_through(n), image)
        columns.append(projector.segments(image)[..., -1].ravel().copy())
    rows = []
    for pixel in np.ndindex(projector.geometry.projection_shape):
        image = projector.image()
        projector.segments(image)[pixel] = 1.0
        rows.append(projector._back_project(n, image, projector.whole)[1][:, projector.geometry.segments - 1])
    return np.array(columns).T, np.array(rows)


@pytest.mark.parametrize("seed", range(3))
def test_the_transpose_is_the_transpose_entry_by_entry(seed: int) -> None:
    geometry = small_geometry(seed)
    projector = Projector(geometry, np.ones(geometry.volume_shape, bool))
    for n in range(geometry.projections):
        forward, back = matrices(projector, n)
        expected = model.joseph_matrix(geometry, n).toarray()
        assert expected.any()
        assert np.abs(forward - expected).max() <= 1e-13
        assert np.abs(back - forward).max() <= 1e-15


@pytest.mark.parametrize("name", ["uniaxial", "zonal"])
@pytest.mark.parametrize("integration", ["midpoint", "mean"])
def test_slabs_together_are_the_whole(name: str, integration: str) -> None:
    """However the volume is cut, each voxel's gradient has the same bits: threads may share it."""
    problem = small_problem(3, model=name, integration=integration, n=7)
    rows, rng = problem.rows(problem.start(1)), np.random.default_rng(0)
    for n in range(7):
        image = problem._cotangent(np.ones((6, 5)), rng.normal(size=(6, 5, 5)))
        whole = np.zeros_like(rows)
        problem.projector.backward(problem.model, rows, n, image, whole)
        for count in (2, 3, 9):
            parts = np.zeros_like(rows)
            for slab in problem.projector.slabs(count):
                problem.projector.backward(problem.model, rows, n, image, parts, slab)
            assert np.abs(parts - whole).max() <= (0.0 if name == "uniaxial" else 1e-14 * np.abs(whole).max())


@pytest.mark.parametrize("count", [1, 2, 3, 4, 50])
def test_slabs_are_balanced_and_leave_nothing_out(count: int) -> None:
    mask = np.zeros((9, 4, 4), bool)
    mask[2:4] = mask[7] = True
    projector = Projector(small_geometry(0, volume_shape=mask.shape), mask)
    slabs = projector.slabs(count)
    assert len(slabs) <= count and [slab[0] for slab in slabs[1:]] == [slab[1] for slab in slabs[:-1]]
    assert (slabs[0][0], slabs[-1][1]) == (0, 9)
    if count == 3:
        assert [int(mask[slice(*slab)].sum()) for slab in slabs] == [16, 16, 16]


def test_the_transpose_by_inner_products() -> None:
    problem = small_problem(1, model="tensor", cost="gaussian")
    projector, tensor = problem.projector, Tensor()
    shape = (*problem.geometry.projection_shape, problem.geometry.segments)

    def apply(rows: np.ndarray) -> np.ndarray:
        return projector.segments(projector.forward(tensor, rows, 1)).copy()

    def transpose(image: np.ndarray) -> np.ndarray:
        gradient = np.zeros((6, problem.voxels)).T
        projector.backward(tensor, gradient, 1, problem._cotangent(np.ones(shape[:2]), image), gradient)
        return gradient

    check = dot_test(apply, transpose, ((problem.voxels, 6), shape))
    assert check.passed, check


def test_nothing_is_clipped_at_the_boundary() -> None:
    """A ray at any distance from a voxel's centre gets its bilinear share 1 - |distance|, on all four sides."""
    for axis in range(2):
        for distance in np.linspace(-1.2, 1.2, 25):
            offsets = [distance if i == axis else 0.0 for i in range(2)]
            g = Geometry(np.eye(3)[None], (1, 1), (1, 1, 1), [0.0], *offsets)
            found = TomographyProblem(Dataset(g, np.ones((1, 1, 1, 1)))).forward(
                A=np.full((1, 1, 1), 2.0),
                B=np.zeros((1, 1, 1)),
                theta_op=np.zeros((1, 1, 1)),
                phi_op=np.zeros((1, 1, 1)),
            )
            assert found.item() == pytest.approx(4.0 * max(0.0, 1 - abs(distance)), abs=1e-12)


def test_rays_may_pass_far_beside_the_volume() -> None:
    problem = small_problem(3)
    beside = problem.with_offsets(1e6, -1e6)
    assert not beside.predict(problem.start(0)).any()


def test_a_smooth_blob_projects_to_its_integral() -> None:
    """An isotropic Gaussian blob: line integrals in closed form, to the accuracy of linear interpolation."""
    size, width = 25, 3.5
    g = small_geometry(2, n=3, volume_shape=(size,) * 3, projection_shape=(9, 9), detector_angles=[0.5])
    at = np.indices((size,) * 3) - (size - 1) / 2
    blob = np.exp(-(at**2).sum(axis=0) / 2 / width**2)
    zero = np.zeros(blob.shape)
    found = TomographyProblem(Dataset(g, np.ones((3, 9, 9, 1)))).forward(
        A=np.sqrt(blob), B=zero, theta_op=zero, phi_op=zero
    )
    along = quad(lambda z: np.exp(-(z**2) / 2 / width**2), -np.inf, np.inf)[0]
    place = np.arange(9) - 4.0
    for n in range(3):
        squares = (place + g.j_offset[n])[:, None] ** 2 + (place + g.k_offset[n]) ** 2
        assert np.abs(found[n, ..., 0] - along * np.exp(-squares / 2 / width**2)).max() < 0.03 * along


# Planted bugs: each alters one stage, and the kernel's comparison must see it -----------------------------------------


def shifted(geometry: Geometry, **change: object) -> Geometry:
    from dataclasses import replace

    return replace(geometry, **change)


BUGS: dict[str, Callable[[], model.Stages]] = {
    "rotation transposed": lambda: model.Stages(
        joseph_matrix=lambda g, n: model.joseph_matrix(shifted(g, rotation=g.rotation.transpose(0, 2, 1)), n)
    ),
    "offset sign": lambda: model.Stages(
        joseph_matrix=lambda g, n: model.joseph_matrix(shifted(g, j_offset=-g.j_offset), n)
    ),
    "half a pixel": lambda: model.Stages(
        joseph_matrix=lambda g, n: model.joseph_matrix(shifted(g, k_offset=g.k_offset + 0.5), n)
    ),
    "ray length dropped": lambda: model.Stages(project=lambda m, f: 0.99 * model.project(m, f)),
    "back projection untransposed weights": lambda: model.Stages(
        project_cotangent=lambda m, g: model.project_cotangent((m > 0) * abs(m).mean(), g)
    ),
    "sin^2 for sin": lambda: model.Stages(
        density_cotangent=lambda A, B, c, g: (
            *model.density_cotangent(A, B, c, g)[:2],
            model.density_cotangent(A, B, c, g)[2] * np.sqrt(np.maximum(1 - c * c, 0)),
        )
    ),
    "factor two of A lost": lambda: model.Stages(
        density_cotangent=lambda A, B, c, g: (
            model.density_cotangent(A, B, c, g)[0] / 2,
            *model.density_cotangent(A, B, c, g)[1:],
        )
    ),
    "sign of B": lambda: model.Stages(density=lambda A, B, c: model.density(A, -B, c)),
    "transmission once": lambda: model.Stages(transmit_cotangent=lambda image, through: image),
}


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_are_seen(bug: str) -> None:
    problem = small_problem(1)
    assert model.kernel_error(problem, problem.start(1))[0] <= 1e-12
    assert model.kernel_error(problem, problem.start(1), BUGS[bug]())[0] > 1e-4

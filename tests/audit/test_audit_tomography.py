"""The equations of the notes "Tensor tomography gradients, uniaxial model", each as printed and as it must be.

Names as on docs/gradients/tomography.md; angles in radians, lengths in voxel edges. The oracle of every gradient is the
complex step: the cost is analytic in A, B and the two angles, so that Im cost(p + ih)/h at h = 1e-30 is its derivative
to rounding. Its geometry comes from SciPy's elementary rotations; of the package it takes the projector P_n only, which
may be any matrix for what is shown here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation
from scipy.stats import poisson

from exactgrad.tomography import model
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.geometry import Geometry, seed_rotation
from exactgrad.tomography.problem import TomographyProblem

States = Callable[[str], None]
NAMES = ("A", "B", "theta_op", "phi_op")
ROUNDING = 1e-13


# The notes' geometry --------------------------------------------------------------------------------------------------


def r_exp_printed(alpha: float, beta: float) -> np.ndarray:
    ca, sa, cb, sb = np.cos(alpha), np.sin(alpha), np.cos(beta), np.sin(beta)
    return np.array([[cb, sa * cb, -ca * sb], [0.0, ca, sa], [sb, -cb * sa, ca * cb]])


def r_exp(alpha: float, beta: float) -> np.ndarray:
    """The corrected one, from SciPy: active turns by -alpha about x, then by -beta about y."""
    return Rotation.from_euler("xy", [-alpha, -beta]).as_matrix()


def r_str(theta_op: float, phi_op: float, entry_13: float | None = None) -> np.ndarray:
    ct, st, cp, sp = np.cos(theta_op), np.sin(theta_op), np.cos(phi_op), np.sin(phi_op)
    return np.array([[ct * cp, ct * sp, -st if entry_13 is None else entry_13], [-sp, cp, 0.0], [st * cp, st * sp, ct]])


def axis(theta_op: Any, phi_op: Any) -> np.ndarray:
    return np.stack(
        (np.sin(theta_op) * np.cos(phi_op), np.sin(theta_op) * np.sin(phi_op), np.cos(theta_op) + 0 * phi_op), axis=-1
    )


def random_angles(count: int, seed: int = 0) -> np.ndarray:
    """alpha, beta, theta_op, phi_op, phi and a lab polar angle, uniform."""
    high = (np.pi / 4, 2 * np.pi, np.pi, 2 * np.pi, 2 * np.pi, np.pi)
    return np.random.default_rng(seed).uniform(0, high, (count, 6))


def cosine_printed(a: Any, b: Any, to: Any, po: Any, phi: Any, lab: Any = np.pi / 2) -> Any:
    first = np.sin(to) * np.cos(po) * np.cos(b) + np.cos(to) * np.sin(b)
    second = np.sin(to) * np.cos(po) * np.sin(a) * np.cos(b) + np.sin(to) * np.sin(po) * np.cos(a)
    second = second - np.cos(to) * np.cos(b) * np.sin(a)
    third = -np.sin(to) * np.cos(po) * np.cos(a) * np.sin(b) + np.sin(to) * np.sin(po) * np.sin(a)
    third = third + np.cos(to) * np.cos(a) * np.cos(b)
    return np.sin(lab) * (first * np.cos(phi) + second * np.sin(phi)) + third * np.cos(lab)


def off(value: np.ndarray, right: np.ndarray) -> float:
    return float(np.linalg.norm(value - right) / np.linalg.norm(right))


# A small scan, its cost and the cost's derivative by complex steps ----------------------------------------------------


class Scan(NamedTuple):
    geometry: Geometry
    alpha: np.ndarray
    beta: np.ndarray
    projectors: list  # sparse, rays x voxels
    seen: list  # rays that meet the volume
    q: np.ndarray  # (n, S, 3), sample frame
    fields: dict
    measured: np.ndarray  # (n, rays, S)


@lru_cache(maxsize=1)
def scan() -> Scan:
    alpha, beta = np.radians([[0, 0, 20, 30, -25, 45], [0, 50, 30, -70, 110, 160]])
    azimuth = (np.arange(6) + 0.5) * np.pi / 6
    geometry = Geometry.from_seed_angles(alpha, beta, (7, 7), (4, 4, 4), azimuth)
    projectors = [model.joseph_matrix(geometry, n) for n in range(len(alpha))]
    seen = [np.asarray(p.sum(axis=1)).ravel() > 1e-3 for p in projectors]
    in_plane = np.stack((np.cos(azimuth), np.sin(azimuth), 0 * azimuth), axis=-1)
    q = np.array([in_plane @ r_exp(a, b).T for a, b in zip(alpha, beta, strict=True)])
    rng = np.random.default_rng(1)

    def volumes() -> dict:
        low_high = {"A": (0.5, 1.5), "B": (-1.0, 3.0), "theta_op": (0.2, 2.9), "phi_op": (-3.0, 3.0)}
        return {name: rng.uniform(*bounds, 64) for name, bounds in low_high.items()}

    fields, truth = volumes(), volumes()
    images = [p @ density(truth, at) for p, at in zip(projectors, q, strict=True)]
    measured = np.array([np.where(s[:, None], image, 0.0) for image, s in zip(images, seen, strict=True)])
    return Scan(geometry, alpha, beta, projectors, seen, q, fields, measured)


def density(fields: dict, q: np.ndarray) -> np.ndarray:
    c = axis(fields["theta_op"], fields["phi_op"]) @ q.T
    return fields["A"][:, None] ** 2 * np.exp(-fields["B"][:, None] * (1 - c * c))


def cost(fields: dict, weight: Any = 1.0, through: Any = 1.0, e0: float = 0.0) -> Any:
    """The notes' cost, 2 sum w (sqrt(T P f + e0) - sqrt(I + e0))^2, of real or complex volumes."""
    s, total = scan(), 0.0
    weight, through = (np.broadcast_to(v, s.measured.shape) for v in (weight, through))
    for n, seen in enumerate(s.seen):
        image = through[n][seen] * (s.projectors[n] @ density(fields, s.q[n]))[seen]
        total = total + 2 * np.sum(weight[n][seen] * (np.sqrt(image + e0) - np.sqrt(s.measured[n][seen] + e0)) ** 2)
    return total


def by_complex_step(name: str, fields: dict | None = None, **options: Any) -> np.ndarray:
    given = scan().fields if fields is None else fields
    gradient = np.empty(64)
    for voxel in range(64):
        step = 1e-30j * (np.arange(64) == voxel)
        gradient[voxel] = np.imag(cost({**given, name: given[name] + step}, **options)) / 1e-30
    return gradient


@lru_cache(maxsize=1)
def oracle() -> dict[str, np.ndarray]:
    return {name: by_complex_step(name) for name in NAMES}


class Term(NamedTuple):
    """What one projection gives the notes' four sums, each shape (voxels, segments) but for q_vox."""

    back: np.ndarray  # P_n^T BP_n
    e: np.ndarray
    c: np.ndarray
    s: np.ndarray
    q_vox: np.ndarray


def terms(q: np.ndarray | None = None, back_projectors: list | None = None) -> list[Term]:
    s, f = scan(), scan().fields
    u = axis(f["theta_op"], f["phi_op"])
    frames = np.array([r_str(t, p) for t, p in zip(f["theta_op"], f["phi_op"], strict=True)])
    found = []
    for n, seen in enumerate(s.seen):
        at = s.q[n] if q is None else q[n]
        c = u @ at.T
        e = np.exp(-f["B"][:, None] * (1 - c * c))
        root = np.sqrt(s.projectors[n] @ (f["A"][:, None] ** 2 * e))
        ratio = np.zeros_like(root)
        ratio[seen] = ((root - np.sqrt(s.measured[n])) / np.where(root > 0, root, 1))[seen]
        back = (s.projectors if back_projectors is None else back_projectors)[n].T @ ratio
        sine = np.sqrt(np.maximum(1 - c * c, 0.0))
        found.append(Term(back, e, c, sine, np.einsum("vij,sj->vsi", frames, at)))
    return found


def gradient(name: str, given: list[Term] | None = None) -> np.ndarray:
    """The corrected gradients, which divide by nothing."""
    f, total = scan().fields, 0.0
    for t in terms() if given is None else given:
        integrand = {
            "A": 4 * t.back * t.e,
            "B": -2 * t.back * (1 - t.c**2) * t.e,
            "theta_op": 4 * t.back * t.c * t.q_vox[..., 0] * t.e,
            "phi_op": 4 * t.back * t.c * t.q_vox[..., 1] * t.e,
        }[name]
        total = total + integrand.sum(axis=1)
    a, b = f["A"], f["B"]
    return total * {"A": a, "B": a * a, "theta_op": a * a * b, "phi_op": a * a * b * np.sin(f["theta_op"])}[name]


def angle_gradient(name: str, integrand: Callable[[Term], np.ndarray], factor: float = -4.0) -> np.ndarray:
    """The notes' form: factor x sum BP A^2 B integrand e dTheta/dp, with dTheta/dp = -(dcos/dp)/sin."""
    f, total = scan().fields, 0.0
    for t in terms():
        slope = t.q_vox[..., 0] if name == "theta_op" else np.sin(f["theta_op"])[:, None] * t.q_vox[..., 1]
        total = total + (factor * t.back * integrand(t) * -slope / t.s).sum(axis=1)
    return f["A"] ** 2 * f["B"] * total


# Page 1: rotations ----------------------------------------------------------------------------------------------------


def test_audit_notes_r_exp(states: States) -> None:
    """Entry (1,2) must be sin(alpha) sin(beta): the only value that leaves a rotation."""
    printed = r_exp_printed(*np.radians([30, 20]))
    states(f"{np.linalg.norm(printed @ printed.T - np.eye(3)):.3f}")
    states(f"{np.linalg.det(printed):.3f}")
    for a, b in random_angles(50)[:, :2]:
        corrected = r_exp_printed(a, b)
        corrected[0, 1] = np.sin(a) * np.sin(b)
        assert np.allclose(corrected, r_exp(a, b), atol=1e-15)
        assert np.allclose(corrected.T, seed_rotation(a, b)[0], atol=1e-15)
        forced = np.cross(corrected[1], corrected[2])  # the first row that the two others leave
        assert np.allclose(forced, corrected[0], atol=1e-15)
        assert abs(forced[1] - r_exp_printed(a, b)[0, 1]) == pytest.approx(abs(np.sin(a) * (np.sin(b) - np.cos(b))))


def test_audit_notes_inverse_of_r_exp(states: States) -> None:
    """Turning both angles round does not turn the order round; the inverse is the transpose."""
    left = []
    for a, b in ((10, 10), (30, 20), (45, 45), (45, 90)):
        product = r_exp(*np.radians([a, b])) @ r_exp(*np.radians([-a, -b]))
        left.append(Rotation.from_matrix(product).magnitude())
    for angle in left:
        states(f"{np.degrees(angle):.1f}°")
    states(f"{30 * np.sin(left[1] / 2):.1f}")  # voxels, at the rim of a sample 30 across
    for a, b in random_angles(20)[:, :2]:
        assert np.allclose(r_exp(a, b) @ r_exp(a, b).T, np.eye(3), atol=1e-15)
        assert np.allclose(r_exp(0, b) @ r_exp(0, -b), np.eye(3), atol=1e-15)  # hidden without a tilt
        ca, sa, cb, sb = np.cos(a), np.sin(a), np.cos(b), np.sin(b)
        inverse = [[cb, 0, sb], [sa * sb, ca, -sa * cb], [-ca * sb, sa, ca * cb]]
        assert np.allclose(inverse, np.linalg.inv(r_exp(a, b)), atol=1e-14)


def test_audit_notes_second_form_of_the_inverse() -> None:
    """The step from R(-alpha, -beta) to its second form is right algebra, cos(alpha) for cos(-alpha) included."""
    for a, b in random_angles(20)[:, :2]:
        ca, sa, cb, sb = np.cos(a), np.sin(a), np.cos(b), np.sin(b)
        second = [[cb, -sa * cb, ca * sb], [0, ca, -sa], [-sb, cb * sa, ca * cb]]
        assert np.allclose(second, r_exp_printed(-a, -b), atol=1e-15)


def test_audit_notes_eq2_sample_coordinates(states: States) -> None:
    """r_s = R_exp r is multiplied out rightly, with the wrong entry in it."""
    worst = 0.0
    for (a, b), r in zip(random_angles(200)[:, :2], Rotation.random(200, random_state=0).as_rotvec(), strict=True):
        x, y, z = r = r / np.linalg.norm(r)
        ca, sa, cb, sb = np.cos(a), np.sin(a), np.cos(b), np.sin(b)
        rows = np.array([x * cb + y * sa * cb - z * ca * sb, y * ca + z * sa, x * sb - y * cb * sa + z * ca * cb])
        assert np.allclose(rows, r_exp_printed(a, b) @ r, atol=1e-15)
        right = r_exp(a, b) @ r
        assert np.allclose(right - rows, [y * sa * (sb - cb), 0, 0], atol=1e-15)
        worst = max(worst, float(np.linalg.norm(right - rows)))
    states(f"{worst:.2f}")


def test_audit_notes_eq2_lab_coordinates() -> None:
    """Row 3 of r has + x_s sin(beta) where the notes' own matrix has -; the right r is the transpose's."""
    for (a, b), r in zip(random_angles(50)[:, :2], Rotation.random(50, random_state=1).as_rotvec(), strict=True):
        x, y, z = r
        ca, sa, cb, sb = np.cos(a), np.sin(a), np.cos(b), np.sin(b)
        printed = [x * cb - y * sa * cb + z * ca * sb, y * ca - z * sa, x * sb + y * cb * sa + z * ca * cb]
        assert np.allclose(printed - r_exp_printed(-a, -b) @ r, [0, 0, 2 * x * sb], atol=1e-14)
        right = [x * cb + z * sb, x * sa * sb + y * ca - z * sa * cb, -x * ca * sb + y * sa + z * ca * cb]
        assert np.allclose(r_exp(a, b) @ right, r, atol=1e-14)


def test_audit_notes_polar_forms_of_q(states: States) -> None:
    """The three polar forms are right; one letter Theta stands for angles that differ."""
    a, b, to, po, phi, _ = random_angles(1, seed=7)[0]
    q = np.array([np.cos(phi), np.sin(phi), 0.0])
    q_s = r_exp(a, b) @ q
    q_vox = r_str(to, po) @ q_s
    assert np.allclose([np.linalg.norm(q_s), np.linalg.norm(q_vox)], 1, atol=1e-15)
    angles = [float(np.degrees(np.arccos(v[2]))) for v in (q, q_s, q_vox)]
    assert angles[0] == pytest.approx(90)
    for angle in angles[1:]:
        states(f"{angle:.0f}°")
    for v, theta in zip((q, q_s, q_vox), np.radians(angles), strict=True):
        azimuth = np.arctan2(v[1], v[0])
        assert np.allclose(v, axis(theta, azimuth), atol=1e-15)


def test_audit_notes_r_str() -> None:
    """R_str on page 2 is a rotation that takes the axis u to z."""
    for to, po in random_angles(50)[:, 2:4]:
        assert np.allclose(r_str(to, po) @ r_str(to, po).T, np.eye(3), atol=1e-15)
        assert np.linalg.det(r_str(to, po)) == pytest.approx(1, abs=1e-14)
        assert np.allclose(r_str(to, po) @ axis(to, po), [0, 0, 1], atol=1e-15)


def test_audit_notes_eq3_r_str_again(states: States) -> None:
    """Entry (1,3) = -sin(phi_op) is no rotation; the third row, and so cos(Theta), does not feel it."""
    to, po = np.radians([60, 20])
    printed = r_str(to, po, -np.sin(po))
    states(f"{np.linalg.norm(printed @ printed.T - np.eye(3)):.2f}")
    assert np.array_equal(printed[2], r_str(to, po)[2])


def test_audit_notes_eq3_cosine(states: States) -> None:
    """Wrong through R_exp alone: u . q_s with the wrong entry, and larger than 1 at times."""
    cases = random_angles(20000, seed=3)
    a, b, to, po, phi, _ = cases.T
    printed = cosine_printed(a, b, to, po, phi)
    missing = np.sin(to) * np.cos(po) * np.sin(a) * (np.sin(b) - np.cos(b)) * np.sin(phi)
    turns = Rotation.from_euler("xy", np.column_stack((-a, -b)))
    in_plane = np.column_stack((np.cos(phi), np.sin(phi), 0 * phi))
    right = np.sum(axis(to, po) * turns.apply(in_plane), axis=1)
    assert np.allclose(printed + missing, right, atol=1e-14)
    states(f"{100 * np.mean(np.abs(printed) > 1):.1f} %")
    states(f"{np.abs(printed).max():.2f}")
    assert np.abs(right).max() <= 1 + 1e-15
    for a, b, to, po, phi, lab in cases[:100]:  # the general form has the same fault and no other
        q = axis(lab, phi)
        assert cosine_printed(a, b, to, po, phi, lab) == pytest.approx(
            axis(to, po) @ r_exp_printed(a, b) @ q, abs=1e-14
        )


def test_audit_notes_lab_angle_90_degrees(states: States) -> None:
    """Theta_lab = 90 degrees + theta_B on the Ewald sphere: elastic scattering bends q against the beam."""
    wavelength, q = 1.0, 0.3  # Angstrom and 1/Angstrom
    k = 2 * np.pi / wavelength
    bragg = np.arcsin(q / (2 * k))
    assert bragg == pytest.approx(np.arcsin(q * wavelength / (4 * np.pi)))
    outgoing = k * np.array([np.sin(2 * bragg), 0, np.cos(2 * bragg)])
    transfer = outgoing - np.array([0, 0, k])
    assert np.linalg.norm(transfer) == pytest.approx(q)
    assert np.arccos(transfer[2] / q) == pytest.approx(np.pi / 2 + bragg)
    states(f"{np.degrees(bragg):.1f}°")
    curved = Geometry.from_seed_angles(0.0, 0.0, (1, 1), (1, 1, 1), [0.0], 0.0, 0.0)
    ours = Geometry(**{**vars(curved), "two_theta": 2 * bragg}).q_vectors()[0, 0]
    assert np.allclose(ours, transfer / q, atol=1e-15)


def test_audit_notes_sine_squared(states: States) -> None:
    """1 - cos^2 is right, and with the printed cosine it is negative."""
    squares = 1 - cosine_printed(*random_angles(20000, seed=3).T[:5]) ** 2
    states(f"{squares.min():.2f}".replace("-", "−"))
    for a, b, to, po, phi, _ in random_angles(50):
        q_vox = r_str(to, po) @ r_exp(a, b) @ [np.cos(phi), np.sin(phi), 0]
        assert 1 - q_vox[2] ** 2 == pytest.approx(q_vox[0] ** 2 + q_vox[1] ** 2, abs=1e-15)


# Page 3: the cost -----------------------------------------------------------------------------------------------------


def test_audit_notes_eq4_cost(states: States) -> None:
    """2 (difference of roots)^2 is -log likelihood if Var(sqrt) = 1/4: for counts, and not too few of them."""
    counts = np.arange(2000)
    for mean in (2, 20, 200):
        p = poisson.pmf(counts, mean)
        for shift in (0.0, 0.375):
            root = np.sqrt(counts + shift)
            states(f"{p @ root**2 - (p @ root) ** 2:.3f}")


def test_audit_notes_eq4_projection() -> None:
    """I^ = sum over z where the beam is z; a turned projection needs P_n, and f_n differs between projections."""
    s = scan()
    problem = TomographyProblem(Dataset(s.geometry, s.measured.reshape(6, 7, 7, 6)))
    ours = problem.forward(**{name: volume.reshape(4, 4, 4) for name, volume in s.fields.items()})
    for n, p in enumerate(s.projectors):
        assert np.allclose(ours[n].reshape(49, 6), p @ density(s.fields, s.q[n]), atol=1e-13)
    block = np.kron(np.eye(16), np.ones((1, 4)))  # sums the four voxels along z
    plain = block @ density(s.fields, s.q[0])
    geometry = Geometry.from_seed_angles(0.0, 0.0, (4, 4), (4, 4, 4), s.geometry.detector_angles)
    assert np.allclose(model.joseph_matrix(geometry, 0) @ density(s.fields, s.q[0]), plain, atol=1e-13)
    assert off(density(s.fields, s.q[3]), density(s.fields, s.q[0])) > 0.3


# Page 4: the gradient by A --------------------------------------------------------------------------------------------


def test_audit_notes_chain_rule_line_2() -> None:
    """The residual in the second line has its sign turned: ascent in place of descent."""
    modelled, measured = 1.7, 0.9
    true = np.imag(2 * (np.sqrt(modelled + 1e-30j) - np.sqrt(measured)) ** 2) / 1e-30
    printed = 2 * 2 * (np.sqrt(measured) - np.sqrt(modelled)) / (2 * np.sqrt(modelled))
    assert printed == pytest.approx(-true, rel=1e-15)


def test_audit_notes_bp() -> None:
    """2 BP dI^ with BP = (sqrt(I^) - sqrt(I))/sqrt(I^) is the differential of the cost."""
    for modelled, measured in np.random.default_rng(0).uniform(0.01, 5, (50, 2)):
        true = np.imag(2 * (np.sqrt(modelled + 1e-30j) - np.sqrt(measured)) ** 2) / 1e-30
        assert 2 * (np.sqrt(modelled) - np.sqrt(measured)) / np.sqrt(modelled) == pytest.approx(true, abs=1e-14)


def test_audit_notes_bp_is_not_the_residual(states: States) -> None:
    """BP^2 as the cost, where the gradients by B and Theta_op begin, has a derivative off by sqrt(I)/I^^(3/2)."""
    for modelled, measured in ((4.0, 1.0), (0.25, 1.0)):
        root = np.sqrt(modelled + 1e-30j)
        true = np.imag(2 * (root - np.sqrt(measured)) ** 2) / 1e-30
        printed = np.imag(2 * ((root - np.sqrt(measured)) / root) ** 2) / 1e-30
        assert printed / true == pytest.approx(np.sqrt(measured) / modelled**1.5, rel=1e-14)
        states(f"{printed / true:g}")


def test_audit_notes_gradient_by_a() -> None:
    """Prefactor 4 and A e are right."""
    assert off(gradient("A"), oracle()["A"]) < ROUNDING
    assert off(gradient("A") / 2, oracle()["A"]) > 0.4
    assert off(ours()["A"], oracle()["A"]) < ROUNDING


@lru_cache(maxsize=1)
def ours() -> dict[str, np.ndarray]:
    """The package's gradients of the same cost."""
    s = scan()
    problem = TomographyProblem(Dataset(s.geometry, s.measured.reshape(6, 7, 7, 6)))
    _, gradients = problem.loss_and_gradient(**{name: volume.reshape(4, 4, 4) for name, volume in s.fields.items()})
    return {name: gradients[name].ravel() for name in NAMES}


def test_audit_notes_bp_keeps_its_indices(states: States) -> None:
    """BP_n at the sample's own x', y', without the turn of projection n, is another gradient."""
    unturned = [scan().projectors[0]] * 6
    printed = gradient("A", terms(back_projectors=unturned))
    states(f"{100 * off(printed, oracle()['A']):.0f} %")


def test_audit_notes_times_is_not_x(states: States) -> None:
    """The x_s in front of the exponential is a multiplication sign; as a coordinate it breaks the gradient."""
    place = np.indices((4, 4, 4))[0].ravel() - 1.5
    states(f"{100 * off(place * gradient('A'), oracle()['A']):.0f} %")


def test_audit_notes_argument_of_bp(states: States) -> None:
    """Pages 5 and 6 read BP at another point than the voxel's projection, even without a tilt."""
    rng = np.random.default_rng(0)
    ball = rng.normal(size=(4000, 3))
    ball *= (rng.uniform(size=4000) ** (1 / 3) / np.linalg.norm(ball, axis=1))[:, None]
    turns = random_angles(4000, seed=5)
    x, y, z = ball.T
    for alpha, beta in ((turns[:, 0], turns[:, 1]), (0 * turns[:, 0], turns[:, 1])):
        ca, sa, cb, sb = np.cos(alpha), np.sin(alpha), np.cos(beta), np.sin(beta)
        right = np.array([x * cb + z * sb, x * sa * sb + y * ca - z * sa * cb])
        lab = np.einsum("nji,nj->ni", np.array([r_exp(a, b) for a, b in zip(alpha, beta, strict=True)]), ball)
        assert np.allclose(right, lab[:, :2].T, atol=1e-14)
        printed = np.array([x * cb - y * sa * cb + z * ca * cb, y * ca - z * sa])
        states(f"{np.sqrt(np.mean(np.sum((printed - right) ** 2, axis=0))):.2f}")


# Pages 6 and 7: the gradients by B and the angles ---------------------------------------------------------------------


def test_audit_notes_gradient_by_b() -> None:
    assert off(gradient("B"), oracle()["B"]) < ROUNDING
    assert off(ours()["B"], oracle()["B"]) < ROUNDING


def test_audit_notes_lost_factor_2() -> None:
    """Line 3 on page 7 has neither the 2 of the cost nor the 4 that the next line has again."""
    printed = angle_gradient("theta_op", lambda t: t.s * t.c * t.e, factor=-2.0)
    assert np.allclose(printed, oracle()["theta_op"] / 2, atol=1e-12)


def test_audit_notes_lost_square(states: States) -> None:
    """Line 4 on page 7 has exp(-B sin) where exp(-B sin^2) is meant."""
    b = scan().fields["B"][:, None]
    printed = angle_gradient("theta_op", lambda t: t.s * t.c * np.exp(-b * t.s))
    states(f"{100 * off(printed, oracle()['theta_op']):.0f} %")


def test_audit_notes_sine_squared_times_cosine(states: States) -> None:
    """The last block but one on page 7: sin^2 cos in place of sin cos, an error that a run would hide."""
    for name in ("theta_op", "phi_op"):
        printed, true = angle_gradient(name, lambda t: t.s**2 * t.c * t.e), oracle()[name]
        states(f"{100 * off(printed, true):.0f} %")
        states(f"{printed @ true / np.linalg.norm(printed) / np.linalg.norm(true):.3f}")


def test_audit_notes_gradient_by_theta_op() -> None:
    """The boxed result is right where sin(Theta) is not zero, and so is its form that divides by nothing."""
    assert off(angle_gradient("theta_op", lambda t: t.s * t.c * t.e), oracle()["theta_op"]) < ROUNDING
    assert off(gradient("theta_op"), oracle()["theta_op"]) < ROUNDING
    assert off(ours()["theta_op"], oracle()["theta_op"]) < ROUNDING


def test_audit_notes_gradient_by_phi_op() -> None:
    """As assumed in the notes: the same, with dTheta/dphi_op at the end."""
    assert off(angle_gradient("phi_op", lambda t: t.s * t.c * t.e), oracle()["phi_op"]) < ROUNDING
    assert off(gradient("phi_op"), oracle()["phi_op"]) < ROUNDING
    assert off(ours()["phi_op"], oracle()["phi_op"]) < ROUNDING


def test_audit_notes_gradient_by_the_axis() -> None:
    """4 A^2 B sum b c e (q_s - c u) lies across u; along the two tangents it is the gradients by the angles."""
    s, f, total = scan(), scan().fields, np.zeros((64, 3))
    u = axis(f["theta_op"], f["phi_op"])
    for q, t in zip(s.q, terms(), strict=True):
        total += np.einsum("vs,vsi->vi", t.back * t.c * t.e, q[None] - t.c[..., None] * u[:, None])
    total *= (4 * f["A"] ** 2 * f["B"])[:, None]
    assert np.abs(np.sum(total * u, axis=1)).max() < 1e-12
    for name, moved in (
        ("theta_op", axis(f["theta_op"] + 1e-30j, f["phi_op"])),
        ("phi_op", axis(f["theta_op"], f["phi_op"] + 1e-30j)),
    ):
        assert off(np.sum(total * moved.imag / 1e-30, axis=1), oracle()[name]) < ROUNDING


def test_audit_notes_derivatives_of_theta() -> None:
    """dcos/dTheta_op is the first row of R_str times q_s, dcos/dphi_op the second times sin(Theta_op)."""
    for a, b, to, po, phi, _ in random_angles(50, seed=2):
        q_s = r_exp(a, b) @ [np.cos(phi), np.sin(phi), 0]
        ca, sa, cb, sb, cf, sf = np.cos(a), np.sin(a), np.cos(b), np.sin(b), np.cos(phi), np.sin(phi)
        assert np.allclose(q_s, [cb * cf + sa * sb * sf, ca * sf, sb * cf - cb * sa * sf], atol=1e-15)
        q_vox = r_str(to, po) @ q_s
        assert np.imag(axis(to + 1e-30j, po) @ q_s) / 1e-30 == pytest.approx(q_vox[0], abs=1e-15)
        assert np.imag(axis(to, po + 1e-30j) @ q_s) / 1e-30 == pytest.approx(np.sin(to) * q_vox[1], abs=1e-15)
        theta = [np.arccos(axis(to + h, po) @ q_s) for h in (1e-6, -1e-6)]
        assert (theta[0] - theta[1]) / 2e-6 == pytest.approx(-q_vox[0] / np.sin(np.arccos(q_vox[2])), rel=1e-6)


# What remains where the final formulas are right ----------------------------------------------------------------------


def test_audit_notes_axis_along_q(states: States) -> None:
    """With an axis on a measured q, sin(Theta) is 0: the literal form is 0/0, the product form is the derivative."""
    s, base = scan(), dict(scan().fields)
    u = s.q[2, 1]
    base["theta_op"], base["phi_op"] = base["theta_op"].copy(), base["phi_op"].copy()
    base["theta_op"][10], base["phi_op"][10] = np.arccos(u[2]), np.arctan2(u[1], u[0])
    for name in ("theta_op", "phi_op"):
        true = by_complex_step(name, base)
        problem = TomographyProblem(Dataset(s.geometry, s.measured.reshape(6, 7, 7, 6)))
        _, found = problem.loss_and_gradient(**{key: volume.reshape(4, 4, 4) for key, volume in base.items()})
        assert off(found[name].ravel(), true) < ROUNDING
    with np.errstate(invalid="ignore"):
        assert np.isnan(np.float64(0.0) / np.sqrt(np.float64(1.0) - 1.0))
    states(f"{1e8 * (1 - np.cos(1e-3)):.0f}")  # the part of the sphere within 1e-3 rad of q or -q
    generator = np.random.default_rng(0)
    q = generator.normal(size=(20000, 3))
    q /= np.linalg.norm(q, axis=1)[:, None]
    across = np.cross(q, generator.normal(size=(20000, 3)))
    across /= np.linalg.norm(across, axis=1)[:, None]
    for distance in (1e-3, 1e-4):  # single precision, as on a graphics card
        near = (np.cos(distance) * q + np.sin(distance) * across).astype(np.float32)
        c = np.sum(near * q.astype(np.float32), axis=1, dtype=np.float32)
        sine = np.sqrt(np.maximum(np.float32(1) - c * c, np.float32(0)))
        lost, error = np.mean(sine == 0), np.median(np.abs(sine / np.sin(distance) - 1))
        states(f"{100 * (error if distance == 1e-3 else lost):.0f} %")


def test_audit_notes_pole_of_the_angles() -> None:
    """At Theta_op = 0 the gradient by phi_op is zero for every axis direction; the one by u is not."""
    s, base = scan(), {**scan().fields, "theta_op": np.zeros(64)}
    assert np.abs(by_complex_step("phi_op", base)).max() < 1e-13
    problem = TomographyProblem(Dataset(s.geometry, s.measured.reshape(6, 7, 7, 6)))
    volumes = {name: volume.reshape(4, 4, 4) for name, volume in base.items()}
    x = problem.vector(**{key: volumes[key] for key in ("A", "B")}, axis=np.broadcast_to([0.0, 0, 1], (4, 4, 4, 3)))
    value, g = problem.value_and_gradient(x)
    assert value == pytest.approx(float(cost(base)) + missed(s), rel=1e-13)
    assert np.linalg.norm(g[2 * 64 :]) > 1


def missed(s: Scan) -> float:
    """The cost of rays outside the volume: nothing, their measured intensity is zero here."""
    return float(sum(2 * s.measured[n][~seen].sum() for n, seen in enumerate(s.seen)))


def test_audit_notes_empty_ray() -> None:
    """As I^ goes to 0, BP grows without bound and every gradient stays finite; with e0 nothing is singular."""
    s = scan()
    largest, by_a, others = [], [], []
    for scale in (1e-3, 1e-9):
        small = {**s.fields, "A": scale * s.fields["A"]}
        root = np.sqrt(s.projectors[1] @ density(small, s.q[1]))[s.seen[1]]
        largest.append(float(np.abs((root - np.sqrt(s.measured[1][s.seen[1]])) / root).max()))
        by_a.append(float(np.abs(by_complex_step("A", small)).max()))
        others.append([np.abs(by_complex_step(name, small)).max() for name in NAMES[1:]])
    assert largest[1] / largest[0] == pytest.approx(1e6, rel=0.1)
    assert by_a[1] == pytest.approx(by_a[0], rel=0.01)
    assert np.allclose(np.divide(*others), 1e6, rtol=0.01)  # these vanish like A
    empty = {**s.fields, "A": np.where(np.arange(64) % 3 == 0, 0.0, s.fields["A"])}
    problem = TomographyProblem(Dataset(s.geometry, s.measured.reshape(6, 7, 7, 6)), e0=0.375)
    _, found = problem.loss_and_gradient(**{name: volume.reshape(4, 4, 4) for name, volume in empty.items()})
    for name in NAMES:
        assert off(found[name].ravel(), by_complex_step(name, empty, e0=0.375)) < ROUNDING


def test_audit_notes_stationary_starts() -> None:
    """A = 0 stops everything where e0 > 0 (I^ is A^2), B = 0 stops the axis: starts from which nothing moves."""
    dark = {**scan().fields, "A": np.zeros(64)}
    assert all(np.abs(by_complex_step(name, dark, e0=0.1)).max() == 0 for name in NAMES)
    round_ = {**scan().fields, "B": np.zeros(64)}
    assert all(np.abs(by_complex_step(name, round_)).max() < 1e-14 for name in ("theta_op", "phi_op"))
    assert np.abs(by_complex_step("B", round_)).max() > 1


def test_audit_notes_weights_mask_transmission() -> None:
    """Put back: cost 2 sum w r^2 with I^ = T P f, BP becomes w T BP; M takes a voxel out of I^ as well."""
    s, rng = scan(), np.random.default_rng(4)
    weight = rng.uniform(0, 2, s.measured.shape) * (rng.random(s.measured.shape) > 0.2)
    through = rng.uniform(0.3, 1, s.measured.shape[:2])
    mask = rng.random(64) > 0.2
    masked = {**s.fields, "A": np.where(mask, s.fields["A"], 0.0)}
    data = Dataset(s.geometry, s.measured.reshape(6, 7, 7, 6), weight.reshape(6, 7, 7, 6), through.reshape(6, 7, 7))
    problem = TomographyProblem(data, mask=mask.reshape(4, 4, 4), e0=0.01)
    _, found = problem.loss_and_gradient(**{name: volume.reshape(4, 4, 4) for name, volume in s.fields.items()})
    options = {"weight": weight, "through": through[..., None], "e0": 0.01}
    for name in NAMES:
        assert off(found[name].ravel()[mask], by_complex_step(name, masked, **options)[mask]) < ROUNDING
        assert not found[name].ravel()[~mask].any()


def test_audit_notes_divided_data_need_weights(states: States) -> None:
    """cost(T in the model, raw I) = cost(I/T, weights T); dividing without the weights counts weak rays too much."""
    s, rng = scan(), np.random.default_rng(5)
    through = np.broadcast_to(rng.uniform(0.1, 1, s.measured.shape[:2])[..., None], s.measured.shape)
    in_model = cost(s.fields, through=through)
    by_hand = {"divided with weights": 0.0, "divided without": 0.0}
    for n, seen in enumerate(s.seen):
        image = (s.projectors[n] @ density(s.fields, s.q[n]))[seen]
        square = 2 * (np.sqrt(image) - np.sqrt(s.measured[n][seen] / through[n][seen])) ** 2
        by_hand["divided with weights"] += float(np.sum(through[n][seen] * square))
        by_hand["divided without"] += float(np.sum(square))
    assert by_hand["divided with weights"] == pytest.approx(float(in_model), rel=1e-13)
    states(f"{by_hand['divided without'] / float(in_model):.1f}")


# What the errors do ---------------------------------------------------------------------------------------------------


def test_audit_notes_effect_on_gradients(states: States) -> None:
    """The printed R_exp in q_s alone, all else right."""
    s = scan()
    azimuth = s.geometry.detector_angles
    in_plane = np.stack((np.cos(azimuth), np.sin(azimuth), 0 * azimuth), axis=-1)
    q = np.array([in_plane @ r_exp_printed(a, b).T for a, b in zip(s.alpha, s.beta, strict=True)])
    for name in NAMES:
        states(f"{100 * off(gradient(name, terms(q)), oracle()[name]):.0f} %")


def test_audit_notes_effect_on_axes(states: States) -> None:
    """One voxel, no noise: a perfect fit of the printed geometry finds a wrong axis and B, and none without tilts."""
    azimuth = (np.arange(8) + 0.5) * np.pi / 8
    in_plane = np.stack((np.cos(azimuth), np.sin(azimuth), 0 * azimuth), axis=-1)
    for tilts in ((0,), (0, 15, 30), (0, 15, 30, 45)):
        pairs = np.radians([(a, b) for a in tilts for b in range(0, 180, 15)])
        right, printed = (np.concatenate([in_plane @ f(a, b).T for a, b in pairs]) for f in (r_exp, r_exp_printed))
        errors, found_b = [], []
        for u in Rotation.random(24, random_state=1).as_matrix()[:, 2]:
            roots = np.exp(-1.5 * (1 - (right @ u) ** 2))  # A = 1, B = 3

            def residual(p: np.ndarray, roots: np.ndarray = roots, q: np.ndarray = printed) -> np.ndarray:
                c = q @ p[2:] / np.linalg.norm(p[2:])
                return p[0] * np.exp(-p[1] / 2 * (1 - c * c)) - roots

            fit = least_squares(residual, np.array([1.0, 3.0, *u]), method="trf").x
            cosine = abs(u @ fit[2:]) / np.linalg.norm(fit[2:])
            errors.append(float(np.degrees(np.arccos(min(1.0, cosine)))))
            found_b.append(float(fit[1]))
        if len(tilts) == 1:
            assert max(errors) < 1e-5
            continue
        states(f"{np.median(errors):.1f}°")
        states(f"{np.median(found_b):.2f}")

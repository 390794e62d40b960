"""Geometry and data sets: conventions with literal anchors, closed forms, and refusals in a line."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from tomography_cases import golden_mumott, golden_plain, small_geometry

from exactgrad.errors import InputError
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.geometry import Geometry, seed_rotation

ANGLES = st.floats(-7, 7)
SIXTH = np.pi / 3


def test_the_seed_rotation_is_the_corrected_one() -> None:
    a, b = np.deg2rad([30.0, 20.0])
    expected = Rotation.from_euler("XY", [a, b]).as_matrix()
    assert np.allclose(seed_rotation(a, b)[0], expected, rtol=0, atol=1e-15)
    printed_inverse = seed_rotation(-a, -b)[0]  # the note's R_exp(-alpha, -beta) is no inverse
    turned = np.degrees(Rotation.from_matrix(printed_inverse @ expected).magnitude())
    assert turned == pytest.approx(10.3, abs=0.1)


@settings(deadline=None, derandomize=True, max_examples=25)
@given(ANGLES, ANGLES, ANGLES)
def test_q_is_the_note_s_closed_form(alpha: float, beta: float, phi: float) -> None:
    g = Geometry.from_seed_angles([alpha], [beta], (1, 1), (1, 1, 1), [phi])
    ca, sa, cb, sb, cp, sp = (f(angle) for angle in (alpha, beta, phi) for f in (np.cos, np.sin))
    expected = [cb * cp + sa * sb * sp, ca * sp, sb * cp - cb * sa * sp]
    assert np.allclose(g.q_vectors()[0, 0], expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["g1_seed_frame.h5", "g3_needles.h5"])
def test_q_of_the_golden_sets(name: str) -> None:
    data, held = golden_plain(name)
    assert np.abs(data.geometry.q_vectors() - held["q_sample"]).max() < 1e-14


def test_q_of_the_mumott_set_and_its_two_angles() -> None:
    data, truth = golden_mumott()
    assert np.abs(data.geometry.q_vectors() - truth["q_sample"]).max() < 1e-14


def test_a_literal_anchor() -> None:
    """A quarter turn about z takes the sample's x to the laboratory's y, the beam: the ray runs along x."""
    turn = [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    p, j, k = Geometry([turn], (1, 1), (1, 1, 1), [0.0]).directions()
    assert (p[0].tolist(), j[0].tolist(), k[0].tolist()) == ([1, 0, 0], [0, -1, 0], [0, 0, 1])


def test_the_curved_ewald_sphere_leans_against_the_beam() -> None:
    g = small_geometry(two_theta=0.2)
    p, _, _ = g.directions()
    assert np.allclose(np.einsum("nsi,ni->ns", g.q_vectors(), p), -np.sin(0.1), rtol=0, atol=1e-15)
    assert np.allclose(np.linalg.norm(g.probed()[0], axis=-1), 1, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("angles", "whole", "edges"),
    [
        (
            [0.0, SIXTH, 2 * SIXTH],
            False,
            [[-SIXTH / 2, SIXTH / 2], [SIXTH / 2, 1.5 * SIXTH], [1.5 * SIXTH, 2.5 * SIXTH]],
        ),
        (
            [2 * SIXTH, SIXTH, 0.0],
            False,
            [[2.5 * SIXTH, 1.5 * SIXTH], [1.5 * SIXTH, SIXTH / 2], [SIXTH / 2, -SIXTH / 2]],
        ),
        ([0.0, np.pi / 2, np.pi, 3 * np.pi / 2], True, None),
        ([0.3], True, [[0.3 - np.pi, 0.3 + np.pi]]),
    ],
)
def test_segment_edges(angles: list[float], whole: bool, edges: list | None) -> None:
    g = small_geometry(detector_angles=angles)
    assert g.full_circle_covered is whole
    if edges is not None:
        assert np.allclose(g.segment_edges(), edges)
    assert np.allclose(np.abs(np.diff(g.segment_edges())).sum(), 2 * np.pi if whole else np.pi)


def test_the_mean_over_a_segment_is_the_integral() -> None:
    """Of cos^2 and sin^2 moments along the arc, in closed form."""
    g = small_geometry(integration="mean", n=1, rotation=np.eye(3)[None])
    q, weight = g.probed()
    low, high = g.segment_edges().T
    squares = np.einsum("g,gs->s", weight, q[0, :, :, 0] ** 2)
    exact = 0.5 + (np.sin(2 * high) - np.sin(2 * low)) / 4 / (high - low)
    assert np.abs(squares - exact).max() < 1e-9
    assert weight.sum() == pytest.approx(1, abs=1e-15)


def test_rough_rotations_become_exact() -> None:
    rough = np.round(Rotation.random(3, random_state=1).as_matrix(), 4)
    exact = small_geometry(n=3, rotation=rough).rotation
    assert np.abs(exact @ exact.transpose(0, 2, 1) - np.eye(3)).max() < 1e-15
    assert np.abs(exact - rough).max() < 2e-4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rotation": np.ones((2, 3, 3))}, r"rotation\[0\]: not orthogonal"),
        ({"rotation": -np.eye(3)[None]}, "determinant is -1"),
        ({"rotation": np.eye(3)}, "rotation: shape"),
        ({"rotation": np.zeros((0, 3, 3))}, "at least one projection"),
        ({"rotation": np.full((1, 3, 3), np.nan)}, "finite"),
        ({"detector_angles": []}, "at least one segment"),
        ({"j_offset": [0.0, 1.0]}, "j_offset: shape"),
        ({"k_offset": np.inf}, "k_offset = inf pixels"),
        ({"volume_shape": (3, 0, 3)}, "volume_shape"),
        ({"volume_shape": (1e9, 1e9, 1e9)}, "volume_shape"),
        ({"projection_shape": (3.5, 2)}, "projection_shape"),
        ({"p_direction_0": (0, 2, 0)}, "length is 2"),
        ({"p_direction_0": (1, 0, 0)}, "not perpendicular"),
        ({"detector_direction_origin": (0, 1, 0)}, "not perpendicular"),
        ({"two_theta": -0.1}, "two_theta"),
        ({"integration": "sum"}, "midpoint, mean"),
    ],
)
def test_wrong_geometry_is_refused_in_a_line(options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words) as told:
        Geometry(**{"rotation": np.eye(3)[None], "projection_shape": (2, 2), "volume_shape": (2, 2, 2),
                    "detector_angles": [0.0], **options})  # fmt: skip
    assert "\n" not in str(told.value)


def test_what_is_not_finite_has_no_weight() -> None:
    g = Geometry(np.eye(3)[None], (1, 3), (1, 1, 1), [0.0])
    data = Dataset(g, [[[[np.nan], [2.0], [3.0]]]], [[[[1.0], [np.inf], [2.0]]]], [[[1.0, 1.0, np.nan]]])
    intensity, weight, through = data.projection(0)
    assert intensity.ravel().tolist() == [0, 2, 3]
    assert weight.ravel().tolist() == [0, 0, 0]
    assert through.ravel().tolist() == [1, 1, 1]


def test_weights_of_a_pixel_hold_for_its_segments_and_subsets_are_taken() -> None:
    g = small_geometry()
    data = Dataset(g, np.ones((4, 6, 5, 5), np.float32), np.arange(120.0).reshape(4, 6, 5, 1))
    assert np.array_equal(data.projection(2)[1][..., 4], np.arange(60.0, 90.0).reshape(6, 5))
    part = data.subset([3, 1])
    assert part.shape == (2, 6, 5, 5)
    assert np.array_equal(part.geometry.rotation, g.rotation[[3, 1]])
    assert np.array_equal(part.projection(0)[1], data.projection(3)[1])


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"data": np.zeros((4, 6, 5, 4))}, "data: shape"),
        ({"data": np.zeros((4, 6, 5, 5), complex)}, "real numbers"),
        ({"weights": np.full((4, 6, 5, 1), -1.0)}, r"weights\[0, 0, 0, 0\] = -1"),
        ({"weights": np.ones((4, 6, 5))}, "weights: shape"),
        ({"transmission": np.ones((4, 6))}, "transmission: shape"),
        ({"transmission": np.full((4, 6, 5), -0.1)}, "transmission"),
        ({"q": 0.0}, "q = 0"),
        ({"pixel_size": -1.0, "length_unit": "um"}, "pixel_size = -1 um"),
    ],
)
def test_wrong_data_are_refused_in_a_line(parts: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Dataset(**{"geometry": small_geometry(), "data": np.zeros((4, 6, 5, 5)), **parts})

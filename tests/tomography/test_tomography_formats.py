"""Data files: what stands in a file is what arrives, by every name and shape that its format allows."""

from __future__ import annotations

import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from exactgrad.errors import InputError
from exactgrad.tomography import formats
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.formats import DataWarning, load, load_all, mumott
from exactgrad.tomography.formats.reading import Stack
from exactgrad.tomography.geometry import Geometry

GOLDEN = Path(__file__).parents[1] / "data" / "golden_tomography"
J, K, S, N = 4, 5, 3, 3
ANGLES = np.array([0.3, 1.3, 2.3])
FRAME = {
    "p_direction_0": [0.0, 0.0, 1.0],
    "j_direction_0": [0.0, 1.0, 0.0],
    "k_direction_0": [1.0, 0.0, 0.0],
    "detector_direction_origin": [1.0, 0.0, 0.0],
    "detector_direction_positive_90": [0.0, 1.0, 0.0],
}


def projection(i, shape=(J, K), channels=S, **changes):
    random = np.random.default_rng(i)
    content = {"data": random.random((*shape, channels)).astype(np.float32), "diode": 1 - 0.1 * random.random(shape)}
    return {name: value for name, value in (content | changes).items() if value is not None}


def write_file(path, parts, **root):
    with h5py.File(path, "w") as handle:
        for name, value in ({"detector_angles": ANGLES, "volume_shape": [4, 4, 5]} | root).items():
            if value is not None:
                handle[name] = value
        handle.create_group("projections")
        for i, part in enumerate(parts):
            for name, value in part.items():
                handle[f"projections/{i}/{name}"] = value
    return path


@pytest.fixture
def made(tmp_path):
    def make(*changes, **root):
        parts = [projection(i, **(changes[i] if i < len(changes) else {})) for i in range(max(N, len(changes)))]
        return write_file(tmp_path / "data.h5", parts, **root), parts

    return make


class TestMumott:
    def test_data_and_diode_arrive_as_they_are(self, made):
        path, parts = made()
        data = load(path)
        assert data.data.dtype == np.float32
        assert data.weights is None
        for i, part in enumerate(parts):
            assert np.array_equal(data.data[i], part["data"])
            assert np.array_equal(data.transmission[i], part["diode"])

    def test_mumotts_frame_is_the_default(self, made):
        geometry = load(made()[0]).geometry
        assert geometry.p_direction_0.tolist() == [0, 1, 0]
        assert geometry.detector_direction_positive_90.tolist() == [0, 0, 1]
        assert np.array_equal(geometry.rotation, np.broadcast_to(np.eye(3), (N, 3, 3)))

    def test_a_frame_of_the_file_replaces_it(self, made):
        geometry = load(made(**FRAME)[0]).geometry
        for name, value in FRAME.items():
            assert getattr(geometry, name).tolist() == value

    @pytest.mark.parametrize("missing", ["j_direction_0", "detector_direction_positive_90"])
    def test_half_a_frame_is_an_error(self, made, missing):
        path, _ = made(**(FRAME | {missing: None}))
        with pytest.raises(InputError, match=f"data.h5: {missing}: missing, where .* is given"):
            load(path)

    @pytest.mark.parametrize("names", [("inner_angle", "outer_angle"), ("rotations", "tilts")])
    def test_angles_are_outer_after_inner_about_mumotts_axes(self, made, names):
        inner, outer = 0.7, -0.4
        path, _ = made({names[0]: inner, names[1]: outer})
        wanted = Rotation.from_rotvec([outer, 0, 0]) * Rotation.from_rotvec([0, 0, -inner])
        assert np.allclose(load(path).geometry.rotation[0], wanted.as_matrix(), atol=1e-14)

    @pytest.mark.parametrize("name", ["inner_angle", "outer_angle"])
    def test_one_angle_alone_leaves_the_other_zero(self, made, name):
        path, _ = made({name: np.array([[0.5]])})
        axis = [0, 0, -1] if name == "inner_angle" else [1, 0, 0]
        wanted = Rotation.from_rotvec(0.5 * np.array(axis)).as_matrix()
        assert np.allclose(load(path).geometry.rotation[0], wanted, atol=1e-14)

    @pytest.mark.parametrize("name", ["rotation_matrix", "rot_mat"])
    def test_a_matrix_wins_over_angles_and_the_difference_is_told(self, made, name):
        matrix = Rotation.from_rotvec([0.1, 0.2, 0.3]).as_matrix()
        path, _ = made({name: matrix, "inner_angle": 1.0})
        (text,) = formats.read(path).warnings
        assert text.startswith("projections/0: rotation_matrix differs by 1.1") and "the matrix is used" in text
        data = load(path)
        assert np.allclose(data.geometry.rotation[0], matrix, atol=1e-14)

    def test_axes_of_the_first_projection_hold_for_the_others_unless_the_root_has_them(self, made):
        first = {"inner_angle": 0.3, "inner_axis": [0.0, 1.0, 0.0]}
        later = {"inner_angle": 0.3}
        own = {"inner_angle": 0.3, "inner_axis": [1.0, 0.0, 0.0]}
        rotation = load(made(first, later, own)[0]).geometry.rotation
        assert np.allclose(rotation[1], Rotation.from_rotvec([0, 0.3, 0]).as_matrix())
        assert np.allclose(rotation[2], Rotation.from_rotvec([0.3, 0, 0]).as_matrix())
        rotation = load(made(first, later, own, inner_axis=[0.0, 0.0, 1.0])[0]).geometry.rotation
        assert np.allclose(rotation[0], Rotation.from_rotvec([0, 0.3, 0]).as_matrix())
        assert np.allclose(rotation[1], Rotation.from_rotvec([0, 0, 0.3]).as_matrix())

    def test_an_axis_of_another_length_is_an_error(self, made):
        path, _ = made({"inner_angle": 0.3, "inner_axis": [0.0, 0.0, 2.0]})
        with pytest.raises(InputError, match=r"inner_axis = .*a unit vector is needed"):
            load(path)

    @pytest.mark.parametrize("names", [("j_offset", "k_offset"), ("offset_j", "offset_k")])
    @pytest.mark.parametrize("wrap", [float, lambda v: np.array([v]), lambda v: np.array([[v]])])
    def test_offsets_by_both_names_and_any_shape_of_one_value(self, made, names, wrap):
        geometry = load(made({names[0]: wrap(1.5), names[1]: wrap(-0.25)})[0]).geometry
        assert (geometry.j_offset[0], geometry.k_offset[0]) == (1.5, -0.25)
        assert geometry.j_offset[1] == 0

    @pytest.mark.parametrize("shape", [(J, K), (J, K, 1), (J, K, S)])
    def test_weights_of_every_shape(self, made, shape):
        weights = np.random.default_rng(9).random(shape).astype(np.float32)
        data = load(made({"weights": weights})[0])
        assert np.array_equal(data.projection(0)[1], np.broadcast_to(weights.reshape(J, K, -1), (J, K, S)))
        assert np.all(data.projection(1)[1] == 1)

    def test_without_a_diode_all_is_transmitted(self, made):
        path, _ = made(*[{"diode": None}] * N)
        assert load(path).transmission is None

    def test_one_diode_missing_is_one(self, made):
        data = load(made({"diode": None})[0])
        assert np.all(data.transmission[0] == 1)
        assert data.transmission[1].min() < 1

    @pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
    def test_a_diode_that_is_no_transmission_takes_the_pixel_out(self, made, value):
        diode = np.full((J, K), 0.5)
        diode[1, 2] = value
        path, _ = made({"diode": diode})
        assert "not finite in 1 pixels (first: projections/0/diode[1, 2])" in formats.read(path).warnings[0]
        data = load(path)
        intensity, weight, through = data.projection(0)
        assert np.all(weight[1, 2] == 0) and weight.sum() == (J * K - 1) * S
        assert np.all(np.isfinite(intensity)) and np.all(through > 0)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_what_is_not_finite_has_weight_zero(self, made, bad):
        values = projection(0)["data"]
        values[0, 1, 2] = bad
        intensity, weight, _ = load(made({"data": values})[0]).projection(0)
        assert weight[0, 1, 2] == 0 and weight.sum() == J * K * S - 1
        assert np.all(np.isfinite(intensity))

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_a_weight_that_is_not_finite_is_zero(self, made, bad):
        weights = np.ones((J, K))
        weights[3, 4] = bad
        assert np.all(load(made({"weights": weights})[0]).projection(0)[1][3, 4] == 0)

    def test_a_negative_weight_is_an_error(self, made):
        with pytest.raises(InputError, match=r"data\.h5: projections/1/weights: -1 is below 0"):
            load(made({}, {"weights": np.full((J, K), -1.0)})[0])

    def test_pixels_of_a_smaller_projection_stay_where_they_are(self, made):
        """The oracle is the format's own sentence: pixel (j, k) lies at (j + 1/2 - J/2 + j_offset, ...)."""
        small = projection(1, shape=(J - 2, K - 1)) | {"j_offset": 0.25, "k_offset": -1.0}
        path, _ = made({}, small)
        assert "1 projections are smaller than (4, 5) pixels (first: projections/1" in formats.read(path).warnings[0]
        data = load(path)
        assert data.data.shape == (N, J, K, S)
        at_j = np.arange(J - 2) + 0.5 - J / 2 + data.geometry.j_offset[1]
        at_k = np.arange(K - 1) + 0.5 - K / 2 + data.geometry.k_offset[1]
        assert np.array_equal(at_j, np.arange(J - 2) + 0.5 - (J - 2) / 2 + 0.25)
        assert np.array_equal(at_k, np.arange(K - 1) + 0.5 - (K - 1) / 2 - 1.0)
        assert np.array_equal(data.data[1, : J - 2, : K - 1], small["data"])
        weight = data.projection(1)[1]
        assert np.all(weight[: J - 2, : K - 1] == 1) and weight.sum() == (J - 2) * (K - 1) * S
        assert np.all(data.projection(0)[1] == 1)

    def test_the_volume_is_as_wide_as_the_scan_if_not_told(self, made):
        assert load(made(volume_shape=None)[0]).geometry.volume_shape == (J, J, K)

    @pytest.mark.parametrize("dtype", ["<i2", ">u2", "u1", "<f2", ">f4"])
    def test_small_numbers_become_float32_exactly(self, made, dtype):
        values = (100 * np.random.default_rng(1).random((J, K, S))).astype(dtype)
        changes = [{"data": values.astype(dtype)} for _ in range(N)]
        data = load(made(*changes)[0])
        assert data.data.dtype == np.float32
        assert np.array_equal(data.data[0], values.astype(float))

    @pytest.mark.parametrize("dtype", ["<i4", "<f8"])
    def test_large_numbers_become_float64(self, made, dtype):
        data = load(made({"data": np.full((J, K, S), 123456789, dtype)})[0])
        assert data.data.dtype == np.float64 and data.data[0, 0, 0, 0] == 123456789

    def test_several_two_theta_are_several_data_sets(self, made):
        values = np.random.default_rng(1).random((J, K, 2 * S)).astype(np.float32)
        weights = np.ones((J, K, 2 * S), np.float32)
        weights[..., S] = 0
        path, _ = made(*[{"data": values, "weights": weights}] * N, two_theta=[0.1, 0.2], q=[1.0, 2.0])
        first, second = load_all(path)
        assert (first.geometry.two_theta, second.geometry.two_theta) == (0.1, 0.2)
        assert (first.q, second.q) == (1.0, 2.0)
        assert np.array_equal(second.data[0], values[..., S:])
        assert np.all(second.projection(0)[1][..., 0] == 0) and np.all(first.projection(0)[1] == 1)
        with pytest.raises(InputError, match="holds 2 q: say which one, q = 0 to 1"):
            load(path)
        assert load(path, q=1).q == 2.0
        with pytest.raises(InputError, match="q = 2: must be from 0 to 1"):
            load(path, q=2)

    @pytest.mark.parametrize("scalar", [0.1, [0.1]])
    def test_one_two_theta(self, made, scalar):
        assert load(made(two_theta=scalar)[0]).geometry.two_theta == 0.1

    def test_degrees_are_told_by_their_size(self, made):
        with pytest.warns(DataWarning) as caught:
            load(made({"inner_angle": 350.0}, {"inner_angle": 4.0}, detector_angles=[10.0, 90.0, 170.0])[0])
        text = " ".join(str(item.message) for item in caught)
        assert "inner_angle runs from 4 to 350" in text and "detector_angles runs from 10 to 170" in text
        assert "are these degrees?" in text

    def test_a_scattering_angle_in_degrees(self, made):
        with pytest.warns(DataWarning, match="two_theta = 2 rad is 115 degrees, where no detector .* these degrees"):
            load(made(two_theta=2.0)[0])

    def test_radians_are_not_taken_for_degrees(self, made):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load(made({"inner_angle": 6.2, "outer_angle": -0.79})[0])

    def test_data_that_stay_on_disk_are_the_same(self, made):
        diode = np.full((J, K), 0.5)
        diode[0, 0] = 0
        path, _ = made({"weights": np.random.default_rng(3).random((J, K))}, {"diode": diode})
        held, lazy = load(path), load(path, memory_bytes=0)
        assert isinstance(held.data, np.ndarray) and isinstance(lazy.data, Stack) and isinstance(lazy.weights, Stack)
        for i in range(N):
            for a, b in zip(held.projection(i), lazy.projection(i), strict=True):
                assert np.array_equal(a, b)
        assert np.array_equal(lazy.data[1, 2], held.data[1, 2])
        with pytest.raises(TypeError, match="one projection at a time"):
            lazy.data[:]


class TestMumottErrors:
    @pytest.mark.parametrize(
        ("changes", "root", "message"),
        [
            ({}, {"detector_angles": None}, r"data.h5: detector_angles: missing \(in rad\)"),
            ({}, {"detector_angles": [0.0, np.nan, 1.0]}, r"detector_angles\[1\] = nan rad: a finite number"),
            ({}, {"detector_angles": [0.0, 1.0]}, r"data: shape \(4, 5, 3\) of float32 .*\(any, any, 2\)"),
            ({}, {"volume_shape": [4, 4]}, r"volume_shape: shape \(2,\) where \(3\) is needed"),
            ({}, {"volume_shape": [4, 4, 0]}, "volume_shape = .*three whole numbers"),
            ({}, {"volume_shape": [10**6] * 3}, "volume_shape = .*at most"),
            ({}, {"volume_shape": [4.5, 4, 4]}, "volume_shape = .*whole numbers"),
            ({}, {"volume_shape": np.bytes_(b"abc")}, "volume_shape: numbers are needed"),
            ({"data": None}, {}, "projections/0/data: missing"),
            ({"data": np.zeros((J, K))}, {}, r"projections/0/data: shape \(4, 5\) of float64"),
            ({"data": np.zeros((0, K, S))}, {}, "projections/0/data: shape"),
            ({"data": np.full((J, K, S), b"x")}, {}, "projections/0/data: shape"),
            ({"diode": np.ones((J, K + 1))}, {}, r"projections/0/diode: shape \(4, 6\)"),
            ({"weights": np.ones((J, K, 2))}, {}, r"projections/0/weights: shape \(4, 5, 2\)"),
            ({"inner_angle": np.ones(2)}, {}, r"projections/0/inner_angle: shape \(2,\) where \(\) is needed"),
            ({"j_offset": np.nan}, {}, "projections/0/j_offset = nan pixels: a finite number"),
            ({"rotation_matrix": 2 * np.eye(3)}, {}, r"data.h5: rotation\[0\]: not orthogonal"),
            ({"rotation_matrix": -np.eye(3)}, {}, r"data.h5: rotation\[0\]: its determinant is -1"),
            ({"rotation_matrix": np.eye(2)}, {}, r"rotation_matrix: shape \(2, 2\)"),
            ({"data/deeper": 1.0, "data": None}, {}, "projections/0/data: a data set with values is needed"),
            ({}, {"q": [1.0, 2.0]}, "q: 2 values where 1 is needed"),
        ],
    )
    def test_one_line_names_the_file_and_the_key(self, made, changes, root, message):
        path, _ = made(changes, **root)
        with pytest.raises(InputError, match=message) as caught:
            load(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)

    def test_names_that_are_not_contiguous(self, tmp_path):
        path = write_file(tmp_path / "data.h5", [projection(0), projection(1)])
        with h5py.File(path, "a") as handle:
            handle.move("projections/1", "projections/2")
        with pytest.raises(InputError, match="projections/1: missing; 2 members must be named 0 to 1"):
            load(path)

    def test_no_projection(self, tmp_path):
        with pytest.raises(InputError, match="projections: 0 members"):
            load(write_file(tmp_path / "data.h5", []))

    def test_neither_layout(self, tmp_path):
        with h5py.File(tmp_path / "a.h5", "w") as handle:
            handle["x"] = 1
        with pytest.raises(InputError, match="neither mumott's layout"):
            load(tmp_path / "a.h5")

    def test_missing_file_and_text(self, tmp_path):
        with pytest.raises(InputError, match="no such file"):
            load(tmp_path / "a.h5")
        (tmp_path / "a.h5").write_text("hello")
        with pytest.raises(InputError, match="not a readable HDF5 file"):
            load(tmp_path / "a.h5")


class TestMumottWritten:
    def test_round_trip_keeps_what_mumott_drops(self, tmp_path):
        random = np.random.default_rng(2)
        made = []
        for two_theta, q in ((0.01, 0.3), (0.02, 0.6)):
            geometry = Geometry(
                Rotation.random(N, random_state=3).as_matrix(),
                (J, K),
                (6, 5, 4),
                ANGLES,
                j_offset=random.normal(size=N) if not made else made[0].geometry.j_offset,
                k_offset=0.5,
                two_theta=two_theta,
                **FRAME,
            )
            values = random.random((N, J, K, S)).astype(np.float32)
            weights = random.random((N, J, K, S)).astype(np.float32)
            through = np.full((N, J, K), 0.5)
            made.append(Dataset(geometry, values, weights, through, q, "1/nm", 25.0, "um"))
        mumott.write(tmp_path / "a.h5", made, extra={"truth/A": np.ones((6, 5, 4))})
        for back, given_set in zip(load_all(tmp_path / "a.h5"), made, strict=True):
            assert np.array_equal(back.data, given_set.data)
            assert np.array_equal(back.weights, given_set.weights)
            assert np.array_equal(back.transmission, given_set.transmission)
            assert (back.q, back.q_unit, back.pixel_size, back.length_unit) == (given_set.q, "1/nm", 25.0, "um")
            for name in ("rotation", "j_offset", "k_offset", "detector_angles", *FRAME):
                assert np.allclose(getattr(back.geometry, name), getattr(given_set.geometry, name), atol=1e-15)
            assert back.geometry.two_theta == given_set.geometry.two_theta
            assert back.geometry.volume_shape == (6, 5, 4)

    def test_every_entry_that_mumott_needs_is_there(self, tmp_path):
        """mumott 2.3 reads no file without diodes, and takes data that are not finite for an error."""
        values = np.ones((1, J, K, S), np.float32)
        values[0, 0, 0, 0] = np.nan
        geometry = Geometry(np.eye(3)[None], (J, K), (4, 4, 5), ANGLES)
        mumott.write(tmp_path / "a.h5", Dataset(geometry, values))
        with h5py.File(tmp_path / "a.h5") as handle:
            part = handle["projections/0"]
            assert {"data", "diode", "weights", "rotation_matrix", "j_offset", "k_offset"} <= set(part)
            assert part["data"].dtype == np.float32 and np.all(np.isfinite(part["data"][()]))
            assert part["weights"][0, 0, 0] == 0 and part["weights"][()].sum() == J * K * S - 1
            assert handle["detector_angles"].shape == (S,) and handle["two_theta"].shape == (1,)

    def test_nothing_is_overwritten(self, tmp_path):
        (tmp_path / "a.h5").write_text("mine")
        geometry = Geometry(np.eye(3)[None], (J, K), (4, 4, 5), ANGLES)
        with pytest.raises(InputError, match="exists already"):
            mumott.write(tmp_path / "a.h5", Dataset(geometry, np.ones((1, J, K, S))))
        assert (tmp_path / "a.h5").read_text() == "mine"

    def test_data_sets_that_do_not_belong_together(self, tmp_path):
        one = Dataset(Geometry(np.eye(3)[None], (J, K), (4, 4, 5), ANGLES), np.ones((1, J, K, S)))
        other = Dataset(Geometry(np.eye(3)[None], (J, K), (4, 4, 5), ANGLES, j_offset=1.0), np.ones((1, J, K, S)))
        with pytest.raises(InputError, match="must share their geometry"):
            mumott.write(tmp_path / "a.h5", [one, other])

    @settings(deadline=None, derandomize=True, max_examples=15)
    @given(
        st.integers(1, 3),
        st.integers(1, 4),
        st.integers(1, 4),
        st.integers(1, 5),
        st.floats(-50, 50),
        st.floats(0, 1),
    )
    def test_what_is_written_is_read(self, tmp_path_factory, n, rows, columns, segments, offset, two_theta):
        path = tmp_path_factory.mktemp("x") / "a.h5"
        random = np.random.default_rng(n + rows)
        geometry = Geometry(
            Rotation.random(n, random_state=rows).as_matrix(),
            (rows, columns),
            (2, 3, 4),
            np.arange(segments) * 0.3,
            offset,
            -offset,
            two_theta=two_theta,
        )
        given_set = Dataset(geometry, random.random((n, rows, columns, segments)))
        mumott.write(path, given_set)
        back = load(path)
        assert np.array_equal(back.data, given_set.data)
        assert np.allclose(back.geometry.rotation, geometry.rotation, atol=1e-15)
        assert np.array_equal(back.geometry.j_offset, geometry.j_offset)


class TestPlain:
    @pytest.fixture
    def plain(self, tmp_path):
        def make(**changes):
            content = {
                "I": np.random.default_rng(0).random((N, J, K, S)),
                "rotation": Rotation.random(N, random_state=1).as_matrix(),
                "detector_angles": ANGLES,
                "volume_shape": [4, 4, 5],
            } | changes
            with h5py.File(tmp_path / "plain.h5", "w") as handle:
                for name, value in content.items():
                    if value is not None:
                        handle[name] = value
            return tmp_path / "plain.h5", content

        return make

    def test_all_of_it_arrives(self, plain):
        weights = np.random.default_rng(5).random((N, J, K, S)).astype(np.float32)
        path, content = plain(j_offset=np.arange(3.0), k_offset=0.5, weights=weights, two_theta=0.01, **FRAME)
        data = load(path)
        assert data.data.dtype == np.float64 and np.array_equal(data.data, content["I"])
        assert np.array_equal(data.weights, weights)
        assert data.geometry.j_offset.tolist() == [0, 1, 2] and data.geometry.k_offset.tolist() == [0.5] * 3
        assert data.geometry.p_direction_0.tolist() == FRAME["p_direction_0"] and data.geometry.two_theta == 0.01

    def test_angles_of_the_seed_note_where_there_is_no_rotation(self, plain):
        """R = R_x(alpha) R_y(beta): the audit's corrected R_exp, transposed."""
        alpha, beta = np.array([0.0, 0.3, -0.2]), np.array([0.1, 0.0, 2.0])
        data = load(plain(rotation=None, alpha=alpha, beta=beta)[0])
        for i in range(N):
            wanted = Rotation.from_rotvec([alpha[i], 0, 0]) * Rotation.from_rotvec([0, beta[i], 0])
            assert np.allclose(data.geometry.rotation[i], wanted.as_matrix(), atol=1e-14)

    @pytest.mark.parametrize("shape", [(N, J, K), (N, J, K, 1)])
    def test_weights_a_pixel_and_dead_transmission(self, plain, shape):
        through = np.full((N, J, K), 0.5)
        through[2, 1, 1] = 0
        path, _ = plain(weights=np.full(shape, 2.0), transmission=through)
        assert "(first: transmission[2, 1, 1])" in formats.read(path).warnings[0]
        data, lazy = load(path), load(path, memory_bytes=0)
        assert np.all(data.projection(2)[1][1, 1] == 0) and np.all(data.projection(0)[1] == 2)
        assert all(np.array_equal(a, b) for a, b in zip(data.projection(2), lazy.projection(2), strict=True))

    def test_several_q(self, plain):
        values = np.random.default_rng(0).random((2, N, J, K, S))
        first, second = load_all(plain(I=values, two_theta=[0.1, 0.2], q=[1.0, 2.0])[0])
        assert np.array_equal(second.data, values[1]) and second.geometry.two_theta == 0.2 and first.q == 1.0

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"rotation": None}, r"plain.h5: rotation: missing \(or alpha and beta, rad\)"),
            ({"rotation": np.eye(3)}, r"rotation: shape \(3, 3\) where \(3, 3, 3\) is needed"),
            ({"I": np.ones((J, K, S))}, r"I: numbers of shape \(n, J, K, S\)"),
            ({"detector_angles": ANGLES[:2]}, "I: 3 segments where detector_angles has 2"),
            ({"weights": np.ones((N, J))}, r"weights: shape \(3, 4\)"),
            ({"weights": -np.ones((N, J, K))}, r"weights\[0\]: -1 is below 0"),
            ({"transmission": np.ones((N, J))}, r"transmission: shape \(3, 4\)"),
            ({"j_offset": np.ones(2)}, r"j_offset: shape \(2,\) where \(3\) is needed"),
            ({"q": [1.0, 2.0]}, "q: 2 values where 1 is needed"),
        ],
    )
    def test_errors(self, plain, changes, message):
        path, _ = plain(**changes)
        with pytest.raises(InputError, match=message) as caught:
            load(path)
        assert "\n" not in str(caught.value)

    def test_degrees(self, plain):
        with pytest.warns(DataWarning, match="beta runs from 0 to 180"):
            load(plain(rotation=None, beta=np.array([0.0, 90.0, 180.0]))[0])
        with pytest.warns(DataWarning, match="two_theta = 3 rad"):
            load(plain(two_theta=3.0)[0])


def test_read_tells_the_format(made):
    assert formats.read(made()[0]).format == "mumott"


class TestGolden:
    """The golden sets, made with another program, whose scattering vectors and rotations stand beside the data."""

    @pytest.mark.parametrize("name", ["g1_seed_frame", "g3_needles"])
    def test_our_plain_layout(self, name):
        data = load(GOLDEN / f"{name}.h5")
        with h5py.File(GOLDEN / f"{name}.h5") as handle:
            assert np.array_equal(data.data, handle["I"][()]) and data.data.dtype == handle["I"].dtype
            assert np.allclose(data.geometry.q_vectors(), handle["q_sample"][()], atol=1e-12)
            assert data.geometry.volume_shape == tuple(handle["volume_shape"][()])

    def test_mumotts_layout(self):
        data = load(GOLDEN / "g2_mumott_frame.h5")
        with h5py.File(GOLDEN / "g2_mumott_frame.h5") as handle:
            assert np.allclose(data.geometry.rotation, handle["truth/rotation"][()], atol=1e-12)
            assert np.allclose(data.geometry.q_vectors(), handle["truth/q_sample"][()], atol=1e-12)
            for n in (0, 17, 35):
                part = handle[f"projections/{n}"]
                intensity, weight, through = data.projection(n)
                assert np.array_equal(intensity, part["data"][()]) and np.array_equal(weight, part["weights"][()])
                assert np.array_equal(through, part["diode"][()])
                assert data.geometry.j_offset[n] == part["j_offset"][()]

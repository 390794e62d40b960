"""Azimuthally integrated images with a table of positions become the data set that they were taken from."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from exactgrad.errors import InputError, RefusedFile
from exactgrad.tomography.formats import files_of, load, load_all, read
from exactgrad.tomography.formats.reading import Stack
from exactgrad.tomography.reconstruct import reconstruct, resume

N, J, K, S, R = 2, 3, 4, 6, 5
RADIUS = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
AZIMUTH = np.arange(S) * 30.0 + 15.0


def azint_file(path, images, unit="degrees", errors=None):
    """Write as MAX IV's azint_writer does: text of any length, soft links, a 1-D entry beside the 2-D one."""
    with h5py.File(path, "w") as handle:
        entry = handle.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        entry["definition"] = "NXazint2d"  # text of variable length
        one = entry.create_group("azint1d/data")
        one["I"] = images.mean(axis=1)
        one["radial_axis"] = RADIUS
        two = entry.create_group("azint2d/data")
        two.attrs.update({"NX_class": "NXdata", "signal": "I", "axes": [".", "azimuthal_axis", "radial_axis"]})
        two.create_dataset("I", data=images, chunks=(1, S, R), compression="gzip")
        if errors is not None:
            two["I_errors"] = errors
        two["azimuthal_axis"] = AZIMUTH if unit == "degrees" else np.deg2rad(AZIMUTH)
        two["azimuthal_axis"].attrs["units"] = unit
        two["radial_axis"] = RADIUS
        two["radial_axis"].attrs["units"] = "1/nm"
        entry["data"] = h5py.SoftLink("/entry/azint1d/data")


@pytest.fixture
def scan(tmp_path):
    """A scan of N x J x K points, one file a projection, the images of a file in snake order."""
    truth = np.random.default_rng(0).random((N, J, K, S, R))
    rows = []
    for n in range(N):
        points = [(j, k if j % 2 == 0 else K - 1 - k) for j in range(J) for k in range(K)]
        azint_file(tmp_path / f"scan_{n}.h5", np.array([truth[n, j, k] for j, k in points]))
        rows += [f"scan_{n}.h5,{n},{j},{k},{40.0 * n},{10.0 * n},{0.9 - 0.1 * n}" for j, k in points]
    head = "file,projection,j,k,inner_angle_deg,outer_angle_deg,transmission"
    return tmp_path, truth, head, rows


def table_of(folder, head, rows, keys="# q_ranges = 0.2 0.3\n# volume_shape = 3, 3, 4\n"):
    (folder / "table.csv").write_text(keys + "\n".join([head, *rows]) + "\n")
    return folder / "table.csv"


def test_the_data_set_that_was_measured(scan):
    folder, truth, head, rows = scan
    keys = "# q_ranges = 0.2 0.3\n# volume_shape = 3, 3, 4\n# pixel_size = 25\n# length_unit = um\n# two_theta = 0.01\n"
    found = read(table_of(folder, head, rows, keys))
    (data,) = found.datasets
    assert found.format == "NXazint2d" and found.warnings == ()
    assert data.shape == (N, J, K, S)
    assert np.allclose(data.data, truth[..., 1:3].mean(axis=-1), rtol=1e-6)
    assert np.allclose(data.geometry.detector_angles, np.deg2rad(AZIMUTH))
    assert (data.q, data.q_unit) == (pytest.approx(0.25), "1/nm")
    assert (data.pixel_size, data.length_unit, data.geometry.two_theta) == (25.0, "um", 0.01)
    wanted = Rotation.from_rotvec([np.deg2rad(10), 0, 0]) * Rotation.from_rotvec([0, 0, -np.deg2rad(40)])
    assert np.allclose(data.geometry.rotation[1], wanted.as_matrix(), atol=1e-14)
    assert np.allclose(data.transmission[1], 0.8)


def test_rows_in_any_order_with_their_image_numbers(scan):
    folder, truth, head, rows = scan
    numbered = [f"{row},{i % (J * K)}" for i, row in enumerate(rows)]
    order = np.random.default_rng(1).permutation(len(rows))
    data = load(table_of(folder, f"{head},image", [numbered[i] for i in order]))
    assert np.allclose(data.data, truth[..., 1:3].mean(axis=-1), rtol=1e-6)


def test_several_q_and_by_projection(scan):
    folder, truth, head, rows = scan
    table = table_of(folder, head, rows, "# q_ranges = 0.1 0.1, 0.35 9\n")
    for memory in (None, 0):
        low, high = load_all(table, memory_bytes=memory)
        assert isinstance(low.data, Stack) == (memory == 0)
        for n in range(N):
            assert np.allclose(low.projection(n)[0], truth[n, ..., 0], rtol=1e-6)
            assert np.allclose(high.projection(n)[0], truth[n, ..., 3:].mean(axis=-1), rtol=1e-6)
    assert (low.q, high.q) == (pytest.approx(0.1), pytest.approx(0.45))


def test_reconstructions_of_several_q_are_bound_to_every_file(scan):
    folder, _, head, rows = scan
    table = table_of(folder, head, rows, "# q_ranges = 0.1 0.1, 0.35 9\n")
    assert files_of(table) == ["table.csv", "scan_0.h5", "scan_1.h5"]
    job = {"solve": {"max_iterations": 1}, "output": {"figures": False, "residuals": False}}
    summary = reconstruct(table, folder / "out", job, q="all")
    assert summary["q"] == [pytest.approx(0.1), pytest.approx(0.45)] and summary["status"] == "budget"
    with h5py.File(folder / "scan_1.h5", "a") as handle:
        handle["entry/azint2d/data/I"][0] = 1.0
    for part in ("out", "out/q_001"):
        with pytest.raises(InputError, match=r"scan_1\.h5: has changed since this run began"):
            resume(folder / part)


def test_a_point_that_was_not_measured_has_no_weight_and_neither_has_a_masked_bin(scan):
    folder, truth, head, rows = scan
    with h5py.File(folder / "scan_0.h5", "a") as handle:
        handle["entry/azint2d/data/I"][0, 2] = np.nan
        handle["entry/azint2d/data/I"][0, 3, 1] = np.nan  # one of two bins: the other is taken
    data = load(table_of(folder, head, rows[:-1]))
    _, weight, _ = data.projection(0)
    assert weight[0, 0, 2] == 0 and weight.sum() == J * K * S - 1
    assert data.data[0, 0, 0, 3] == pytest.approx(truth[0, 0, 0, 3, 2], rel=1e-6)
    assert data.projection(1)[1].sum() == (J * K - 1) * S


def test_a_dead_transmission(scan):
    folder, _, head, rows = scan
    rows[0] = rows[0].rsplit(",", 1)[0] + ",0"
    assert np.all(load(table_of(folder, head, rows)).projection(0)[1][0, 0] == 0)


@pytest.fixture
def with_errors(scan):
    """Errors of counts, 200 of them behind one unit of intensity in two radial bins together; two are spoilt."""
    folder, truth, head, rows = scan
    truth[0, 0, 3] = 0.0  # an empty ray
    for n in range(N):
        with h5py.File(folder / f"scan_{n}.h5", "a") as handle:
            data = handle["entry/azint2d/data"]
            images = data["I"][()]
            if n == 0:
                images[3] = 0.0
                data["I"][...] = images
            errors = np.sqrt(images / 100.0)
            if n == 1:
                errors[0, 2] = np.nan
                errors[1, 4] *= 2.0
            data["I_errors"] = errors
    return table_of(folder, head, rows)


@pytest.mark.parametrize("memory", [None, 0])
def test_errors_become_weights(with_errors, memory):
    data = load(with_errors, memory_bytes=memory)
    assert isinstance(data.weights, Stack) == (memory == 0)
    first, second = (data.projection(n)[1] for n in range(N))
    assert np.allclose(first, 200.0, rtol=1e-5)  # the empty ray too: its error, 0, says nothing
    assert second[0, 0, 2] == 0 and second[0, 1, 4] == pytest.approx(50.0, rel=1e-5)
    assert (np.isclose(second, 200.0, rtol=1e-5)).sum() == J * K * S - 2


def test_weights_from_errors_are_the_likelihood_of_counts(with_errors):
    """The square-root cost of a modelled intensity off by one error is 1/2, whatever the unit."""
    from exactgrad.tomography.costs import SquareRoot

    data = load(with_errors)
    intensity, weight, _ = data.projection(1)
    pixel = (2, 3, 1)
    off = 1e-3 * np.sqrt(intensity[pixel] / 200.0)  # a small part of one error: there the cost is a parabola
    cost, _ = SquareRoot().value_and_slope(
        *(np.array([v]) for v in (intensity[pixel] + off, intensity[pixel], weight[pixel]))
    )
    assert cost == pytest.approx(0.5e-6, rel=1e-3)


def test_errors_of_some_files_are_told_and_not_used(with_errors):
    with h5py.File(with_errors.with_name("scan_1.h5"), "a") as handle:
        del handle["entry/azint2d/data/I_errors"]
    found = read(with_errors)
    assert found.warnings == ("1 of 2 files (first: scan_1.h5) have no errors: none are used, every weight is 1",)
    assert found.datasets[0].weights is None


def test_misshapen_errors_and_errors_behind_a_link(with_errors):
    path = with_errors.with_name("scan_1.h5")
    with h5py.File(path, "a") as handle:
        data = handle["entry/azint2d/data"]
        del data["I_errors"]
        data["I_errors"] = h5py.ExternalLink("/etc/passwd", "/")
    assert load(with_errors).weights is None
    with h5py.File(path, "a") as handle:
        data = handle["entry/azint2d/data"]
        del data["I_errors"]
        data["I_errors"] = np.ones((J * K, S))
    with pytest.raises(InputError, match=r"scan_1\.h5: I_errors: numbers of shape \(12, 6, 5\), that of I, are needed"):
        load(with_errors)


def test_a_dead_transmission_beats_errors(with_errors):
    lines = with_errors.read_text().splitlines()
    lines[3] = lines[3].rsplit(",", 1)[0] + ",0"
    with_errors.write_text("\n".join(lines))
    assert np.all(load(with_errors).projection(0)[1][0, 0] == 0)


def test_radians_one_file_and_no_ranges(tmp_path):
    truth = np.random.default_rng(0).random((J * K, S, R))
    azint_file(tmp_path / "all.h5", truth, unit="rad")
    rows = [f"0,{j},{k},0.5" for j in range(J) for k in range(K)]
    found = read(table_of(tmp_path, "projection,j,k,inner_angle", rows, "# file = all.h5\n"))
    assert "the mean over all 5 radial bins" in found.warnings[0]
    (data,) = found.datasets
    assert np.allclose(data.data[0].reshape(-1, S), truth.mean(axis=-1), rtol=1e-6)
    assert np.allclose(data.geometry.detector_angles, np.deg2rad(AZIMUTH))
    assert np.allclose(data.geometry.rotation[0], Rotation.from_rotvec([0, 0, -0.5]).as_matrix())


def test_a_radial_axis_of_scattering_angles(scan):
    folder, _, head, rows = scan
    for n in range(N):
        with h5py.File(folder / f"scan_{n}.h5", "a") as handle:
            handle["entry/azint2d/data/radial_axis"].attrs["units"] = "degrees"
    low, high = load_all(table_of(folder, head, rows, "# q_ranges = 0.1 0.1, 0.35 9\n"))
    assert low.geometry.two_theta == pytest.approx(np.deg2rad(0.1))
    assert high.geometry.two_theta == pytest.approx(np.deg2rad(0.45))
    assert (low.q, low.q_unit) == (None, "")
    (told,) = load_all(table_of(folder, head, rows, "# q_ranges = 0.1 0.1\n# two_theta = 0.02\n"))
    assert told.geometry.two_theta == 0.02


def test_degrees_in_a_column_of_radians(scan):
    folder, _, head, rows = scan
    table = table_of(folder, head.replace("inner_angle_deg", "inner_angle"), rows)
    assert "inner_angle runs from 0 to 40" in read(table).warnings[0]
    table = table_of(folder, head, rows, "# q_ranges = 0.2 0.3\n# two_theta = 1.5\n")
    assert "two_theta = 1.5 rad is 86 degrees" in read(table).warnings[0]


def test_a_table_in_hdf5(scan):
    folder, truth, _, rows = scan
    columns = [row.split(",") for row in rows]
    with h5py.File(folder / "table.h5", "w") as handle:
        handle["table/file"] = np.array([c[0].encode() for c in columns])
        for i, name in enumerate(("projection", "j", "k", "inner_angle_deg", "outer_angle_deg", "transmission"), 1):
            handle[f"table/{name}"] = np.array([float(c[i]) for c in columns])
        handle["q_ranges"] = [[0.2, 0.3]]
        handle["volume_shape"] = [3, 3, 4]
        handle["length_unit"] = np.bytes_(b"um")
    data = load(folder / "table.h5")
    assert np.allclose(data.data, truth[..., 1:3].mean(axis=-1), rtol=1e-6)
    assert data.geometry.volume_shape == (3, 3, 4)


class TestErrors:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda head, rows: (head.replace("k,", "kk,"), rows), "line 3: column 'kk' is not known"),
            (lambda head, rows: (head.replace("k,", "j,"), rows), "line 3: a column stands twice"),
            (lambda head, rows: (head, [rows[0] + ",1", *rows]), "line 4: 8 columns where 7 are needed"),
            (lambda head, rows: (head, [rows[0].replace("0.9", "x"), *rows]), "line 4: transmission = 'x'"),
            (lambda head, rows: (head, [*rows, rows[0]]), "two rows have the same projection, j and k"),
            (lambda head, rows: (head, [row.replace(",1,", ",5,", 1) for row in rows]), "projection 1: no row has it"),
            (lambda head, rows: (head, [rows[0].replace(",0,", ",-1,", 1)]), "row 1: projection = -1.0"),
            (lambda head, rows: (head, [rows[0].replace("scan_0", "none")]), r"none.h5: no such file"),
            (lambda head, rows: (head, []), "a heading and at least one row are needed"),
            (lambda head, rows: (head.replace("projection", "image"), rows), "column projection: missing"),
            (
                lambda head, rows: (head, [*rows[:3], rows[3].replace(",0.0,0.0,", ",1.0,0.0,"), *rows[4:]]),
                "row 4: inner",
            ),
        ],
    )
    def test_the_line_is_named(self, scan, change, message):
        folder, _, head, rows = scan
        with pytest.raises(InputError, match=message) as caught:
            load(table_of(folder, *change(head, rows)))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("key", "message"),
        [
            ("# colour = 3", "line 1: key 'colour' is not known"),
            ("# volume_shape = 3 3", "line 1: volume_shape: 3 finite numbers are needed"),
            ("# volume_shape = a b c", "volume_shape = 'a b c': numbers are needed"),
            ("# q_ranges = 0.1", "q_ranges: pairs of a lower and an upper limit"),
            ("# q_ranges = 0.3 0.1", "q_ranges: pairs of a lower and an upper limit"),
            ("# q_ranges = 7 8", r"no radial bin between 7 and 8; scan_0.h5 has 0.1 to 0.5 1/nm"),
            ("# inner_axis = 0 0 2", "inner_axis = .*a unit vector is needed"),
        ],
    )
    def test_keys(self, scan, key, message):
        folder, _, head, rows = scan
        with pytest.raises(InputError, match=message):
            load(table_of(folder, head, rows, key + "\n"))

    def test_a_file_without_the_data_and_another_unit(self, scan):
        folder, _, head, rows = scan
        azint_file(folder / "scan_1.h5", np.ones((J * K, S, R)), unit="turns")
        with pytest.raises(InputError, match="azimuthal_axis: units 'turns': degrees or radians"):
            load(table_of(folder, head, rows))
        with h5py.File(folder / "scan_1.h5", "w") as handle:
            handle["x"] = 1
        with pytest.raises(InputError, match=r"scan_1\.h5: no NXazint2d data"):
            load(table_of(folder, head, rows))

    def test_hostile_data_in_a_file(self, scan):
        folder, _, head, rows = scan
        for name, bomb in (("I", "shape"), ("radial_axis", "link")):
            azint_file(folder / "scan_1.h5", np.ones((J * K, S, R)))
            with h5py.File(folder / "scan_1.h5", "a") as handle:
                group = handle["entry/azint2d/data"]
                del group[name]
                if bomb == "shape":
                    group.create_dataset("I", (10**6, S, 10**5), "f4", chunks=(10, S, 100))
                else:
                    group[name] = h5py.SoftLink("/entry/azint1d/data/radial_axis")
            with pytest.raises(RefusedFile if bomb == "shape" else InputError):  # a link is not followed
                load(table_of(folder, head, rows))

    def test_more_images_than_the_file_has(self, scan):
        folder, _, head, rows = scan
        azint_file(folder / "scan_1.h5", np.ones((3, S, R)))
        with pytest.raises(InputError, match=r"scan_1\.h5: image 3: the file has 3"):
            load(table_of(folder, head, rows))

"""What is exported is read back by parsers of the test's own, written from the formats' descriptions."""

from __future__ import annotations

import base64
import struct
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest

from exactgrad.errors import InputError
from exactgrad.tomography import derived
from exactgrad.tomography.export import export
from exactgrad.tomography.formats import result, vtk, xdmf
from exactgrad.tomography.formats.result import Volume

SHAPE = (3, 4, 5)


@pytest.fixture
def volume():
    random = np.random.default_rng(1)
    axis = random.normal(size=(*SHAPE, 3))
    mask = random.random(SHAPE) > 0.3
    return Volume(
        np.where(mask, random.random(SHAPE) + 0.5, 0.0),
        np.where(mask, random.normal(size=SHAPE) * 3, 0.0),
        np.where(mask[..., None], axis / np.linalg.norm(axis, axis=-1, keepdims=True), 0.0),
        mask,
        sigma={"A": random.random(SHAPE), "B": np.full(SHAPE, np.inf), "axis_deg": random.random(SHAPE)},
        pixel_size=25.0,
        length_unit="um",
    )


@pytest.fixture
def folder(tmp_path, volume):
    result.write(tmp_path / "result.h5", volume)
    return tmp_path


def parse_vti(path):
    """Read VTK XML image data: x fastest, base64 of a UInt64 count of bytes and Float32 values."""
    image = ElementTree.parse(path).getroot()  # noqa: S314 - we wrote it
    assert (image.get("type"), image.get("byte_order"), image.get("header_type")) == (
        "ImageData",
        "LittleEndian",
        "UInt64",
    )
    image = image.find("ImageData")
    extent = [int(n) for n in image.get("WholeExtent").split()]
    assert image.find("Piece").get("Extent") == image.get("WholeExtent")
    shape = tuple(extent[2 * i + 1] - extent[2 * i] + 1 for i in range(3))
    arrays = {}
    for node in image.iter("DataArray"):
        assert (node.get("type"), node.get("format")) == ("Float32", "binary")
        stream = base64.b64decode(node.text.strip(), validate=True)
        count = struct.unpack("<Q", stream[:8])[0]
        assert count == len(stream) - 8
        values = struct.unpack(f"<{count // 4}f", stream[8:])
        parts = int(node.get("NumberOfComponents"))
        found = np.zeros((*shape, parts))
        for index in range(count // 4 // parts):
            x, rest = index % shape[0], index // shape[0]
            found[x, rest % shape[1], rest // shape[1]] = values[index * parts : (index + 1) * parts]
        arrays[node.get("Name")] = found[..., 0] if parts == 1 else found
    points = image.find("Piece").find("PointData")
    return arrays, [float(v) for v in image.get("Origin").split()], image.get("Spacing"), points.attrib


class TestVtk:
    def test_an_own_parser_gets_every_array_back(self, folder, volume):
        export(folder, "vtk")
        arrays, origin, spacing, active = parse_vti(folder / "volume.vti")
        assert np.array_equal(arrays["A"], volume.A.astype(np.float32))
        assert np.array_equal(arrays["B"], volume.B.astype(np.float32))
        assert np.array_equal(arrays["axis"], volume.axis.astype(np.float32))
        assert np.array_equal(arrays["mask"] > 0, volume.mask)
        assert np.allclose(np.linalg.norm(arrays["axis_by_A"], axis=-1), volume.A, rtol=1e-6)
        assert active == {"Scalars": "mean_intensity", "Vectors": "axis"}
        assert spacing == "25.0 25.0 25.0"
        assert origin == [-(n - 1) / 2 * 25.0 for n in SHAPE]  # the rotation centre is the origin

    def test_errors_are_exported_and_what_is_not_known_is_zero(self, folder, volume):
        export(folder, "vtk")
        arrays = parse_vti(folder / "volume.vti")[0]
        assert np.array_equal(arrays["sigma_A"], np.where(volume.mask, volume.sigma["A"], 0).astype(np.float32))
        assert np.all(arrays["sigma_B"] == 0)

    def test_base64_in_parts_is_the_base64_of_the_whole(self, tmp_path, monkeypatch):
        values = np.arange(7 * 5 * 3, dtype=float).reshape(7, 5, 3)
        vtk.write(tmp_path / "whole.vti", {"v": values})
        monkeypatch.setattr(vtk, "_CHUNK_BYTES", 12)
        vtk.write(tmp_path / "parts.vti", {"v": values})
        assert (tmp_path / "whole.vti").read_bytes() == (tmp_path / "parts.vti").read_bytes()
        assert np.array_equal(parse_vti(tmp_path / "parts.vti")[0]["v"], values)

    def test_a_name_that_xml_must_escape(self, tmp_path):
        vtk.write(tmp_path / "a.vti", {'a"<&b': np.ones((2, 2, 2))})
        assert list(parse_vti(tmp_path / "a.vti")[0]) == ['a"<&b']

    @pytest.mark.parametrize("arrays", [{}, {"a": np.ones((2, 2))}, {"a": np.ones((2, 2, 2)), "b": np.ones((2, 2, 3))}])
    def test_arrays_that_are_no_volume(self, tmp_path, arrays):
        with pytest.raises(InputError):
            vtk.write(tmp_path / "a.vti", arrays)
        assert not list(tmp_path.iterdir())


class TestXdmf:
    def test_an_own_parser_gets_every_array_back(self, folder, volume):
        export(folder, "xdmf")
        root = ElementTree.parse(folder / "volume.xdmf").getroot()  # noqa: S314 - we wrote it
        grid = root.find("Domain/Grid")
        sizes = [int(n) for n in grid.find("Topology").get("Dimensions").split()]
        assert tuple(reversed(sizes)) == SHAPE and grid.find("Topology").get("TopologyType") == "3DCoRectMesh"
        origin, spacing = (item.text.split() for item in grid.find("Geometry").findall("DataItem"))
        assert [float(v) for v in reversed(origin)] == [-(n - 1) / 2 * 25.0 for n in SHAPE]
        assert [float(v) for v in spacing] == [25.0] * 3
        found = {}
        for node in grid.findall("Attribute"):
            item = node.find("DataItem")
            file, name = item.text.split(":")
            with h5py.File(folder / file) as handle:
                values = handle[name][()]
            assert list(values.shape) == [int(n) for n in item.get("Dimensions").split()]
            assert (node.get("AttributeType") == "Vector") == (values.ndim == 4) and values.dtype == np.float32
            found[node.get("Name")] = np.moveaxis(values, (0, 1, 2), (2, 1, 0))
        assert np.array_equal(found["A"], volume.A.astype(np.float32))
        assert np.array_equal(found["axis"], volume.axis.astype(np.float32))

    def test_neither_file_is_overwritten(self, folder):
        (folder / "volume.h5").write_text("mine")
        with pytest.raises(InputError, match=r"volume\.h5: exists already"):
            export(folder, "xdmf")
        assert not (folder / "volume.xdmf").exists() and (folder / "volume.h5").read_text() == "mine"

    def test_plain_hdf5_is_read_by_others(self, tmp_path):
        xdmf.write_plain_hdf5(tmp_path / "a.h5", {"x/y": np.arange(5000)})
        with h5py.File(tmp_path / "a.h5") as handle:
            assert handle["x/y"].compression == "gzip" and handle["x/y"][-1] == 4999


class TestMumottQuantities:
    def test_the_tensor_is_the_second_moment_by_quadrature(self, folder, volume):
        export(folder, "mumott")
        with h5py.File(folder / "mumott.h5") as handle:
            found = {name: np.moveaxis(handle[name][()], (0, 1, 2), (2, 1, 0)) for name in handle}
        cosine, weight = np.polynomial.legendre.leggauss(60)
        turn = np.arange(40) * 2 * np.pi / 40
        at = np.argwhere(volume.mask)[7]
        A, B, axis = volume.A[tuple(at)], volume.B[tuple(at)], volume.axis[tuple(at)]
        sine = np.sqrt(1 - cosine**2)
        q = np.stack(
            [
                sine[:, None] * np.cos(turn),
                sine[:, None] * np.sin(turn),
                np.broadcast_to(cosine[:, None], (60, 40)),
            ],
            axis=-1,
        )
        density = A**2 * np.exp(-B * (1 - (q @ axis) ** 2)) * weight[:, None] / 2 / 40
        tensor = np.einsum("ab,abi,abj->ij", density, q, q)
        assert np.allclose(found["second_moment_tensor"][tuple(at)], tensor, rtol=1e-9, atol=1e-12)
        assert found["mean_intensity"][tuple(at)] == pytest.approx(density.sum(), rel=1e-10)
        values = np.linalg.eigvalsh(tensor)
        for i in range(3):
            assert found[f"eigenvalue_{i + 1}"][tuple(at)] == pytest.approx(values[i], rel=1e-9)
        along = found["eigenvector_3" if B > 0 else "eigenvector_1"][tuple(at)]
        assert abs(along @ axis) == pytest.approx(1, abs=1e-12)
        anisotropy = np.sqrt(((values - np.roll(values, 1)) ** 2).sum() / (2 * (values**2).sum()))
        assert found["fractional_anisotropy"][tuple(at)] == pytest.approx(anisotropy, rel=1e-9)
        assert np.all(found["mean_intensity"][~volume.mask] == 0)


class TestDerived:
    @pytest.mark.parametrize("B", [-600.0, -30.0, -0.11, -0.09, -1e-6, 0.0, 1e-9, 0.09, 0.11, 3.0, 40.0, 5000.0])
    def test_sphere_means_by_quadrature(self, B):
        from scipy.integrate import quad

        where = [1 - 1 / abs(B)] if abs(B) > 1 else None  # the integrand's edge, at one end of the interval or other
        where = [1 / np.sqrt(abs(B))] if B < -1 else where
        shift = max(-B, 0.0)
        accuracy = {"points": where, "epsabs": 0, "epsrel": 1e-12, "limit": 200}
        m0 = quad(lambda c: np.exp(-B * (1 - c * c) - shift), 0, 1, **accuracy)[0]
        m2 = quad(lambda c: c * c * np.exp(-B * (1 - c * c) - shift), 0, 1, **accuracy)[0]
        found = derived.sphere_means(B)
        assert float(found[0]) == pytest.approx(m0 * np.exp(shift), rel=1e-9)
        assert float(found[1]) == pytest.approx(m2 * np.exp(shift), rel=1e-9)

    def test_no_sharpness_overflows(self):
        assert np.all(np.isfinite(derived.sphere_means(np.array([-1e6, -800.0, 1e300]))))
        assert np.all(np.isfinite(derived.anisotropy(np.array([-1e6, 0.0, 1e6]))))


class TestResult:
    def test_round_trip(self, folder, volume):
        back = result.read(folder)
        for name in ("A", "B", "axis", "mask"):
            assert np.array_equal(getattr(back, name), getattr(volume, name))
        assert (back.pixel_size, back.length_unit) == (25.0, "um")
        assert set(back.sigma) == {"A", "B", "axis_deg"} and np.all(np.isinf(back.sigma["B"]))
        assert np.array_equal(back.more["anisotropy"], np.where(volume.mask, derived.anisotropy(volume.B), 0))

    def test_the_file_itself_and_no_result(self, folder):
        assert result.read(folder / "result.h5").shape == SHAPE
        with pytest.raises(InputError, match="no such file; a run folder with"):
            result.read(folder / "missing")

    def test_errors_of_the_command(self, folder):
        with pytest.raises(InputError, match="--to stl: must be one of vtk, xdmf, mumott"):
            export(folder, "stl")
        export(folder, "vtk")
        with pytest.raises(InputError, match="exists already"):
            export(folder, "vtk")
        assert export(folder, "vtk", folder / "other.vti")["files"] == [str(folder / "other.vti")]

"""What is written is read again, pixel for pixel; foreign decoders agree."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from exactgrad.diffraction.formats import cbf, hkl, npy, pgm, png, raw_float, smv, sources, tiff
from exactgrad.diffraction.formats.images import detect_format, read_image
from exactgrad.errors import InputError

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 12))
LAWS = settings(deadline=None, derandomize=True, max_examples=60)


def images(dtype, **limits):
    return arrays.arrays(dtype, SHAPES, elements=arrays.from_dtype(np.dtype(dtype), **limits))


@LAWS
@given(image=images(np.uint16), big=st.booleans(), value=st.text("ABCxyz 0123456789.,-", max_size=40))
def test_smv(tmp_path_factory, image, big, value):
    path = tmp_path_factory.mktemp("smv") / "a.img"
    smv.write(path, image, {"DISTANCE": "100.5", "NOTE": value}, big_endian=big)
    again = smv.read(path)
    assert np.array_equal(again.pixels, image) and again.pixels.dtype == np.uint16
    assert again.header["NOTE"] == value.strip() and again.number("DISTANCE") == 100.5
    assert again.number("MISSING") is None


def test_a_long_smv_header_takes_more_blocks(tmp_path):
    header = {f"KEY_{n}": "x" * 60 for n in range(50)}
    smv.write(tmp_path / "a.img", np.ones((2, 2)), header)
    again = smv.read(tmp_path / "a.img")
    assert again.header["HEADER_BYTES"] == "3584" and again.header["KEY_49"] == "x" * 60


@LAWS
@given(image=images(np.float32, allow_nan=False, allow_infinity=False, max_value=2.0**90, min_value=-(2.0**90)))
def test_raw_float(tmp_path_factory, image):
    path = tmp_path_factory.mktemp("raw") / "a.bin"
    raw_float.write(path, image)
    assert np.array_equal(raw_float.read(path, image.shape), image)


@LAWS
@given(image=images(np.uint8))
def test_pgm_and_png(tmp_path_factory, image):
    folder = tmp_path_factory.mktemp("grey")
    pgm.write(folder / "a.pgm", image, "a comment 255 3")
    png.write(folder / "a.png", image)
    again, comment = pgm.read(folder / "a.pgm")
    assert np.array_equal(again, image) and comment == "a comment 255 3"
    for name in ("a.pgm", "a.png"):
        with Image.open(folder / name) as opened:
            assert np.array_equal(np.asarray(opened), image)


@LAWS
@given(image=images(np.uint16))
def test_tiff_as_another_library_reads_it(tmp_path_factory, image):
    path = tmp_path_factory.mktemp("tiff") / "a.tif"
    tiff.write(path, image)
    with Image.open(path) as opened:
        assert np.array_equal(np.asarray(opened), image)


@LAWS
@given(image=images(np.int32))
def test_cbf(tmp_path_factory, image):
    path = tmp_path_factory.mktemp("cbf") / "a.cbf"
    cbf.write(path, image, ("Wavelength 1.0 A", "Pixel_size 1e-4 m x 1e-4 m"))
    again = cbf.read(path)
    assert np.array_equal(again.pixels, image) and again.pixels.dtype == np.int32
    assert again.comments == ("Wavelength 1.0 A", "Pixel_size 1e-4 m x 1e-4 m")


def decoded_by_the_book(stream, count):
    """Decode byte offset one pixel at a time with `struct`, as the standard words it."""
    reader, value, out = io.BytesIO(stream), 0, []
    for _ in range(count):
        (step,) = struct.unpack("<b", reader.read(1))
        if step == -0x80:
            (step,) = struct.unpack("<h", reader.read(2))
            if step == -0x8000:
                (step,) = struct.unpack("<i", reader.read(4))
                if step == -0x80000000:
                    (step,) = struct.unpack("<q", reader.read(8))
        value += step
        out.append(value)
    assert not reader.read()
    return out


@LAWS
@given(st.lists(st.one_of(st.integers(-130, 130), st.integers(-33000, 33000), st.integers(-(2**31), 2**31 - 1))))
def test_byte_offset_against_its_definition(values):
    pixels = np.array(values, np.int32)
    assert decoded_by_the_book(cbf.encode(pixels), len(values)) == values


@pytest.mark.parametrize("step", [127, -127, 128, -128, 32767, -32767, 32768, -32768, 2147483647, -2147483647])
def test_byte_offset_at_its_escapes(step, tmp_path):
    cbf.write(tmp_path / "a.cbf", [[0, step, 0, 1]])
    assert cbf.read(tmp_path / "a.cbf").pixels.tolist() == [[0, step, 0, 1]]


@pytest.mark.parametrize("dtype", ["u1", ">u2", "<i4", ">f4", "f8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy(tmp_path, dtype, order):
    image = np.asarray(np.arange(12).reshape(3, 4) % 2, dtype=dtype, order=order)
    npy.write(tmp_path / "a.npy", image)
    again = npy.read(tmp_path / "a.npy")
    assert np.array_equal(again, image) and again.dtype == image.dtype.newbyteorder("=")


REFLECTIONS = st.dictionaries(st.tuples(*[st.integers(-40, 40)] * 3), st.floats(-1e6, 1e6), min_size=1, max_size=30)


@LAWS
@given(REFLECTIONS)
def test_hkl(tmp_path_factory, reflections):
    path = tmp_path_factory.mktemp("hkl") / "P1.hkl"
    hkl.write(path, list(reflections), list(reflections.values()))
    again = hkl.read(path)
    assert dict(zip(map(tuple, again.hkl.tolist()), again.amplitude.tolist(), strict=True)) == reflections


def test_hkl_comments_blank_lines_and_repeats(tmp_path):
    (tmp_path / "a.hkl").write_text("# h k l F\n\n 1 2 3 4.5 # first\r\n1 2 3 -1e1 ! last counts\n0 0 1 +.5\n")
    again = hkl.read(tmp_path / "a.hkl")
    assert again.hkl.tolist() == [[0, 0, 1], [1, 2, 3]] and again.amplitude.tolist() == [0.5, -10.0]


def test_sources(tmp_path):
    (tmp_path / "s.txt").write_text("# X Y Z I lambda\n-10 0 0\n-10, 0.1, 0, 3\n-10 0 -0.1 0 1.01e-10\n")
    read = sources.read(tmp_path / "s.txt", 1e-10)
    assert read.weight.tolist() == [1, 3, 0] and read.wavelength_m.tolist() == [1e-10, 1e-10, 1.01e-10]
    sources.write(tmp_path / "t.txt", read)
    assert np.array_equal(sources.read(tmp_path / "t.txt", 9e-10).position, read.position)


def test_formats_are_told_by_content(tmp_path):
    image = np.arange(12).reshape(3, 4)
    for name, module in (("smv", smv), ("cbf", cbf), ("pgm", pgm), ("npy", npy)):
        path = tmp_path / f"{name}.dat"
        module.write(path, image, {}) if name == "smv" else module.write(path, image)
        assert detect_format(path) == name and np.array_equal(read_image(path), image)


@pytest.mark.parametrize("module", [smv, cbf, pgm, png, tiff, npy, raw_float])
@pytest.mark.parametrize(
    "image", [[[np.nan]], [[np.inf]], [1, 2], [[]], [["a"]], np.zeros((1, 70000)), [[1j]]], ids=repr
)
def test_images_that_cannot_be_written(tmp_path, module, image):
    with pytest.raises(InputError, match="image"):
        module.write(tmp_path / "a", image, {}) if module is smv else module.write(tmp_path / "a", image)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("module", "pixel"),
    [(smv, -1), (smv, 65536), (smv, 0.5), (pgm, 256), (png, -1), (tiff, 1e9), (cbf, 2**31), (cbf, 0.5)],
)
def test_pixels_that_do_not_fit(tmp_path, module, pixel):
    with pytest.raises(InputError, match=r"image\[0, 1\] = .* whole number from"):
        module.write(tmp_path / "a", [[0, pixel]], {}) if module is smv else module.write(tmp_path / "a", [[0, pixel]])


def test_nothing_is_overwritten(tmp_path):
    pgm.write(tmp_path / "a.pgm", [[1]])
    with pytest.raises(InputError, match="exists already"):
        pgm.write(tmp_path / "a.pgm", [[2]])
    pgm.write(tmp_path / "a.pgm", [[2]], overwrite=True)
    assert pgm.read(tmp_path / "a.pgm")[0].tolist() == [[2]]


@pytest.mark.parametrize("header", [{"A": "1;}"}, {"A": "x\ny"}, {"": "1"}, {"A=B": "1"}, {"A": "é"}, {"A": "{"}])
def test_smv_headers_that_would_break_out(tmp_path, header):
    with pytest.raises(InputError, match="SMV header"):
        smv.write(tmp_path / "a.img", [[1]], header)


@pytest.mark.parametrize("comment", ["a\nb", "é", "--CIF-BINARY-FORMAT-SECTION--", "x" * 2000])
def test_cbf_comments_that_would_break_out(tmp_path, comment):
    with pytest.raises(InputError, match="CBF comment"):
        cbf.write(tmp_path / "a.cbf", [[1]], (comment,))


@pytest.mark.parametrize(
    ("rows", "values"),
    [([[1, 2]], [1]), ([[1, 2, 3]], [1, 2]), ([[1, 2, 0.5]], [1]), ([[1, 2, 3]], [np.nan]), ([], [])],
)
def test_reflections_that_cannot_be_written(tmp_path, rows, values):
    with pytest.raises(InputError, match=r"hkl|amplitude"):
        hkl.write(tmp_path / "a.hkl", rows, values)

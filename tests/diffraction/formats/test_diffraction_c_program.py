"""The C program's files, read and written again byte for byte."""

from pathlib import Path

import numpy as np
import pytest

from exactgrad.diffraction.formats import fdump, hkl, nanobragg, pgm, raw_float, smv
from exactgrad.diffraction.structure_factors import StructureFactors
from exactgrad.errors import InputError

DATA = Path(__file__).parents[2] / "data" / "diffraction_files"
HEADER = {
    "shape": (64, 64),
    "pixel_size_mm": 0.8,
    "distance_mm": 100.0,
    "wavelength_angstrom": 1.0,
    "beam_mm": (26.0, 26.0),
    "beam_fast_slow_mm": (26.4, 26.4),
    "dials_origin_mm": (-26.4, 26.4, -100.0),
    "xds_origin_px": (33.5, 33.5),
    "close_distance_mm": 100.0,
}
BRIGHT_HEADER = HEADER | {
    "shape": (40, 48),
    "pixel_size_mm": 1.0,
    "beam_mm": (20.5, 24.5),
    "beam_fast_slow_mm": (25.0, 21.0),
    "dials_origin_mm": (-25.0, 21.0, -100.0),
    "xds_origin_px": (25.5, 21.5),
}
REGION = (3, 40, 5, 30)


def same(path, name):
    return path.read_bytes() == (DATA / name).read_bytes()


@pytest.mark.parametrize("name", ["intimage.img", "noiseimage.img", "bright_int.img", "bright_noise.img"])
def test_smv_read_and_written(tmp_path, name):
    image = smv.read(DATA / name)
    smv.write(tmp_path / "again.img", image.pixels, image.header, c_layout=True)
    assert same(tmp_path / "again.img", name)


@pytest.mark.parametrize("name", ["image.pgm", "bright.pgm"])
def test_pgm_read_and_written(tmp_path, name):
    pixels, comment = pgm.read(DATA / name)
    pgm.write(tmp_path / "again.pgm", pixels, comment)
    assert same(tmp_path / "again.pgm", name)


def test_float_image_read_and_written(tmp_path):
    raw_float.write(tmp_path / "again.bin", raw_float.read(DATA / "floatimage.bin", (64, 64)))
    assert same(tmp_path / "again.bin", "floatimage.bin")


@pytest.mark.parametrize(
    ("prefix", "shape", "region", "offset", "seed", "header"),
    [("", (64, 64), None, 40.0, 17, HEADER), ("bright", (40, 48), REGION, 12.5, 99, BRIGHT_HEADER)],
    ids=["weak", "bright"],
)
def test_all_files_from_the_float_image(tmp_path, prefix, shape, region, offset, seed, header):
    names = ("floatimage.bin", "intimage.img", "noiseimage.img", "image.pgm")
    if prefix:
        names = ("bright_float.bin", "bright_int.img", "bright_noise.img", "bright.pgm")
    image = raw_float.read(DATA / names[0], shape)
    keys = nanobragg.smv_header(**header)
    integers, _ = nanobragg.integer_image(image, None, offset, region)
    smv.write(tmp_path / "int.img", integers, keys, c_layout=True)
    noisy = nanobragg.noise_image(image, seed, offset, region)
    smv.write(tmp_path / "noise.img", noisy.counts, keys, c_layout=True)
    preview, scale = nanobragg.preview_image(image, None, region)
    pgm.write(tmp_path / "image.pgm", preview, nanobragg.preview_comment(scale))
    assert same(tmp_path / "int.img", names[1])
    assert same(tmp_path / "noise.img", names[2])
    assert same(tmp_path / "image.pgm", names[3])
    if prefix:  # "417068872 photons on noise image (396 overloads)"
        assert (round(noisy.photons), noisy.overloads) == (417068872, 396)


def test_statistics_as_the_program_printed_them():
    image = raw_float.read(DATA / "floatimage.bin", (64, 64))
    found = nanobragg.statistics(image)
    printed = [f"{v:g}" for v in (found.maximum, found.mean, found.rms, found.rmsd)]
    assert printed == ["0.100279", "0.0127212", "0.022475", "0.0185272"]
    assert f"{nanobragg.integer_image(image)[1]:g}" == "548471"


def test_a_black_image_has_scale_one():
    black = np.zeros((3, 4))
    assert nanobragg.integer_image(black)[1] == 1.0 and nanobragg.preview_image(black)[1] == 1.0
    assert nanobragg.statistics(black).maximum == 0.0
    assert (nanobragg.noise_image(black, 1).counts == 40).all()


@pytest.mark.parametrize("region", [(5, 4, 0, 1), (-1, 3, 0, 3), (9, 9, 0, 0)])
def test_regions_that_are_refused(region):
    with pytest.raises(InputError, match="region"):
        nanobragg.statistics(np.ones((4, 4)), region)


def test_negative_photons_are_refused():
    with pytest.raises(InputError, match="smallest pixel is -1"):
        nanobragg.noise_image([[1.0, -1.0]], 1)


def test_the_dump_of_the_program(tmp_path):
    factors = fdump.read(DATA / "Fdump.bin", default=3.0)
    assert factors.table.shape == (4, 4, 3) and factors.lowest.tolist() == [-2, -1, 1]
    miller = np.array([[-2, 0, 1], [1, 2, 3], [0, -1, 2], [1, 1, 1], [9, 9, 9]])
    assert factors.nearest(miller).tolist() == [12.5, 100.0, 3.0, 3.0, 3.0]  # of 1 2 3, listed twice, the last
    fdump.write(tmp_path / "again.bin", factors)
    assert same(tmp_path / "again.bin", "Fdump.bin")


def test_the_dump_made_from_the_list(tmp_path):
    fdump.write(tmp_path / "Fdump.bin", hkl.read(DATA / "few.hkl").structure_factors(3.0))
    assert same(tmp_path / "Fdump.bin", "Fdump.bin")


def test_a_constant_has_no_dump(tmp_path):
    with pytest.raises(InputError, match="no table"):
        fdump.write(tmp_path / "Fdump.bin", StructureFactors.constant(100.0))

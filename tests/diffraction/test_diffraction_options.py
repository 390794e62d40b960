"""The command line: every option is heard, what is wrong is named, and a beam centre works in every convention."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from exactgrad.diffraction import option_table
from exactgrad.diffraction.formats import raw_float
from exactgrad.diffraction.geometry import CONVENTIONS
from exactgrad.diffraction.model import image
from exactgrad.diffraction.options import parse
from exactgrad.errors import InputError

MINIMAL = "-cell 60 70 80 90 90 90 -default_F 10 -detpixels 8 -pixel 2"
INPUTS = Path(__file__).parents[1] / "data" / "golden_diffraction" / "inputs"


def scene(extra="", c_compat=False, words=MINIMAL):
    return parse(shlex.split(f"{words} {extra}"), INPUTS, c_compat)[0]


def outputs(extra="", c_compat=False, words=MINIMAL):
    return parse(shlex.split(f"{words} {extra}"), INPUTS, c_compat)[1]


SETS = [  # options, attribute, value
    ("-N 5", "crystal.cells", [5, 5, 5]),
    ("-N 5 -Nb 6.5", "crystal.cells", [5, 6.5, 5]),
    ("-Nb 6 -N 5", "crystal.cells", [5, 5, 5]),
    ("-xtalsize 0.0001", "crystal.cells", [17, 15, 13]),
    ("-sample_thick 0.0001 -width 0.0001 -height 0.0002", "crystal.cells", [17, 15, 25]),
    ("-samplesize 1 -beamsize 0.0011 -oversample 1", "crystal.cells", [166667, 158, 138]),
    ("-round_xtal -gauss_xtal", "crystal.shape", "gauss"),
    ("-binary_spots", "crystal.shape", "tophat"),
    ("-gauss_xtal -fudge 0.5", "crystal.fudge", 0.5),
    ("-phi 30 -osc 2", "crystal.phi_rad", np.radians([30, 31])),
    ("-osc 1 -phistep 0.25", "crystal.phi_rad", np.radians([0, 0.25, 0.5, 0.75])),
    ("-osc 1 -phisteps 2", "crystal.phi_rad", np.radians([0, 0.5])),
    ("-phisteps 4", "crystal.phi_rad", np.radians([0, 0.25, 0.5, 0.75])),
    ("-phistep 0.5 -phisteps 3", "crystal.phi_rad", np.radians([0, 0.5, 1])),
    ("-lambda 1.2", "beam.wavelengths_m", [1.2e-10]),
    ("-lambda 1.2 -wavelength 1.3", "beam.wavelengths_m", [1.3e-10]),
    ("-lambda 1.2 -energy 12398.42", "beam.wavelengths_m", [1e-10]),
    ("-dispersion 2 -dispsteps 3", "beam.wavelengths_m", [0.99e-10, 1e-10, 1.01e-10]),
    ("-fluence 1e20", "beam.fluence", 1e20),
    ("-flux 1e12 -exposure 0.1 -beamsize 0.05", "beam.fluence", 1e11 / 25e-10),
    ("-polar 0.9", "beam.kahn", 0.9),
    ("-polar 0.9 -nopolar", "beam.kahn", None),
    ("-nopolar -polar 0.9", "beam.kahn", 0.9),
    ("-divergence 2 -divsteps 5 -square_div", "beam.sources", 25),
    ("-divergence 2 -divsteps 5", "beam.sources", 13),
    ("-hdivrange 2 -hdivsteps 4 -vdivrange 1", "beam.sources", 8),
    ("-hdivrange 2 -hdivstep 0.5", "beam.sources", 4),
    ("-hdivstep 1 -hdivsteps 3 -vdivstep 0.5", "beam.sources", 6),
    ("-sourcefile sources.txt", "beam.weights", [0.2, 0.6, 0.2]),
    ("-distance 150", "detector.distance_m", 0.15),
    ("-close_distance 150", "detector.close_distance_m", 0.15),
    ("-detpixels_x 7 -detpixels_s 9", "detector.shape", (9, 7)),
    ("-curved_det", "detector.curved", True),
    ("-point_pixel", "detector.point_pixel", True),
    ("-detector_abs 300 -detector_thick 450", "detector.attenuation_per_m", 1 / 300e-6),
    ("-detector_absorb 300 -detector_thick 450 -thicksteps 5", "detector.layer_m", 90e-6),
    ("-oversample 3", "detector.oversample", 3),
    ("-N 91 -pixel 0.1", "detector.oversample", 22),
    ("-N 91 -pixel 1 -lambda 2", "detector.oversample", 110),
    ("-roi 1 3 2 90", "detector.roi", (1, 3, 2, 7)),
    ("-water 5", "water_m", 5e-6),
    ("-dmin 2", "d_min_m", 2e-10),
    ("-hkl few.hkl -Na 2 -Nb 5 -Nc 5", "structure_factors.interpolate", True),
    ("-hkl few.hkl -N 3", "structure_factors.interpolate", False),
    ("-hkl few.hkl -N 3 -interpolate", "structure_factors.interpolate", True),
    ("-hkl few.hkl -interpolate -nointerpolate", "structure_factors.interpolate", False),
    ("-spindle_axis 0 2 0", "crystal.spindle", [0, 1, 0]),
    ("-polar_vector 0 2 0", "beam.polarization_axis", [0, 1, 0]),
    ("-pix0_vector 0.2 0.01 0.02", "detector.origin", [0.2, 0.01, 0.02]),
    ("-dials -pivot beam -detector_rotx 5", "detector.pixels", (8, 8)),
    ("-mosaic 0.5 -oversample 1", "steps", 10),
    ("-mosaicity 0.5 -mosaic_domains 3 -mosaic_seed 4 -oversample 2 -osc 1", "steps", 24),
]


@pytest.mark.parametrize(("extra", "attribute", "value"), SETS)
def test_option_sets(extra, attribute, value):
    words = MINIMAL if "detpixels_x" not in extra else MINIMAL.replace("-detpixels 8", "")
    found = scene(extra, words=words)
    for name in attribute.split("."):
        found = getattr(found, name)
    if value is None or isinstance(value, str | bool | tuple):
        assert found == value
    else:
        np.testing.assert_allclose(found, value, rtol=1e-12)


def test_output_options():
    made = outputs("-floatfile f -intimage i -noisefile n -pgmfile p -scale 2 -adc_offset 0 -seed 3 -pgmscale 4")
    assert [path.name for path in (made.float_path, made.int_path, made.noise_path, made.pgm_path)] == list("finp")
    assert (made.int_scale, made.adc_offset_adu, made.seed, made.pgm_scale) == (2, 0, 3, 4)
    quiet = outputs("-nonoise -nopgm -noprogress -printout_pixel 3 4")
    assert (quiet.noise_path, quiet.pgm_path, quiet.progress, quiet.printout) == (None, None, False, (3, 4))
    plain = outputs()
    assert plain.int_path.name == "intimage.img" and plain.adc_offset_adu == 40 and plain.dump_path is None
    assert outputs("-hkl few.hkl -dump cache.bin").dump_path == INPUTS / "cache.bin"


def test_every_option_is_found_by_each_of_its_names():
    names = [name for option in option_table.OPTIONS for name in option.names]
    assert len(names) == len(set(names)) > 120
    for option in option_table.OPTIONS:
        for name in option.names:
            assert option_table.find(name.replace("*", "")) is option
    listed = (
        "-mosaic_spread -mosaici -mosaic_domains -sample_height -adc -adcoffset -molecule -detector_absorb -round_div"
    )
    assert all(option_table.find(name) for name in listed.split())
    assert option_table.find("-mosaic_x") is option_table.find("-hdiv") is option_table.find("-detsize_x") is None


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ("-hdiv 3", "-hdiv: no such option"),
        ("-pixels 3", "-pixels: no such option"),
        ("stray", "stray: no such option"),
        ("-lambda", "-lambda: 1 argument needed, 0 given"),
        ("-lambda -osc 3", "-lambda: an argument is needed, found the option -osc"),
        ("-misset 1 2", "-misset: 3 arguments needed, 2 given"),
        ("-misset 1 2 -osc 1", "-misset: an argument is needed"),
        ("-lambda nan", "-lambda nan: a finite number"),
        ("-lambda 1_0", "-lambda 1_0: a finite number"),
        ("-lambda 1e999", "-lambda 1e999: a finite number"),
        ("-oversample 1.5", "-oversample 1.5: a whole number"),
        ("-oversample 100000", "oversample"),
        ("-oversample 0", "-oversample: 0 sub-pixels"),
        ("-detpixels 0", "-detpixels: 0 pixels"),
        ("-samplesize 1", "-oversample: the crystal asks"),
        ("-lambda -1", "-lambda = -1 A"),
        ("-lambda 0", "-lambda = 0 A"),
        ("-energy 0", "energy"),
        ("-N 0.5", "crystal.cells"),
        ("-cell 60 70 80 20 20 90", "close no cell"),
        ("-cell -60 70 80 20 20 90", "-cell"),
        ("-pixel 0", "-pixel 0"),
        ("-distance 0", "distance"),
        ("-density 1", "-density: .* does nothing"),
        ("-MW 1", "-MW"),
        ("-coherent", "-coherent"),
        ("-stol f", "-stol"),
        ("-Q f", "-Q"),
        ("-stolout f", "-stolout"),
        ("-fudge 2", "-fudge: has no effect on square"),
        ("-mosaic_domains 5", "-mosaic_domains: has no effect without"),
        ("-mosaic_seed 5", "-mosaic_seed: has no effect without"),
        ("-misset_seed 5", "-misset_seed: has no effect without"),
        ("-dispsteps 5", "-dispsteps: needs a -dispersion"),
        ("-divsteps 5", "-divsteps: needs"),
        ("-sourcefile sources.txt -dispersion 3", "-dispersion: has no effect with -sourcefile"),
        ("-exposure 3", "-exposure: has no effect without -flux"),
        ("-flux 1e12 -fluence 1e20", "-fluence: contradicts"),
        ("-samplesize 0.001 -N 5", "-N: contradicts -samplesize"),
        ("-mat auto.mat", "-cell: contradicts -mat"),
        ("-osc 1 -phistep 0.3 -phisteps 2", "-phistep: contradicts"),
        ("-distance 100 -close_distance 100", "-distance: contradicts"),
        ("-Xbeam 3 -ORGX 4", "-ORGX: contradicts -Xbeam"),
        ("-Xclose 3 -ORGX 4", "-ORGX: contradicts -Xclose"),
        ("-pix0_vector 0.1 0 0 -Xbeam 3", "-Xbeam: contradicts -pix0_vector"),
        ("-pivot door", "-pivot door"),
        ("-detsize 30", "-detsize: contradicts"),
        ("-twotheta_axis 0 0 1", "-twotheta_axis: has no effect without"),
        ("-detector_abs 300", "-detector_abs: an absorbing sensor needs both"),
        ("-thicksteps 3", "-thicksteps: an absorbing"),
        ("-detector_thick 300 -detector_abs inf", "-detector_thick: an absorbing"),
        ("-interpolate", "-interpolate: has no effect without -hkl"),
        ("-odet_vector 1 1 0", "right angles"),
        ("-polar 0.5 -polar_vector 1 0 0", "polarization_axis"),
        ("-detector_roty 95", "cosine"),
        ("-roi 9 9 0 0", "roi"),
        ("-hkl absent.hkl", "absent.hkl"),
        ("-beam_vector 0 0 0", "beam_vector"),
    ],
)
def test_what_is_wrong_is_named(extra, says):
    with pytest.raises(InputError) as caught:
        scene(extra)
    assert re.search(says, str(caught.value)) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("words", "says"), [("-default_F 3", "-cell: missing"), ("-cell 60", "-hkl: missing")])
def test_what_is_missing_is_named(words, says):
    with pytest.raises(InputError, match=says):
        parse(words.split())


def test_the_c_program_is_lenient():
    extra = "-hdiv 3 4 -density 2 -fudge 2 -mosaic_domains 5 -N 4.7 -Xclose 4 -misset_seed 4"
    warned = outputs(extra, c_compat=True).warnings
    for name in ("-hdiv", "-density", "-fudge", "-mosaic_domains", "-N", "-Xclose", "-misset_seed"):
        assert sum(warning.startswith(name + ":") for warning in warned) == 1, name
    assert parse([*shlex.split(MINIMAL), "--c-compat"])[0].c_compat
    assert scene("-N 4.7", c_compat=True).crystal.cells.tolist() == [4, 4, 4]
    assert not outputs("-N 5 -lambda 1.2").warnings


def test_random_orientation_can_be_had_again():
    drawn = outputs("-misset random")
    again = scene(f"-misset random -misset_seed {drawn.misset_seed}")
    assert str(drawn.misset_seed) in drawn.warnings[0]
    assert np.abs(again.crystal.lattice - scene().crystal.lattice).max() > 1e-10
    np.testing.assert_array_equal(
        scene("-misset random -seed 4").crystal.lattice, scene("-misset_seed 4 -misset random").crystal.lattice
    )


@pytest.mark.parametrize("convention", ["mosflm", "denzo", "adxv", "xds", "dials"])
@pytest.mark.parametrize("pivot", ["", "-pivot beam", "-pivot sample"])
@pytest.mark.parametrize("vector", ["", "-spindle_axis 0 1 0"])
def test_beam_centre_works_in_every_convention(convention, pivot, vector):
    axes = CONVENTIONS[convention]
    detector = scene(f"-{convention} -Xbeam 5 -Ybeam 7 {pivot} {vector}").detector
    wanted = axes.beam_position(0.005, 0.007, 0.016, 0.002)
    np.testing.assert_allclose(detector.direct_beam_m(), wanted, atol=1e-12)
    tilted = scene(f"-{convention} -Xbeam 5 -Ybeam 7 {pivot} {vector} -detector_rotx 4 -detector_roty 3").detector
    pivots_on_beam = pivot != "-pivot sample"
    along = tilted.close_distance_m / (tilted.normal @ tilted.beam)
    hit = along * tilted.beam - tilted.origin
    moved = np.abs(np.array([hit @ tilted.fast, hit @ tilted.slow]) - wanted).max()
    assert moved < 1e-12 if pivots_on_beam else moved > 1e-4


@pytest.mark.parametrize("convention", ["mosflm", "denzo", "adxv", "xds", "dials"])
def test_near_point_works_in_every_convention(convention):
    for centre in ("-ORGX 3 -ORGY 4", "-Xclose 5 -Yclose 7"):
        for tilt in ("", "-detector_rotx 4 -twotheta 20"):
            detector = scene(f"-{convention} {centre} {tilt}").detector
            np.testing.assert_allclose(detector.near_point_m, (0.005, 0.007), atol=1e-12)
            assert detector.close_distance_m == pytest.approx(0.1, rel=5e-3)


def test_axes_follow_one_another():
    """Right-handed axes given one by one: the normal is made from the other two, away from the crystal."""
    words = "-beam_vector 0 0 1 -fdet_vector 1 0 0 -sdet_vector 0 -1 0 -polar_vector 1 0 0 -spindle_axis 1 0 0"
    own, adxv = scene(f"{words} -Xbeam 7 -Ybeam 7"), scene("-adxv -Xbeam 8 -Ybeam 8")
    np.testing.assert_allclose(own.detector.normal, (0, 0, 1))
    np.testing.assert_allclose(own.detector.origin, adxv.detector.origin, atol=1e-12)
    np.testing.assert_allclose(image(own), image(adxv), rtol=1e-9)


def test_dump_is_read(tmp_path):
    from exactgrad.diffraction.formats import fdump

    listed = scene("-hkl few.hkl -N 3")
    fdump.write(tmp_path / "dump.bin", listed.structure_factors)
    dumped = scene(f"-dump {tmp_path / 'dump.bin'} -N 3")
    np.testing.assert_array_equal(image(dumped), image(listed))


def test_real_float_file_round_trip(tmp_path):
    raw_float.write(tmp_path / "float.bin", image(scene("-N 4")))
    np.testing.assert_allclose(raw_float.read(tmp_path / "float.bin", (8, 8)), image(scene("-N 4")), rtol=1e-6)

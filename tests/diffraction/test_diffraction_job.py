"""Jobs against command lines, files against what they were written from; every wrong key is told in a line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exactgrad.diffraction import from_job
from exactgrad.diffraction.from_job import shots
from exactgrad.diffraction.job import TABLES, check_job, image_tables, read_job
from exactgrad.diffraction.render import image
from exactgrad.diffraction.simulator import Simulator
from exactgrad.errors import InputError

DATA = Path(__file__).resolve().parents[1] / "data" / "diffraction_files"
CRYSTAL = {"cell": [50.0, 60.0, 70.0, 80.0, 95.0, 100.0], "default_F": 10, "N": 5}
DETECTOR = {"detpixels": 12, "pixel": 1.0, "oversample": 1}
WORDS = "-cell 50 60 70 80 95 100 -default_F 10 -N 5 -detpixels 12 -pixel 1 -oversample 1"


def job(**tables):
    tables = {"crystal": CRYSTAL, "detector": DETECTOR} | tables
    tables["crystal"] = CRYSTAL | tables["crystal"] if tables["crystal"] is not CRYSTAL else CRYSTAL
    tables["detector"] = DETECTOR | tables["detector"] if tables["detector"] is not DETECTOR else DETECTOR
    return check_job(tables, "job")


def rendered(*, base=Path(), **tables):
    (shot,) = shots(job(**tables), base)
    return image(shot.settings.scene())


SAME = [
    ({}, ""),
    ({"crystal": {"misset": [1, 2, 3]}}, "-misset 1 2 3"),
    ({"crystal": {"misset_y": 2.5, "misset_rot_z": -3}}, "-misset 0 2.5 -3"),
    ({"crystal": {"cell_b": 61.0, "cell_alpha_deg": 85}}, "-cell 50 61 70 85 95 100"),
    ({"crystal": {"N": [3, 4.5, 6]}}, "-Na 3 -Nb 4.5 -Nc 6"),
    ({"crystal": {"shape": "gauss", "fudge": 2}}, "-gauss_xtal -fudge 2"),
    ({"crystal": {"shape": "tophat", "fudge": 0.02}}, "-tophat_spots -fudge 0.02"),
    ({"crystal": {"mosaic": 0.5, "mosaic_domains": 4, "mosaic_seed": 7}}, "-mosaic 0.5 -mosaic_dom 4 -mosaic_seed 7"),
    ({"crystal": {"phi": 10, "osc": 2, "phisteps": 3}}, "-phi 10 -osc 2 -phisteps 3"),
    ({"crystal": {"misset": "random", "misset_seed": 5}}, "-misset random -misset_seed 5"),
    ({"crystal": {"dmin": 3.0}}, "-dmin 3"),
    ({"beam": {"energy": 12000}}, "-energy 12000"),
    ({"beam": {"lambda_A": 1.2, "dispersion": 2, "dispsteps": 3}}, "-lambda 1.2 -dispersion 2 -dispsteps 3"),
    ({"beam": {"hdivrange": 2, "hdivsteps": 3, "round_div": False}}, "-hdivrange 2 -hdivsteps 3 -square_div"),
    ({"beam": {"polar": 0.9, "fluence": 1e20}}, "-polar 0.9 -fluence 1e20"),
    ({"beam": {"nopolar": True, "flux": 1e12, "beamsize": 0.05}}, "-nopolar -flux 1e12 -beamsize 0.05"),
    (
        {"detector": {"convention": "xds", "ORGX": 5, "ORGY": 6.5, "distance_mm": 90}},
        "-xds -ORGX 5 -ORGY 6.5 -distance 90",
    ),
    (
        {"detector": {"detector_rotx_deg": 5, "twotheta": 10, "pivot": "sample"}},
        "-detector_rotx 5 -twotheta 10 -pivot sample",
    ),
    ({"detector": {"detpixels": [10, 14]}}, "-detpixels_s 10 -detpixels_f 14"),
    ({"detector": {"roi": [2, 7, 3, 9], "curved_det": True}}, "-roi 2 7 3 9 -curved_det"),
    (
        {"detector": {"detector_thick": 450, "detector_abs": 300.0, "detector_thicksteps": 3}},
        "-detector_thick 450 -detector_abs 300 -detector_thicksteps 3",
    ),
    ({"detector": {"fdet_vector": [0, 1, 0], "sdet_vector": [0, 0, 1]}}, "-fdet_vector 0 1 0 -sdet_vector 0 0 1"),
    ({"background": {"water": 50}}, "-water 50"),
    ({"options": "-misset 1 2 3 -phi 7", "crystal": {"phi": 8}}, "-misset 1 2 3 -phi 8"),
    ({"c_compat": True, "crystal": {"mosaic": 1.0}}, "--c-compat -mosaic 1"),
    ({"crystal": {"hkl": str(DATA / "few.hkl"), "interpolate": False}}, f"-hkl {DATA / 'few.hkl'} -nointerpolate"),
    ({"crystal": {"mtz": str(DATA / "5e5z.mtz"), "default_F": 0}}, f"-hkl {DATA / '5e5z.mtz'} -default_F 0"),
]


@pytest.mark.parametrize(("tables", "words"), SAME, ids=[words or "plain" for _, words in SAME])
def test_a_table_is_the_command_line_that_says_the_same(tables, words):
    expected = Simulator.from_nanobragg(f"{WORDS} {words}").image()
    assert expected.max() > 0
    np.testing.assert_allclose(rendered(**tables), expected, rtol=1e-12, atol=1e-15 * expected.max())


def test_parameters_that_no_option_names():
    (shot,) = shots(job(detector={"beam_f": 5.0, "beam_center_s": 6.0}), Path())
    assert (shot.settings.value("beam_f"), shot.settings.value("beam_s")) == pytest.approx((5.0, 6.0))
    assert shot.header["beam_mm"] == pytest.approx((shot.settings.value("Xbeam"), shot.settings.value("Ybeam")))
    few = {"hkl": str(DATA / "few.hkl"), "interpolate": False}
    first = from_job.shots(job(crystal=few), Path())[0].settings.structure_factors.lowest
    name = f"F[{','.join(map(str, first))}]"
    (shot,) = shots(job(crystal=few | {name: 99.0}), Path())
    assert shot.settings.value(name) == 99.0


def test_spectrum_is_a_source_file_and_goes_with_the_wavelength(tmp_path):
    lines = "-1 0 0 1 1.0e-10\n-1 0 0 3 1.02e-10\n"
    (tmp_path / "sources.txt").write_text(lines)
    expected = Simulator.from_nanobragg(f"{WORDS} -sourcefile {tmp_path / 'sources.txt'}").image()
    beam = {"wavelengths": [1.0, 1.02], "weights": [1, 3]}
    np.testing.assert_allclose(rendered(beam=beam), expected, rtol=1e-9)
    (shot,) = shots(job(beam=beam), Path())
    assert shot.settings.value("lambda") == pytest.approx(1.015)
    longer = shot.settings.replace({"lambda": 2.03})
    np.testing.assert_allclose(longer.beam.wavelengths_m(), [2.0e-10, 2.04e-10])
    assert shots(job(beam=beam | {"weight[0]": 5.0}), Path())[0].settings.value("weight[0]") == 5.0


def test_mosaic_kinds(tmp_path):
    from exactgrad.diffraction.mosaic import Mosaic

    def domains(**crystal):
        return shots(job(crystal=crystal), tmp_path)[0].settings.crystal.mosaic.rotations

    kind = {"mosaic": 0.5, "mosaic_kind": "gaussian", "mosaic_domains": 6, "mosaic_seed": 3}
    np.testing.assert_array_equal(domains(**kind), Mosaic.gaussian(np.radians(0.5), 6, 3).rotations)
    spread = {"mosaic_a": 0.5, "mosaic_b": 1.0, "mosaic_c": 0.1, "mosaic_domains": 6, "mosaic_seed": 3}
    spreads = np.radians([0.5, 1.0, 0.1])
    np.testing.assert_array_equal(domains(**spread), Mosaic.cap(spreads, 6, 3).rotations)
    given = Mosaic.gaussian(0.01, 4, 1).rotations
    np.save(tmp_path / "domains.npy", given.reshape(4, 9))
    np.testing.assert_array_equal(domains(mosaic_matrices="domains.npy"), given)


def test_amplitudes_bring_their_cell_and_are_read_once(monkeypatch):
    from exactgrad.diffraction.formats import mtz

    readings = []
    reader = mtz.read
    monkeypatch.setattr(mtz, "read", lambda *given: readings.append(given) or reader(*given))
    tables = {
        "crystal": {"mtz": "5e5z.mtz", "column": "FP", "N": 5},
        "detector": DETECTOR,
        "image": [{"phi": 30.0 * i} for i in range(5)],
    }
    made = shots(check_job(tables, "job"), DATA)
    assert len(readings) == 1
    assert made[0].settings.crystal.cell == pytest.approx(reader(DATA / "5e5z.mtz").cell)
    assert all(shot.settings.structure_factors.table is made[0].settings.structure_factors.table for shot in made)
    assert [round(shot.settings.value("phi")) for shot in made] == [0, 30, 60, 90, 120]
    followed = made[0].settings.replace(default_F=3.0).structure_factors.table
    listed = reader(DATA / "5e5z.mtz", "FP")
    assert (followed == 3.0).sum() >= followed.size - len(listed.hkl)
    assert not (made[0].settings.structure_factors.table == 3.0).any()


def test_amplitudes_from_coordinates():
    pytest.importorskip("gemmi")
    tables = {"crystal": {"coordinates": "5e5z.pdb", "resolution": 4.0, "N": 5}, "detector": DETECTOR}
    (shot,) = shots(check_job(tables, "job"), DATA)
    assert shot.settings.structure_factors.table.size > 100
    assert shot.settings.crystal.cell[0] == pytest.approx(9.48, abs=1.0)


def test_a_spectrum_sees_anomalous_amplitudes_of_each_wavelength():
    """f' and f'' of each wavelength: every source has the list that coordinates give at its own."""
    pytest.importorskip("gemmi")
    from exactgrad.diffraction.formats import coordinates

    lengths = [1.0, 1.9, 1.0]
    tables = {
        "crystal": {"coordinates": "5e5z.pdb", "resolution": 5.0, "N": 5, "anomalous": True},
        "beam": {"wavelengths": lengths, "weights": [1.0, 2.0, 1.0]},
        "detector": DETECTOR,
    }
    (shot,) = shots(check_job(tables, "job"), DATA)
    factors = shot.settings.structure_factors
    assert factors.tables == 3 and np.array_equal(factors.table[0], factors.table[2])
    lists = coordinates.read_anomalous(DATA / "5e5z.pdb", lengths[:2], 5.0)
    for source, listed in enumerate(lists):
        place = tuple((listed.hkl - factors.lowest).T.astype(int))
        np.testing.assert_allclose(factors.table[source][place], listed.amplitude, rtol=1e-12)
    assert np.abs(factors.table[0] - factors.table[1]).max() > 1e-3 * factors.table[0].max()
    plain = shots(check_job(tables | {"crystal": tables["crystal"] | {"anomalous": False}}, "job"), DATA)[0]
    assert np.abs(image(shot.settings.scene()) / image(plain.settings.scene()) - 1).max() > 1e-3
    with pytest.raises(InputError, match="anomalous belongs to coordinates"):
        check_job({"crystal": CRYSTAL | {"anomalous": True}, "detector": DETECTOR}, "job")


def test_images_override_and_the_last_word_counts():
    tables = {
        "crystal": CRYSTAL | {"misset": [1, 2, 3]},
        "image": [{"misset_y": 9, "name": "first"}, {"misset": [4, 5, 6], "beam": {"lambda": 2}}, {"distance_m": 0.2}],
    }
    made = shots(check_job(tables, "job"), Path())
    assert [shot.name for shot in made] == ["first", "image_001", "image_002"]
    missets = [[shot.settings.value(f"misset_{axis}") for axis in "xyz"] for shot in made]
    assert missets == [[1, 9, 3], [4, 5, 6], [1, 2, 3]]
    assert [shot.settings.value("lambda") for shot in made] == pytest.approx([1, 2, 1])
    assert [shot.settings.value("distance") for shot in made] == pytest.approx([100, 100, 200])


# -- geometry from files ----------------------------------------------------------------------------------------------

TILTED = "-cell 50 60 70 80 95 100 -default_F 10 -N 5 -xds -detpixels_f 14 -detpixels_s 10 -pixel 1 -oversample 1 "
TILTED += "-lambda 1.1 -distance 90 -ORGX 6 -ORGY 4 -detector_rotx 4 -detector_roty -7 -detector_rotz 3 "
TILTED += "-misset 10 20 30 -phi 5 -osc 2 -phisteps 2"


def xparm(scene):
    d, c = scene.detector, scene.crystal
    origin = -np.array([d.origin @ d.fast, d.origin @ d.slow]) / d.pixel_m + 0.5
    rows = [
        [1, np.degrees(c.phi0_rad), np.degrees(c.osc_rad), *c.spindle],
        [scene.beam.wavelengths_m[0] * 1e10, *d.beam],
        [1, 50, 60, 70, 80, 95, 100],
        *(c.lattice * 1e10),
        [1, d.pixels[1], d.pixels[0], d.pixel_m * 1e3, d.pixel_m * 1e3],
        [*origin, d.close_distance_m * 1e3],
        d.fast,
        d.slow,
        d.normal,
    ]
    return " XPARM.XDS\n" + "\n".join(" ".join(f"{float(v):.15g}" for v in row) for row in rows) + "\n"


def expt(scene):
    import json

    d, c = scene.detector, scene.crystal
    panel = {
        "name": "p",
        "origin": (d.origin * 1e3).tolist(),
        "fast_axis": d.fast.tolist(),
        "slow_axis": d.slow.tolist(),
        "image_size": [d.pixels[1], d.pixels[0]],
        "pixel_size": [d.pixel_m * 1e3] * 2,
    }
    start, step = float(np.degrees(c.phi0_rad)), float(np.degrees(c.osc_rad))
    axes = {f"real_space_{name}": (row * 1e10).tolist() for name, row in zip("abc", c.lattice, strict=True)}
    return json.dumps(
        {
            "__id__": "ExperimentList",
            "experiment": [{"beam": 0, "detector": 0, "crystal": 0, "goniometer": 0, "scan": 0}],
            "beam": [{"direction": (-d.beam).tolist(), "wavelength": float(scene.beam.wavelengths_m[0] * 1e10)}],
            "detector": [{"panels": [panel]}],
            "crystal": [axes],
            "goniometer": [{"rotation_axis": c.spindle.tolist()}],
            "scan": [{"oscillation": [start, step]}],
        }
    )


@pytest.mark.parametrize(("suffix", "writer"), [(".XDS", xparm), (".expt", expt)])
def test_geometry_and_orientation_of_a_file(tmp_path, suffix, writer):
    told = Simulator.from_nanobragg(TILTED)
    (tmp_path / f"geometry{suffix}").write_text(writer(told.scene))
    tables = {
        "crystal": {"default_F": 10, "N": 5, "phisteps": 2},
        "beam": {"polar_vector": told.scene.beam.polarization_axis.tolist()},
        "detector": {"geometry": f"geometry{suffix}", "oversample": 1},
    }
    (shot,) = shots(check_job(tables, "job"), tmp_path)
    expected = told.image()
    np.testing.assert_allclose(image(shot.settings.scene()), expected, rtol=1e-6, atol=1e-9 * expected.max())
    assert shot.settings.value("distance") == pytest.approx(90, rel=1e-9)
    assert shot.settings.value("cell_beta") == pytest.approx(95, abs=1e-9)
    tables["detector"]["distance"] = 95.0
    assert shots(check_job(tables, "job"), tmp_path)[0].settings.value("distance") == 95.0


def test_geometry_without_wavelength_asks_for_one(tmp_path):
    lines = "clen = 0.1\nres = 1000\np/min_fs = 0\np/max_fs = 9\np/min_ss = 0\np/max_ss = 7\n"
    (tmp_path / "a.geom").write_text(lines + "p/corner_x = -5\np/corner_y = 4\np/fs = +x\np/ss = -y\n")
    tables = {"crystal": CRYSTAL, "detector": {"geometry": "a.geom"}}
    with pytest.raises(InputError, match=r"beam\.lambda: missing"):
        shots(check_job(tables, "job"), tmp_path)
    (shot,) = shots(check_job(tables | {"beam": {"lambda": 1.3}}, "job"), tmp_path)
    detector = shot.settings.scene().detector
    assert detector.shape == (8, 10)
    np.testing.assert_allclose(detector.origin, [-5e-3, 4e-3, 0.1], atol=1e-15)
    np.testing.assert_allclose(np.stack([detector.fast, detector.slow]), [[1, 0, 0], [0, -1, 0]], atol=1e-15)
    with pytest.raises(InputError, match=r"detector\.panel = 3: the geometry has 1"):
        shots(check_job(tables | {"detector": {"geometry": "a.geom", "panel": 3}}, "job"), tmp_path)


# -- bad input --------------------------------------------------------------------------------------------------------

WRONG = [
    ({"crystal": {"mossaic": 1}}, r"job: crystal\.mossaic: unknown key; did you mean mosaic\?"),
    ({"noise": {"gain": 1}}, r"job: noise\.gain: unknown key; did you mean gain_adu\?; there are: seed"),
    ({"bam": {}}, r"job: bam: unknown key; did you mean beam\?"),
    ({"crystal": {"mosaic": "a"}}, r"job: crystal\.mosaic = 'a'"),
    ({"crystal": {"cell_a": -5}}, r"job: crystal\.cell_a = -5"),
    ({"crystal": {"cell": [1, 2, 3, 10, 10, 170]}}, r"they close no cell"),
    ({"beam": {"lambda": 0}}, r"job: beam\.lambda = 0"),
    ({"beam": {"lambda": float("nan")}}, r"job: beam\.lambda = nan"),
    ({"detector": {"roi": [100, 200, 100, 200]}}, r"detector\.roi = "),
    ({"detector": {"oversample": 0}}, r"job: detector\.oversample = 0"),
    ({"detector": {"distance": 10, "close_distance": 20}}, r"detector\.distance: contradicts detector\.close_distance"),
    ({"detector": {"detpixels": 100000}}, r"at most 268435456 pixels"),
    ({"image": [{}, {"foo": 1}]}, r"job: image\.1\.foo: unknown key; those of crystal"),
    ({"image": [{"phi": "x"}]}, r"job: image\.0\.phi = 'x'"),
    ({"image": [{"name": "a/b"}]}, r"image\.0\.name = 'a/b'"),
    ({"image": [{"name": "a"}, {"name": "a"}]}, r"two images have this name"),
    ({"crystal": {"hkl": "none.hkl"}}, r"none\.hkl: no such file"),
    ({"crystal": {"coordinates": "x.pdb"}}, r"resolution: missing \(in A\)"),
    ({"crystal": {"hkl": "a", "mtz": "b"}}, r"give one of hkl, mtz and coordinates"),
    ({"crystal": {"misset": "random", "misset_x": 1.0}}, r"crystal\.misset_x: misset is random"),
    ({"crystal": {"mosaic": 0.3, "mosaic_spread_rad": 0.1}}, r"mosaic_spread_rad: is mosaic under another name"),
    ({"crystal": {"mosaic_domains": 5}}, r"crystal\.mosaic_domains: has no effect"),
    ({"options": "-foo 1"}, r"-foo: no such option"),
    ({"options": "-cell 'x"}, r"options: No closing quotation"),
    ({"beam": {"wavelengths": [1.0], "weights": [0.0]}}, r"beam\.weights: all are 0"),
    ({"beam": {"wavelengths": [1.0], "lambda": 1.0}}, r"give wavelengths or lambda, not both"),
    ({"detector": {"geometry": "a", "pixel": 1.0}}, r"give geometry, a file, or pixel"),
    ({"background": {"molecules": 1}}, r"molecules belongs to stol"),
    ({"output": {"formats": ["npy", "npy"]}}, r"a format is named twice"),
    ({"crystal": 3}, r"job: crystal = 3: a table is needed"),
]


@pytest.mark.parametrize(("tables", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_wrong_job_is_told_in_a_line(tables, message):
    crystal, detector = tables.get("crystal", {}), tables.get("detector", {})
    merged = {**tables}
    if isinstance(crystal, dict):
        merged["crystal"] = CRYSTAL | crystal
    merged["detector"] = ({} if "geometry" in detector else DETECTOR) | detector
    with pytest.raises(InputError, match=message) as told:
        shots(check_job(merged, "job"), Path())
    assert "\n" not in str(told.value)


def test_not_toml_is_told_with_its_file(tmp_path):
    (tmp_path / "a.toml").write_text("[crystal\n")
    with pytest.raises(InputError, match=r"a\.toml: not valid TOML"):
        read_job(tmp_path / "a.toml")


def test_every_option_of_the_c_program_can_be_said():
    """Of the options that make an image, each has a key; the rest concern the program's own files and texts."""
    from exactgrad.diffraction.option_table import BEAM, CRYSTAL, DETECTOR

    keys = {key for model in TABLES.values() for key in model.key_names()} | {"mat"}
    said = {"square_xtal", "round_xtal", "gauss_xtal", "binary_spots", "nointerpolate", "square_div", "dump"}
    said |= {"mosflm", "xds", "adxv", "denzo", "dials", "oversample_thick", "oversample_polar", "oversample_omega"}
    for option in (*CRYSTAL, *BEAM, *DETECTOR):
        names = {name[1:].rstrip("*") for name in option.names}
        near = {key for key in keys for name in option.names if name.endswith("*") and key.startswith(name[1:-1])}
        assert option.unused or names & keys or near or names & said, option.names


def test_tables_of_an_image_keep_the_jobs_own():
    tables = image_tables(job(image=[{"phi": 3, "F[1,2,3]": 4.0}]), 0)
    assert tables["crystal"]["phi"] == 3
    assert tables["crystal"]["parameters"] == {"F[1,2,3]": 4.0}
    assert tables["crystal"]["cell"] == CRYSTAL["cell"]


NUMBERS = [0, 1, -1, 3, 0.5, -0.5, 1e-12, 1e-300, 1e12, 1e40, -1e40, 90.0, 180.0, 1e308, float("nan"), float("inf")]
TEXTS = ["a", "random", "inf", "few.hkl", "5e5z.mtz", "intimage.img", "all", "gauss", "gaussian", "xds", "sample"]
OTHERS = [None, True, False, [1, 2, 3], [0, 0, 0], [1e-200] * 3, [1, 1, 1, 1], [], [1], [1.0, 2.0], {"a": 1}]
VALUES = st.sampled_from([*NUMBERS, *TEXTS, *OTHERS])
KEYS = st.sampled_from([(table, key) for table, model in TABLES.items() for key in model.key_names()])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(stated=st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=4), own=st.tuples(KEYS, VALUES), c=st.booleans())
def test_whatever_is_stated_makes_settings_or_one_line(stated, own, c):
    tables = {"crystal": dict(CRYSTAL), "detector": dict(DETECTOR), "c_compat": c, "image": [{}, {own[0][1]: own[1]}]}
    for (table, key), value in stated:
        tables.setdefault(table, {})[key] = value
    try:
        for shot in shots(check_job(tables, "job"), DATA):
            shot.backgrounds(shot.settings.scene())
    except InputError as error:
        assert "\n" not in str(error)

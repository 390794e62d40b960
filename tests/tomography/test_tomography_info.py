"""`info` sees what is there, and warns with evidence about what is wrong; each mistake is planted and must be told."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from tomography_cases import GOLDEN

from exactgrad.errors import InputError
from exactgrad.tomography import schemes
from exactgrad.tomography.dataset import Dataset
from exactgrad.tomography.formats import mumott
from exactgrad.tomography.geometry import Geometry
from exactgrad.tomography.info import coverage, describe, rows

OUTER, INNER = np.array(mumott.OUTER_AXIS), np.array(mumott.INNER_AXIS)


def rotations_of(scheme):
    return np.stack(
        [
            mumott.rotation_of(OUTER, np.deg2rad(tilt)) @ mumott.rotation_of(INNER, np.deg2rad(turn))
            for turn, tilt in zip(scheme.turn_deg, scheme.tilt_deg, strict=True)
        ]
    )


def inner(shape):
    """A sample with air around it."""
    values = np.zeros(shape, np.float32)
    values[:, 1:-1, 1:-1] = 1
    return values


@pytest.fixture
def written(tmp_path):
    """Write a sound file with one thing changed."""

    def make(scheme=None, pixels=(8, 8), volume=(8, 8, 8), segments=8, values=None, after=None, **data):
        scheme = scheme or schemes.liebi_of(24)
        angles = (np.arange(segments) + 0.5) * np.pi / segments
        geometry = Geometry(rotations_of(scheme), pixels, volume, angles)
        shape = (len(scheme), *pixels, segments)
        given = (inner if values is None else values)(shape)
        path = tmp_path / "data.h5"
        mumott.write(path, Dataset(geometry, given, **data))
        if after is not None:
            with h5py.File(path, "a") as handle:
                after(handle)
        return path

    return make


def warnings_of(path):
    return " | ".join(describe(path)["warnings"])


def test_a_sound_file_has_no_warnings(written):
    found = describe(written())
    assert found["warnings"] == []
    assert found["tilt_deg"] == pytest.approx([0.0, 45.0], abs=1e-9) and found["tilts"] == 6
    assert np.abs(found["rotation_axis"]) == pytest.approx([0, 0, 1], abs=1e-9)
    assert found["missing_cone_deg"] == pytest.approx(45.0)
    assert (found["used_fraction"], found["intensity"]) == (1.0, [0.0, 1.0])
    assert all(isinstance(text, str) for row in rows(found) for text in row)


def test_no_tilt(written):
    assert "no tilt: all beams lie within" in warnings_of(written(schemes.single_axis(20)))


def test_a_slight_tilt_is_no_tilt_and_a_true_one_is(written, tmp_path):
    slight = schemes.Scheme(np.arange(20) * 9.0, np.full(20, 1.0))
    assert "ambiguous" in warnings_of(written(slight))
    (tmp_path / "data.h5").unlink()
    assert "ambiguous" not in warnings_of(written(schemes.Scheme(np.arange(20) * 9.0, np.arange(20.0))))


def test_one_projection(written):
    assert "one single projection" in warnings_of(written(schemes.single_axis(1)))


def test_missing_wedge(written):
    found = describe(written(schemes.Scheme(np.tile(np.arange(0, 121, 10.0), 2), np.repeat([0.0, 30.0], 13))))
    assert found["largest_turn_gap_deg"] == pytest.approx(60.0, abs=1e-6)
    assert any(text.startswith("missing wedge: no projection within 60 of the 180") for text in found["warnings"])


def test_volume_smaller_than_the_projections(written):
    text = warnings_of(written(pixels=(20, 8), volume=(6, 6, 8)))
    assert "the volume is smaller than the projections: (6, 6, 8) voxels are at most" in text
    assert "of the intensity lies on rays that miss the volume" in text


def test_air_around_the_sample_is_no_fault(written):
    def around(shape):
        values = np.zeros(shape, np.float32)
        values[:, 7:13, 1:7] = 1
        return values

    assert "miss the volume" not in warnings_of(written(pixels=(20, 8), volume=(14, 14, 8), values=around))


@pytest.mark.parametrize("name", ["inner_angle", "outer_angle"])
def test_degrees(written, name):
    def spoil(handle):
        for i, part in enumerate(handle["projections"].values()):
            del part["rotation_matrix"]
            part[name] = 15.0 * i

    assert f"{name} runs from 0 to 345, beyond any turn in radians" in warnings_of(written(after=spoil))


def test_a_sample_that_the_scan_cuts(written, tmp_path):
    def longer(shape):
        values = inner(shape)
        values[3:5, 2:6, -1] = 0.5
        return values

    found = describe(written(values=longer))
    (text,) = found["warnings"]
    assert "cut off by the edge of the scan in 2 of 24 projections: its edge at high k is up to 25% as" in text
    assert found["edge_brightness"] == {"low j": 0.0, "high j": 0.0, "low k": 0.0, "high k": 0.25}
    (tmp_path / "data.h5").unlink()

    def masked(shape):  # what has no weight is no edge
        weights = np.ones(shape, np.float32)
        weights[:, :, -1] = 0
        return weights

    assert "edge at high k is up to 75%" in warnings_of(written(weights=masked((24, 8, 8, 8))))


def test_dim_noise_and_air_at_the_edge_cut_nothing(written):
    noise = np.random.default_rng(0)
    path = written(values=lambda shape: noise.poisson(0.05 + 20 * inner(shape)).astype(np.float32))
    assert describe(path)["warnings"] == []


@pytest.mark.parametrize("name", ["g1_seed_frame.h5", "g2_mumott_frame.h5", "g3_needles.h5"])
def test_the_golden_scans_see_all_of_the_sample(name):
    assert describe(GOLDEN / name)["cut_projections"] == 0


def test_a_diode_in_counts_and_dead_pixels_of_it(written, tmp_path):
    text = warnings_of(written(transmission=np.full((24, 8, 8), 12000.0)))
    assert "the diode runs from 12000 to 12000: a transmission is at most 1" in text
    (tmp_path / "data.h5").unlink()

    def kill(handle):
        handle["projections/4/diode"][2, 3] = np.nan

    assert "first: projections/4/diode[2, 3]" in warnings_of(written(after=kill))


def test_dead_segments_and_projections_and_values(written):
    weights = np.ones((24, 8, 8, 8), np.float32)
    weights[..., 5] = 0
    weights[7] = 0

    def values(shape):
        made = np.ones(shape, np.float32)
        made[0, 0, 0, 0] = -1
        return made

    def spoil(handle):
        data = handle["projections/1/data"]
        data[0, :4] = np.nan

    found = describe(written(weights=weights, values=values, after=spoil))
    text = " | ".join(found["warnings"])
    assert found["dead_segments"] == [5] and found["dead_projections"] == 1
    assert "segments 5 have weight 0 in all projections" in text and "1 of 24 projections have weight 0" in text
    assert "0.26% of the data are NaN or infinite" in text
    lost = 24 * 512 - 23 * 448 + 4 * 7
    assert found["used_fraction"] == pytest.approx(1 - lost / (24 * 512))


def test_negative_intensities(written):
    text = warnings_of(written(values=lambda shape: np.linspace(-1, 1, np.prod(shape)).reshape(shape)))
    assert "50.0% of the intensities are negative (down to -1)" in text


def test_nothing_left_and_nothing_there(written, tmp_path):
    assert "no value has a weight above 0" in warnings_of(written(weights=np.zeros((24, 8, 8, 1), np.float32)))
    (tmp_path / "data.h5").unlink()
    assert "no intensity is above 0" in warnings_of(written(values=np.zeros))


def test_a_rotation_that_is_none_is_an_error(written):
    def spoil(handle):
        handle["projections/2/rotation_matrix"][0, 1] += 0.3

    with pytest.raises(InputError, match=r"data\.h5: rotation\[2\]: not orthogonal"):
        describe(written(after=spoil))


def test_coverage_of_the_whole_sphere_and_of_one_circle():
    angles = (np.arange(18) + 0.5) * np.pi / 18
    turns = rotations_of(schemes.single_axis(18))
    full = coverage(Geometry(turns, (1, 1), (1, 1, 1), angles))
    assert full["coverage"] > 0.99 and full["largest_hole_deg"] < 7.5
    circle = coverage(Geometry(turns[:1], (1, 1), (1, 1, 1), angles))
    zone = np.sin(np.deg2rad(10 / np.sqrt(2)))  # the share of the sphere so near to a great circle
    assert 0.75 * zone < circle["coverage"] < zone  # less what lies between the points
    assert circle["largest_hole_deg"] == pytest.approx(90.0, abs=3.0)


def test_weights_take_directions_out_of_the_coverage(written):
    weights = np.ones((24, 8, 8, 8), np.float32)
    weights[..., :6] = 0
    less = describe(written(weights=weights))
    assert less["coverage"] < 0.8 and less["largest_hole_deg"] > 30

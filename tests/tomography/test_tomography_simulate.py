"""Simulated data: the model's own numbers, counted; and flaws of the size that was asked for."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from scipy.special import dawsn, erf

from exactgrad.errors import InputError
from exactgrad.tomography.formats import load, read
from exactgrad.tomography.simulate import Job, make, simulate

SMALL = {"phantom": {"shape": [10, 10, 10]}, "scan": {"projections": 14, "segments": 4}}


def job(**tables):
    return {name: SMALL.get(name, {}) | tables.get(name, {}) for name in {*SMALL, *tables}}


@pytest.fixture(scope="module")
def clean():
    return make(Job.model_validate(job(measure={"noise": "none", "scale": 7.0})))


def test_without_flaws_the_data_are_scale_times_the_intensity(clean):
    assert np.allclose(clean.data.data, 7.0 * clean.truth["I"], rtol=1e-6)
    assert np.allclose(clean.data.transmission, 1.0) and clean.data.weights is None


def test_every_projection_holds_all_of_the_sample(clean):
    """The total over pixels is the volume's total at that q, voxel by voxel; Joseph's rule keeps it to a percent."""
    truth, geometry = clean.truth, clean.data.geometry
    theta, phi = truth["theta_op"], truth["phi_op"]
    axis = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=-1)
    q = np.einsum("nab,sa->nsb", geometry.rotation, detector_directions(geometry))
    cosine = np.einsum("xyzc,nsc->nsxyz", axis, q)
    total = (truth["A"] ** 2 * np.exp(-truth["B"] * (1 - cosine**2))).sum(axis=(2, 3, 4))
    assert np.allclose(clean.data.data.sum(axis=(1, 2)) / 7.0, total, rtol=2e-2)
    straight = np.flatnonzero(np.abs(geometry.rotation).max(axis=2).min(axis=1) > 1 - 1e-12)  # along the grid: exact
    assert len(straight)
    assert np.allclose(clean.data.data[straight].sum(axis=(1, 2)) / 7.0, total[straight], rtol=1e-5)
    assert np.allclose(truth["q_sample"], q, atol=1e-12)


def detector_directions(geometry):
    angles = geometry.detector_angles
    return np.outer(np.cos(angles), geometry.detector_direction_origin) + np.outer(
        np.sin(angles), geometry.detector_direction_positive_90
    )


def test_the_edge_of_the_scan_sees_nothing(clean):
    data = clean.data.data
    assert not any(np.any(edge) for edge in (data[:, 0], data[:, -1], data[:, :, 0], data[:, :, -1]))


def test_counts_are_poisson_of_that_mean():
    made = make(Job.model_validate(job(measure={"scale": 40.0, "seed": 5})))
    mean = 40.0 * made.truth["I"].astype(float)
    counts = made.data.data.astype(float)
    assert np.array_equal(counts, np.rint(counts))
    bright = mean > 5
    deviation = (counts - mean)[bright] / np.sqrt(mean[bright])
    n = deviation.size
    assert abs(deviation.mean()) < 4 / np.sqrt(n) and abs(deviation.var() - 1) < 4 * np.sqrt(2.5 / n)
    again = make(Job.model_validate(job(measure={"scale": 40.0, "seed": 5})))
    assert np.array_equal(again.data.data, made.data.data)


def test_absorption_is_beers_law_along_the_path():
    one = make(Job.model_validate(job(measure={"absorption": 0.05, "noise": "none", "scale": 1.0})))
    path = -np.log(one.data.transmission) / 0.05
    support = one.truth["A"] > 0
    assert np.allclose(path.sum(axis=(1, 2)), support.sum(), rtol=2e-2)  # in every direction
    assert path[0].sum() == pytest.approx(support.sum(), rel=1e-9)  # along the grid
    assert np.allclose(one.data.data, one.data.transmission[..., None] * one.truth["I"], rtol=1e-5)


def test_offsets_that_the_file_tells_and_those_that_it_does_not():
    made = make(Job.model_validate(job(measure={"offset_px": 0.8, "misalignment_px": 0.4, "noise": "none"})))
    told = np.stack([made.data.geometry.j_offset, made.data.geometry.k_offset])
    true = np.stack([made.truth["j_offset"], made.truth["k_offset"]])
    assert 0.4 < told.std() < 1.2 and 0.2 < (true - told).std() < 0.6
    plain = make(Job.model_validate(job(measure={"noise": "none"})))
    assert np.all(plain.data.geometry.j_offset == 0)


def test_gaps_and_lost_values():
    flaws = {"dead_segments": [1], "bad_fraction": 0.1, "dropped_projections": [3]}
    made = make(Job.model_validate(job(measure=flaws)))
    weights = made.data.weights
    assert np.all(weights[..., 1] == 0) and np.all(weights[3] == 0)
    kept = np.delete(np.delete(weights, 1, axis=3), 3, axis=0)
    assert abs(kept.mean() - 0.9) < 4 * np.sqrt(0.09 / kept.size) and set(np.unique(kept)) == {0, 1}


def test_full_circle_ewald_sphere_and_mean_over_segments():
    scan = {"full_circle": True, "segments": 8, "two_theta_deg": 2.0, "integration": "mean", "q": 0.5, "pixel_size": 25}
    made = make(Job.model_validate(job(scan=scan)))
    geometry = made.data.geometry
    assert geometry.full_circle_covered and geometry.two_theta == pytest.approx(np.deg2rad(2.0))
    assert geometry.integration == "mean" and (made.data.q, made.data.pixel_size) == (0.5, 25.0)
    assert np.allclose(np.diff(geometry.detector_angles), np.pi / 4)


class TestCommand:
    def test_the_file_is_in_mumotts_layout_with_its_truth(self, tmp_path):
        tables = job(measure={"absorption": 0.02, "offset_px": 0.5, "dead_segments": [0]})
        tables["scan"] = tables["scan"] | {"q": 0.5, "pixel_size": 25.0, "two_theta_deg": 1.0}
        summary = simulate(tables, tmp_path / "a.h5")
        made = make(Job.model_validate(tables))
        found = read(tmp_path / "a.h5")
        assert found.format == "mumott" and not found.warnings
        (back,) = found.datasets
        assert np.array_equal(back.data, made.data.data) and back.data.dtype == np.float32
        assert np.array_equal(back.weights, made.data.weights)
        assert np.allclose(back.geometry.rotation, made.data.geometry.rotation, atol=1e-15)
        assert back.geometry.two_theta == made.data.geometry.two_theta and back.q == 0.5
        assert summary["projections"] == 14 and summary["voxels"] == int((made.truth["A"] > 0).sum())
        with h5py.File(tmp_path / "a.h5") as handle:
            truth = {name: handle[f"truth/{name}"][()] for name in handle["truth"]}
            assert {"inner_angle", "outer_angle", "diode"} <= set(handle["projections/3"])
        assert np.array_equal(truth["A"], made.truth["A"]) and truth["scale"] == 50.0 and truth["mu"] == 0.02
        B, A = truth["B"][5, 5, 5], truth["A"][5, 5, 5]
        mean = dawsn(np.sqrt(B)) / np.sqrt(B) if B > 0 else np.exp(-B) * np.sqrt(np.pi / -B) * erf(np.sqrt(-B)) / 2
        assert np.isfinite(A * mean)

    def test_nothing_is_overwritten_and_nothing_half_written(self, tmp_path):
        (tmp_path / "a.h5").write_text("mine")
        with pytest.raises(InputError, match=r"a\.h5: exists already"):
            simulate(job(), tmp_path / "a.h5")
        assert (tmp_path / "a.h5").read_text() == "mine"
        with pytest.raises(InputError, match="cannot be written"):
            simulate(job(), tmp_path / "missing" / "a.h5")
        assert [item.name for item in tmp_path.iterdir()] == ["a.h5"]

    def test_a_job_on_disk(self, tmp_path):
        (tmp_path / "j.toml").write_text(
            '[phantom]\nname = "rings"\nshape = [8, 8, 8]\n[scan]\nscheme = "equal-area"\nprojections = 5\n'
        )
        simulate(tmp_path / "j.toml", tmp_path / "a.h5")
        assert load(tmp_path / "a.h5").shape[0] == 5

    @pytest.mark.parametrize(
        ("tables", "message"),
        [
            ({"phantom": {"name": "cube"}}, "job: phantom.name = 'cube': Input should be 'fibres'"),
            ({"phantom": {"shape": [8, 8]}}, "job: phantom.shape"),
            ({"phantom": {"shape": [8, 8, 4]}}, "job: phantom.shape"),
            ({"phantom": {"sharpness": float("nan")}}, "job: phantom.sharpness = nan"),
            ({"phantom": {"sharp": 1.0}}, "job: phantom.sharp: unknown key"),
            ({"scan": {"projections": "12"}}, "job: scan.projections = '12'"),
            ({"scan": {"projections": None}}, "job: scan: .*exactly one is needed|job: scan: projections"),
            ({"scan": {"projections_at_zero": 4}}, "projections or projections_at_zero: exactly one is needed"),
            ({"scan": {"scheme": "single-axis", "tilts": 3}}, "tilts belongs to scheme = 'liebi'"),
            ({"scan": {"span_deg": 90.0}}, "span_deg belongs to scheme = 'single-axis'"),
            ({"scan": {"projections": 5}}, "projections = 5: must be >= 12"),
            ({"scan": {"pixels": [100_000, 100_000]}}, "at most 2147483648 values are simulated"),
            ({"measure": {"dead_segments": [4]}}, "measure.dead_segments: must be from 0 to 3"),
            ({"measure": {"dropped_projections": [14]}}, "measure.dropped_projections: 14: must be from 0 to 13"),
            ({"measure": {"scale": -1.0}}, "job: measure.scale = -1.0"),
            ({"measure": {"bad_fraction": 1.0}}, "job: measure.bad_fraction"),
            ({"other": {}}, "job: other: unknown key"),
        ],
    )
    def test_what_is_not_allowed(self, tmp_path, tables, message):
        with pytest.raises(InputError, match=message) as caught:
            simulate(job(**tables), tmp_path / "a.h5")
        assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())

    def test_toml_that_is_none(self, tmp_path):
        (tmp_path / "j.toml").write_text("[phantom\n")
        with pytest.raises(InputError, match=r"j\.toml: not valid TOML"):
            simulate(tmp_path / "j.toml", tmp_path / "a.h5")
